"""Made-up training runs in the shape and size that the real producer writes. Pure: no I/O.

Everything follows from the `random.Random` that is passed in. Only the naive timestamps and
run ids also depend on the process's local time zone, because the real producer's do.
"""

from __future__ import annotations

import itertools
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Status = Literal["running", "completed", "failed", "preempted"]

BEAT_SECONDS: Final = 30.0
"""How often the real producer rewrites `metadata.json` while a job runs."""

FIRST_SLURM_ID: Final = 7_300_000
"""Where made-up SLURM ids begin to count."""

_ENDINGS: Final[tuple[Status, ...]] = ("completed", "failed", "preempted")
_ENDING_WEIGHTS: Final = (80, 12, 8)

PROJECTS: Final[tuple[str | None, ...]] = (
    None,
    *("pretraining", "long_context", "multilingual", "code_models", "math_reasoning"),
    *("distillation", "alignment", "retrieval", "speech", "vision_language"),
    *("sparse_experts", "state_space", "tokenizers", "data_mixtures", "scaling_laws"),
    *("quantization", "robustness", "continual_learning", "tool_use", "evaluation"),
)
"""Project names; `None` is the job without one, which lives under `general/`."""

_THEMES: Final = ("ablation", "baseline", "sweep", "curriculum", "replay", "anneal", "warmstart")
_SIZES: Final = {  # name: (layers, width, heads)
    "160m": (12, 768, 12),
    "410m": (24, 1024, 16),
    "900m": (26, 1536, 16),
    "1b": (16, 2048, 16),
    "3b": (32, 2560, 32),
    "7b": (32, 4096, 32),
}
_FAMILIES: Final = ("dense", "experts", "ssm", "hybrid", "retention")
_TUNINGS: Final = ("full", "lora")
_SCHEDULES: Final = ("cosine", "linear", "trapezoid", "inverse_sqrt")
_CORPORA: Final = ("c4", "redpajama", "starcoder", "openwebmath", "wikitext", "proofpile")
_TASKS: Final = ("gsm8k", "arc_challenge", "hellaswag", "winogrande", "humaneval", "triviaqa")
_CHIPS: Final = ("a100", "h100", "h200", "l40s", "tpu-v5e")

JOB_NAMES: Final = tuple(
    f"{size}-{family}_{tuning}_{schedule}"
    for size in _SIZES
    for family in _FAMILIES
    for tuning in _TUNINGS
    for schedule in _SCHEDULES
)
"""Every name a made-up job can have; the words in it decide what its config says."""


class Placement(NamedTuple):
    """Where the runs of one job live, and how many there are; `None` as the JSON says `null`."""

    project: str | None
    group: str | None
    name: str
    runs: int

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the job's directory and of those above it."""
        return self.project or "general", self.group or "default", self.name

    def directory(self, root: Path) -> Path:
        """The job's directory in the status directory `root`; its runs lie inside."""
        return root.joinpath(*self.names)


def local_timestamp(epoch: float) -> str:
    """`epoch` seconds as the producer writes them: local time, without a zone."""
    return datetime.fromtimestamp(epoch).isoformat()


def make_run_id(started: float, slurm_job_id: int | None = None) -> str:
    """The run id for a start at `started` epoch seconds: `YYYYmmdd_HHMMSS[_slurmid]`, local."""
    stamp = datetime.fromtimestamp(started).strftime("%Y%m%d_%H%M%S")
    return stamp if slurm_job_id is None else f"{stamp}_{slurm_job_id}"


def make_metadata(
    rng: random.Random,
    *,
    project: str | None,
    group: str | None,
    name: str,
    run_id: str,
    started: float,
    heartbeat: float,
    status: str,
) -> dict[str, Any]:
    """The content of one `metadata.json`.

    `started` and `heartbeat` are epoch seconds. A SLURM id is taken from the end of `run_id`,
    so that the two agree. `project` and `group` are what the JSON says: `None` becomes `null`.
    """
    hardware = _make_hardware(rng)
    config = make_config(rng, name=name, hardware=hardware)
    return {
        "name": name,
        "project": project,
        "group": group,
        "job_key": config["job"],
        "run_id": run_id,
        "start_time": local_timestamp(started),
        "last_heartbeat": local_timestamp(heartbeat),
        "status": status,
        "slurm_job_id": next(iter(run_id.split("_")[2:]), None),
        "hardware": hardware,
        "config": config,
    }


def metadata_format(rng: random.Random, name: str, left_open: Sequence[str]) -> str:
    """A `metadata.json` of the job `name` as a %-format, with the JSON of some fields left open.

    To encode every document anew, with an indent, costs more than to write it.
    """
    document = make_metadata(
        rng,
        project=None,
        group=None,
        name=name,
        run_id="",
        started=0.0,
        heartbeat=0.0,
        status="running",
    )
    document |= {field: f"%({field})s" for field in left_open}
    return re.sub(r'"(%\(\w+\)s)"', r"\1", json.dumps(document, indent=2))


def make_ending(rng: random.Random) -> Status:
    """How a run ended."""
    (status,) = rng.choices(_ENDINGS, _ENDING_WEIGHTS)
    return status


def make_config(
    rng: random.Random, *, name: str, hardware: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A training config for the job `name`: the size, family, tuning and schedule named in it.

    What the name does not say is drawn. `hardware` is what the job got; its request follows it.
    """
    size = _named_in(name, tuple(_SIZES), rng)
    family = _named_in(name, _FAMILIES, rng)
    tuning = _named_in(name, _TUNINGS, rng)
    schedule = _named_in(name, _SCHEDULES, rng)
    context = rng.choice((1024, 2048, 4096, 8192))
    return {
        "architecture": _architecture(rng, size, family, context),
        "optimization": _optimization(rng, tuning, schedule),
        "training": _training(rng),
        "eval": _evaluation(rng),
        "logging": _logging(rng),
        "job": f"models/{family}/train_{tuning}",
        "request": _request(rng, hardware or _make_hardware(rng)),
    }


def layout(rng: random.Random, jobs: int) -> Iterator[Placement]:
    """Places for exactly `jobs` runs: all projects, groups of about 200, about 5 runs a name."""
    shares = [rng.uniform(0.5, 1.5) for _ in PROJECTS]
    placed, seen_share = 0, 0.0
    for number, (project, share) in enumerate(zip(PROJECTS, shares, strict=True)):
        seen_share += share
        until = jobs if number == len(PROJECTS) - 1 else round(jobs * seen_share / sum(shares))
        groups = iter(_group_names(has_default=number % 4 == 0))
        while placed < until:
            group = next(groups)
            for name in rng.sample(JOB_NAMES, rng.randint(20, 60)):
                runs = min(rng.randint(1, 9), until - placed)
                if runs == 0:
                    break
                yield Placement(project, group, name, runs)
                placed += runs


def bootstrap_line(run_id: str, at: float) -> str:
    """The first line of an `output.log`, coloured as a terminal would show it."""
    return f"{_log_time(at)} | INFO | BOOTSTRAP | run_id={run_id}\n"


def wandb_line(rng: random.Random, *, project: str | None, run_id: str) -> str:
    """The line of an `output.log` that holds the W&B address, inside ANSI colour codes."""
    url = f"https://wandb.ai/example-lab/{project or 'general'}/runs/{rng.getrandbits(32):08x}"
    return f"\x1b[1mWANDB | project={project} run_id={run_id} url={url}\x1b[0m\n"


def progress_line(rng: random.Random, *, step: int, at: float) -> str:
    """A line of an `output.log` such as a job writes while it trains."""
    loss = 1.8 + 6.0 / (1 + step / 200) + rng.uniform(-0.05, 0.05)
    return (
        f"{_log_time(at)} | INFO | TRAIN | step={step} loss=\x1b[33m{loss:.4f}\x1b[0m"
        f" tokens_per_second={rng.randint(180_000, 420_000)}\n"
    )


def _group_names(*, has_default: bool) -> Iterator[str | None]:
    """Endless distinct group names; the first is `None` where jobs go without a group."""
    if has_default:
        yield None
    for number in itertools.count():
        for theme in _THEMES:
            yield f"{theme}_{number:02d}"


def _log_time(at: float) -> str:
    return f"\x1b[32m{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}\x1b[0m"


def _named_in(name: str, choices: Sequence[str], rng: random.Random) -> str:
    named = [choice for choice in choices if choice in name]
    return named[-1] if named else rng.choice(choices)


def _make_hardware(rng: random.Random) -> dict[str, Any]:
    nodes = rng.choice((1, 1, 1, 2, 2, 4))
    chip = rng.choice(_CHIPS) if rng.random() < 0.95 else None  # a job may fail to tell
    first = rng.randrange(200)
    return {
        "chip": chip,
        "total_chips": nodes * rng.choice((4, 8)) if chip else 0,
        "hosts": [f"gpu-{first + node:03d}" for node in range(nodes)],
    }


def _architecture(
    rng: random.Random, size: str, family: str, context_length: int
) -> dict[str, Any]:
    layers, width, heads = _SIZES[size]
    section: dict[str, Any] = {
        "precision": {"params": "float32", "compute": "bfloat16", "reduce": "float32"},
        "vocabulary": rng.choice((32_000, 50_304, 100_352)),
        "context_length": context_length,
        "layers": layers,
        "width": width,
        "heads": heads,
        "tie_embeddings": rng.random() < 0.5,
        "dropout": rng.choice((0.0, 0.0, 0.1)),
        "norm_epsilon": 1e-06,
        "rope_theta": rng.choice((10_000.0, 500_000.0)),
    }
    if family in ("dense", "experts", "hybrid"):
        section["attention"] = {
            "kv_heads": heads // 4,
            "window": rng.choice((None, 512, 1024)),
            "query_norm": rng.random() < 0.5,
        }
    if family == "experts":
        section["experts"] = {
            "count": rng.choice((8, 16, 64)),
            "active": rng.choice((1, 2, 6)),
            "capacity": 1.25,
            "balance_loss": 0.001,
        }
    if family in ("ssm", "hybrid"):
        section["state"] = {
            "size": rng.choice((64, 128)),
            "expansion": 2,
            "every": 1 if family == "ssm" else rng.choice((2, 4)),
            "chunk": 256,
        }
    if family == "retention":
        section["retention"] = {"decay": "per_head", "chunk": 512, "gate": "swish"}
    return section


def _optimization(rng: random.Random, tuning: str, schedule: str) -> dict[str, Any]:
    section: dict[str, Any] = {
        "optimizer": rng.choice(("adamw", "adamw", "lion", "muon")),
        "peak_lr": rng.choice((0.0001, 0.0002, 0.0003, 0.0006)),
        "final_lr_fraction": 0.1,
        "schedule": schedule,
        "warmup_fraction": rng.choice((0.005, 0.01, 0.02)),
        "betas": [0.9, 0.95],
        "weight_decay": 0.1,
        "clip_norm": 1.0,
    }
    if tuning == "lora":
        section["lora"] = {
            "rank": rng.choice((8, 16, 64)),
            "alpha": 32.0,
            "dropout": 0.05,
            "targets": ["query", "value", "mlp_in", "mlp_out"],
        }
    return section


def _training(rng: random.Random) -> dict[str, Any]:
    stages = []
    for number in range(rng.choice((1, 1, 2, 3))):
        sources = rng.sample(_CORPORA if number == 0 else _TASKS, rng.choice((1, 1, 2)))
        stages.append(
            {
                "tokens": rng.randint(1, 40) * 500_000_000,
                "mixture": [
                    {
                        "dataset": source,
                        "weight": round(1 / len(sources), 4),
                        "packing": "concatenate" if number == 0 else "pad",
                    }
                    for source in sources
                ],
            }
        )
    return {
        "batch_size": rng.choice((256, 512, 1024)),
        "seed": rng.randrange(10_000),
        "stages": stages,
        "blend": {"overlap": rng.choice((0.0, 0.1)), "curve": rng.choice(("linear", "cosine"))},
        "validate": True,
        "resume_from": None,
    }


def _evaluation(rng: random.Random) -> dict[str, Any]:
    return {
        "tasks": [*rng.sample(_TASKS, rng.randint(1, 3)), f"{rng.choice(_CORPORA)}_loss"],
        "shots": rng.choice((0, 5)),
        "batch_size": 64,
    }


def _logging(rng: random.Random) -> dict[str, Any]:
    return {
        "metrics_every": rng.choice((10, 25, 50)),
        "checkpoint_every": rng.randint(4, 40) * 250,
        "wandb": True,
        "plots": {"save": rng.random() < 0.5},
    }


def _request(rng: random.Random, hardware: dict[str, Any]) -> dict[str, Any]:
    return {
        "chip": hardware["chip"] or rng.choice(_CHIPS),
        "nodes": len(hardware["hosts"]),
        "min_chips": hardware["total_chips"] or 4,
        "hours": rng.choice((4, 12, 24, 72)),
        "partition": rng.choice(("batch", "batch", "preemptible")),
    }

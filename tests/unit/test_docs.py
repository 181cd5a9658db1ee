"""The README is a promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobcache.keys import KEY_TABLE
from jobcache_refresher.settings import Settings
from tests.contract.compare import names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import write_run
from tests.unit.test_index import pattern

README = Path(__file__).parents[2] / "README.md"


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    section = README.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def test_the_key_table() -> None:
    assert table("Keys") == [[f"`{row.key}`", row.type, row.holds] for row in KEY_TABLE]


def test_every_key_in_redis_is_in_the_table(rig: Rig, server: RunningServer) -> None:
    for number in range(3):
        write_run(rig.status_dir, (f"p{number}", "g:x/y"[:3], "n", "r"))
    rig.refresh()
    rig.cache.delete_job("p0", "g:x", "n", "r")
    with server.client() as redis:
        found = {
            key.removeprefix(rig.refresher.keys.prefix).decode(): key
            for key in redis.scan_iter(rig.refresher.keys.prefix + b"*")
        }
        assert {"jobs", "meta", "lease", "changes", "requests", "tombstones", "running"} <= set(
            found
        )
        for name, key in found.items():
            (row,) = [row for row in KEY_TABLE if pattern(row.key).fullmatch(name)]
            assert redis.type(key).decode() == row.type, name
            lives = redis.ttl(key)
            assert (lives > 0) == (name == "lease"), "live keys carry no TTL"
    assert names_of(rig.cache.list_all_jobs())


def test_the_settings_table() -> None:
    variables = Settings.environment_names()
    expected = []
    for name, field in Settings.model_fields.items():
        default = (
            "required"
            if field.is_required()
            else f"`{field.default}`"
            if field.default != ""
            else "empty"
        )
        expected.append([f"`{name}`", f"`{variables[name]}`", default, field.description])
    assert table("Settings") == expected


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_examples_run(
    number: int, valkey_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_run(valkey_rig.status_dir, ("p", "g", "n", "r"))
    valkey_rig.refresh()
    monkeypatch.setenv("JOBCACHE_REDIS_URL", valkey_rig.url)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "example"}
    exec(compile(blocks("python")[number], str(README), "exec"), scope)


def test_the_examples_pass_a_strict_type_checker(tmp_path: Path) -> None:
    """As files of a user, who has settings of his own and no plugin."""
    for number, block in enumerate(blocks("python")):
        (tmp_path / f"example_{number}.py").write_text(block, "utf-8")
    options = ("--strict", "--config-file", os.devnull, "--follow-imports", "silent")
    sources = os.pathsep.join(str(README.parent / name) for name in ("client", "refresher"))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir", ".cache", "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": sources},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_package_is_installed_from_a_checkout() -> None:
    """Until it is published: its name may lead to something else."""
    commands = re.findall(r"pip install ([^\s`]+)", README.read_text("utf-8"))
    assert len(commands) >= 3
    for target in commands:
        assert target.strip("'").startswith("."), target


def test_the_make_targets_exist() -> None:
    makefile = (README.parent / "Makefile").read_text("utf-8")
    targets = re.findall(r"(?:^|`)make ([\w-]+)", README.read_text("utf-8"), re.MULTILINE)
    assert {"demo", "test", "bench"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target

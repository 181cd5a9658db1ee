"""The words that schedulers and trackers use for how a run stands, and which status each of them means. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from jobcache.errors import ConfigError
from jobcache.models import JobStatus

_STATUSES = {status.value: status for status in JobStatus}

_WORDS = {
    JobStatus.RUNNING: "run active started in_progress training executing alive preempting completing "
    "signaling resizing stage_out",
    JobStatus.COMPLETED: "complete success successful succeeded finish finished done ok",
    JobStatus.FAILED: "fail failure error errored exception crash crashed crash_loop_back_off kill killed "
    "abort aborted interrupted timeout timed_out deadline deadline_exceeded exit oom oom_killed "
    "out_of_memory out_of_me node_fail node_failure node_lost boot_fail launch_failed reconfig_fail "
    "special_exit upstream_failed",
    JobStatus.PREEMPTED: "preempt evicted",
}
"""What SLURM, LSF, W&B, MLflow, Ray, Kubernetes, submitit and others write, beside the statuses themselves.

``out_of_me`` is how sacct cuts ``OUT_OF_MEMORY``. What waits, or was ended because somebody wished so (``PENDING``,
``CANCELLED``, ``stopped``), is none of the four, and so ``unknown``.
"""


def plain(word: str) -> str:
    """The letters and digits of a word in lower case: ``OUT_OF_MEMORY``, ``OutOfMemory`` and ``out-of-memory`` are one.

    Of what an enumeration's member is printed as (``State.RUNNING``), the last part counts.
    """
    last = word.strip().rpartition(".")[2].casefold()
    return "".join(character for character in last if character.isalnum())


STATUS_WORDS: Mapping[str, JobStatus] = {
    **_STATUSES,
    **{plain(word): status for status, words in _WORDS.items() for word in words.split()},
}
"""The status of each word, as ``plain`` makes it."""


def read_status_words(text: str) -> dict[str, JobStatus]:
    """Words of an operator's own, written as ``word=status,word=status``, each as ``plain`` makes it.

    Raises:
        ConfigError: the text is not of this form, a status is none, or a word is a status itself.
    """
    words: dict[str, JobStatus] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        word, separator, status = pair.partition("=")
        name = plain(word)
        if not separator or not name:
            raise ConfigError(f"{text!r}: {pair!r} is not of the form word=status")
        if name in _STATUSES:
            raise ConfigError(f"{text!r}: {word.strip()!r} is a status itself")
        meant = _STATUSES.get(status.strip())
        if meant is None:
            raise ConfigError(
                f"{text!r}: {status.strip()!r} is no status; use one of {', '.join(_STATUSES)}"
            )
        words[name] = meant
    return words


def status_of(word: str, words: Mapping[str, JobStatus]) -> JobStatus:
    """The status that a word means; ``unknown`` for one that is not in the table."""
    return _STATUSES.get(word) or words.get(plain(word), JobStatus.UNKNOWN)

"""What should be read of the tree and is not: since when, and what the log and readers are told of it. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest

from jobcache.schema.problems import PROBLEMS_CAP, decode_problem, encode_problem
from jobcache_refresher.text import shown, shown_text

log = logging.getLogger(__name__)

LOGGED = 20
"""Problems that begin, or end, with one scan and have a line of their own in the log."""
LONGEST_REASON = 300
"""Characters of a reason that readers are told."""


class ProblemBook:
    """Paths that should be read and are not, as of the last completed scan."""

    def __init__(self) -> None:
        self.told: Mapping[bytes, bytes] = {}
        """What readers are to be told: at most ``PROBLEMS_CAP`` paths with their JSON, those of fewest names first."""
        self._since: dict[bytes, float] = {}
        """When each was first seen, in epoch seconds."""

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, path: object) -> bool:
        return path in self._since

    def adopt(self, told: Mapping[bytes, bytes]) -> None:
        """Take over what Redis tells readers: known to the log already, and since when."""
        self.told = told
        self._since = {}
        for path, raw in told.items():
            if problem := decode_problem(path, raw):
                self._since[path] = problem.since.timestamp()

    def note(self, found: Iterable[tuple[bytes, str]], now: float) -> None:
        """Take over what a scan found, and log what began with it and what ended.

        Args:
            found: every problem that there is: a path with a reason. A path may come with several.
            now: when the scan began, in epoch seconds.
        """
        reasons: dict[bytes, str] = {}
        for path, reason in found:
            before = reasons.get(path)
            reasons[path] = reason if before is None else f"{before}; {reason}"
        now = round(now, 3)
        _log_begun([(path, reason) for path, reason in reasons.items() if path not in self._since])
        _log_ended([path for path in self._since if path not in reasons])
        self._since = {path: self._since.get(path, now) for path in reasons}
        first = nsmallest(PROBLEMS_CAP, reasons, key=lambda path: (path.count(b"/"), path))
        self.told = {
            path: encode_problem(shown_text(reasons[path], LONGEST_REASON), self._since[path])
            for path in first
        }


def _log_begun(begun: Sequence[tuple[bytes, str]]) -> None:
    for path, reason in begun[:LOGGED]:
        log.warning("%s: %s", shown(path), shown_text(reason, LONGEST_REASON))
    if len(begun) > LOGGED:
        log.warning("and %d more problems: see 'jobcache problems'", len(begun) - LOGGED)


def _log_ended(ended: Sequence[bytes]) -> None:
    for path in ended[:LOGGED]:
        log.info("%s: no problem any more", shown(path))
    if len(ended) > LOGGED:
        log.info("and %d more problems ended", len(ended) - LOGGED)

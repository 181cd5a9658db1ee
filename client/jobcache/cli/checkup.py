"""``jobcache doctor``: the examination of a namespace, and how it is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from redis.exceptions import NoPermissionError
from rich.console import Console

from jobcache.cache import JobCache
from jobcache.cli import doctor, printable
from jobcache.errors import CacheUnavailable
from jobcache.queries import writes
from jobcache.schema import meta as fields

AUDIT_FIELDS = (fields.AUDITED_AT, fields.AUDIT_FINDINGS, fields.REPAIRED_AT, fields.REPAIRED)
"""What ``meta`` says of the refresher's audits."""


class Checkup(JobCache):
    """A client that looks at the keys themselves."""

    def examine(self) -> doctor.Report:
        """Examine everything that this user may see. On a terminal, stderr tells meanwhile how far it is."""
        with _progress_on(sys.stderr) as progress:
            try:
                return self._answer(doctor.examine(self._source, progress=progress))
            except CacheUnavailable as error:
                if not isinstance(error.__cause__, NoPermissionError):
                    raise
            report = self._answer(doctor.examine(self._source, every_key=False, progress=progress))
        report.notes.append("keys that belong to nothing were not looked for: SCAN is denied")
        return report

    def audit(self, timeout: float) -> dict[str, str]:
        """Have the refresher compare everything with what it published, and repair it.

        Returns what it says of that.

        Raises:
            CacheUnavailable: it did not within so many seconds.
        """
        self._answer(writes.audit(self._source, timeout))
        said = self.meta()
        return {name: said[name] for name in AUDIT_FIELDS if name in said}


@contextmanager
def _progress_on(stream: TextIO) -> Iterator[Callable[[int, int], None]]:
    """What tells how far an examination is: a line that is gone at the end, or nothing where nobody looks."""
    if not stream.isatty():
        yield lambda done, total: None
        return
    with Console(file=stream).status("examining") as status:
        yield lambda done, total: status.update(f"examining: {done} of {total} jobs")


def checkup_document(report: doctor.Report) -> dict[str, Any]:
    """A report as JSON."""
    return {
        "healthy": not report.findings,
        "jobs": report.jobs,
        "keys": report.keys,
        "findings": [
            {"kind": kind, "count": count, "examples": report.examples[kind]}
            for kind, count in sorted(report.findings.items())
        ],
        "notes": report.notes,
    }


def show_checkup(document: dict[str, Any]) -> str:
    """The same for a person to read."""
    lines = []
    if audit := document.get("audit"):
        before = sum(finding["count"] for finding in document["before"]["findings"])
        lines.append(f"before: {before} findings")
        lines.append(f"audit: {audit.get('audit_findings', '0')} findings")
        if audit.get(fields.REPAIRED):
            lines.append(f"last repair: {audit['repaired']}")
    for finding in document["findings"]:
        lines.append(f"{finding['count']} x {finding['kind']}")
        lines += [f"  {example}" for example in finding["examples"]]
    lines += [f"note: {note}" for note in document["notes"]]
    verdict = "nothing is wrong" if document["healthy"] else "something is wrong"
    lines.append(f"{document['jobs']} jobs, {document['keys']} other keys: {verdict}")
    return "".join(f"{printable(line)}\n" for line in lines)

"""What a caller asks for: filters and limits, checked."""

from __future__ import annotations

from jobcache.arguments import require_type
from jobcache.ids import is_name
from jobcache.models import JobStatus


def read_status(status: JobStatus | str | None) -> JobStatus | None:
    """The status a caller means; empty text is none.

    Raises:
        ValueError: it is none of the statuses.
    """
    if not status:
        return None
    try:
        return JobStatus(status)
    except ValueError:
        known = ", ".join(one.value for one in JobStatus)
        raise ValueError(f"status={status!r}: use one of {known}") from None


def read_filters(
    project: str | None, group: str | None, status: JobStatus | str | None
) -> tuple[str | None, str | None, JobStatus | None]:
    """The filters a caller means. Empty text is no filter, as an HTML form sends it.

    Raises:
        ValueError: the status is none of the statuses.
        TypeError: one of them is no text.
    """
    for name, value in (("project", project), ("group", group), ("status", status)):
        require_type(name, value, str, optional=True)
    return project or None, group or None, read_status(status)


def check_limit(limit: int | None) -> int | None:
    """The limit a caller means; None is all.

    Raises:
        ValueError: it is negative.
        TypeError: it is no whole number.
    """
    require_type("limit", limit, int, optional=True)
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit}: use None for all, or a number from 0")
    return limit


def can_match(project: str | None, group: str | None) -> bool:
    return all(name is None or is_name(name) for name in (project, group))

"""Which fields of a job a request asks for."""

from __future__ import annotations

from collections.abc import Sequence

from jobcache.models import JobMetadata
from jobcache.web.query import Query

JOB_FIELDS = (*JobMetadata.model_fields, *JobMetadata.model_computed_fields)
"""Every field of a job in JSON."""
_SWITCH = {"0": False, "1": True}


def read_fields(query: Query) -> Sequence[str] | None:
    """The fields that ``fields`` names, or all; without the config where ``config`` is 0. None is all of them.

    Raises:
        BadParameter: there is no such field, or ``config`` is neither 0 nor 1.
    """
    names = query.checked("fields", _read_names)
    if query.checked("config", _read_switch) is not False:
        return names
    return [name for name in names or JOB_FIELDS if name != "config"]


def _read_names(text: str) -> list[str]:
    names = [name for name in map(str.strip, text.split(",")) if name]
    for name in names:
        if name not in JOB_FIELDS:
            raise ValueError(f"fields={name!r}: use some of {', '.join(JOB_FIELDS)}")
    return names or [*JOB_FIELDS]


def _read_switch(text: str) -> bool:
    if text not in _SWITCH:
        raise ValueError(f"config={text!r}: use 0 or 1")
    return _SWITCH[text]

"""State that belongs to one process: a child made by fork makes its own."""

from __future__ import annotations

import os

import pytest

from jobcache.transport.process import PerProcess


def test_per_process_child_makes_its_own_and_abandons_its_parents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    abandoned: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    here = PerProcess(make, abandoned.append)
    assert made == [], "not before it is asked for"
    assert here.get() is here.get() is made[0]
    assert (len(made), abandoned) == (1, [])

    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert here.get() is here.get() is made[1]
    assert (len(made), abandoned) == (2, made[:1])

"""The runs that tests of the client write."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.trees import Names

RUN: Names = ("p", "g", "n", "20260204_094435")


OTHER: Names = ("p", "g", "n", "20260204_094436")


def ago(**span: float) -> str:
    return (datetime.now() - timedelta(**span)).isoformat()

"""Which path a request asks for: mounts, prefixes, and what changes a path on the way."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache.web.paths import asked_path

PREFIX = "/api/"


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/", "raw_path": b"/"}, "/"),
        ({"path": "/api/a/b", "raw_path": b"/api/a%2Fb"}, "/api/a%2Fb"),
        ({"path": "/api/\ufffd", "raw_path": b"/api/%ff"}, "/api/%ff"),
        ({"path": "/api/\xff", "raw_path": b"/api/%ff"}, "/api/%ff"),
        ({"path": "/api/%2F", "raw_path": b"/api/%252F"}, "/api/%252F"),
        ({"path": "/api/x", "raw_path": b"/api/x?a=/api/x"}, "/api/x"),
        # Servers that tell no address as it was sent.
        ({"path": "/api/a b"}, "/api/a%20b"),
        ({"path": "/api/\xfc", "raw_path": b""}, "/api/%C3%BC"),
        ({"path": "/api/\udcff", "raw_path": None}, "/api/%FF"),
        # A proxy that sends the whole address.
        ({"path": "http://h:1/api/x", "raw_path": b"http://h:1/api/x"}, "/api/x"),
        ({"path": "/api/x", "raw_path": b"http://h:1/api/x"}, "/api/x"),
        ({"path": "/api/http://h", "raw_path": b"/api/http:%2F%2Fh"}, "/api/http:%2F%2Fh"),
    ],
)
def test_asked_path_is_still_encoded(scope: dict[str, Any], path: str) -> None:
    assert asked_path(scope, PREFIX) == path


@pytest.mark.parametrize(
    ("root", "path", "raw", "asked"),
    [
        # Mounted, or behind a server that keeps the prefix.
        ("/jobs", "/jobs/api/x%2Fy", b"/jobs/api/x%252Fy", "/api/x%252Fy"),
        ("/a b/j", "/a b/j/api/x y", b"/a%20b/j/api/x%20y", "/api/x%20y"),
        ("/pr\xe9", "/pr\xe9/api/\xfc", b"/pr%C3%A9/api/%C3%BC", "/api/%C3%BC"),
        ("/jobs", "/jobs", b"/jobs", "/"),
        ("/jobs", "/jobs/", b"/jobs/", "/"),
        ("/jobs/", "/jobs/api/x", b"/jobs/api/x", "/api/x"),
        ("/api", "/api/api/x", b"/api/api/x", "/api/x"),
        # A proxy has cut the prefix off.
        ("/pre", "/api/x", b"/api/x", "/api/x"),
        ("/api", "/api/x", b"/api/x", "/api/x"),
        ("/pre", "/", b"/", "/"),
        # A proxy has cut off its own, and the application is mounted below.
        ("/pre/jobs", "/jobs/api/x", b"/jobs/api/x", "/api/x"),
        ("/pre/jobs", "/jobs", b"/jobs", "/"),
        # What only begins like it is no prefix.
        ("/jobs", "/jobsapi/x", b"/jobsapi/x", "/jobsapi/x"),
        ("/jobs", "/jobs/other", b"/jobs/other", "/other"),
    ],
)
def test_asked_path_begins_below_the_place_of_the_application(
    root: str, path: str, raw: bytes, asked: str
) -> None:
    assert asked_path({"root_path": root, "path": path, "raw_path": raw}, PREFIX) == asked


@pytest.mark.parametrize(
    ("path", "raw", "asked"),
    [
        ("/api/p%2Fq \xfc", b"/v1/api/p%252Fq%20%C3%BC", "/api/p%252Fq%20%C3%BC"),
        ("/api/\ufffd", b"/v1/api/%ff", "/api/%ff"),
        ("/api/stats", b"/status.json", "/api/stats"),
        ("/api/a b", b"/old/a%20b", "/api/a%20b"),
        ("/", b"/v1", "/"),
    ],
    ids=["cut", "cut, no UTF-8", "renamed", "renamed and to be encoded", "all of it cut"],
)
def test_asked_path_after_a_middleware_changed_it_is_the_new_one(
    path: str, raw: bytes, asked: str
) -> None:
    assert asked_path({"path": path, "raw_path": raw}, PREFIX) == asked

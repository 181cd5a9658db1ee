"""Keys and index entries."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcache import ConfigError, JobId, JobStatus
from jobcache.schema import keys
from jobcache.schema.index import (
    IndexedFields,
    activity_indexes,
    filter_indexes,
    index_entries,
    listings,
)
from jobcache.schema.keys import KEY_TABLE, Keys
from jobcache.schema.scripts import listing_script, read_jobs_script, read_script
from jobcache_refresher.publish.scripts import fenced_script, lease_script

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


def pattern(row: str) -> re.Pattern[str]:
    """A row of the key table as an expression; no placeholder takes a slash, as no name does."""
    parts = re.split(r"<(\w+)>", row)
    text = re.escape(parts[0])
    for placeholder, rest in zip(parts[1::2], parts[2::2], strict=True):
        text += (r"[^/]+(/[^/]+){3}" if placeholder == "id" else r"[^/]+") + re.escape(rest)
    return re.compile(text, re.DOTALL)


@given(NAMES, NAMES, NAMES, NAMES, st.sampled_from(JobStatus))
def test_key_of_every_index_entry_is_in_the_table_once(
    project: str, group: str, name: str, run_id: str, status: JobStatus
) -> None:
    job = JobId(project, group, name, run_id)
    written = {entry.key for entry in index_entries(job, IndexedFields(status, 1.0, 2.0))}
    written |= {listing.listing for listing in listings(job)} | {keys.job_key(job.path)}
    for key in written:
        matching = [row for row in KEY_TABLE if pattern(row.key).fullmatch(key.decode())]
        assert len(matching) == 1, key


@given(st.lists(st.tuples(NAMES, NAMES, NAMES, NAMES), min_size=2, max_size=2, unique=True))
def test_key_of_a_hostile_name_reaches_into_no_other(
    names: list[tuple[str, str, str, str]],
) -> None:
    """Two jobs share an index exactly if they share what it is of."""
    first, second = (JobId(*one) for one in names)
    shared = {
        entry.key for entry in index_entries(first, IndexedFields(JobStatus.RUNNING, 1.0, 1.0))
    } & {entry.key for entry in index_entries(second, IndexedFields(JobStatus.RUNNING, 1.0, 1.0))}
    same_project, same_group = first.project == second.project, first.group == second.group
    assert (keys.project_index(first.project) in shared) == same_project
    assert (keys.running_index(first.project) in shared) == same_project
    assert (keys.group_status_index(first.group, JobStatus.RUNNING) in shared) == same_group
    both = keys.project_group_status_index(first.project, first.group, JobStatus.RUNNING)
    assert (both in shared) == (same_project and same_group)
    assert (keys.runs_index(*first[:3]) in shared) == (first[:3] == second[:3])


@pytest.mark.parametrize(
    ("project", "group", "status"), [*product([None, "p"], [None, "g"], [None, JobStatus.FAILED])]
)
def test_filter_indexes_hold_each_matching_job_once(
    project: str | None, group: str | None, status: JobStatus | None
) -> None:
    for own in JobStatus:
        entries = index_entries(JobId("p", "g", "n", "r"), IndexedFields(own, 1.0, 1.0))
        standing = [entry.key for entry in entries]
        hits = sum(standing.count(index) for index in filter_indexes(project, group, status))
        assert hits == (1 if status in {None, own} else 0)


def test_placements_by_heartbeat_are_of_every_job_once_and_of_running_ones_by_project() -> None:
    job = JobId("p", "g", "n", "r")
    for status in JobStatus:
        entries = index_entries(job, IndexedFields(status, 1.0, None))
        unread = [entry.key for entry in entries if entry.score == float("-inf")]
        by_project = [keys.running_index("p")] if status is JobStatus.RUNNING else []
        assert sorted(unread) == sorted([keys.activity_index(status), *by_project])


@pytest.mark.parametrize("statuses", [None, *([one] for one in JobStatus), list(JobStatus)[1:3]])
@pytest.mark.parametrize("projects", [None, ["p"], ["p", "q"], ["q"]])
def test_activity_indexes_hold_each_job_with_the_statuses_once(
    projects: list[str] | None, statuses: list[JobStatus] | None
) -> None:
    indexes = activity_indexes(projects, statuses)
    for own in JobStatus:
        entries = index_entries(JobId("p", "g", "n", "r"), IndexedFields(own, 1.0, 1.0))
        standing = [entry.key for entry in entries]
        other = projects == ["q"] and statuses == [JobStatus.RUNNING]
        expected = statuses is None or own in statuses
        assert sum(standing.count(index) for index in indexes) == (expected and not other)


@pytest.mark.parametrize("namespace", ["", "a b", "{x}", "a:b", "é", "x" * 65, "-a", "a\n", "*"])
def test_namespace_with_odd_characters_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"namespace={namespace!r}")):
        Keys(namespace)


def test_namespace_is_one_slot_of_a_cluster() -> None:
    assert Keys("a.b-c_1").meta == b"jobcache:{a.b-c_1}:meta"


def test_script_header_says_its_keys_and_arguments() -> None:
    scripts = [
        *(read_script(name) for name in ("summary", "changes", "freshness")),
        *(read_jobs_script(name) for name in ("job", "jobs", "running")),
        *(listing_script(name) for name in ("page", "search")),
    ]
    scripts += [
        fenced_script(name)
        for name in ("apply", "complete", "delete", "begin", "clear", "stand", "report")
        + ("inspect", "prune", "recount")
    ]
    scripts += [lease_script(name) for name in ("acquire", "renew", "release")]
    for script in scripts:
        assert "-- KEYS" in script.source, script.name
        assert re.search(r"[Rr]eturns", script.source), script.name
        assert not re.search(r"'(KEYS|SCAN)'", script.source), script.name


def test_script_names_only_fields_that_exist() -> None:
    """Lua gives nil for a name that a table lacks."""
    source = read_script("freshness").source
    tables = dict(re.findall(r"(?m)^local ([A-Z]+) = \{(.*)\}$", source))
    known = {name: set(re.findall(r"(\w+) = '", table)) for name, table in tables.items()}
    for package in ("jobcache.schema", "jobcache_refresher"):
        for file in files(package).joinpath("lua").iterdir():
            for table, name in re.findall(
                r"\b(META|JOB|KEY|FEED|REQUEST)\.(\w+)", file.read_text()
            ):
                assert name in known[table], (file.name, table, name)

"""The documentation keeps what it promises, as far as a look at the files and the code tells."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator

import click
import pytest

import jobcache
from jobcache import AsyncJobCache, CacheState, Freshness, JobCache, JobMetadata, Problem
from jobcache.cli import Exit
from jobcache.cli.commands import root as client_program
from jobcache.schema.job import CHIPS, FINGERPRINT, JOB_FIELDS, REV
from jobcache.schema.keys import KEY_TABLE
from jobcache.web.api import ENDPOINTS
from jobcache_refresher.cli.commands import root as refresher_program
from jobcache_refresher.metrics import StatusCollector
from jobcache_refresher.scan.names import SYSTEM_NAMES
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from tests.pages import DOCS, PAGES, README, ROOT, Page

PROGRAMS = {"jobcache": client_program, "jobcache-refresher": refresher_program}
LONGEST_README = 150


def each(pages: list[Page]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


def named(cell: str) -> list[str]:
    """The code in a cell of a table."""
    return re.findall(r"`([^`]+)`", cell)


# Pages and links


def test_the_readme_is_short() -> None:
    assert len(README.text.splitlines()) <= LONGEST_README


@each(PAGES)
def test_every_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        if re.match(r"https?://", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), link
        if fragment:
            assert fragment in Page(target).anchors, link


@pytest.mark.parametrize("index", [README, DOCS["README.md"]], ids=lambda page: page.name)
def test_every_page_is_linked(index: Page) -> None:
    linked = {(index.path.parent / link.partition("#")[0]).resolve() for link in index.links}
    assert {page.path for page in DOCS.values()} - {index.path} <= linked


@each([page for name, page in DOCS.items() if name != "README.md"])
def test_a_page_says_first_for_whom_it_is(page: Page) -> None:
    first = page.text.split("\n\n")[1]
    assert re.match(r"For (everyone|developers|operators|people)\b", first), first


@each(PAGES)
def test_make_targets_exist(page: Page) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make ([\w-]+)", page.text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@each(PAGES)
def test_extras_exist(page: Page) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = pyproject.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for several in re.findall(r"pip install '\.\[([\w,]+)\]'", page.text):
        for extra in several.split(","):
            assert re.search(rf"^{extra} = ", extras, re.MULTILINE), extra


# Code


@each(PAGES)
def test_python_compiles(page: Page) -> None:
    for number, code in enumerate(page.code("python")):
        compile(code, f"{page.name}:{number}", "exec")


def commands(page: Page) -> Iterator[list[str]]:
    """The calls of our programs in a page, as words."""
    lines = [line for code in page.code("sh") for line in code.splitlines()]
    for line in [*lines, *page.spans]:
        for part in re.split(r"\||&&|;| -- ", line.partition("  #")[0]):
            if re.match(r"\s*jobcache(-refresher)? ", part):
                yield shlex.split(part)


def options(command: click.Command) -> set[str]:
    return {flag for option in command.params for flag in option.opts}


@each(PAGES)
def test_commands_and_their_options_exist(page: Page) -> None:
    for program, *words in commands(page):
        group = PROGRAMS[program]
        command = next((word for word in words if not word.startswith("-")), "")
        assert command in group.commands, f"{program} {' '.join(words)}"
        known = options(group) | options(group.commands[command]) | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{program} {' '.join(words)}"


def test_every_command_is_named_somewhere() -> None:
    used = {(words[0], word) for page in PAGES for words in commands(page) for word in words[1:]}
    for program, group in PROGRAMS.items():
        assert {(program, name) for name in group.commands} <= used


# Tables


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
    assert DOCS["settings.md"].table("Refresher") == expected


@pytest.mark.parametrize("client", [JobCache, AsyncJobCache])
def test_the_table_of_client_settings(client: type) -> None:
    rows = {named(row[0])[0]: row[1] for row in DOCS["settings.md"].table("Clients")}
    parameters = dict(inspect.signature(client).parameters)
    assert list(rows) == list(parameters)
    for name, parameter in parameters.items():
        if isinstance(parameter.default, bool | int | float):
            assert rows[name] == f"`{parameter.default}`", name


def test_every_setting_that_is_named_exists() -> None:
    known = {*Settings.environment_names().values()}
    known |= {"JOBCACHE_STALE_IF_ERROR", "JOBCACHE_"}
    for page in PAGES:
        assert set(re.findall(r"JOBCACHE_\w*", page.text)) <= known, page.name


def test_every_url_that_is_shown_can_be_used() -> None:
    urls = [url for row in DOCS["connecting.md"].table("URLs") for url in named(row[0])]
    assert len(urls) == 5
    for url in urls:
        JobCache(url)


def test_the_table_of_names_that_are_passed_over() -> None:
    rows = DOCS["tree.md"].table("Names that are passed over")
    assert [name for row in rows for name in named(row[1])] == list(SYSTEM_NAMES)


def test_the_key_table() -> None:
    expected = [[f"`{row.key}`", row.type, row.holds] for row in KEY_TABLE]
    assert DOCS["redis.md"].table("Keys") == expected


def test_the_table_of_a_jobs_fields() -> None:
    rows = [name for row in DOCS["redis.md"].table("The hash of a job") for name in named(row[0])]
    assert sorted(rows) == sorted(
        field.decode() for field in (*JOB_FIELDS, REV, FINGERPRINT, CHIPS)
    )


def test_the_tables_of_states() -> None:
    states = [named(row[0])[0] for row in DOCS["operations.md"].table("States")]
    assert states == [state.value for state in CacheState]


def test_the_tables_of_models() -> None:
    queries = DOCS["queries.md"]
    for heading, model in (("A job", JobMetadata), ("Problems", Problem), ("Freshness", Freshness)):
        rows = [name for row in queries.table(heading) for name in named(row[0])]
        assert set(rows) == set(model.model_fields), heading


def test_the_table_of_what_follows_from_a_jobs_fields() -> None:
    rows = [named(row[0])[0] for row in DOCS["queries.md"].tables("A job")[1]]
    assert set(rows) == set(JobMetadata.model_computed_fields)


@pytest.mark.parametrize("client", [JobCache, AsyncJobCache])
def test_the_table_of_calls(client: type) -> None:
    rows = [named(row[0])[0] for row in DOCS["queries.md"].tables("Queries")[0]]
    for row in rows:
        name, _, arguments = row.rstrip(")").partition("(")
        signature = inspect.signature(getattr(client, name))
        parameters = [one for key, one in signature.parameters.items() if key != "self"]
        expected = ", ".join(
            one.name if one.default is one.empty else f"{one.name}={one.default!r}"
            for one in parameters
        )
        assert arguments == expected, name
    lifecycle = {"open", "close", "start", "stop", "last_freshness"}
    public = {name for name in dir(JobCache) if not name.startswith("_")}
    assert {row.partition("(")[0] for row in rows} == public - lifecycle


def test_the_readme_names_every_call() -> None:
    cells = [call for row in README.table("The calls") for call in named(row[0])]
    lifecycle = {"open", "close", "start", "stop"}
    public = {name for name in dir(JobCache) if not name.startswith("_")}
    assert {cell.partition("(")[0] for cell in cells} == public - lifecycle


def test_every_public_error_is_explained() -> None:
    errors = {
        name
        for name in jobcache.__all__
        if inspect.isclass(getattr(jobcache, name))
        and issubclass(getattr(jobcache, name), jobcache.JobCacheError)
    }
    rows = {named(row[0])[0] for row in DOCS["web-apps.md"].table("Errors")}
    assert rows == errors - {"JobCacheError"} | {"ValueError"}


def test_the_table_of_the_json_api() -> None:
    rows = [named(row[0])[0] for row in DOCS["web-apps.md"].table("The ready-made JSON API")]
    assert rows == ["/", *ENDPOINTS]


def test_the_table_of_metrics() -> None:
    collector = StatusCollector(lambda: Status(leads=True, completed_at=1.0), "default")
    expected = [
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in collector.collect()
    ]
    rows = [named(row[0])[0] for row in DOCS["operations.md"].table("Metrics")]
    assert sorted(rows) == sorted(expected)


def test_the_tables_of_commands_and_exit_codes() -> None:
    *programs, codes = DOCS["operations.md"].tables("Command lines")
    shown = [named(row[0])[0] for rows in programs for row in rows]
    expected = [f"{name} {one}" for name, group in PROGRAMS.items() for one in group.commands]
    assert sorted(shown) == sorted(expected)
    assert [int(row[0]) for row in codes] == [code.value for code in Exit]

"""A refresher on a real JuiceFS mount, while producers write through another mount."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from jobcache import CacheState, JobMetadata
from tests.faults.mounted import (
    DELETED_WITHIN,
    INTERVAL,
    QUIET_AFTER,
    RELIST,
    SLACK,
    Site,
    Watch,
    await_heartbeat,
    beat,
    seconds_until,
    shows,
    some_runs,
    write_all,
)
from tests.trees import Names, delete_run, metadata, run_dir, write_run

# Two healthy mounts


def test_a_heartbeat_shows_within_an_interval(site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, ThreadPoolExecutor() as pool:
        time.sleep(QUIET_AFTER)
        shown = []
        # At every phase of the poll and of the attribute cache.
        for names in runs[:16]:
            time.sleep(0.13)
            shown.append(pool.submit(await_heartbeat, cache, names, beat(site, names)))
    latencies = sorted(future.result() for future in shown)
    assert latencies[-1] <= INTERVAL + SLACK, latencies


def test_the_end_of_a_run_shows_within_an_interval(site: Site) -> None:
    names = some_runs(1)[0]
    write_all(site, [names])
    with site.refreshed() as cache:
        beat(site, names, status="completed")
        seconds_until(
            lambda: getattr(cache.get_job(*names), "status", None) == "completed",
            within=INTERVAL + SLACK,
        )


def test_a_new_run_shows_within_a_poll_in_an_active_group(site: Site) -> None:
    live = some_runs(3)
    write_all(site, live)
    with site.refreshed(relist_interval=60.0) as cache:
        time.sleep(QUIET_AFTER)
        for names in [("p", "g", "n0", "new"), ("p", "g", "other", "new")]:
            write_run(site.producer, names)
            seconds_until(
                lambda: shows(cache, names),  # noqa: B023
                within=INTERVAL + SLACK,
                but=lambda: names,  # noqa: B023
            )


def test_a_new_run_shows_within_a_relist_anywhere(site: Site) -> None:
    ended = some_runs(5)
    write_all(site, ended, status="completed")
    news: list[Names] = [
        ("new project", "g", "n", "r"),
        ("p", "new group", "n", "r"),
        ("p", "g", "new name", "r"),
        ("p", "g", "n0", "new run"),
    ]
    with site.refreshed() as cache:
        time.sleep(QUIET_AFTER)
        for names in news:
            write_run(site.producer, names)
            seconds_until(
                lambda: shows(cache, names),  # noqa: B023
                within=RELIST + INTERVAL + SLACK,
                but=lambda: names,  # noqa: B023
            )


def test_a_deleted_run_goes_within_two_polls_and_never_before(site: Site) -> None:
    runs = some_runs(10)
    write_all(site, runs)
    one, name_of_all = runs[0], runs[1][:3]
    with site.refreshed() as cache, Watch(site) as watch:
        time.sleep(2 * INTERVAL)
        first = time.monotonic()
        delete_run(site.producer, one)
        seconds_until(lambda: not shows(cache, one), within=DELETED_WITHIN)
        second = time.monotonic()
        shutil.rmtree(run_dir(site.producer, runs[1]).parent)
        seconds_until(lambda: not cache.get_job_runs(*name_of_all), within=DELETED_WITHIN + RELIST)
        time.sleep(2 * INTERVAL)
    watch.always_showed(runs, until=first)
    watch.always_showed(runs[1:], until=second)
    watch.always_showed([names for names in runs[1:] if names[:3] != name_of_all])


@pytest.mark.parametrize(
    ("source", "target"), [("p", "renamed"), ("p/g", "q/moved"), ("p/g/n1", "q/g/moved")]
)
def test_a_directory_renamed_on_another_host_moves_its_jobs_without_a_hold(
    site: Site, source: str, target: str
) -> None:
    runs = some_runs(30)
    write_all(site, runs)
    write_all(site, some_runs(10, "q"), status="completed")
    leaving = [names for names in runs if "/".join(names).startswith(f"{source}/")]
    # Fewer than what is moved.
    with site.refreshed(hold_minimum=3, hold_fraction=0.01) as cache, Watch(site) as watch:
        time.sleep(QUIET_AFTER)
        (site.producer / source).rename(site.producer / target)
        seconds_until(
            lambda: not any(shows(cache, names) for names in leaving),
            within=DELETED_WITHIN + 2 * RELIST,
            but=cache.meta,
        )
        assert cache.counts().total_jobs == 40
        assert cache.freshness().state is CacheState.READY
    assert {len(sample.jobs) for sample in watch.samples} <= set(range(40, 41 + len(leaving)))


def test_a_run_replaced_by_rename_is_the_new_one(site: Site) -> None:
    # The old file stays in JuiceFS's trash, where a descriptor of it shows the same time, size and link count.
    runs = some_runs(3)
    write_all(site, runs)
    with site.refreshed() as cache:
        time.sleep(QUIET_AFTER)
        for names in runs:
            now = datetime.now().isoformat()
            scratch = run_dir(site.producer, names) / "scratch"
            scratch.write_text(json.dumps(metadata(last_heartbeat=now), indent=2))
            scratch.rename(scratch.with_name("metadata.json"))
            await_heartbeat(cache, names, now, within=INTERVAL + SLACK)


def test_a_run_deleted_and_made_again_is_the_new_one(site: Site) -> None:
    runs = some_runs(2)
    write_all(site, runs)
    with site.refreshed() as cache:
        time.sleep(QUIET_AFTER)
        for names in runs:
            delete_run(site.producer, names)
            await_heartbeat(cache, names, beat(site, names), within=DELETED_WITHIN)
        time.sleep(QUIET_AFTER)
        # Descriptors of the old files must not answer for the new ones.
        for names in runs:
            await_heartbeat(cache, names, beat(site, names), within=INTERVAL + SLACK)


def test_both_of_two_runs_made_within_100_ms_are_found(site: Site) -> None:
    # JuiceFS leaves a directory's mtime alone when it changed less than 100 ms before.
    write_all(site, [("p", "g", "n", "r")])
    with site.refreshed(relist_interval=60.0, resync_interval=600.0) as cache:
        pairs = []
        for number in range(10):
            pair: list[Names] = [("p", "g", "n", f"{number}-{which}") for which in "ab"]
            write_run(site.producer, pair[0])
            # A scan begins between the two in some of the rounds, whatever its phase.
            time.sleep(0.01 * number)
            write_run(site.producer, pair[1])
            pairs += pair
            time.sleep(0.05)
        seconds_until(
            lambda: all(shows(cache, names) for names in pairs),
            within=INTERVAL + SLACK,
            but=lambda: [names for names in pairs if not shows(cache, names)],
        )


def test_a_file_that_is_made_late_within_100_ms_of_its_log_is_found(site: Site) -> None:
    # The run is listed without its file, whose making then leaves the directory's mtime alone.
    write_all(site, [("p", "g", "n", "r")])
    with site.refreshed(relist_interval=60.0, resync_interval=600.0) as cache:
        made = []
        for number in range(8):
            names: Names = ("p", "g", "n", f"late{number}")
            directory = run_dir(site.producer, names)
            directory.mkdir()
            (directory / "output.log").write_text("")
            time.sleep(0.01 * number)
            write_run(site.producer, names)
            made.append(names)
        seconds_until(
            lambda: all(shows(cache, names) for names in made),
            within=INTERVAL + SLACK,
            but=lambda: [names for names in made if not shows(cache, names)],
        )


def test_a_file_rewritten_all_the_time_is_never_blank_dropped_or_older(site: Site) -> None:
    runs = some_runs(4)
    write_all(site, runs, job_key="0")
    stop = threading.Event()
    written = dict.fromkeys(runs, 0)

    def rewrite() -> None:
        while not stop.is_set():
            for names in runs:
                written[names] += 1
                beat(site, names, job_key=str(written[names]))

    producer = threading.Thread(target=rewrite, name="producer")
    with site.refreshed(poll_interval=0.2) as cache, Watch(site) as watch:
        producer.start()
        time.sleep(4.0)
        stop.set()
        producer.join()
        seconds_until(
            lambda: all(_version(cache.get_job(*names)) == written[names] for names in runs),
            within=0.2 + SLACK,
        )
    watch.always_showed(runs)
    for names in runs:
        seen = [sample.jobs[names] for sample in watch.samples]
        assert all(job.config and job.hardware.total_chips == 8 for job in seen)
        versions = [_version(job) for job in seen]
        assert versions == sorted(versions)
        # It is read now and then, however rarely the file is whole.
        assert len(set(versions)) >= 3


def _version(job: JobMetadata | None) -> int:
    assert job is not None
    return int(job.job_key)

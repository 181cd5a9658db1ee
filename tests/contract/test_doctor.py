"""What the doctor finds, and what it does not."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

from jobcache.cli.checkup import Checkup
from jobcache.cli.doctor import EXAMPLES
from jobcache_refresher.scan.scope import Scope
from tests.contract.damage import change, fill, limited
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import STATUSES, write_run


class TestDoctor:
    def test_doctor_finds_nothing_while_others_write(self, whole: Rig) -> None:
        stop = threading.Event()
        seen: list[Counter[str]] = []

        def examine() -> None:
            while not stop.is_set():
                with closing(Checkup(whole.url, namespace=whole.namespace, deadline=10)) as checkup:
                    seen.append(checkup.examine().findings)

        examiner = threading.Thread(target=examine)
        examiner.start()
        number = 0
        while len(seen) < 5 and examiner.is_alive():
            number += 1
            names = ("pqr"[number % 3], "gh"[number % 2], "n", f"r{number % 20}")
            write_run(whole.status_dir, names, status=STATUSES[number % 5])
            whole.refresh(Scope.POLL)
            if number % 5 == 0:
                whole.cache.delete_job(*names)
        stop.set()
        examiner.join()
        assert len(seen) >= 5
        assert not sum(seen, Counter())

    def test_doctor_without_the_right_to_scan_says_so(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        fill(status_dir, 5)
        url = limited(
            valkey,
            f"r-{namespace}",
            "+@read",
            "+@connection",
            "+evalsha_ro",
            "+eval_ro",
            "+time",
            "-scan",
        )
        with Rig(valkey.url, status_dir, namespace) as rig, valkey.client() as redis:
            rig.settle()
            with closing(Checkup(url, namespace=namespace)) as checkup:
                report = checkup.examine()
                assert not report.findings
                assert report.notes == [
                    "keys that belong to nothing were not looked for: SCAN is denied"
                ]
                change(rig, redis, ("DEL", "jobs"))
                assert checkup.examine().findings

    def test_doctor_shows_few_examples(self, valkey_rig: Rig, valkey: RunningServer) -> None:
        fill(valkey_rig.status_dir, 150)
        valkey_rig.settle()
        with valkey.client() as redis:
            change(valkey_rig, redis, ("DEL", "jobs"))
        with closing(Checkup(valkey_rig.url, namespace=valkey_rig.namespace)) as checkup:
            report = checkup.examine()
        assert report.findings["job that an index lacks"] == 150
        assert len(report.examples["job that an index lacks"]) == EXAMPLES

"""Which volumes below the root are believed, and what becomes of those that are not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jobcache_refresher.scan.snapshot import Snapshot
from jobcache_refresher.scan.volumes import (
    GONE,
    NAMED,
    NOT_MOUNTED,
    Fault,
    ReportedVolume,
    Sight,
    Volume,
    Volumes,
    decode_volumes,
    describe_faults,
    encode_volumes,
)

HERE = Volume(device=7, fs_type="ext4")
ROOT_DEVICE = 1


@pytest.mark.parametrize(
    ("volume", "seen", "known", "doubt"),
    [
        # nothing is known, so nothing can be lost
        (Volume(), Sight(7, "ext4", set()), set(), None),
        (HERE, Sight(8, "xfs", {b"x"}), set(), None),
        # as before
        (HERE, Sight(7, "ext4", {b"a"}), {b"a"}, None),
        (HERE, Sight(7, "ext4", {b"a", b"c"}), {b"a", b"b"}, None),
        (HERE, Sight(7, None, {b"a"}), {b"a"}, None),
        # all that was known went, one by one
        (HERE, Sight(7, "ext4", {b"c"}), {b"a"}, None),
        # empty
        (HERE, Sight(7, "ext4", set()), {b"a"}, "turned empty"),
        (HERE, Sight(8, "tmpfs", set()), {b"a"}, "turned empty"),
        (Volume(), Sight(8, "tmpfs", set()), {b"a"}, "turned empty"),
        # mounted anew
        (HERE, Sight(8, "ext4", {b"a"}), {b"a", b"b"}, None),
        (HERE, Sight(8, None, {b"a"}), {b"a"}, None),
        # another one in its place
        (HERE, Sight(8, "ext4", {b"x"}), {b"a"}, "shows another filesystem"),
        (HERE, Sight(8, None, {b"x"}), {b"a"}, "shows another filesystem"),
        (HERE, Sight(8, "xfs", {b"a"}), {b"a"}, "is a filesystem of type xfs, not ext4"),
        (HERE, Sight(8, "xfs", {b"x"}), {b"a"}, "is a filesystem of type xfs, not ext4"),
        # one that got the number of the one before
        (HERE, Sight(7, "xfs", {b"x"}), {b"a"}, "is a filesystem of type xfs, not ext4"),
        # known from an earlier leader only
        (Volume(None, "ext4"), Sight(8, "ext4", {b"a"}), {b"a"}, None),
        (
            Volume(None, "ext4"),
            Sight(8, "xfs", {b"a"}),
            {b"a"},
            "is a filesystem of type xfs, not ext4",
        ),
        (Volume(None, "ext4"), Sight(8, "ext4", {b"x"}), {b"a"}, "shows another filesystem"),
        # a subvolume, or types cannot be told
        (Volume(7), Sight(8, "xfs", {b"a"}), {b"a"}, None),
        (Volume(7), Sight(8, None, {b"x"}), {b"a"}, "shows another filesystem"),
    ],
)
def test_doubt(volume: Volume, seen: Sight, known: set[bytes], doubt: str | None) -> None:
    assert volume.doubt(seen, known) == doubt


def begun(types: Mapping[bytes, str], known: Mapping[bytes, Volume] | None = None) -> Volumes:
    volumes = Volumes()
    volumes.adopt(known or {})
    volumes.begin(ROOT_DEVICE, types)
    return volumes


class TestConcern:
    @pytest.mark.parametrize(
        ("path", "device", "concerns"),
        [
            (b"p", ROOT_DEVICE, False),
            (
                b"p",
                2,
                True,
            ),  # another device: a subvolume, or a mount that the table does not know yet
            (b"bind", ROOT_DEVICE, True),
            (b"vol", ROOT_DEVICE, True),  # not mounted any more
            (b"vol/g", 7, False),
            (b"vol/g", ROOT_DEVICE, True),
            (b"vol/g/n", 7, False),
            (b"volume", ROOT_DEVICE, False),
        ],
    )
    def test_concern_of_a_path_on_a_device(self, path: bytes, device: int, concerns: bool) -> None:
        volumes = begun({b"bind": "ext4"}, {b"vol": HERE})
        assert volumes.concern(path, device) is concerns

    def test_concern_without_a_look_at_the_table_goes_by_the_last_one(self) -> None:
        volumes = begun({b"bind": "ext4"})
        volumes.begin(ROOT_DEVICE, None)
        assert volumes.concern(b"bind", ROOT_DEVICE)


class TestJudge:
    def test_judge_a_new_volume_without_jobs_believes_it(self) -> None:
        volumes = begun({b"vol": "ext4"})
        assert volumes.judge(b"vol", 7, {b"g"}, set()) is None
        assert volumes.known == {b"vol": HERE}

    @pytest.mark.parametrize(
        ("names", "doubt"),
        [({b"a"}, None), ({b"x"}, "shows another filesystem"), (set(), "turned empty")],
    )
    def test_judge_a_volume_over_a_directory_with_jobs_wants_their_names(
        self, names: set[bytes], doubt: str | None
    ) -> None:
        volumes = begun({b"vol": "ext4"})
        assert volumes.judge(b"vol", 7, names, {b"a"}) == doubt
        # It is unmounted: the directory below shows again.
        volumes.begin(ROOT_DEVICE, {})
        if doubt:
            assert volumes.judge(b"vol", ROOT_DEVICE, {b"a"}, {b"a"}) is None
            assert volumes.known == {}
            assert volumes.faults == {}

    @pytest.mark.parametrize("names", [set(), {b"a"}, {b"x"}])
    @pytest.mark.parametrize("known", [set(), {b"a"}])
    def test_judge_an_unmounted_volume_never_believes_what_is_beneath(
        self, names: set[bytes], known: set[bytes]
    ) -> None:
        volumes = begun({}, {b"vol": HERE})
        assert volumes.judge(b"vol", ROOT_DEVICE, names, known) == NOT_MOUNTED
        assert volumes.faults == {b"vol": Fault(NOT_MOUNTED, is_releasable=True)}
        assert volumes.known == {b"vol": HERE}

    def test_judge_a_volume_that_is_mounted_again_ends_the_fault(self) -> None:
        volumes = begun({}, {b"vol": HERE})
        volumes.judge(b"vol", ROOT_DEVICE, set(), {b"a"})
        volumes.begin(ROOT_DEVICE, {b"vol": "ext4"})
        assert volumes.judge(b"vol", 8, {b"a"}, {b"a"}) is None
        assert volumes.known == {b"vol": Volume(8, "ext4")}
        assert volumes.faults == {}

    def test_judge_an_automount_that_was_entered_needs_no_line_in_the_table(self) -> None:
        volumes = begun({}, {b"vol": Volume(7, "nfs4")})
        assert volumes.judge(b"vol", 8, {b"a"}, {b"a"}) is None
        assert volumes.known == {b"vol": Volume(8, "nfs4")}

    def test_judge_a_subvolume_that_became_a_directory_with_the_same_names_forgets_it(self) -> None:
        volumes = begun({}, {b"sub": Volume(7)})
        assert volumes.judge(b"sub", ROOT_DEVICE, {b"a"}, {b"a"}) is None
        assert volumes.known == {}

    def test_judge_a_subvolume_of_which_only_the_directory_is_left_does_not_believe_it(
        self,
    ) -> None:
        volumes = begun({}, {b"sub": Volume(7)})
        assert volumes.judge(b"sub", ROOT_DEVICE, set(), {b"a"}) == "turned empty"

    def test_judge_a_bind_mount_on_the_same_device_goes_by_the_table(self) -> None:
        volumes = begun({b"bind": "ext4"})
        assert volumes.judge(b"bind", ROOT_DEVICE, {b"a"}, set()) is None
        volumes.begin(ROOT_DEVICE, {})
        assert volumes.judge(b"bind", ROOT_DEVICE, set(), {b"a"}) == NOT_MOUNTED

    def test_judge_goes_by_the_device_of_the_volume_above(self) -> None:
        volumes = begun(
            {b"vol": "ext4", b"vol/g": "xfs"}, {b"vol": HERE, b"vol/g": Volume(9, "xfs")}
        )
        volumes.begin(ROOT_DEVICE, {b"vol": "ext4"})
        assert volumes.judge(b"vol/g", 7, set(), {b"n"}) == NOT_MOUNTED


class TestFaults:
    def test_miss_tells_whether_it_is_a_volume(self) -> None:
        volumes = begun({}, {b"vol": HERE})
        assert volumes.miss(b"p") is None
        assert volumes.miss(b"vol") == GONE
        assert volumes.faults.keys() == {b"vol"}

    def test_miss_of_a_subvolume_is_an_absence(self) -> None:
        """It is removed, or moved, as a directory is."""
        volumes = begun({}, {b"sub": Volume(7)})
        assert volumes.miss(b"sub") is None
        assert volumes.faults == {}

    def test_fail_of_an_ordinary_directory_is_no_fault(self) -> None:
        volumes = begun({}, {b"vol": HERE})
        volumes.fail(b"p", "cannot be listed: Permission denied")
        assert volumes.faults == {}

    def test_fail_of_a_mount_that_was_never_read_is_a_fault_that_nobody_can_release(self) -> None:
        volumes = begun({b"vol": "fuse.juicefs"})
        volumes.fail(b"vol", "cannot be listed: Transport endpoint is not connected")
        assert volumes.covers(b"vol/g/n/r")
        assert volumes.release() == []
        assert volumes.covers(b"vol/g/n/r")

    @pytest.mark.parametrize(
        ("path", "covered"),
        [(b"a/b", True), (b"a/b/c/d", True), (b"a", False), (b"a/bc/d/e", False), (b"", False)],
    )
    def test_covers_what_lies_at_or_below(self, path: bytes, covered: bool) -> None:
        volumes = begun({}, {b"a/b": HERE})
        volumes.miss(b"a/b")
        assert volumes.covers(path) is covered

    def test_release_believes_whatever_shows_next_once(self) -> None:
        volumes = begun({b"vol": "xfs"}, {b"vol": HERE})
        assert volumes.judge(b"vol", 8, {b"x"}, {b"a"}) is not None
        assert volumes.release() == [b"vol"]
        assert volumes.judge(b"vol", 8, {b"x"}, {b"a"}) is None
        assert volumes.known == {b"vol": Volume(8, "xfs")}
        assert volumes.judge(b"vol", 9, {b"y"}, {b"x"}) == "shows another filesystem"

    def test_end_of_a_scan_notes_a_volume_that_went_with_the_directory_above(self) -> None:
        snapshot = Snapshot()
        snapshot.expect(b"p/vol/n/r", 0.0)
        snapshot.directories[b""].children[b"p"] = 1
        volumes = begun({}, {b"p/vol": HERE, b"forgotten": HERE})
        volumes.end(snapshot)
        assert volumes.known.keys() == volumes.faults.keys() == {b"p/vol"}


class TestReport:
    def test_a_reported_volume_survives_the_way_through_redis(self) -> None:
        volumes = begun(
            {}, {b"a/b": Volume(1, "nfs"), b"caf\xe9 \xff": HERE, "ü".encode(): Volume(9)}
        )
        volumes.miss(b"a/b")
        report = volumes.report()
        assert [one.path for one in report] == [b"caf\xe9 \xff", "ü".encode(), b"a/b"]
        assert report[-1] == ReportedVolume(b"a/b", "nfs", Fault(GONE, is_releasable=True))
        assert decode_volumes(encode_volumes(report)) == report

    @pytest.mark.parametrize("text", [None, b"", b"{", b"7", b"[7]", b'[{"path": 7}]', b'["a"]'])
    def test_decode_of_anything_else_is_no_volume(self, text: bytes | None) -> None:
        assert decode_volumes(text) == []

    def test_describe_names_some_and_counts_the_rest(self) -> None:
        assert describe_faults([ReportedVolume(b"vol", "xfs", None)]) == ""
        volumes = begun({}, {b"v%d" % number: HERE for number in range(NAMED + 2)})
        for path in volumes.known:
            volumes.miss(path)
        told = describe_faults(volumes.report())
        assert "'v0' is gone, 'v1' is gone" in told
        assert "and 2 more;" in told

"""The power cut part of the rack: small, with every control, and its own pieces one by one."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from torture.part import Budget
from torture.powercut import PART, workers, workload
from torture.powercut.disk import PAGE, SECTOR, Disk, Image, Sector
from torture.powercut.history import Fact, History, Seen
from torture.powercut.runs import Recorded, Recorder, images
from torture.powercut.scratch import scratch
from torture.powercut.trace import Kind, Op, parse

FILE, ROOT = 11, 1


def op(kind: Kind, inode: int = FILE, offset: int = 0, data: bytes = b"") -> Op:
    return Op(kind, inode, offset, data)


def mark(*what: object) -> Op:
    return Op(Kind.MARK, 0, 0, json.dumps(what).encode())


def begun(*ops: Op) -> Disk:
    """A disk with an empty file whose name is durable."""
    disk = Disk("/root")
    for one in (
        op(Kind.CREATED, data=b"/root/data.mdb"),
        op(Kind.SYNC_BEGUN, ROOT, 1),
        op(Kind.SYNC_ENDED, ROOT, 1),
        *ops,
    ):
        disk.feed(one)
    return disk


def page(letter: str, count: int = 1) -> bytes:
    return letter.encode() * (PAGE * count)


def content(image: Image) -> bytes | None:
    """The file of an image, None where it is gone."""
    return {path: bytes(data) for path, data in image.files()}.get("data.mdb")


def possible(disk: Disk, tries: int = 600) -> set[bytes | None]:
    draw = random.Random(1)
    return {content(disk.random(draw)) for _ in range(tries)}


def spelled(data: bytes) -> str:
    """A letter for each sector."""
    return "".join(chr(byte) if byte else "." for byte in data[::SECTOR])


# -- the disk --------------------------------------------------------------------------------------------------------------


def test_what_was_synced_is_there_and_what_was_not_may_be() -> None:
    """Of two pages the first was synced: the second is there, not there, or torn; the file long or short."""
    disk = begun(
        op(Kind.WRITTEN, data=page("a")),
        op(Kind.SYNC_BEGUN, offset=2),
        op(Kind.SYNC_ENDED, offset=2),
        op(Kind.WRITTEN, offset=PAGE, data=page("b")),
    )
    found = {spelled(data) for data in possible(disk) if data is not None}
    assert None not in possible(disk)
    assert all(one.startswith("aaaaaaaa") for one in found)
    assert {"aaaaaaaa", "aaaaaaaabbbbbbbb", "aaaaaaaa........", "aaaaaaaabb......"} <= found
    assert not disk.is_settled


def test_a_sync_covers_what_was_written_before_it_began() -> None:
    """Not what was written while it ran."""
    disk = begun(
        op(Kind.WRITTEN, data=page("a")),
        op(Kind.SYNC_BEGUN, offset=2),
        op(Kind.WRITTEN, data=page("b")),
        op(Kind.SYNC_ENDED, offset=2),
    )
    assert {"aaaaaaaa", "bbbbbbbb"} <= {spelled(data or b"") for data in possible(disk)}
    assert spelled(content(disk.lost()) or b"") == "aaaaaaaa"


def test_of_several_writes_of_a_sector_any_may_be_there() -> None:
    """The newest, an older one, or none."""
    disk = begun(op(Kind.WRITTEN, data=page("a")), op(Kind.WRITTEN, data=page("b")))
    found = {spelled(data or b"") for data in possible(disk)}
    assert {"", "........", "aaaaaaaa", "bbbbbbbb", "aaaabbbb"} <= found


def test_a_write_through_the_cache_is_there_when_it_has_returned_and_flushes_nothing_else() -> None:
    """As LMDB's meta page, beside data that nobody has synced."""
    ops = [op(Kind.WRITTEN, data=page("a", 2)), op(Kind.THROUGH, data=b"mm"), op(Kind.THROUGH_ENDED)]
    assert {spelled(data or b"")[:1] for data in possible(begun(*ops[:2]))} == {"", ".", "a", "m"}
    after = possible(begun(*ops))
    assert {(data or b"")[:2] for data in after if data} == {b"mm"}
    assert any(spelled(data or b"").endswith("........") for data in after)


def test_a_file_without_a_durable_name_may_be_gone() -> None:
    """Synced or not; and a name that is removed may still be there."""
    disk = Disk("/root")
    for one in (op(Kind.CREATED, data=b"/root/data.mdb"), op(Kind.WRITTEN, data=page("a"))):
        disk.feed(one)
    for one in (op(Kind.SYNC_BEGUN, offset=2), op(Kind.SYNC_ENDED, offset=2)):
        disk.feed(one)
    assert possible(disk) == {None, page("a")}
    removed = begun(op(Kind.REMOVED, data=b"/root/data.mdb"))
    assert possible(removed) == {None, b""}


def test_a_rename_happens_as_a_whole() -> None:
    """The old name or the new one, never both, never none; a link beside it may be there or not."""
    disk = begun(op(Kind.RENAMED, data=b"/root/data.mdb\0/root/data.mdb.b"))
    draw = random.Random(1)
    assert {tuple(path for path, _ in disk.random(draw).files()) for _ in range(50)} == {("data.mdb",), ("data.mdb.b",)}
    disk = begun(op(Kind.LINKED, data=b"/root/data.mdb\0/root/data.mdb.b"))
    names = {tuple(path for path, _ in disk.random(draw).files()) for _ in range(50)}
    assert names == {("data.mdb",), ("data.mdb", "data.mdb.b")}


def test_what_lies_in_a_folder_without_a_name_is_gone() -> None:
    """A file is reached through every folder above it."""
    disk = Disk("/root")
    for one in (
        op(Kind.FOLDER, 21, data=b"/root/in"),
        op(Kind.CREATED, data=b"/root/in/data.mdb"),
        op(Kind.SYNC_BEGUN, 21, 3),
        op(Kind.SYNC_ENDED, 21, 3),
    ):
        disk.feed(one)
    draw = random.Random(1)
    shapes = {tuple(path for path, _ in disk.random(draw).files()) for _ in range(50)}
    assert shapes == {(), ("in/data.mdb",)}


def test_lock_files_do_not_matter() -> None:
    """They are made anew by whoever needs them."""
    disk = begun(op(Kind.CREATED, 12, data=b"/root/lock.mdb"), op(Kind.WRITTEN, 12, data=b"x"))
    assert disk.is_settled
    assert possible(disk) == {b""}


def test_equal_images_are_known_by_their_digest() -> None:
    """However they came about; and any difference shows: a sector, the length, a name."""
    disk = begun(
        op(Kind.WRITTEN, data=page("a")),
        op(Kind.WRITTEN, data=page("b")),
        op(Kind.WRITTEN, offset=PAGE, data=bytes(PAGE)),
    )
    draw = random.Random(3)
    by_digest: dict[int, bytes | None] = {}
    for _ in range(500):
        image = disk.random(draw)
        assert by_digest.setdefault(image.digest, content(image)) == content(image)
    assert len(set(by_digest.values())) == len(by_digest) > 20
    settled = begun(op(Kind.WRITTEN, data=page("b")), op(Kind.SIZED, offset=2 * PAGE))
    assert disk.settled().digest == settled.settled().digest


def test_what_is_not_modelled_is_refused() -> None:
    """A file that shrinks: nothing of ours does it, and a model that guesses would prove nothing."""
    with pytest.raises(NotImplementedError):
        begun(op(Kind.WRITTEN, data=page("a")), op(Kind.SIZED, offset=10))


# -- the trace -----------------------------------------------------------------------------------------------------------


def test_a_log_that_is_cut_off_is_refused() -> None:
    """Each record says how long it is."""
    record = struct.pack("<IIQQQ", Kind.WRITTEN, 7, 3, 5, 2) + b"ab"
    assert list(parse(record * 2)) == [Op(Kind.WRITTEN, 3, 5, b"ab")] * 2
    for length in range(1, len(record)):
        with pytest.raises(ValueError, match="cut off"):
            list(parse(record[:length]))


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """A recorder and its folder."""
    with scratch(Path("/tmp")) as folder, Recorder(folder) as made:
        yield made


@pytest.fixture(scope="module")
def single(recorder: Recorder) -> Recorded:
    """A recorded workload."""
    return recorder.record("single", 4)


def test_a_workload_is_recorded_as_lmdb_commits(single: Recorded) -> None:
    """Pages, fdatasync, the meta page through the cache, acknowledged: in this order, for every commit; and the meta page's write
    lies inside its first sector."""
    assert single.history.problems == []
    steps = [
        one for one in single.ops if one.kind not in {Kind.MET, Kind.CREATED, Kind.FOLDER, Kind.LINKED, Kind.REMOVED}
    ]
    kinds = [one.kind for one in steps]
    acknowledged = [at for at, one in enumerate(steps) if one.kind is Kind.MARK and b'"ack"' in one.data]
    assert len(acknowledged) == len(single.log) >= 10
    for at in acknowledged:
        assert kinds[at - 4 : at] == [Kind.SYNC_BEGUN, Kind.SYNC_ENDED, Kind.THROUGH, Kind.THROUGH_ENDED]
        assert kinds[at - 5] is Kind.WRITTEN
    for one in steps:
        if one.kind is Kind.THROUGH:
            assert one.offset % PAGE + len(one.data) <= SECTOR


def test_a_workload_that_fails_stops_the_rack(recorder: Recorder) -> None:
    """With what it said: a harness that cannot do its work must not report that nothing was found."""
    with pytest.raises(RuntimeError, match="KeyError: 'no such kind'"):
        recorder.record("no such kind", 1)
    assert recorder.record("creation", 1).log


def test_equal_seeds_record_equal_traces(recorder: Recorder, single: Recorded) -> None:
    """Byte for byte, but for the names of the moment: so an image can be made again."""

    def told(run: Recorded) -> list[tuple[Kind, int, bytes]]:
        return [
            (one.kind, one.offset, one.data)
            for one in run.ops
            if one.kind in {Kind.WRITTEN, Kind.THROUGH, Kind.THROUGH_ENDED, Kind.MARK}
        ]

    again = recorder.record("single", 4)
    assert told(again) == told(single)
    assert told(recorder.record("single", 5)) != told(single)

    assert [content_of(image) for image in some(again)] == [content_of(image) for image in some(single)]


def some(run: Recorded) -> list[Image]:
    found = images(run, random.Random(1))
    return [next(found)[1] for _ in range(200)]


def content_of(image: Image) -> list[bytes]:
    return [bytes(data) for _, data in image.files()]


# -- promises -------------------------------------------------------------------------------------------------------------


def fact(number: int, sequence: int) -> Fact:
    return Fact(number, f"d{number}", "s", 1, sequence, sequence, sequence, 0, "", b"")


def tried(*numbers: int) -> Op:
    return mark("try", [[number, f"d{number}"] for number in numbers])


LOG = [fact(number, sequence) for sequence, number in enumerate((5, 6, 7))]
FULL = [tried(5), mark("ack", [5]), tried(6, 7), mark("ack", [6, 7])]


@pytest.mark.parametrize(
    ("at", "events", "wanted"),
    [
        (0, 0, None),
        (0, 1, None),
        (0, 2, "only 1 were tried"),
        (1, 0, "1 events were acknowledged, 0 are there"),
        (1, 1, None),
        (2, 2, "a part of a commit"),
        (2, 3, None),
        (3, 1, "3 events were acknowledged, 1 are there"),
    ],
)
def test_promises_about_events(at: int, events: int, wanted: str | None) -> None:
    """All that was acknowledged, nothing that was not tried, no part of a commit."""
    history = History(FULL, LOG, "full")
    assert history.problems == []
    broken = history.broken(history.duties[at], Seen(True, events))
    assert broken == [] if wanted is None else any(wanted in one for one in broken)


def test_promises_at_the_lower_levels_count_from_a_sync() -> None:
    """What was acknowledged before ``db.sync()`` was called, once it has returned."""
    ops = [*FULL[:2], mark("syncing"), *FULL[2:], mark("synced")]
    history = History(ops, LOG, "relaxed")
    assert [duty.least for duty in history.duties] == [0, 0, 0, 0, 0, 1]
    assert [duty.most for duty in history.duties] == [1, 1, 1, 3, 3, 3]


def test_promises_about_positions() -> None:
    """Not lost, not ahead of what was stored, not ahead of the log, together with the events that they ride on."""
    ops = [
        *FULL[:2],
        mark("trypos", "c", 0),
        mark("ackpos", "c", 0),
        mark("ride", "c", 1, [6]),
        mark("trypos", "c", 1),
        *FULL[2:],
        mark("ackpos", "c", 1),
    ]
    history = History(ops, LOG, "full")

    def broken(at: int, events: int, **positions: int) -> str:
        return "; ".join(history.broken(history.duties[at], Seen(True, events, positions)))

    assert broken(1, 1) == ""
    assert broken(3, 1, c=0) == ""
    assert "stored 0, found is None" in broken(3, 1)
    assert "stored was at most 0" in broken(3, 1, c=1)
    assert broken(6, 3, c=1) == broken(6, 1, c=0) == ""
    assert "one of them is there" in broken(6, 3, c=0)
    assert "one of them is there" in broken(6, 1, c=1)
    assert "stored 1, found is 0" in broken(8, 3, c=0)
    assert "of 0 events" in broken(6, 0, c=1)


def test_promises_about_the_store_itself() -> None:
    """Once it was opened it is there, and the same; what a rebuild makes is whole when it appears."""
    history = History([*FULL[:1], mark("opened", "u")], LOG[:1], "full")
    assert history.broken(history.duties[0], Seen(False)) == []
    assert "the store is gone" in history.broken(history.duties[1], Seen(False))[0]
    assert history.broken(history.duties[1], Seen(True, 0, uuid="u")) == []
    assert "it is v" in history.broken(history.duties[1], Seen(True, 0, uuid="v"))[0]
    whole = History([mark("whole"), tried(5, 6, 7)], LOG, "full")
    assert whole.broken(whole.duties[1], Seen(False)) == []
    assert "holds 0 of 3" in whole.broken(whole.duties[1], Seen(True, 0))[0]


@pytest.mark.parametrize(
    ("ops", "log", "wanted"),
    [
        ([*FULL[:3], mark("ack", [6])], LOG[:2], "do not stand together"),
        ([*FULL, tried(8), mark("ack", [8])], LOG, "acknowledged and are not in the log"),
        (FULL[:2], LOG, "1 events were acknowledged, the log holds 3"),
        ([mark("try", [[5, "other"]]), mark("ack", [5])], LOG[:1], "other content"),
    ],
)
def test_a_run_that_went_wrong_without_a_power_cut_is_told(ops: list[Op], log: list[Fact], wanted: str) -> None:
    """What was acknowledged must be in the log that the run came to."""
    assert any(wanted in problem for problem in History(ops, log, "full").problems)


# -- the part ---------------------------------------------------------------------------------------------------------------


def budget(folder: Path, **changed: Any) -> Budget:
    return Budget(**{"count": 320, "seed": 20261121, "folder": folder, **changed})


def test_no_image_breaks_a_promise(tmp_path: Path) -> None:
    """Some of every kind of workload."""
    outcome = PART.run(budget(tmp_path), lambda _: None)
    assert outcome.violations == []
    assert outcome.count >= 320
    counted = {name.removeprefix("images, ") for name in outcome.figures if name.startswith("images, ")}
    assert counted == set(workload.KINDS)
    assert sum(int(outcome.figures[f"images, {kind}"]) for kind in counted) >= outcome.count


def test_every_planted_fault_is_noticed(tmp_path: Path) -> None:
    """And nothing where none is planted."""
    controls = list(PART.controls(budget(tmp_path)))
    assert len(controls) >= 10
    assert [control for control in controls if not control.caught] == []


@pytest.mark.parametrize("how", ["kill", "raise"])
def test_an_image_that_kills_is_a_violation_and_can_be_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The worker dies of it, another goes on behind it; the command that is printed shows it again."""
    deadly: Callable[[], object] = (
        (lambda: os.kill(os.getpid(), signal.SIGKILL)) if how == "kill" else (lambda: (_ for _ in ()).throw(KeyError))
    )
    real = workers.Runner._look

    def look(self: Any, folder: Any, run: Recorded, image: Image, number: int) -> Seen:
        if run.kind == "rollover" and number % 1_000_003 == 3:
            deadly()
        return real(self, folder, run, image, number)

    monkeypatch.setattr(workers.Runner, "_look", look)
    found = PART.run(budget(tmp_path, count=60, jobs=1), lambda _: None)
    assert found.count >= 60
    deaths = [one for one in found.violations if "whoever looked at the image died" in one.what]
    assert deaths
    assert all(one.what.startswith("rollover") for one in deaths)
    words = deaths[0].again.split()
    first = int(words[words.index("--first") + 1])
    assert "--count 1" in deaths[0].again
    once = PART.run(budget(tmp_path, count=1, first=first, seed=int(words[words.index("--seed") + 1])), lambda _: None)
    assert [one.again for one in once.violations] == [deaths[0].again]


def test_sectors_have_a_digest_each() -> None:
    """Zeros have none: a page that was never written and one that was zeroed are the same."""
    disk = begun(op(Kind.WRITTEN, data=bytes(SECTOR) + b"x" * SECTOR))
    [[nothing, something]] = disk.pages()
    assert nothing == Sector(0, bytes(SECTOR), 0)
    assert something.digest != 0

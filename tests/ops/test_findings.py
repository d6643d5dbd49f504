"""Every kind of finding, planted once and found with its place; and what verification must bear."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from damage import PAGE, Noted, blocks, overwrite, pages_of, put, random_store, raw, rewrite

import varve
from varve import limits, ops
from varve.engine import instant
from varve.layout import consumers, keys
from varve.layout.draft import BlockDraft
from varve.layout.records import decode_store_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store of several blocks, with a consumer."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Noted)
        for n in range(3):
            notes.append(n, Noted(n, "first"), metadata={"n": n}, idempotency_key=f"key {n}")
        for _ in range(4):
            notes.append_batch("big", [Noted(i, "b" * 200) for i in range(150)])
        with db.consumer("billing", interval_s=0) as consumer:
            consumer.seek(5)
    assert ops.verify(path).sound
    return path


def kinds(path: Path) -> set[tuple[str, str]]:
    return {(finding.where, finding.kind) for finding in ops.verify(path).findings}


def ends_early(draft: BlockDraft) -> None:
    """The second event's table says that its vtable lies far away."""
    payload = bytearray(b"".join(draft.payload))
    payload[draft.ends[0] : draft.ends[0] + 4] = b"\xff\xff\xff\x7f"
    draft.payload = [bytes(payload)]


def test_an_event_that_is_no_flatbuffer(path: Path) -> None:
    """The checksum is right, the event is not: told with its own sequence, and the others are still looked at."""
    block = rewrite(path, 1, ends_early)
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.sequence) == ("log", "event", block.first + 1)
    assert ops.verify(path).events == 3 + 4 * 150 - 1


def test_metadata_that_is_no_json(path: Path) -> None:
    def edit(draft: BlockDraft) -> None:
        draft.columns["metadata"][0] = ord("[")

    rewrite(path, 0, edit)
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.sequence) == ("log", "metadata", 0)


def test_time_that_goes_back(path: Path) -> None:
    def edit(draft: BlockDraft) -> None:
        draft.commit_times[-1] = 1

    block = rewrite(path, 2, edit)
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.sequence) == ("log", "time", block.first)


def test_a_schema_that_cannot_be_read(path: Path) -> None:
    """The checksum is right, so that is how it was written: no fault, but its events cannot be judged here."""

    def edit(draft: BlockDraft) -> None:
        draft.columns["type_schemas"][0] = ord("[")

    rewrite(path, 0, edit)
    report = ops.verify(path)
    assert ("meta", "different") in kinds(path)  # which still has it as it was
    assert not any(finding.kind == "schema" for finding in report.findings)
    assert any("'Noted'" in line for line in report.not_checked)
    assert report.events == 0


def test_a_type_that_nothing_declares(path: Path) -> None:
    """Neither the log nor the metadata."""

    def edit(draft: BlockDraft) -> None:
        draft.run_types[0] = 77

    block = rewrite(path, 2, edit)
    [finding] = ops.verify(path).findings
    assert (finding.kind, finding.sequence) == ("block", block.first)  # what comes first: it was never declared
    with raw(path) as of:  # nor is it where the log begins too late to have declared anything
        transaction, log = of("log")
        transaction.delete(keys.log_key(0), db=log)
    assert ("schema", block.first) in {(finding.kind, finding.sequence) for finding in ops.verify(path).findings}


def test_a_block_that_contradicts_the_ones_before(path: Path) -> None:
    """A stream that goes on where it is not, with a right checksum."""

    def edit(draft: BlockDraft) -> None:
        draft.run_firsts[0] += 7

    block = rewrite(path, 2, edit)
    report = ops.verify(path)
    [finding] = report.findings
    assert (finding.where, finding.kind, finding.sequence) == ("log", "block", block.first)
    assert report.not_checked == ("index and metadata against the log: the log is damaged",)


def test_a_block_under_anothers_key(path: Path) -> None:
    """Whole in itself, but put where another one belongs."""
    second, third = blocks(path)[1:3]
    put(path, "log", keys.log_key(third.first), bytes(second.data))
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.sequence) == ("log", "block", third.first)


def test_blocks_that_overlap(path: Path) -> None:
    third = blocks(path)[2]
    draft = BlockDraft.of(third)
    draft.first -= 1
    put(path, "log", keys.log_key(draft.first), draft.encode())
    put(path, "log", keys.log_key(third.first), None)
    found = ops.verify(path).findings[0]
    assert (found.where, found.kind, found.sequence) == ("log", "block", third.first - 1)


def test_a_key_that_is_no_sequence(path: Path) -> None:
    put(path, "log", b"elsewhere", b"12345678")
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.key) == ("log", "key", b"elsewhere")


def test_a_missing_end(path: Path) -> None:
    """The last block is gone: the log is whole without it, and what follows from it is not."""
    last = blocks(path)[-1]
    put(path, "log", keys.log_key(last.first), None)
    assert kinds(path) == {("index", "different"), ("meta", "different")}


def test_a_missing_end_behind_other_damage(path: Path) -> None:
    """Where the log is damaged anyway, the store's record tells that its end is missing too."""
    _, second, *_, last = blocks(path)
    put(path, "log", keys.log_key(last.first), None)
    put(path, "log", keys.log_key(second.first), bytes(second.data[:-1]) + b"\1")
    damaged, gap = ops.verify(path).findings
    assert (damaged.kind, damaged.sequence) == ("checksum", second.first)
    assert (gap.kind, gap.sequence) == ("gap", last.first)


Edit = Callable[[consumers.ConsumerRecord], consumers.ConsumerRecord]


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda record: record._replace(runs=(record.runs[0]._replace(position=10**6),)), "position"),
        (lambda record: record._replace(runs=(record.runs[0]._replace(token=10**6),)), "token"),
        (None, "record"),
    ],
)
def test_consumers(path: Path, edit: Edit | None, kind: str) -> None:
    """Beyond the end of the log, with a token that was never given, damaged."""
    key = consumers.consumer_key("billing")
    with raw(path) as of:
        transaction, table = of("consumers")
        value = bytes(transaction.get(key, db=table))
    record = consumers.decode_consumer(value, key)
    assert isinstance(record, consumers.ConsumerRecord)
    put(path, "consumers", key, value[:-1] + b"\xff" if edit is None else edit(record).encode(key))
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.key) == ("consumers", kind, key)


def test_a_counter_of_tokens_at_the_end_of_all_numbers(path: Path, tmp_path: Path) -> None:
    """There would be no next token: it is found before somebody asks for one, refused then, and mended."""
    put(path, "consumers", consumers.TOKEN_KEY, b"\xff" * 8)
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.key) == ("consumers", "token", consumers.TOKEN_KEY)
    with varve.open(path) as db, pytest.raises(varve.CorruptedStore, match="token"):
        db.consumer("another", interval_s=0)
    for salvage in (False, True):
        report = ops.repair(path, tmp_path / f"new {salvage}", salvage=salvage)
        assert any("token" in note for note in report.notes)
        with varve.open(tmp_path / f"new {salvage}") as db:
            db.consumer("another", interval_s=0).close()
            db.consumer("billing", interval_s=0).close()
        assert ops.verify(tmp_path / f"new {salvage}").sound


@pytest.mark.parametrize("name", [b"", b"\xff\xfe"])
def test_a_consumer_whose_name_is_no_text(path: Path, tmp_path: Path, name: bytes) -> None:
    """Its checksum is right, and nobody could ask for it; repair leaves it out."""
    with raw(path) as of:
        transaction, table = of("consumers")
        value = bytes(transaction.get(consumers.consumer_key("billing"), db=table))
    record = consumers.decode_consumer(value, consumers.consumer_key("billing"))
    assert isinstance(record, consumers.ConsumerRecord)
    key = b"\x01" + name
    put(path, "consumers", key, record.encode(key))
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.key) == ("consumers", "record", key)
    for salvage in (False, True):
        report = ops.repair(path, tmp_path / f"new {salvage}", salvage=salvage)
        assert any("was left out" in note for note in report.notes)
        assert ops.verify(tmp_path / f"new {salvage}").sound


def test_a_sub_database_that_is_missing(path: Path) -> None:
    with lmdb.open(str(path), max_dbs=16, map_size=2**30, lib_version=0) as env:
        index = env.open_db(b"varve.index", create=False)
        with env.begin(write=True) as transaction:
            transaction.drop(index)
    report = ops.verify(path)
    assert (report.findings[0].where, report.findings[0].kind) == ("structure", "table")
    assert any("index" in line for line in report.not_checked)


def test_a_sub_database_of_a_later_varve_is_named(path: Path) -> None:
    """It is no fault, and nobody here can judge it."""
    with lmdb.open(str(path), max_dbs=16, map_size=2**30, lib_version=0) as env:
        env.open_db(b"varve.later")
    report = ops.verify(path)
    assert report.sound
    assert len(report.not_checked) == 1
    assert "varve.later" in report.not_checked[0]


def test_many_findings_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are spelled out."""
    monkeypatch.setattr(limits, "FINDINGS_MAX", 3)
    with raw(path) as of:
        transaction, index = of("index")
        for n in range(10):
            transaction.put(keys.stream_entry_key(9, n), b"123456789012", db=index)
    report = ops.verify(path)
    assert len(report.findings) == 3
    assert report.suppressed == 7
    assert not report.sound


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_meta_page(path: Path, which: int) -> None:
    """The other one still leads to the data, so that the rest can be judged; a normal open refuses."""
    overwrite(path, which * PAGE, bytes(200))
    report = ops.verify(path)
    assert report.findings[0].kind == "page"
    assert report.blocks
    with pytest.raises((varve.CorruptedStore, varve.NotAVarveStore)):
        varve.open(path)


def test_both_meta_pages_damaged(path: Path) -> None:
    """Nothing leads anywhere: said so, not raised."""
    overwrite(path, 24, bytes(100))
    overwrite(path, PAGE + 24, bytes(100))
    report = ops.verify(path)
    assert [(finding.where, finding.kind) for finding in report.findings] == [("structure", "page")]
    assert report.not_checked


def test_a_truncated_file(path: Path) -> None:
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data[: len(data) // 2])
    assert ("structure", "page") in kinds(path)


def test_damage_below_a_page_is_told_by_both(path: Path) -> None:
    """LMDB's verifier and the walk over the log each say what they see; other blocks are still read."""
    page = pages_of(path, b"b" * 200)[-1]
    overwrite(path, page * PAGE + 100, b"\0" * 50)
    assert not ops.verify(path).sound


def test_what_is_no_store_is_told(tmp_path: Path, path: Path) -> None:
    """Another program's file, a newer format, nothing at all, a pipe: errors, not findings."""
    other = tmp_path / "other"
    with lmdb.open(str(other), max_dbs=4, lib_version=0) as env:
        env.open_db(b"theirs")
    with pytest.raises(varve.NotAVarveStore, match="another program"):
        ops.verify(other)
    with pytest.raises(varve.StoreNotFound):
        ops.verify(tmp_path / "none")
    with raw(path) as of:
        transaction, meta = of("meta")
        record = bytearray(transaction.get(keys.STORE_RECORD_KEY, db=meta))
        record[4] = 9
        transaction.put(keys.STORE_RECORD_KEY, bytes(record), db=meta)
    assert decode_store_record(bytes(record)) == 9
    with pytest.raises(varve.UnsupportedFormat):
        ops.verify(path)
    (path / "data.mdb").unlink()
    (path / "data.mdb").symlink_to("/dev/null")
    with pytest.raises(varve.NotAVarveStore, match="regular"):
        ops.verify(path)


def test_a_store_whose_creation_was_cut_off_is_sound(tmp_path: Path) -> None:
    """Nothing of it is lost, and the next open finishes it."""
    unfinished = tmp_path / "unfinished"
    lmdb.open(str(unfinished), max_dbs=16, lib_version=0).close()
    assert ops.verify(unfinished).sound
    varve.open(unfinished).close()
    with raw(unfinished) as of:
        transaction, meta = of("meta")
        transaction.drop(meta, delete=False)
    assert ops.verify(unfinished).sound
    varve.open(unfinished).close()


WRITER = """
import sys, varve
sys.path.insert(0, sys.argv[2])
from damage import Noted
with varve.open(sys.argv[1], durability="relaxed") as db:
    notes = db.stream("notes", Noted)
    print("ready", flush=True)
    n = 0
    while True:
        notes.append(n % 5, Noted(n, "while it is verified"))
        n += 1
        if n % 100 == 0:
            notes.append_batch("big", [Noted(i, "b" * 200) for i in range(300)])
"""


def test_beside_a_writer_one_instant_is_verified(path: Path, tmp_path: Path) -> None:
    """Another process commits all the while: no false alarm, and its own work goes on. The copy for LMDB's verifier is made where
    it was asked for, and removed."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done: list[tuple[int, int]] = []
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(3):
            report = ops.verify(path, progress=lambda *at: done.append(at), scratch=scratch)
            assert report.findings == ()
            assert report.events == done[-1][0] == done[-1][1]
            assert list(scratch.iterdir()) == []
        writer.kill()
    assert ops.verify(path).sound


def test_a_copy_that_has_no_room_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification beside a writer needs room for a copy: DiskFull says where."""
    found = iter([["changing"], ["still changing"]])
    monkeypatch.setattr(instant.files, "metas", lambda _: next(found))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with instant.Instant.__new__(instant.Instant) as one:
        one._fd, one.path, one._page = 0, str(path), b"meta"
        one._ends = instant.contextlib.ExitStack()
        monkeypatch.setattr(instant.Instant, "_copy", full)
        with pytest.raises(varve.DiskFull, match="copy"):
            one.structure()


@pytest.mark.parametrize("turn", range(3))
def test_damage_anywhere_never_raises(tmp_path: Path, turn: int) -> None:
    """Whatever bytes of the file are changed, verification ends with a report or says that this is no store."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown with a failure
    rng = random.Random(seed)
    path = tmp_path / "store"
    random_store(path, rng)
    good = (path / "data.mdb").read_bytes()
    for _ in range(15):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 5, 100))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (path / "data.mdb").write_bytes(data)
        try:
            ops.verify(path)
        except (varve.NotAVarveStore, varve.UnsupportedFormat):
            continue


def test_verification_makes_no_file(path: Path) -> None:
    """Where LMDB's lock file is missing nobody has the store open: none is made, which its owner could not open later."""
    (path / "lock.mdb").unlink()
    before = sorted(entry.name for entry in path.iterdir())
    assert ops.verify(path).sound
    assert sorted(entry.name for entry in path.iterdir()) == before


def test_a_file_that_was_replaced_under_a_writer_is_told(path: Path) -> None:
    """An older copy put over the file of a running process: LMDB's lock file speaks of another one. This never ended."""
    older = (path / "data.mdb").read_bytes()
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        ops.verify(path)
        writer.send_signal(signal.SIGSTOP)
        (path / "data.mdb").write_bytes(older)
        try:
            with pytest.raises(varve.StoreUnavailable, match="replaced"):
                ops.verify(path)
        finally:
            writer.kill()

"""Salvage keeps what can be read where it was, says exactly what it could not keep, and never makes anything up."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from damage import PAGE, Marked, Noted, blocks, content, overwrite, pages_of, put, random_store, raw, rewrite

import varve
from varve import ops
from varve.engine.instant import contents
from varve.layout import consumers, keys
from varve.layout.draft import BlockDraft
from varve.layout.records import IdempotencyRecord
from varve.ops.salvage import LOST_STREAM, UNKNOWN_STREAM, Remains


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store: eight blocks of two streams in turn, keys, metadata, a consumer."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Noted | Marked)
        for n in range(8):
            events = [Noted(n, f"{n}" * 300) for _ in range(40)]
            notes.append_batch(f"id {n % 2}", events, idempotency_key=f"key {n}", metadata={"n": n})
        with db.consumer("billing", interval_s=0) as consumer:
            consumer.seek(300)
    assert ops.verify(path).sound
    return path


def spoil(path: Path, number: int) -> tuple[int, int]:
    """Break the checksum of a block; its first and last-but-one sequence."""
    block = blocks(path)[number]
    data = (path / "data.mdb").read_bytes()
    at = data.index(bytes(block.data))
    overwrite(path, at + len(block.data) - 9, b"\xaa")
    return block.first, block.end


def salvaged(path: Path, tmp_path: Path) -> tuple[ops.RepairReport, list[tuple[Any, ...]]]:
    target = tmp_path / "salvaged"
    report = ops.repair(path, target, salvage=True)
    assert ops.verify(target).sound
    return report, content(target)


def test_a_sound_store_is_salvaged_whole(path: Path, tmp_path: Path) -> None:
    """Every event with its positions, time, commit, metadata and key; the same identity; consumers where they were."""
    before = content(path)
    report, after = salvaged(path, tmp_path)
    assert after == before
    assert report.lost == ()
    assert report.notes == ()
    assert report.events == len(before)
    with varve.open(path) as old, varve.open(tmp_path / "salvaged") as new:
        assert old.uuid == new.uuid
        assert old._engine.created.created_at_ns == new._engine.created.created_at_ns
        assert new.consumers()[0].position == 300
        again = new.stream("notes", Noted).append_batch(
            "id 0", [Noted(0, "0" * 300) for _ in range(40)], idempotency_key="key 0", metadata={"n": 0}
        )
        assert again.replayed


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_lost_block_leaves_stand_ins(path: Path, tmp_path: Path, number: int) -> None:
    """The first one (which declares everything), one in the middle, the last one: the others keep their place; the report names
    streams and sequences; readers stumble over the stand-ins rather than past them."""
    before = content(path)
    first, end = spoil(path, number)
    with pytest.raises(varve.CorruptedBlock) as refused:
        ops.repair(path, tmp_path / "strict")
    assert refused.value.first_sequence == first
    report, after = salvaged(path, tmp_path)
    assert [event for event in after if not first <= event[0] < end] == [
        event for event in before if not first <= event[0] < end
    ]
    assert [event[0] for event in after] == [event[0] for event in before]
    assert {event[4] for event in after[first:end]} == {"varve.Lost"}
    assert [event[1:4] for event in after[first:end]] == [event[1:4] for event in before[first:end]]
    assert report.lost_events == end - first
    told = [
        (run.stream, run.stream_id, (run.first_stream_sequence or 0) + n, run.first_sequence + n)
        for run in report.lost
        for n in range(run.events)
    ]
    assert told == [(event[1], event[2], event[3], event[0]) for event in before[first:end]]
    assert all(run.exact for run in report.lost)
    with varve.open(tmp_path / "salvaged") as db:
        with pytest.raises(varve.UnexpectedEventType):
            list(db.stream("notes", Noted | Marked).reader().iter_all())
        both = db.stream("notes", Noted | Marked | ops.LostEvent).reader()
        kinds = [
            type(recorded.event) is ops.LostEvent or recorded.type is ops.LostEvent for recorded in both.iter_all()
        ]
        assert kinds.count(True) == end - first


def test_keys_of_lost_commits_are_kept(path: Path, tmp_path: Path) -> None:
    """A command whose events are lost is not written twice by its retry: the metadata remembers its key."""
    spoil(path, 0)
    salvaged(path, tmp_path)
    with varve.open(tmp_path / "salvaged") as db:
        before = db.next_global_sequence
        again = db.stream("notes", Noted).append_batch(
            "id 0", [Noted(0, "0" * 300) for _ in range(40)], idempotency_key="key 0", metadata={"n": 0}
        )
        assert again.replayed
        assert db.next_global_sequence == before


def without(path: Path, *names: str) -> None:
    """Drop sub-databases whole."""
    with lmdb.open(str(path), max_dbs=16, map_size=2**30, lib_version=0) as env:
        databases = [env.open_db(f"varve.{name}".encode(), create=False) for name in names]
        with env.begin(write=True) as transaction:
            for database in databases:
                transaction.drop(database)


def test_without_an_index_streams_follow_from_what_is_behind(path: Path, tmp_path: Path) -> None:
    """Stream sequences behind a gap say how many events each stream lost, if not in which order."""
    before = content(path)
    first, end = spoil(path, 1)
    without(path, "index")
    report, after = salvaged(path, tmp_path)
    kept = [event for event in before if not first <= event[0] < end]
    assert [event for event in after if not first <= event[0] < end] == kept
    lost: dict[Any, int] = {}
    for event in before[first:end]:
        lost[event[2]] = lost.get(event[2], 0) + 1
    assert {run.stream_id: run.events for run in report.lost} == lost
    assert not any(run.exact for run in report.lost)


def test_what_nobody_can_tell_goes_to_a_stream_of_its_own(path: Path, tmp_path: Path) -> None:
    """The last block lost, and no index: the record says how many events there were, nothing says of which stream."""
    first, end = spoil(path, -1)
    without(path, "index")
    report, after = salvaged(path, tmp_path)
    assert {event[1:3] for event in after[first:end]} == {LOST_STREAM}
    assert [(run.first_sequence, run.events, run.stream, run.stream_id) for run in report.lost] == [
        (first, end - first, None, None)
    ]


def test_lost_declarations_without_metadata(path: Path, tmp_path: Path) -> None:
    """The first block and the metadata are gone: streams are known by their numbers only, and what the events of a type mean that
    was declared there is not known any more: they are lost, and counted so."""
    before = content(path)
    _, end = spoil(path, 0)
    without(path, "meta", "index")
    report, after = salvaged(path, tmp_path)
    assert report.lost_events == len(after)
    assert len(after) == len(before)
    assert {event[1] for event in after[end:]} == {UNKNOWN_STREAM}
    assert any("type" in note for note in report.notes)
    assert any("record" in note for note in report.notes)


def test_a_damaged_upper_page_loses_nothing(tmp_path: Path) -> None:
    """The root of the log's tree is overwritten: every block below it is found and kept."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Noted)
        for n in range(300):
            notes.append_batch(n % 3, [Noted(n, "x" * 5_000) for _ in range(3)])
    before = content(path)
    with lmdb.open(str(path), max_dbs=16, lib_version=0, readonly=True) as env, env.begin() as transaction:
        record = bytes(transaction.get(b"varve.log"))
    root = int.from_bytes(record[40:48], "little")
    overwrite(path, root * PAGE, bytes(PAGE))
    assert not ops.verify(path).sound
    with pytest.raises(varve.CorruptedStore, match="salvage"):
        ops.repair(path, tmp_path / "strict")
    assert not (tmp_path / "strict").exists()
    report, after = salvaged(path, tmp_path)
    assert after == before
    assert report.lost == ()


def test_old_states_are_not_taken_for_the_last_one(tmp_path: Path) -> None:
    """Free pages hold earlier tails of the log: none of them stands in for the one that is lost."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Noted)
        for n in range(12):
            notes.append(1, Noted(n, "a single one"))
    assert len(pages_of(path, b"a single one")) > 1
    spoil(path, 0)
    report, after = salvaged(path, tmp_path)
    assert report.lost_events == 12
    assert {event[4] for event in after} == {"varve.Lost"}


@pytest.mark.parametrize("both", [False, True])
def test_without_meta_pages(path: Path, tmp_path: Path, both: bool) -> None:
    """One of two: the other leads to everything but perhaps the last commit. Both: blocks are looked for in every page, and the
    report says what that means."""
    before = content(path)
    overwrite(path, 0, bytes(2 * PAGE if both else PAGE))
    report, after = salvaged(path, tmp_path)
    kept = [event for event in after if event[4] != "varve.Lost"]
    assert kept == [event for event in before if event[0] in {event[0] for event in kept}]
    assert len(kept) >= len(before) - 40
    assert report.notes
    with pytest.raises((varve.CorruptedStore, varve.NotAVarveStore)):
        ops.repair(path, tmp_path / "strict")


def test_a_block_that_contradicts_its_neighbours_is_given_up(path: Path, tmp_path: Path) -> None:
    """Its checksum is right; its stream sequences cannot be."""

    def edit(draft: Any) -> None:
        draft.run_firsts[0] = 0

    block = rewrite(path, 4, edit)
    report, after = salvaged(path, tmp_path)
    assert {event[4] for event in after if block.first <= event[0] < block.end} == {"varve.Lost"}
    assert any(str(block.first) in note and "given up" in note for note in report.notes)


def test_consumers_stay_within_the_log(path: Path, tmp_path: Path) -> None:
    """A position beyond the end is set to it, one that is damaged is left out, tokens go on rising; each is told."""
    with raw(path) as of:
        transaction, table = of("consumers")
        value = bytes(transaction.get(consumers.consumer_key("billing"), db=table))
    record = consumers.decode_consumer(value, consumers.consumer_key("billing"))
    assert isinstance(record, consumers.ConsumerRecord)
    far = record._replace(runs=(record.runs[0]._replace(position=10**6, token=99),))
    put(path, "consumers", consumers.consumer_key("billing"), far.encode(consumers.consumer_key("billing")))
    put(path, "consumers", consumers.consumer_key("damaged"), value[:-1] + b"\xff")
    report, after = salvaged(path, tmp_path)
    assert len([note for note in report.notes if "consumer" in note]) == 2
    with varve.open(tmp_path / "salvaged") as db:
        [billing] = db.consumers()
        assert billing.position == len(after)
    with raw(tmp_path / "salvaged") as of:
        transaction, table = of("consumers")
        assert consumers.decode_token(bytes(transaction.get(consumers.TOKEN_KEY, db=table))) == 99


def test_nothing_left(path: Path, tmp_path: Path) -> None:
    """A file of zeros is no store to salvage; an empty store is one."""
    varve.open(tmp_path / "empty").close()
    assert ops.repair(tmp_path / "empty", tmp_path / "empty too", salvage=True).events == 0
    with varve.open(tmp_path / "empty") as old, varve.open(tmp_path / "empty too") as new:
        assert old.uuid == new.uuid
    size = (path / "data.mdb").stat().st_size
    overwrite(path, 0, bytes(size))
    with pytest.raises(varve.CorruptedStore, match="nothing of a store"):
        ops.repair(path, tmp_path / "salvaged", salvage=True)
    assert not (tmp_path / "salvaged").exists()
    assert not (tmp_path / "salvaged.unfinished").exists()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, pages zeroed, pages of noise, pages copied over others, the end cut off."""
    changed = bytearray(data)
    kind = rng.randrange(5)
    if kind == 4:
        return data[: rng.randrange(2 * PAGE, len(data))]
    for _ in range(rng.randrange(1, 5)):
        page = rng.randrange(2, len(changed) // PAGE) * PAGE
        other = rng.randrange(2, len(changed) // PAGE) * PAGE
        if kind == 0:
            changed[rng.randrange(2 * PAGE, len(changed))] ^= 1 << rng.randrange(8)
        else:
            changed[page : page + PAGE] = (bytes(PAGE), rng.randbytes(PAGE), data[other : other + PAGE])[kind - 1]
    return bytes(changed)


@pytest.mark.parametrize("turn", range(12))
def test_whatever_is_damaged_nothing_wrong_comes_out(tmp_path: Path, turn: int) -> None:
    """Random stores, random damage: what is salvaged is as it was and where it was, the rest is named, the result is sound."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown with a failure
    rng = random.Random(seed)
    path = tmp_path / "store"
    random_store(path, rng)
    before = {event[0]: event for event in content(path)}
    (path / "data.mdb").write_bytes(damaged((path / "data.mdb").read_bytes(), rng))
    sound = ops.verify(path).sound
    try:
        report, after = salvaged(path, tmp_path)
    except varve.CorruptedStore as exc:
        assert "nothing of a store" in str(exc)  # noqa: PT017
        assert not sound
        return
    lost = {run.first_sequence + n for run in report.lost for n in range(run.events)}
    assert [event[0] for event in after] == list(range(len(after)))
    for event in after:
        assert (event[4] == "varve.Lost") == (event[0] in lost)
        if event[0] not in lost:
            was = before[event[0]]
            assert event[3:8] == was[3:8]
            assert event[1:3] == was[1:3] or event[1] == UNKNOWN_STREAM
    for run in report.lost:
        if run.exact and run.stream is not None:
            assert before[run.first_sequence][1:4] == (run.stream, run.stream_id, run.first_stream_sequence)
    assert lost or len(after) < len(before) or after == list(before.values()) or report.notes
    if sound:
        assert after == list(before.values())


# -- found by review ---------------------------------------------------------------------------------------------------------


def tree_of(path: Path, name: bytes) -> tuple[int, int]:
    """Depth and root page of a sub-database."""
    with lmdb.open(str(path), max_dbs=16, lib_version=0, readonly=True) as env, env.begin() as transaction:
        record = bytes(transaction.get(b"varve." + name))
    return int.from_bytes(record[6:8], "little"), int.from_bytes(record[40:48], "little")


def test_a_separator_that_leads_past_a_stream_is_found(tmp_path: Path) -> None:
    """A key in an upper page was raised: three streams could not be found any more, and would have begun again at 0, while
    everything passed for sound."""
    path = tmp_path / "store"
    with varve.open(path, durability="bulk") as db:
        db.stream("notes", Noted).append_many([(n, Noted(n, "")) for n in range(3_000)])
    depth, root = tree_of(path, b"meta")
    assert depth > 1
    data = (path / "data.mdb").read_bytes()
    page = data[root * PAGE : root * PAGE + PAGE]
    node = int.from_bytes(page[20:22], "little")  # the third of its nodes
    size = int.from_bytes(page[node + 6 : node + 8], "little")
    at = root * PAGE + node + 8 + size - 1
    overwrite(path, at, bytes([min(255, data[at] + 3)]))
    assert any(finding.kind == "page" for finding in ops.verify(path).findings)
    with pytest.raises(varve.CorruptedStore):
        varve.open(path, trust=False)


def test_what_an_event_holds_is_never_taken_for_a_block(tmp_path: Path) -> None:
    """An event whose bytes look like pages of the log, with a block for sequence 0 in them, below a damaged page: salvage took
    the planted events, and gave up the real ones."""
    planted = tmp_path / "planted"
    with varve.open(planted, durability="bulk") as db:
        db.stream("notes", Noted).append_batch(1, [Noted(n, "planted") for n in range(5)])
    frame = bytes(blocks(planted)[0].data)
    node = len(frame).to_bytes(4, "little") + b"\0\0\x08\0" + bytes(8) + frame
    at = PAGE - len(node) - len(node) % 2
    head = bytes(10) + b"\x02\0" + (18).to_bytes(2, "little") + at.to_bytes(2, "little") + at.to_bytes(2, "little")
    leaf = head + bytes(at - len(head)) + node + bytes(len(node) % 2)
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Noted)
        notes.append_batch(1, [Noted(n, "x" * 3_000) for n in range(20)])
        blob = db.stream("blobs", Held)
        for shift in range(0, PAGE, 8):
            if shift % 512 == 0 or shift > PAGE - 400:
                blob.append(1, Held(bytes(shift) + leaf * 3))
        notes.append_batch(1, [Noted(n, "y" * 3_000) for n in range(20)])
    before = content(path)
    overwrite(path, tree_of(path, b"log")[1] * PAGE, bytes(PAGE))
    report, after = salvaged(path, tmp_path)
    assert after == before
    assert report.lost == ()
    assert any("blocks were found" in note for note in report.notes)


@varve.event
class Held:
    data: bytes


@pytest.mark.parametrize("batch", [1, 200])
def test_the_last_commit_is_looked_for_behind_a_damaged_meta_page(tmp_path: Path, batch: int) -> None:
    """The other meta page knows one commit less: its events, readable in the file, were dropped without a word. Both as a block
    of its own and as the last block, grown."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Noted)
        for n in range(12):
            notes.append_batch(1, [Noted(n, "x" * 40) for _ in range(batch)])
    before = content(path)
    raw_file = (path / "data.mdb").read_bytes()
    transactions = [int.from_bytes(raw_file[page + 144 : page + 152], "little") for page in (0, PAGE)]
    overwrite(path, transactions.index(max(transactions)) * PAGE, bytes(PAGE))
    assert not ops.verify(path).sound
    report, after = salvaged(path, tmp_path)
    assert [event[:6] for event in after] == [event[:6] for event in before]
    assert any("damaged meta page knew" in note or "blocks were found" in note for note in report.notes)


def test_metadata_that_contradicts_itself_is_no_witness(tmp_path: Path) -> None:
    """A flipped bit made one stream's record say that it is another one: with the declarations lost, the events of both came out
    as one stream. Now the one of which nothing is known for certain is told apart."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Noted)
        for stream_id in range(6):
            notes.append(stream_id, Noted(stream_id, "declares it"))
        for n in range(30):
            notes.append_batch(n % 6, [Noted(n % 6, "x" * 4_000) for _ in range(3)])
    with raw(path) as of:
        transaction, meta = of("meta")
        key = b"\x06" + (5).to_bytes(4, "big")
        value = bytearray(transaction.get(key, db=meta))
        value[-1] ^= 1  # 5 becomes 4
        transaction.put(key, bytes(value), db=meta)
    spoil(path, 0)
    report, after = salvaged(path, tmp_path)
    for event in after:
        if event[4] != "varve.Lost":
            assert event[1:3] in {("notes", event[5]["n"]), (UNKNOWN_STREAM, 5)}
    assert any("contradicts" in note for note in report.notes)


@pytest.mark.parametrize("at", [0, 10, 12])
def test_a_value_does_not_hang_on_the_header_of_its_pages(path: Path, tmp_path: Path, at: int) -> None:
    """Page number, kind or length of a large value's first page are wrong; its checksum is right."""
    before = content(path)
    data = (path / "data.mdb").read_bytes()
    first = data.index(bytes(blocks(path)[2].data))
    assert first % PAGE == 16
    overwrite(path, first - 16 + at, bytes([data[first - 16 + at] ^ 1]))
    assert not ops.verify(path).sound
    report, after = salvaged(path, tmp_path)
    assert after == before
    assert report.lost == ()


def test_a_sector_that_cannot_be_read_is_damage_like_other(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO, the reason why one repairs: it was a bare OSError, and nothing was saved."""
    victim = blocks(path)[3]
    data = (path / "data.mdb").read_bytes()
    page = data.index(bytes(victim.data)) // PAGE
    before = content(path)
    real = os.pread
    source = (path / "data.mdb").stat().st_ino

    def pread(fd: int, length: int, offset: int) -> bytes:
        if offset <= page * PAGE < offset + length and os.fstat(fd).st_ino == source:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    report = ops.repair(path, tmp_path / "salvaged", salvage=True)
    found = ops.verify(path).findings
    monkeypatch.undo()
    assert any("cannot be read" in str(finding) for finding in found)
    assert {run.first_sequence for run in report.lost} == {victim.first}
    kept = [event for event in content(tmp_path / "salvaged") if event[4] != "varve.Lost"]
    assert kept == [event for event in before if not victim.first <= event[0] < victim.end]


def test_a_store_that_somebody_begins_to_write_to_is_not_repaired(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody had it open, so no reader was registered; then somebody opened it and used pages again that were being read."""
    (path / "lock.mdb").unlink()
    real = Remains.plan

    def plan(remains: Remains) -> Any:
        script = "import sys, varve; from damage import Noted\n"
        script += "with varve.open(sys.argv[1]) as db: db.stream('notes', Noted).append(1, Noted(1, ''))"
        environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parent))
        subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment)
        return real(remains)

    monkeypatch.setattr(Remains, "plan", plan)
    with pytest.raises(varve.StoreUnavailable, match="written to"):
        ops.repair(path, tmp_path / "new", salvage=True)
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    assert ops.repair(path, tmp_path / "new", salvage=True).lost == ()


@pytest.mark.parametrize("first", [10**6, 2**40, 2**64 - 100])
def test_a_block_beyond_what_the_file_can_have_held_is_left_out(path: Path, tmp_path: Path, first: int) -> None:
    """Its checksum is right: it comes from another store, perhaps. No stand-ins are written for events that never were."""
    far = blocks(path)[7]
    draft = BlockDraft(first, first)
    draft.begin_commit(far.last_time_ns)
    start, end = far.span(0)
    draft.add(far.runs[0].stream, far.runs[0].type, 10**6, [bytes(far.data[start:end])])
    before = content(path)
    put(path, "log", first.to_bytes(8, "big"), draft.encode())
    report = ops.repair(path, tmp_path / "new", salvage=True)
    assert report.events == 320
    assert report.lost == ()
    assert any(f"the block at {first} was left out" in note for note in report.notes)
    assert content(tmp_path / "new") == before


@pytest.mark.parametrize("token", [b"\x02key 1", b"\x02" + b"k" * 300], ids=["twice", "too long"])
def test_a_key_that_cannot_be_costs_the_key_and_not_the_events(path: Path, tmp_path: Path, token: bytes) -> None:
    """In a block whose checksum is right: of states that never were together, or written by another program."""
    before = content(path)
    number = len(blocks(path)) - 1
    last = blocks(path)[number]
    start, end = last.span(0)
    stream, type_number = last.runs[0].stream, last.runs[0].type

    def edit(draft: BlockDraft) -> None:
        draft.begin_commit(last.last_time_ns)
        draft.add(stream, type_number, 160, [bytes(last.data[start:end])])
        draft.add_key(token, b"d" * 16)

    rewrite(path, number, edit)
    report = ops.repair(path, tmp_path / "new", salvage=True)
    assert (report.events, report.lost) == (321, ())
    assert any("idempotency key" in note for note in report.notes)
    assert content(tmp_path / "new")[:320] == before
    with varve.open(tmp_path / "new") as db:
        notes = db.stream("notes", Noted | Marked)
        again = notes.append_batch(
            "id 1", [Noted(1, "1" * 300) for _ in range(40)], idempotency_key="key 1", metadata={"n": 1}
        )
        assert again.replayed


def test_a_key_in_the_metadata_that_cannot_be_is_not_believed(path: Path, tmp_path: Path) -> None:
    """Where the block that it speaks of is lost."""
    first, _ = spoil(path, 3)
    put(path, "meta", keys.idempotency_key(b"\x01" + b"z" * 400), IdempotencyRecord(first, 1, b"d" * 16).encode())
    report = ops.repair(path, tmp_path / "new", salvage=True)
    assert report.lost_events == 40
    assert any("contradicts" in note for note in report.notes)


@varve.event(name="varve.Mine")
class Mine:
    text: str


def test_names_of_varves_own_cannot_be_taken(path: Path, tmp_path: Path) -> None:
    """So that nobody's events pass for lost ones. What a store knows already can be read, and written to."""
    with varve.open(path) as db:
        before = db.next_global_sequence
        for name in (LOST_STREAM[0], UNKNOWN_STREAM, "varve.", "varve.mine"):
            stream = db.stream(name, Noted)
            assert stream.reader().length(1) == 0
            with pytest.raises(varve.InvalidName, match="own"):
                stream.append(1, Noted(1, "x"))
            with pytest.raises(varve.InvalidName, match="own"), db.transaction() as tx:
                tx.append(db.stream("fine", Noted), 1, Noted(1, "x"))
                tx.append_batch(stream, 1, [Noted(1, "x")] * 3)
        for event in (Mine("x"), ops.LostEvent()):
            with pytest.raises(varve.InvalidInput, match="own"):
                db.stream("fine", type(event)).append(1, event)
        assert db.next_global_sequence == before
        db.stream("varve", Noted).append(1, Noted(1, "not reserved"))
    put(path, "log", (0).to_bytes(8, "big"), b"")
    ops.repair(path, tmp_path / "salvaged", salvage=True)
    with varve.open(tmp_path / "salvaged") as db:
        assert list(db.global_reader().iter_from(0, types=[ops.LostEvent]))
        db.stream("fine", ops.LostEvent).append(1, ops.LostEvent())


@pytest.mark.parametrize("value", [b"", b"12345678901"])
def test_an_entry_of_the_index_that_is_none_is_not_asked(path: Path, tmp_path: Path, value: bytes) -> None:
    """What it might have told of lost events is told by the streams themselves, or by nobody."""
    spoil(path, 3)
    put(path, "index", min(contents(str(path))["index"]), value)
    report, _ = salvaged(path, tmp_path)
    assert report.lost_events == 40
    assert any("the index entry" in note for note in report.notes)


def test_progress_is_told_from_the_beginning_and_never_goes_back(path: Path, tmp_path: Path) -> None:
    """Before LMDB's verifier begins, and in each pass of salvage: what is done, what there is to do, in events."""
    seen: list[tuple[int, int]] = []
    spoil(path, 3)
    ops.verify(path, progress=lambda *at: seen.append(at))
    assert seen[0] == (0, 320)
    assert seen[-1] == (320, 320)
    salvage: list[tuple[int, int]] = []
    ops.repair(path, tmp_path / "new", salvage=True, progress=lambda *at: salvage.append(at))
    assert salvage[0] == (0, 960)
    assert salvage[-1] == (960, 960)
    assert {0, 40, 320, 360, 640, 680} <= {done for done, _ in salvage}
    again: list[tuple[int, int]] = []
    ops.repair(tmp_path / "new", tmp_path / "newer", progress=lambda *at: again.append(at))
    assert (again[0], again[-1]) == ((0, 320), (320, 320))
    for told in (seen, salvage, again):
        assert told == sorted(told)
        assert [total for _, total in told] == sorted(total for _, total in told)
        assert all(done <= total for done, total in told)


@pytest.mark.parametrize("salvage", [False, True])
def test_a_progress_that_raises_ends_the_work(path: Path, tmp_path: Path, *, salvage: bool) -> None:
    """At its first call as at any other; nothing is left behind, and the source can be looked at again."""
    for number in (0, 1, 5):
        calls = iter(range(number))

        def stop(_done: int, _total: int, calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ops.verify(path, progress=stop)
        with pytest.raises(KeyboardInterrupt):
            ops.repair(path, tmp_path / "new", salvage=salvage, progress=stop)
        assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    assert ops.verify(path).sound

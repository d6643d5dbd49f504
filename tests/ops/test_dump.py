"""The canonical dump and the JSON lines export, and back: nothing is lost, nothing depends on blocks, damage is told."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b, sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import transfer_models as models
from hypothesis import given, settings
from transfer_models import (
    Append,
    Commit,
    Everything,
    History,
    Note,
    contents,
    fast_folder,
    foreign_note,
    put,
    sample,
    write,
)

import varve
from varve import ops
from varve.codec import event_type
from varve.ops.dump import CHECK_BYTES, _Writer
from varve.ops.load import open_target
from varve.ops.log import store_pieces


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory."""
    with fast_folder() as folder:
        yield folder


@given(models.histories)
@settings(max_examples=25, deadline=None)
def test_a_log_goes_through_files_and_comes_out_as_it_was(history: History) -> None:
    """Over random logs: store -> dump -> store and store -> JSON lines -> store give the same log, byte for byte."""
    with fast_folder() as folder:
        write(folder / "a", history)
        report = ops.dump(folder / "a", folder / "a.dump")
        exported = ops.export_jsonl(folder / "a", folder / "a.jsonl.gz")
        assert (report.events, report.commits) == (exported.events, exported.commits)
        assert report.digest == ops.digest(folder / "a")
        loaded = ops.load(folder / "b", folder / "a.dump")
        assert (loaded.events, loaded.commits, loaded.present) == (report.events, report.commits, 0)
        assert loaded.digest == report.digest
        ops.load(folder / "c", folder / "a.jsonl.gz")
        for copy in ("b", "c"):
            assert contents(folder / copy) == contents(folder / "a")
            assert ops.verify(folder / copy).sound
            assert ops.digest(folder / copy) == report.digest
            with varve.open(folder / copy) as db, varve.open(folder / "a") as original:
                assert db.uuid == original.uuid
        ops.dump(folder / "b", folder / "b.dump")
        assert (folder / "b.dump").read_bytes() == (folder / "a.dump").read_bytes()
        sides: list[Path] = [folder / one for one in ("a", "b", "c", "a.dump", "a.jsonl.gz")]
        for one, other in pairwise(sides):
            found = ops.parity(one, other)
            assert found.equal, str(found.difference)
            assert found.events == report.events
        assert ops.load(folder / "b", folder / "a.jsonl.gz").present == report.events


@given(models.histories)
@settings(max_examples=10, deadline=None)
def test_a_dump_does_not_depend_on_blocks(history: History) -> None:
    """The same commits in one write transaction, and each in its own."""
    with fast_folder() as folder:
        write(folder / "a", history, [])
        write(folder / "b", history, [100])
        ops.dump(folder / "a", folder / "a.dump")
        ops.dump(folder / "b", folder / "b.dump")
        assert (folder / "a.dump").read_bytes() == (folder / "b.dump").read_bytes()


def large(folder: Path, groups: list[int]) -> None:
    """A log of many sections, with a commit over several blocks and keys and metadata in the middle."""
    commits = [Commit([Append("orders", [(n % 7, Note(n, "x" * (n % 50))) for n in range(900)], {"n": 1})], "long", 1)]
    commits += [
        Commit([Append("s", [(1, Note(n, "y" * 300))], {"n": n} if n % 3 else None)], None, 1) for n in range(600)
    ]
    commits.append(Commit([Append("run", [(1, Note(n, "z" * 20)) for n in range(900)])], None, 1))
    write(folder, History(commits, groups))


def blocks(folder: Path) -> list[int]:
    """Where the blocks of a store begin."""
    with varve.open(folder, readonly=True) as db, db._engine.snapshot() as snapshot:
        return [block.first for block in snapshot.blocks(0, snapshot.next_sequence)]


def test_stores_whose_blocks_differ_give_the_same_file(tmp_path: Path) -> None:
    """Of a log large enough for it."""
    large(tmp_path / "a", [])
    large(tmp_path / "b", [50] * 40)
    assert blocks(tmp_path / "a") != blocks(tmp_path / "b")
    ops.dump(tmp_path / "a", tmp_path / "a.dump")
    ops.dump(tmp_path / "b", tmp_path / "b.dump")
    assert (tmp_path / "a.dump").read_bytes() == (tmp_path / "b.dump").read_bytes()
    assert (tmp_path / "a.dump").stat().st_size > 3 * CHECK_BYTES
    assert ops.parity(tmp_path / "a", tmp_path / "b").equal


def test_the_digest_tells_logs_apart_and_nothing_else(tmp_path: Path) -> None:
    """Another uuid is the same digest; another time, key, metadata, id, type or byte is another."""

    def history(**change: Any) -> History:
        one: dict[str, Any] = {
            "id": 1,
            "event": Note(1, "a"),
            "metadata": {"a": 1},
            "key": "k",
            "time": 7,
            "stream": "s",
        } | change
        return History(
            [Commit([Append(one["stream"], [(one["id"], one["event"])], one["metadata"])], one["key"], one["time"])]
        )

    changes: list[dict[str, Any]] = [
        {}, {"id": "1"}, {"event": Note(1, "b")}, {"event": models.Flag(True)}, {"metadata": {"a": 2}}, {"metadata": None},
        {"key": None}, {"key": b"k"}, {"time": 8}, {"stream": "t"},
    ]  # fmt: skip
    digests = []
    for number, change in enumerate(changes):
        write(tmp_path / str(number), history(**change), identity=(bytes([number]) * 16, number))
        digests.append(ops.digest(tmp_path / str(number)))
    assert len(set(digests)) == len(changes)
    write(tmp_path / "again", history(), identity=(bytes(16), 99))
    assert ops.digest(tmp_path / "again") == digests[0]


def test_an_empty_log_is_a_log(tmp_path: Path) -> None:
    """Its copies have its identity."""
    varve.open(tmp_path / "a").close()
    assert ops.dump(tmp_path / "a", tmp_path / "d").events == 0
    ops.export_jsonl(tmp_path / "a", tmp_path / "j")
    for number, file in enumerate(("d", "j")):
        assert ops.load(tmp_path / str(number), tmp_path / file).events == 0
        with varve.open(tmp_path / "a") as a, varve.open(tmp_path / str(number)) as b:
            assert a.uuid == b.uuid
            assert a._engine.created == b._engine.created
    assert ops.parity(tmp_path / "d", tmp_path / "j").equal


def test_what_other_writers_wrote_keeps_its_bytes(tmp_path: Path) -> None:
    """Foreign layouts, nanoseconds, NaNs of another kind, metadata in other words: JSON lines hold them as well."""
    put(tmp_path / "a", "notes", Note, foreign_note(7, "sieben"), foreign_note(2**64 - 1, ""))

    @varve.event
    class At:
        when: models.dt.datetime
        real: float

    raw = bytearray(event_type(At).pack(At(models.dt.datetime(2024, 1, 1, tzinfo=models.dt.UTC), float("nan"))))
    at = raw.index(struct.pack("<q", 1_704_067_200 * 10**9))
    raw[at : at + 8] = struct.pack("<q", 1_704_067_200 * 10**9 + 123)
    put(tmp_path / "a", "times", At, bytes(raw), metadata=b'{ "b": 1.0, "a":[1] }')
    nan = bytearray(event_type(At).pack(At(models.dt.datetime(2024, 1, 1, tzinfo=models.dt.UTC), float("nan"))))
    place = nan.index(struct.pack("<d", float("nan")))
    nan[place : place + 8] = struct.pack("<Q", 0x7FF8000000000001)
    put(tmp_path / "a", "times", At, bytes(nan))
    ops.export_jsonl(tmp_path / "a", tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert sum("bytes" in line for line in lines) == 4
    assert lines[3]["event"] == {"number": 7, "text": "sieben"}
    ops.load(tmp_path / "b", tmp_path / "a.jsonl")
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    assert ops.digest(tmp_path / "b") == ops.digest(tmp_path / "a")


def test_a_line_is_what_people_expect(tmp_path: Path) -> None:
    """Header, schemas, a line for each event, an end."""
    sample(tmp_path / "a", 1)
    ops.export_jsonl(tmp_path / "a", tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {
        "varve": "varve.log", "version": 1, "store": "00010203-0405-0607-0809-0a0b0c0d0e0f", "created_at": 1000,
        "start": 0, "stop": 6, "streams": None, "types": None,
    }  # fmt: skip
    assert [(one["type"], one["version"]) for one in lines[1:5]] == [
        ("Note", 1),
        ("Flag", 1),
        ("Thing", 1),
        ("Thing", 2),
    ]
    digest = lines[5].pop("idempotency_digest")
    assert len(bytes.fromhex(digest)) == 16
    assert lines[5] == {
        "global_sequence": 0, "stream": "orders", "stream_id": 1, "stream_sequence": 0, "type": "Note", "recorded_at": 2005,
        "commit": 0, "idempotency_key": "key", "metadata": {"user": "ä"}, "event": {"number": 1, "text": "one"},
    }  # fmt: skip
    assert lines[7]["stream_id"] == {"uuid": "00000000-0000-0000-0000-000000000005"}
    assert lines[9]["version"] == 2
    assert lines[-1] == {"end": True, "events": 6, "commits": 2}


def test_a_part_of_a_log_is_exported(tmp_path: Path) -> None:
    """By range, stream and type; what says nothing of positions cannot be imported."""
    sample(tmp_path / "a", 4)

    def sequences(**chosen: Any) -> list[int]:
        file = io.BytesIO()
        ops.export_jsonl(tmp_path / "a", file, **chosen)
        (tmp_path / "part.jsonl").write_bytes(file.getvalue())
        assert ops.parity(tmp_path / "a", tmp_path / "part.jsonl").equal
        assert ops.parity(tmp_path / "part.jsonl", tmp_path / "a").equal
        return [one["global_sequence"] for one in map(json.loads, file.getvalue().splitlines()) if "event" in one]

    assert sequences(start=2, stop=7) == [2, 3, 4, 5, 6]
    assert sequences(start=100) == []
    assert sequences(streams=["payments"]) == [2, 3, 4]
    assert sequences(types=["Thing", Note], stop=6) == [0, 1, 3, 4, 5]
    assert sequences(types=[Note], streams=["orders"], start=1, stop=3) == [1]
    sequences(streams=["payments"])
    with pytest.raises(varve.InvalidInput, match="some streams or types of a log only"):
        ops.load(tmp_path / "b", tmp_path / "part.jsonl")
    assert not (tmp_path / "b").exists()
    for wrong in (
        {"start": -1},
        {"stop": 1.5},
        {"start": True},
        {"streams": "orders"},
        {"types": Note},
        {"types": [3]},
    ):
        with pytest.raises(varve.InvalidInput):
            ops.export_jsonl(tmp_path / "a", io.BytesIO(), **wrong)  # type: ignore[arg-type]


def test_an_export_of_the_end_continues_its_own_log(tmp_path: Path) -> None:
    """And no other, and not with a hole."""
    sample(tmp_path / "a", 2)
    ops.dump(tmp_path / "a", tmp_path / "a.dump")
    ops.load(tmp_path / "b", tmp_path / "a.dump")
    varve.open(tmp_path / "empty").close()
    with varve.open(tmp_path / "a") as db:
        db.stream("orders", Note).append(1, Note(99, "new"))
    ops.export_jsonl(tmp_path / "a", tmp_path / "end.jsonl", start=7)
    with pytest.raises(varve.ImportConflict, match="it ends at 0, the file begins at 7"):
        ops.load(tmp_path / "empty", tmp_path / "end.jsonl")
    with pytest.raises(varve.InvalidInput, match="continues a store; there is none"):
        ops.load(tmp_path / "none", tmp_path / "end.jsonl")
    assert not (tmp_path / "none").exists()
    assert ops.load(tmp_path / "b", tmp_path / "end.jsonl").events == 1
    assert ops.load(tmp_path / "b", tmp_path / "end.jsonl").present == 1
    assert ops.digest(tmp_path / "a") == ops.digest(tmp_path / "b")
    varve.open(tmp_path / "other").close()
    ops.load(tmp_path / "other", tmp_path / "a.dump")
    with pytest.raises(varve.ImportConflict, match="another store than the one that the file continues"):
        ops.load(tmp_path / "other", tmp_path / "end.jsonl")


def test_a_store_that_is_open_is_read_through_its_handle(tmp_path: Path) -> None:
    """Also while somebody appends; what came after the call is not in the file."""
    sample(tmp_path / "a")
    with varve.open(tmp_path / "a") as db:
        report = ops.dump(db, tmp_path / "a.dump")
        assert ops.digest(db) == report.digest
        assert ops.export_jsonl(db, tmp_path / "a.jsonl").events == report.events
        assert ops.parity(db, tmp_path / "a.dump").equal
        with pytest.raises(varve.StoreAlreadyOpen):
            ops.dump(tmp_path / "a", tmp_path / "x")
        assert db.stats().snapshots == ()


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """Nothing is left of one that was cut off, and what stood there before stays; nothing goes into the store's folder."""
    sample(tmp_path / "a")
    (tmp_path / "out").write_text("before")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for name in ("out", "new", "new.gz"):
        with pytest.raises(KeyboardInterrupt):
            ops.dump(tmp_path / "a", tmp_path / name, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]
    assert (tmp_path / "out").read_text() == "before"
    ops.dump(tmp_path / "a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes()[:4] == b"VRVD"
    with pytest.raises(varve.InvalidInput, match="lies in the store"):
        ops.dump(tmp_path / "a", tmp_path / "a" / "data.mdb")
    with pytest.raises(varve.InvalidInput, match="is a folder"):
        ops.dump(tmp_path / "a", tmp_path)
    with pytest.raises(varve.StoreUnavailable):
        ops.dump(tmp_path / "a", tmp_path / "none" / "x")
    for wrong in (io.StringIO(), 3, ""):
        with pytest.raises(varve.InvalidInput):
            ops.dump(tmp_path / "a", wrong)  # type: ignore[arg-type]
        with pytest.raises(varve.InvalidInput):
            ops.load(tmp_path / "b", wrong)  # type: ignore[arg-type]
    with pytest.raises(varve.StoreNotFound):
        ops.load(tmp_path / "b", tmp_path / "none")


def test_equal_logs_give_equal_compressed_files(tmp_path: Path) -> None:
    """Neither the file's name nor the time is in it."""
    sample(tmp_path / "a")
    for name in ("x.gz", "y.gz"):
        ops.dump(tmp_path / "a", tmp_path / name)
    assert (tmp_path / "x.gz").read_bytes() == (tmp_path / "y.gz").read_bytes()
    assert gzip.decompress((tmp_path / "x.gz").read_bytes())[:4] == b"VRVD"


def test_progress_ends_at_the_end(tmp_path: Path) -> None:
    """And never falls."""
    large(tmp_path / "a", [])
    for call in (
        lambda told: ops.dump(tmp_path / "a", tmp_path / "d", progress=told),
        lambda told: ops.export_jsonl(tmp_path / "a", tmp_path / "j", progress=told),
        lambda told: ops.load(tmp_path / "b", tmp_path / "d", progress=told),
        lambda told: ops.parity(tmp_path / "a", tmp_path / "b", progress=told),
    ):
        told: list[tuple[int, int]] = []
        call(lambda done, total, told=told: told.append((done, total)))
        assert told == sorted(told)
        assert told[-1][0] == told[-1][1] > 0


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> bytes:
    """A dump in one section."""
    sample(tmp_path / "small", 1)
    file = io.BytesIO()
    ops.dump(tmp_path / "small", file)
    return file.getvalue()


REFUSED = (varve.MalformedDump, varve.InvalidInput, varve.UnsupportedFormat)


def test_a_dump_that_is_cut_anywhere_is_refused(tmp_path: Path, small: bytes) -> None:
    """And nothing is left: not even an empty store."""
    for size in range(len(small)):
        with pytest.raises(REFUSED):
            ops.load(tmp_path / "b", io.BytesIO(small[:size]))
        assert not (tmp_path / "b").exists()


def test_a_dump_with_a_flipped_byte_is_refused(tmp_path: Path, small: bytes) -> None:
    """Every byte counts, and every bit of a few."""
    for at in range(len(small)):
        for flip in (1, 255) if at % 16 else (1, 2, 4, 8, 16, 32, 64, 128):
            wrong = bytearray(small)
            wrong[at] ^= flip
            with pytest.raises(REFUSED):
                ops.load(tmp_path / "b", io.BytesIO(bytes(wrong)))
            assert not (tmp_path / "b").exists()


def test_a_dump_with_something_behind_it_is_refused(tmp_path: Path, small: bytes) -> None:
    """A byte, a second dump."""
    for more in (b"\0", b"\n", small):
        with pytest.raises(varve.MalformedDump, match="goes on behind its end"):
            ops.load(tmp_path / "b", io.BytesIO(small + more))
        assert not (tmp_path / "b").exists()


def test_a_compressed_dump_that_is_damaged_is_refused(tmp_path: Path, small: bytes) -> None:
    """Truncated, flipped, with rubbish behind it."""
    packed = gzip.compress(small, mtime=0)
    for wrong in (
        *(packed[:size] for size in range(2, len(packed), 5)),
        packed + b"rubbish",
        packed[:40] + b"xx" + packed[42:],
    ):
        with pytest.raises(REFUSED):
            ops.load(tmp_path / "b", io.BytesIO(wrong))
        assert not (tmp_path / "b").exists()


def test_of_a_damaged_dump_whole_transactions_before_the_damage_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And doing it again with the whole file finishes it."""
    monkeypatch.setattr(varve.limits, "IMPORT_COMMITS_MAX", 40)
    large(tmp_path / "a", [50] * 40)
    ops.dump(tmp_path / "a", tmp_path / "a.dump")
    raw = (tmp_path / "a.dump").read_bytes()
    whole = contents(tmp_path / "a")
    held = []
    for number, at in enumerate(range(CHECK_BYTES // 2, len(raw), 50_000)):
        wrong = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] if number % 2 else raw[:at]
        target = tmp_path / f"b{number}"
        with pytest.raises(varve.MalformedDump) as told:
            ops.load(target, io.BytesIO(wrong))
        assert told.value.offset is not None
        part = contents(target) if target.exists() else []
        assert part == whole[: len(part)]
        assert len(part) < len(whole)
        held.append(len(part))
        assert ops.load(target, tmp_path / "a.dump").present == len(part)
        assert ops.digest(target) == ops.digest(tmp_path / "a")
        assert ops.verify(target).sound
    assert held == sorted(held)
    assert len(set(held)) > 3


def test_a_dump_that_says_what_cannot_be_is_refused(tmp_path: Path) -> None:
    """Checks and digest are right, the contents are not: who makes such a file cannot harm a store either."""
    from varve.ops.dump import (
        _END,
        _EVENTS,
        _HEADER,
        _RECORD,
        COMMIT,
        END,
        EVENTS,
        MAGIC,
        METADATA,
        STREAM,
        TYPE,
    )  # fmt: skip

    note = event_type(Note)
    raw = note.pack(Note(1, "a"))
    declared = (TYPE, struct.pack("<H", 4) + b"Note" + note.schema_bytes)
    stream = (STREAM, struct.pack("<H", 1) + b"s" + b"\x01" + bytes(8))
    commit = (COMMIT, struct.pack("<q", 5))
    keyed = (COMMIT, struct.pack("<q", 5) + struct.pack("<H", 2) + b"\x02k" + bytes(16))
    good = (EVENTS, _EVENTS.pack(0, 0, 1) + struct.pack("<I", len(raw)) + raw)

    def dumped(records: list[tuple[int, bytes]], counts: tuple[int, int, int, int]) -> bytes:
        header = _HEADER.pack(MAGIC, 1, bytes(16), 1)
        body = b"".join(_RECORD.pack(kind, len(payload)) + payload for kind, payload in records)
        end = _END.pack(*counts, blake2b(body, digest_size=32).digest())
        return header + blake2b(header, digest_size=16).digest() + body + _RECORD.pack(END, len(end)) + end

    assert ops.load(tmp_path / "ok", io.BytesIO(dumped([commit, stream, declared, good], (1, 1, 1, 1)))).events == 1
    assert ops.load(tmp_path / "ok2", io.BytesIO(dumped([keyed, stream, declared, good], (1, 1, 1, 1)))).events == 1
    broken = raw[:4] + b"\xff\xff\xff\x7f" + raw[8:]
    old = (COMMIT, struct.pack("<q", 4))
    wrong: dict[str, list[tuple[int, bytes]]] = {
        "outside of a commit": [stream, declared, good],
        "has no events": [commit, commit, stream, declared, good],
        "a commit has no events": [commit],
        "no record of kind": [(1, b"")],
        "was not declared": [commit, stream, good],
        "is declared twice": [commit, stream, stream, declared, good],
        "the type 'Note' is declared twice": [commit, stream, declared, declared, good],
        "has the schema of 'Note'": [commit, stream, (TYPE, struct.pack("<H", 4) + b"Nope" + note.schema_bytes), good],
        "cannot be read": [commit, stream, (TYPE, struct.pack("<H", 4) + b"Note{}"), good],
        "name of a type is longer": [(TYPE, struct.pack("<H", 400) + b"Note")],
        "name of a stream is longer": [(STREAM, struct.pack("<H", 400) + b"s")],
        "makes no sense": [commit, (STREAM, struct.pack("<H", 1) + b"s" + b"\x09")],
        "record makes no sense": [(COMMIT, b"123")],
        "older than the one before": [commit, stream, declared, good, old, good],
        "older": [(COMMIT, struct.pack("<q", -1)), stream, declared, good],
        "do not fill": [(COMMIT, struct.pack("<qH", 5, 3) + b"\x02k" + bytes(16)), stream, declared, good],
        "sense": [(COMMIT, struct.pack("<qH", 5, 2) + b"\x07k" + bytes(16)), stream, declared, good],
        "metadata is no JSON object": [commit, (METADATA, b"[1]"), stream, declared, good],
        "metadata of": [commit, (METADATA, b'{"a":"' + b"x" * 20_000 + b'"}'), stream, declared, good],
        "metadata is repeated": [commit, (METADATA, b""), stream, declared, good],
        "an event of": [commit, stream, declared, (EVENTS, _EVENTS.pack(0, 0, 1) + struct.pack("<I", 4) + b"1234")],
        "lengths of events": [commit, stream, declared, (EVENTS, _EVENTS.pack(0, 0, 2**31) + raw)],
        "lengths": [commit, stream, declared, (EVENTS, _EVENTS.pack(0, 0, 1) + struct.pack("<I", 8) + raw)],
        "the event at global sequence 0": [
            commit, stream, declared, (EVENTS, _EVENTS.pack(0, 0, 1) + struct.pack("<I", len(raw)) + broken),
        ],
        "was used before": [keyed, stream, declared, good, keyed, good],
    }  # fmt: skip
    for number, (reason, records) in enumerate(wrong.items()):
        kinds = [kind for kind, _ in records]
        counts = (kinds.count(EVENTS), kinds.count(COMMIT), kinds.count(STREAM), kinds.count(TYPE))
        with pytest.raises(varve.MalformedDump, match=reason):
            ops.load(tmp_path / f"w{number}", io.BytesIO(dumped(records, counts)))
        if (tmp_path / f"w{number}").exists():
            assert contents(tmp_path / f"w{number}") == []
    with pytest.raises(varve.UnsupportedFormat):
        header = _HEADER.pack(MAGIC, 2, bytes(16), 1)
        ops.load(tmp_path / "v2", io.BytesIO(header + blake2b(header, digest_size=16).digest()))
    with pytest.raises(varve.MalformedDump, match="longer than a commit can be"):
        good_start = dumped([commit], (0, 1, 0, 0))
        ops.load(tmp_path / "v3", io.BytesIO(good_start[:56] + _RECORD.pack(EVENTS, 2**32 - 1) + b"x"))


# -- damaged lines ---------------------------------------------------------------------------------


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    """The lines of an export."""
    sample(tmp_path / "small", 2)
    file = io.BytesIO()
    ops.export_jsonl(tmp_path / "small", file)
    return file.getvalue().splitlines(keepends=True)


def test_an_export_that_is_cut_anywhere_leaves_whole_commits(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every byte; the commit that was not ended is not written."""
    monkeypatch.setattr(varve.limits, "IMPORT_COMMITS_MAX", 1)
    raw = b"".join(lines)
    whole = contents(tmp_path / "small")
    ends = {0, 5, 6}
    before = -1
    for size in range(len(raw) - 1):
        target = tmp_path / f"t{size}"
        if raw[:size].count(b"\n") == before and size % 40:  # a few places in each line
            continue
        before = raw[:size].count(b"\n")
        with pytest.raises(REFUSED):
            ops.load(target, io.BytesIO(raw[:size]))
        part = contents(target) if target.exists() else []
        assert len(part) in ends
        assert part == whole[: len(part)]
    assert ops.load(tmp_path / "all", io.BytesIO(raw[:-1])).events == 7  # the last line's end may be missing


def test_whatever_a_line_says_the_error_is_a_typed_one(tmp_path: Path, lines: list[bytes]) -> None:
    """Every byte of every line changed: it may be another valid export, or be refused with its line."""
    from varve.ops.jsonl import JsonLines
    from varve.ops.transport import Input

    raw = b"".join(lines)
    refused = 0
    for at in range(len(raw)):
        wrong = bytearray(raw)
        wrong[at] ^= 2 if at % 2 else 16
        try:
            list(JsonLines(Input(io.BytesIO(bytes(wrong)), "x")).pieces())
        except REFUSED:
            refused += 1
    assert refused > len(raw) // 2


def change(lines: list[bytes], at: int, **members: Any) -> bytes:
    """The export with one line changed; None takes a member away."""
    line = json.loads(lines[at]) | members
    line = {name: value for name, value in line.items() if value is not None}
    return b"".join([*lines[:at], json.dumps(line).encode() + b"\n", *lines[at + 1 :]])


@pytest.mark.parametrize(
    ("at", "members", "reason"),
    [
        (5, {"event": {"number": -1, "text": "x"}}, "number must be in 0"),
        (5, {"event": {"number": 1}}, "text is missing"),
        (5, {"event": {"number": 1, "text": "", "more": 1}}, "is no field"),
        (5, {"event": None}, "'event' is missing"),
        (5, {"type": "Nope"}, "no schema for version 1 of 'Nope'"),
        (5, {"version": 9}, "no schema for version 9"),
        (5, {"global_sequence": 1}, "stands where 0 comes next"),
        (6, {"global_sequence": 0}, "stands where 1 comes next"),
        (6, {"commit": 1, "recorded_at": 1}, "older than the commit before"),
        (6, {"recorded_at": 1}, "another time than its commit"),
        (6, {"commit": 2}, "its commit cannot begin at 2"),
        (10, {"commit": 3}, "cannot begin at 3"),
        (5, {"recorded_at": -1}, "recorded_at is a number from 0 on"),
        (5, {"recorded_at": 2**63}, "recorded_at is a number"),
        (5, {"stream": ""}, "empty stream name"),
        (5, {"stream_id": 1.5}, "stream_id is a number, a text"),
        (5, {"stream_id": True}, "stream_id is a number, a text"),
        (5, {"stream_id": {"uuid": "x"}}, "badly formed"),
        (5, {"stream_id": {}}, "'uuid' is missing"),
        (5, {"stream_sequence": 4}, "its stream sequence is 0, not 4"),
        (5, {"idempotency_digest": "00"}, "32 hexadecimal digits"),
        (5, {"idempotency_digest": "xx"}, "hexadecimal"),
        (5, {"idempotency_key": {"bytes": "?"}}, "no base64"),
        (5, {"idempotency_key": {"x": 1}}, "'bytes' is missing"),
        (6, {"idempotency_key": "k", "idempotency_digest": "00" * 16}, "stands in the first line of its commit"),
        (5, {"metadata": [1]}, "metadata is a mapping"),
        (5, {"metadata_bytes": "W10="}, "holds no metadata"),
        (5, {"bytes": "AAAA"}, "multiple of 8"),
        (5, {"bytes": "/////////////w=="}, "multiple of 8"),
        (5, {"bytes": "//////////8AAAAAAAAAAA=="}, "line 6"),
        (1, {"version": 2}, "no schema for version 1 of 'Note'"),
        (2, {"type": "Note"}, "version 1 of the type 'Note' is declared twice"),
        (2, {"type": "Other"}, "has the schema of 'Flag'"),
        (1, {"schema": {}}, "not a valid event schema"),
        (0, {"version": 2}, "version 2"),
        (0, {"start": -1}, "start is a number from 0 on"),
        (0, {"stop": 3}, "behind the end that the header tells"),
        (0, {"store": "x"}, "header makes no sense"),
        (0, {"store": None}, "header makes no sense"),
        (12, {"events": 8}, "the end says 8 events"),
        (12, {"commits": 1}, "the end says 7 events in 1 commits, there are 7 in 3"),
    ],
)
def test_a_bad_line_is_told_with_its_number(
    tmp_path: Path, lines: list[bytes], at: int, members: dict[str, Any], reason: str
) -> None:
    """Nothing of its transaction is written."""
    with pytest.raises(REFUSED, match=reason) as told:
        ops.load(tmp_path / "b", io.BytesIO(change(lines, at, **members)))
    line = getattr(told.value, "line", None)
    assert line in {None, at + 1} or at < 3
    assert not (tmp_path / "b").exists() or contents(tmp_path / "b") == []


def test_other_things_than_lines_are_refused(tmp_path: Path, lines: list[bytes]) -> None:
    """No JSON, no object, something behind the end, deep nesting, other files."""
    raw = b"".join(lines)
    deep = b'{"a":' * 100_000
    for wrong in (
        raw + b"{}\n", raw.replace(b'"end"', b'"fin"'), b"".join([*lines[:6], b"[]\n", *lines[6:]]),
        b"".join([*lines[:6], deep + b"\n", *lines[6:]]), b'{"varve":"other"}\n', b'{"varve":', b"", b"x", b"\xff\xfe",
    ):  # fmt: skip
        with pytest.raises(REFUSED):
            ops.load(tmp_path / "b", io.BytesIO(wrong))
        assert not (tmp_path / "b").exists() or contents(tmp_path / "b") == []
    blank = b"\n".join([b"", *lines, b""]).replace(b"\n\n", b"\n \n")
    assert ops.load(tmp_path / "c", io.BytesIO(lines[0] + b"\n".join([b"", *lines[1:]]))).events == 7
    assert blank


def test_an_event_of_every_kind_reads_as_people_write_it(tmp_path: Path) -> None:
    """What ``to_json`` writes; and an edited number is what is imported."""
    with varve.open(tmp_path / "a") as db:
        db.stream("s", Note).append(1, Note(2**64 - 1, "a"))
    file = io.BytesIO()
    ops.export_jsonl(tmp_path / "a", file)
    edited = file.getvalue().replace(b"18446744073709551615", b"5")
    ops.load(tmp_path / "b", io.BytesIO(edited))
    with varve.open(tmp_path / "b") as db:
        assert db.stream("s", Note).reader().get(1, 0) == Note(5, "a")
    assert Everything.__varve__.fields  # type: ignore[attr-defined]
    engine = open_target(str(tmp_path / "b"))
    engine.release()


def test_the_format_page_gives_the_places_of_the_header(small: bytes) -> None:
    """docs/format.md's offsets are those of a dump, to the byte."""
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+)", page[page.index("## Dumps") : page.index("## JSON lines")], re.MULTILINE)
    assert [(int(at), int(size)) for at, size in rows] == [(0, 8), (8, 4), (12, 4), (16, 16), (32, 8), (40, 16)]
    assert struct.unpack_from("<8sII16sq", small) == (b"VRVDUMP\n", 1, 0, bytes(range(16)), 1000)
    assert small[40:56] == blake2b(small[:40], digest_size=16).digest()
    assert small[56:57] == b"C"
    assert struct.unpack_from("<IqH", small, 57) == (8 + 2 + 4 + 16, 2005, 4)
    assert small[-32 - 24 - 5 :][:1] == b"Z"


def test_a_dump_of_this_log_has_these_bytes_for_ever(small: bytes) -> None:
    """Whoever changes them makes another version of the format."""
    assert len(small) == 1076
    assert sha256(small).hexdigest() == "48bf7e708098488361d70438a11fa5802883f09258c4ca857dd10b1f19851d43"
    assert small[-32:].hex() == "99a5570832063e818c0304340a86fd78b5561c0cd05d5d79e742e21513dc90c8"


def test_how_a_log_is_cut_into_pieces_does_not_show(tmp_path: Path) -> None:
    """Long runs cut at every event, and not at all: the same bytes."""
    large(tmp_path / "a", [])
    with varve.open(tmp_path / "a", readonly=True) as db:
        whole = list(store_pieces(db._engine, 0, db.next_global_sequence))
    single = [replace(piece.behind(n), events=[event]) for piece in whole for n, event in enumerate(piece.events)]
    assert len(single) > len(whole)
    files = []
    for pieces in (whole, single):
        parts: list[bytes] = []
        writer = _Writer(parts.append)
        for piece in pieces:
            writer.piece(piece)
        writer.end()
        files.append(b"".join(parts))
    assert files[0] == files[1]

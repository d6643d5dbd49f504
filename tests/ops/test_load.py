"""Imports into stores that hold something, comparisons, and imports that were killed."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transfer_models import Append, Commit, Everything, Flag, History, Note, contents, fast_folder, put, sample, write

import varve
from varve import ops
from varve.codec import event_type

HERE = Path(__file__).parent


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory."""
    with fast_folder() as folder:
        yield folder


def one(event: Any = None, **change: Any) -> Commit:
    """A commit of one event."""
    given: dict[str, Any] = {"stream": "s", "id": 1, "metadata": None, "key": None, "later": 1} | change
    append = Append(given["stream"], [(given["id"], Note(1, "a") if event is None else event)], given["metadata"])
    return Commit([append], given["key"], given["later"])


def test_a_store_that_holds_the_beginning_goes_on_behind_it(tmp_path: Path) -> None:
    """Whatever its uuid and its blocks are; doing it again writes nothing."""
    commits = [one(Note(n, "x")) for n in range(30)]
    write(tmp_path / "a", History(commits, [4] * 9))
    write(tmp_path / "b", History(commits[:13]), identity=(b"b" * 16, 9))
    ops.dump(tmp_path / "a", tmp_path / "a.dump")
    report = ops.load(tmp_path / "b", tmp_path / "a.dump")
    assert (report.present, report.events, report.commits) == (13, 17, 17)
    assert ops.digest(tmp_path / "b") == report.digest == ops.digest(tmp_path / "a")
    again = ops.load(tmp_path / "b", tmp_path / "a.dump")
    assert (again.present, again.events, again.digest) == (30, 0, report.digest)
    with varve.open(tmp_path / "b") as db:
        assert db.uuid.bytes == b"b" * 16


CHANGES: dict[str, tuple[Commit, str]] = {
    "stream": (one(stream="t"), "stream: 's' in the first, 't' in the second"),
    "stream_id": (one(id="1"), "stream_id: 1 in the first, '1' in the second"),
    "type": (one(Flag(True)), "type: 'Note' in the first, 'Flag' in the second"),
    "event": (one(Note(1, "b")), "field text: 'a' in the first, 'b' in the second"),
    "metadata": (one(metadata={"a": 1}), 'metadata: none in the first, {"a": 1} in the second'),
    "idempotency_key": (one(key="k"), "idempotency_key: none in the first, 'k' of content"),
    "recorded_at": (one(later=2), "recorded_at: 2002 ns in the first, 2003 ns in the second"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_store_that_holds_something_else_is_refused(tmp_path: Path, what: str) -> None:
    """The first difference is told, and nothing is written; parity says the same."""
    other, told = CHANGES[what]
    write(tmp_path / "a", History([one(), one(), one()]))
    write(tmp_path / "b", History([one(), other, one()]))
    for export, name in ((ops.dump, "b.dump"), (ops.export_jsonl, "b.jsonl")):
        export(tmp_path / "b", tmp_path / name)  # type: ignore[operator]
        before = contents(tmp_path / "a")
        with pytest.raises(varve.ImportConflict) as refused:
            ops.load(tmp_path / "a", tmp_path / name)
        assert told in str(refused.value)
        assert refused.value.global_sequence == 1
        assert contents(tmp_path / "a") == before
        found = ops.parity(tmp_path / "a", tmp_path / name)
        assert not found.equal
        assert found.difference is not None
        assert (found.difference.what, found.difference.global_sequence, found.events) == (what, 1, 1)
        assert told in str(found.difference)


def test_a_store_that_goes_on_differently_is_refused(tmp_path: Path) -> None:
    """It is longer than the file, or its last commit is shorter or longer than the file's."""
    two = Commit([Append("s", [(1, Note(1, "a")), (1, Note(2, "b"))])], None, 1)
    write(tmp_path / "long", History([one(), one()]))
    write(tmp_path / "short", History([one()]))
    write(tmp_path / "two", History([two]))
    for name in ("long", "short", "two"):
        ops.dump(tmp_path / name, tmp_path / f"{name}.dump")
    for store, file, what in (
        ("long", "short", "a Note of stream 's' 1 in the first, the log ends in the second"),
        ("short", "two", "its commit at 0 ends at 1, in the file it goes on"),
        ("two", "long", "field number|commit|recorded_at"),
    ):
        with pytest.raises(varve.ImportConflict, match=what):
            ops.load(tmp_path / store, tmp_path / f"{file}.dump")
    assert str(ops.parity(tmp_path / "long", tmp_path / "short").difference).startswith(
        "global sequence 1, end: a Note"
    )


def test_small_commits_share_large_transactions(tmp_path: Path) -> None:
    """Each transaction costs an index page for every stream that it touches; it is bounded by the events' bytes all the same."""
    write(tmp_path / "a", History([one(Note(n, "x"), id=n) for n in range(5_000)], [5_000]))
    ops.dump(tmp_path / "a", tmp_path / "a.dump")
    told: list[int] = []
    ops.load(tmp_path / "b", tmp_path / "a.dump", progress=lambda done, _: told.append(done))
    assert len(told) == 2  # at the beginning, and after one transaction
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varve.limits, "IMPORT_BYTES_MAX", 40_000)
        told.clear()
        ops.load(tmp_path / "c", tmp_path / "a.dump", progress=lambda done, _: told.append(done))
    assert len(told) > 3
    assert ops.digest(tmp_path / "b") == ops.digest(tmp_path / "c")


def test_a_commit_that_two_files_share_is_not_split(tmp_path: Path) -> None:
    """The second file begins in the middle of a commit, where the store that was made of the first ends: refused, and what
    the first gave stays as it is. A file that begins with a commit is taken."""
    commit = Commit([Append("s", [(1, Note(n, "x")) for n in range(10)])], "k", 1)
    write(tmp_path / "a", History([commit, commit]))
    for name, bounds in (("begin", (0, 5)), ("end", (5, 20)), ("first", (0, 10)), ("second", (10, 20))):
        ops.export_jsonl(tmp_path / "a", tmp_path / f"{name}.jsonl", start=bounds[0], stop=bounds[1])
    assert ops.load(tmp_path / "b", tmp_path / "begin.jsonl").events == 5
    before = contents(tmp_path / "b")
    with pytest.raises(varve.ImportConflict, match="its commit at 0 ends at 5, in the file it goes on") as refused:
        ops.load(tmp_path / "b", tmp_path / "end.jsonl")
    assert refused.value.global_sequence == 5
    assert contents(tmp_path / "b") == before
    assert [ops.load(tmp_path / "c", tmp_path / f"{name}.jsonl").events for name in ("first", "second")] == [10, 10]
    assert ops.parity(tmp_path / "a", tmp_path / "c").equal


def test_a_field_is_named_however_deep(tmp_path: Path) -> None:
    """By its path; times to the nanosecond; signs of zero and lengths count, kinds of NaN do not."""
    import datetime as dt
    import struct
    import uuid
    from decimal import Decimal

    from transfer_models import Colour, Point

    when = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)

    def event(**change: Any) -> Everything:
        given = {
            "data": b"", "real": 1.0, "small": 0.0, "big": 1, "negative": -1, "when": when, "colour": Colour.RED,
            "either": Note(1, "n"), "point": Point(1.0, 2), "price": Decimal("1.50"), "id": uuid.UUID(int=1), "texts": ["a", "b"],
            "reals": [float("nan")], "blobs": [b"x"], "nested": Note(5, "deep"), "maybe": 3,
        } | change  # fmt: skip
        return Everything(**given)

    pack = event_type(Everything).pack
    put(tmp_path / "a", "s", Everything, pack(event()))
    for number, (change, path) in enumerate((
        ({"nested": Note(5, "other")}, "nested.text"), ({"texts": ["a", "c"]}, "texts[1]"), ({"texts": ["a"]}, "texts"),
        ({"real": -0.0}, "real"), ({"point": Point(1.0, 3)}, "point.y"), ({"either": Note(2, "n")}, "either.number"),
        ({"either": Flag(True)}, "either"), ({"price": Decimal("1.5")}, "price"), ({"maybe": None}, "maybe"),
        ({"colour": Colour.BLUE}, "colour"), ({"blobs": [b"y"]}, "blobs[0]"), ({"nested": None}, "nested"),
    )):  # fmt: skip
        exact = pack(event(**change))
        found = _difference(tmp_path, number, exact)
        assert found is not None, path
        assert found.field.startswith(path), (found, path)
    later = bytearray(pack(event()))
    at = later.index(struct.pack("<q", 1_704_067_200 * 10**9))
    later[at : at + 8] = struct.pack("<q", 1_704_067_200 * 10**9 + 1)
    found = _difference(tmp_path, 99, bytes(later))
    assert found is not None
    assert (found.field, found.left, found.right) == ("when", "1704067200000000000", "1704067200000000001")
    nan = pack(event()).replace(struct.pack("<d", float("nan")), struct.pack("<Q", 0x7FF8000000000001))
    assert nan != pack(event())
    assert _difference(tmp_path, 100, nan) is None


def _difference(folder: Path, number: int, raw: bytes) -> ops.Difference | None:
    """That between the store ``a`` and one of these bytes, commit times aside."""
    put(folder / str(number), "s", Everything, raw)
    with varve.open(folder / "a", readonly=True) as a, varve.open(folder / str(number), readonly=True) as b:
        from varve.ops.log import store_pieces
        from varve.ops.parity import Lockstep

        pieces = [list(store_pieces(db._engine, 0, 1)) for db in (a, b)]
        pieces[1][0].commit = pieces[0][0].commit
        return Lockstep(iter(pieces[0]), iter(pieces[1])).difference()


def test_parity_takes_logs_only(tmp_path: Path) -> None:
    """Not any file."""
    sample(tmp_path / "a")
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(varve.InvalidInput, match="neither a store nor a dump"):
        ops.parity(tmp_path / "a", tmp_path / "x.csv")
    with pytest.raises(varve.StoreNotFound):
        ops.parity(tmp_path / "a", tmp_path / "none")


def test_somebody_who_writes_meanwhile_stops_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else events would not get their positions."""
    monkeypatch.setattr(varve.limits, "IMPORT_COMMITS_MAX", 5)
    write(tmp_path / "a", History([one(Note(n, "x")) for n in range(20)]))
    ops.dump(tmp_path / "a", tmp_path / "a.dump")
    module = importlib.import_module("varve.ops.load")

    made: list[Any] = []
    opened = module.open_target

    def remember(*arguments: Any) -> Any:
        made.append(opened(*arguments))
        return made[-1]

    monkeypatch.setattr(module, "open_target", remember)
    calls = 0

    def told(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            from transfer_models import batch

            made[0].commit(batch("mine", 1, [Note(1, "mine")]))

    with pytest.raises(varve.ImportConflict, match="somebody else wrote"):
        ops.load(tmp_path / "b", tmp_path / "a.dump", progress=told)
    assert len(contents(tmp_path / "b")) == 11


def test_a_salvaged_log_can_be_moved(tmp_path: Path) -> None:
    """With its streams and types that are Varve's own."""
    raw = event_type(ops.LostEvent).pack(ops.LostEvent())
    from varve.engine.request import AppendRequest, CommitRequest
    from varve.layout import keys
    from varve.ops.load import open_target

    engine = open_target(str(tmp_path / "a"))
    append = AppendRequest(
        "varve.lost", 1, [(keys.encode_stream_id(1), event_type(ops.LostEvent), [raw])], payload_bytes=len(raw)
    )
    engine.commit(CommitRequest([append], moved=True))
    engine.release()
    file = io.BytesIO()
    ops.dump(tmp_path / "a", file)
    assert ops.load(tmp_path / "b", io.BytesIO(file.getvalue())).events == 1
    assert ops.digest(tmp_path / "a") == ops.digest(tmp_path / "b")


KILLED = """
import os, sys
import varve
from varve import limits, ops
limits.IMPORT_COMMITS_MAX = limits.IMPORT_ROWS_MAX = 10
kind, target, source, times = sys.argv[1:]
left = int(times)
def told(done, total):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), 9)
if kind == "log":
    ops.load(target, source, progress=told)
elif kind == "rows":
    ops.load_rows(target, source, stream="s", id="a", event=ops.infer(source, type_name="Row"), progress=told)
else:
    ops.load_eventsourcing(target, source, ops.infer_eventsourcing(source), progress=told)
"""


def killed(kind: str, target: Path, source: Path, times: int) -> None:
    """Import in a process that is killed when it has told its progress so often."""
    environment = dict(os.environ, PYTHONPATH=str(HERE.parents[1]))
    arguments = [sys.executable, "-c", KILLED, kind, str(target), str(source), str(times)]
    assert subprocess.run(arguments, env=environment, check=False).returncode == -9


@pytest.mark.parametrize(("form", "times"), [("dump", 1), ("dump", 4), ("jsonl", 3)])
def test_an_import_that_was_killed_is_finished_by_doing_it_again(tmp_path: Path, form: str, times: int) -> None:
    """Before the first transaction, between two."""
    write(tmp_path / "a", History([one(Note(n, "x" * n), key=f"k{n}") for n in range(100)], [30]))
    (ops.dump if form == "dump" else ops.export_jsonl)(tmp_path / "a", tmp_path / "file")
    killed("log", tmp_path / "b", tmp_path / "file", times)
    there = contents(tmp_path / "b")
    assert there == contents(tmp_path / "a")[: 10 * (times - 1)]
    report = ops.load(tmp_path / "b", tmp_path / "file")
    assert (report.present, report.events) == (len(there), 100 - len(there))
    assert ops.digest(tmp_path / "b") == ops.digest(tmp_path / "a")
    assert ops.verify(tmp_path / "b").sound
    with varve.open(tmp_path / "a") as a, varve.open(tmp_path / "b") as b:
        assert a.uuid == b.uuid


def test_rows_that_were_killed_are_finished_by_doing_it_again(tmp_path: Path) -> None:
    """Nothing is written twice."""
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{n % 5},{n}\n" for n in range(35)))
    killed("rows", tmp_path / "b", tmp_path / "x.csv", 2)
    assert len(contents(tmp_path / "b")) == 20
    event = ops.infer(tmp_path / "x.csv", type_name="Row")
    old = varve.limits.IMPORT_ROWS_MAX
    try:
        varve.limits.IMPORT_ROWS_MAX = 10  # type: ignore[misc]
        report = ops.load_rows(tmp_path / "b", tmp_path / "x.csv", stream="s", id="a", event=event)
    finally:
        varve.limits.IMPORT_ROWS_MAX = old  # type: ignore[misc]
    assert (report.present, report.events) == (20, 15)
    with varve.open(tmp_path / "b") as db:
        assert [r.event.b for r in db.global_reader().iter_from(0)] == list(range(35))

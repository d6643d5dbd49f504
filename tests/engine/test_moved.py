"""Commits of another log: they bring their own time, and a store may be made with another's identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_helpers import Mark, Note

import varve
from varve.codec import event_type
from varve.engine.core import Engine
from varve.engine.request import AppendRequest, CommitRequest
from varve.layout import keys
from varve.limits import MAP_BYTES
from varve.ops import verify


def request(
    recorded_ns: int | None, *events: Any, moved: bool = False, stream: str = "notes", key: str | None = None
) -> CommitRequest:
    """A commit of these events to one stream."""
    id_key = keys.encode_stream_id(1)
    packed = [(event_type(type(event)), event_type(type(event)).pack(event)) for event in events]
    size = sum(len(raw) for _, raw in packed)
    append = AppendRequest(stream, 1, [(id_key, one, [raw]) for one, raw in packed], payload_bytes=size)
    token = None if key is None else keys.encode_idempotency_key(key)
    return CommitRequest([append], token, key, b"" if key is None else bytes(16), recorded_ns=recorded_ns, moved=moved)


def times(db: varve.Varve) -> list[int]:
    """When each event was recorded."""
    return [recorded.time_ns for recorded in db.global_reader().iter_from(0)]


def test_a_commit_keeps_the_time_that_it_brings_in_every_way_of_writing(tmp_path: Path) -> None:
    """The general way, the short way alone and among others; the clock is not asked."""

    def clock() -> int:
        raise AssertionError("the clock was asked")

    Engine(
        str(tmp_path / "s"),
        readonly=False,
        durability="full",
        map_bytes=MAP_BYTES,
        allow_network=False,
        clock=clock,
        identity=(bytes(range(16)), 5),
    ).close()
    with varve.open(tmp_path / "s", clock=clock) as db:
        assert db.uuid.bytes == bytes(range(16))
        assert db._engine.created.created_at_ns == 5
        db._engine.commit(request(10, Note(1, "a")))
        db._engine.commit(request(10, Note(2, "b")))  # alone, into a tail with room
        with db._engine.session() as session:
            assert session.last_time_ns == 10
            session.apply(request(20, Note(3, "c")))
            assert session.last_time_ns == 20
            session.apply(request(30, Note(4, "d"), Mark(5), key="k"))
            session.commit()
        assert times(db) == [10, 10, 20, 30, 30]
    assert verify(tmp_path / "s").sound


def test_an_identity_is_for_stores_that_are_made_now(tmp_path: Path) -> None:
    """A store that is there keeps its own."""
    with varve.open(tmp_path / "s") as db:
        before = db.uuid
    engine = Engine(
        str(tmp_path / "s"),
        readonly=False,
        durability="full",
        map_bytes=MAP_BYTES,
        allow_network=False,
        clock=lambda: 0,
        identity=(bytes(16), 5),
    )
    assert engine.created.uuid == before.bytes
    engine.close()


@pytest.mark.parametrize("wrong", [-1, 1 << 63, 1.5, True])
def test_a_time_that_is_none_is_refused(tmp_path: Path, wrong: Any) -> None:
    """As a clock's would be, but whoever brought it is told."""
    with varve.open(tmp_path / "s") as db:
        with pytest.raises(varve.InvalidInput, match="a commit's time is nanoseconds"):
            db._engine.commit(request(wrong, Note(1, "a")))
        assert db.next_global_sequence == 0


def test_time_never_goes_backwards(tmp_path: Path) -> None:
    """A commit older than the last one is refused, within one write transaction as well, and leaves no trace."""
    with varve.open(tmp_path / "s", clock=lambda: 7) as db:
        db._engine.commit(request(100, Note(1, "a")))
        for older in (request(99, Note(2, "b")), request(99, Note(2, "b"), Mark(3))):
            with pytest.raises(varve.InvalidInput, match="never goes backwards"):
                db._engine.commit(older)
        with db._engine.session() as session:
            session.apply(request(200, Note(2, "b")))
            with pytest.raises(varve.InvalidInput, match="recorded at 150 ns cannot follow one recorded at 200 ns"):
                session.apply(request(150, Note(3, "c")))
            session.commit()
        db._engine.commit(request(None, Note(4, "d")))  # the clock's time is behind: the last one's is taken
        assert times(db) == [100, 200, 200]


def test_only_what_was_moved_may_have_names_of_varves_own(tmp_path: Path) -> None:
    """A salvaged log has streams and types that begin with ``varve.``."""

    @varve.event(name="varve.Own")
    class Own:
        number: int

    with varve.open(tmp_path / "s") as db:
        mine = request(None, Own(1), stream="varve.lost")
        with pytest.raises(varve.InvalidName, match=r"Varve's own"):
            db._engine.commit(mine)
        mine.moved = True
        db._engine.commit(mine)
        assert db.next_global_sequence == 1


def test_versions_of_a_moved_type_are_not_judged_again(tmp_path: Path) -> None:
    """Another log took them, perhaps under other rules: its copy must be possible."""

    @varve.event(name="Thing")
    class First:
        number: int

    @varve.event(name="Thing")
    class Second:
        text: str

    with varve.open(tmp_path / "s") as db:
        for event in (First(1), Second("x")):
            db._engine.commit(request(None, event, moved=True))
        with pytest.raises(varve.SchemaConflict):
            db.stream("s", _third())


def _third() -> Any:
    @varve.event(name="Thing")
    class Third:
        flag: bool

    return Third

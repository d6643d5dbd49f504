"""Events of types that a reader does not know: an error, an ``UnknownEvent`` or decoded, as it was asked; never skipped."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_models import Blob, OrderPlaced, OrderShipped, placed, shipped
from upcast_models import Order, OrderV1

import varve
from varve import limits

EVENTS = [placed(0), shipped(1), placed(2)]


@pytest.fixture
def strange(db: varve.Varve) -> varve.Varve:
    """A stream in which the second event is of another type."""
    db.stream("orders", OrderPlaced | OrderShipped).append_batch(1, EVENTS)
    return db


def unknown(db: varve.Varve, sequence: int = 1) -> varve.UnknownEvent:
    """What a reader that does not know it makes of an event."""
    return varve.UnknownEvent("OrderShipped", bytes(db.global_reader().get_bytes(sequence) or b""))


def test_a_typed_reader_gives_unknown_events_where_asked(strange: varve.Varve) -> None:
    """By get, with what is recorded, and in both directions; the declared ones come as ever."""
    expected = [EVENTS[0], unknown(strange), EVENTS[2]]
    stream = strange.stream("orders", OrderPlaced)
    reader = stream.reader(unknown="event")
    assert [reader.get(1, n) for n in range(3)] == expected
    assert [r.event for r in reader.iter_stream(1)] == expected
    assert [r.event for r in reader.iter_all(reverse=True)] == expected[::-1]
    recorded = reader.get_recorded(1, 1)
    assert recorded is not None
    assert recorded.event == expected[1]
    assert recorded.type is varve.UnknownEvent
    with strange.snapshot() as snap:
        assert [r.event for r in snap.reader(stream, unknown="event").iter_stream(1)] == expected
        with pytest.raises(varve.UnexpectedEventType):
            list(snap.reader(stream).iter_stream(1))
    found = strange.write(lambda tx: [r.event for r in tx.reader(stream, unknown="event").iter_stream(1)])
    assert found == expected
    with pytest.raises(varve.UnexpectedEventType):
        stream.reader(unknown="error").get(1, 1)


def test_a_replay_gives_what_it_was_asked_for(strange: varve.Varve) -> None:
    """Of a handle that has bound one of the two classes."""
    path = strange.path
    strange.close()
    with varve.open(path, readonly=True) as db:
        db.stream("orders", OrderPlaced)
        decoded = [r.event for r in db.global_reader().iter_from()]
        assert decoded[::2] == EVENTS[::2]
        assert (type(decoded[1]).__name__, decoded[1].carrier) == ("OrderShipped", "DHL")
        assert [r.event for r in db.global_reader(unknown="decode").iter_from()][1].carrier == "DHL"
        expected = [EVENTS[0], unknown(db), EVENTS[2]]
        replay = db.global_reader(unknown="event")
        assert [r.event for r in replay.iter_from()] == expected
        assert [r.event for r in replay.iter_from(types=["OrderShipped"])] == expected[1:2]
        assert [r.event for r in replay.iter_from(types=[OrderPlaced])] == EVENTS[::2]
        assert (found := replay.get(1)) is not None
        assert found.event == expected[1]
        strict = db.global_reader(unknown="error")
        assert (first := strict.get(0)) is not None
        assert first.event == EVENTS[0]
        walk = strict.iter_from()
        assert next(walk).event == EVENTS[0]
        for read in (lambda: next(walk), lambda: strict.get(1), lambda: next(strict.iter_from(types=["OrderShipped"]))):
            with pytest.raises(varve.UnexpectedEventType) as caught:
                read()
            facts = caught.value
            assert (facts.stream, facts.type_name, facts.global_sequence) == ("orders", "OrderShipped", 1)
        assert [r.event for r in strict.iter_from(types=[OrderPlaced])] == EVENTS[::2]
        with db.snapshot() as snap:
            assert [r.event for r in snap.global_reader(unknown="event").iter_from()] == expected


def test_a_class_that_is_bound_later_is_known(strange: varve.Varve) -> None:
    """To readers that exist already, as ever."""
    path = strange.path
    strange.close()
    with varve.open(path) as db:
        replay = db.global_reader(unknown="event")
        assert [type(r.event) for r in replay.iter_from()] == [varve.UnknownEvent] * 3
        db.stream("orders", OrderPlaced | OrderShipped)
        assert [r.event for r in replay.iter_from()] == EVENTS
        assert db.write(lambda tx: [r.event for r in tx.global_reader(unknown="error").iter_from()]) == EVENTS


def test_what_upcasts_name_is_known(db: varve.Varve) -> None:
    """Old types come upcast, and the new type as itself, whatever is asked of unknown ones."""
    db.stream("orders", OrderV1).append(1, OrderV1(1, "Laptop"))
    db.stream("orders", Order).append(1, Order("#2", (), paid=False))
    path = db.path
    db.close()
    with varve.open(path, readonly=True) as again:
        for mode in ("decode", "event", "error"):
            found = [r.event for r in again.global_reader(unknown=mode).iter_from()]
            assert found == [Order("#1", ("Laptop",), paid=True), Order("#2", (), paid=False)]


def test_a_class_that_cannot_read_what_is_stored_makes_the_event_unknown(db: varve.Varve) -> None:
    """Its name is known, its schema is another: the reader gives what it was asked for instead of nonsense."""
    first = varve.event(name="Torn")(type("First", (), {"__annotations__": {"a": int}, "__module__": __name__}))
    second = varve.event(name="Torn")(type("Second", (), {"__annotations__": {"a": str}, "__module__": __name__}))
    stream = db.stream("s", second)  # before anybody wrote the other
    db.stream("s", first).append(1, first(1))
    db._bindings.bind({"Torn": stream._types.by_name["Torn"]})
    with pytest.raises(varve.SchemaConflict):
        stream.reader().get(1, 0)
    event = stream.reader(unknown="event").get(1, 0)
    assert (type(event), event.type_name) == (varve.UnknownEvent, "Torn")
    assert next(db.global_reader().iter_from()).event.a == 1
    assert next(db.global_reader(unknown="event").iter_from()).event == event
    with pytest.raises(varve.SchemaConflict) as caught:
        next(db.global_reader(unknown="error").iter_from())
    assert caught.value.reasons


@pytest.fixture
def future(db: varve.Varve, varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[varve.Varve]:
    """A store in which a newer Varve has written a type whose schema is in words that this one does not know."""
    future = varve.event(name="Future")(type("Future", (), {"__annotations__": {"a": int}, "__module__": __name__}))
    compiled = db.stream("s", future)._types.by_name["Future"]
    text = compiled.schema_bytes
    monkeypatch.setattr(compiled, "schema_bytes", text.replace(b'"type":"i64"', b'"type":"i128"'))
    db.stream("s", future).append(1, future(5))
    monkeypatch.setattr(compiled, "schema_bytes", text)
    db.close()
    with varve.open(varve_path) as again:
        yield again


def test_a_schema_beyond_this_varve_is_unknown_not_a_crash(future: varve.Varve) -> None:
    """A replay gives an ``UnknownEvent`` where it would decode; bytes stay readable."""
    raw = future.global_reader().get_bytes(0)
    for mode in ("decode", "event"):
        [recorded] = future.global_reader(unknown=mode).iter_from()
        assert recorded.event == varve.UnknownEvent("Future", raw)
        assert recorded.raw == raw
    with pytest.raises(varve.UnexpectedEventType):
        next(future.global_reader(unknown="error").iter_from())


def test_a_class_of_that_name_is_refused_with_a_word_on_upgrading(
    future: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``db.stream`` and appends refuse it; a reader that was made before says so where the event stands."""

    def version(**fields: Any) -> Any:
        annotations: dict[str, Any] = {"a": int} | fields
        return varve.event(name="Future")(type("V", (), {"__annotations__": annotations, "__module__": __name__}))

    cls = version(b=int | None)
    with monkeypatch.context() as patch:
        patch.setattr("varve.store.check_evolution", lambda *_: None)
        stream = future.stream("s", cls)  # as before anybody else wrote
    for refused in (
        lambda: future.stream("t", cls),
        lambda: stream.append(1, cls(1, None)),
        lambda: stream.reader().get(1, 0),
    ):
        with pytest.raises(varve.SchemaConflict, match=r"beyond this Varve.*upgrade"):
            refused()
    assert next(future.global_reader().iter_from()).event.type_name == "Future"
    assert next(stream.reader(unknown="event").iter_stream(1)).event.type_name == "Future"


def test_unknown_is_checked(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """A word that means nothing is refused at once, and so is one that the other kind of reader knows."""
    with db.snapshot() as snap:
        for make in (orders.reader, lambda **kw: snap.reader(orders, **kw)):
            for bad in ("decode", "skip", "", None, True, 1, ["event"]):
                with pytest.raises(varve.InvalidInput, match="unknown="):
                    make(unknown=bad)  # type: ignore[operator]
        for anywhere in (db.global_reader, snap.global_reader):
            for bad in ("skip", None, {}):
                with pytest.raises(varve.InvalidInput, match="'decode', 'event', 'error'"):
                    anywhere(unknown=bad)  # type: ignore[arg-type]


# -- the value -------------------------------------------------------------------------------------


def test_unknown_events_are_values(strange: varve.Varve) -> None:
    """Equal by name and bytes, hashable, frozen, matched by position; copies and pickles hold nothing of the map."""
    reader = strange.stream("orders", OrderPlaced).reader(unknown="event")
    recorded = reader.get_recorded(1, 1)
    walked = list(reader.iter_stream(1))[1]
    event = walked.event
    assert isinstance(event, varve.UnknownEvent)
    assert event == unknown(strange)
    assert hash(event) == hash(unknown(strange))
    assert event != varve.UnknownEvent("Other", event.data)
    assert event != varve.UnknownEvent("OrderShipped", b"12345678")
    assert event != "OrderShipped"
    assert repr(event) == f"UnknownEvent('OrderShipped', {len(event.data)} bytes)"
    match event:
        case varve.UnknownEvent(name, data):
            assert (name, data) == ("OrderShipped", walked.raw)
    for change in (
        lambda: setattr(event, "type_name", "x"),
        lambda: delattr(event, "data"),
        lambda: setattr(event, "y", 1),
    ):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError):
        event.data[0] = 1  # type: ignore[index]
    for twin in (pickle.loads(pickle.dumps(event)), copy.deepcopy(event), varve.owned(event)):
        assert twin == event
        assert twin.data.obj is not event.data.obj
    assert recorded == walked
    for again in (pickle.loads(pickle.dumps(walked)), copy.copy(walked)):
        assert again == walked
        assert again.type is varve.UnknownEvent
    assert "UnknownEvent('OrderShipped'" in repr(walked)
    assert walked.event is walked.event


def test_the_bytes_of_an_unknown_event_outlive_the_store(varve_path: Path) -> None:
    """They stay valid as any memory that a reader gives; an owned one holds none of it."""
    with varve.open(varve_path) as db:
        db.stream("s", Blob).append_batch(1, [Blob(bytes([n]) * 9_000) for n in range(3)])
        db.stream("s", Blob).append(1, Blob(b"x" * (limits.COPIED_EVENT_BYTES_MAX // 2)))
        reader = db.stream("s", OrderPlaced).reader(unknown="event")
        events = [reader.get(1, n) for n in range(4)] + [r.event for r in reader.iter_stream(1)]
        expected = [bytes(event.data) for event in events]
        owned = [varve.owned(event) for event in events]
        with pytest.raises(varve.ViewsStillAlive):
            db.close()
    assert [bytes(event.data) for event in events] == expected
    assert owned == events


def test_nobody_can_append_an_unknown_event(strange: varve.Varve) -> None:
    """It is no event class: there is nothing to declare."""
    event = unknown(strange)
    with pytest.raises(varve.EventTypeError):
        strange.stream("orders", OrderPlaced).append(1, event)  # type: ignore[arg-type]
    with pytest.raises(varve.SchemaError):
        strange.stream("orders", varve.UnknownEvent)
    assert strange.next_global_sequence == 3

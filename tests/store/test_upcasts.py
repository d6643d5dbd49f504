"""Events of old types come as the types that took their place, wherever events are read."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import upcast_models
from upcast_models import RUNS, Order, OrderV1, OrderV2, Other, fresh

import varve

V1, V2, V3 = OrderV1(1, "Laptop"), OrderV2(2, ("Mouse", "Mat")), Order("#3", ("Desk",), paid=False)
AS_V3 = [Order("#1", ("Laptop",), paid=True), Order("#2", ("Mouse", "Mat"), paid=True), V3]
AS_V2 = [OrderV2(1, ("Laptop",)), V2]


@pytest.fixture
def old_orders(db: varve.Varve) -> varve.Varve:
    """A store with one event of each generation in stream 1, written when each was new."""
    db.stream("orders", OrderV1).append(1, V1)
    db.stream("orders", OrderV2).append(1, V2)
    db.stream("orders", Order).append(1, V3)
    return db


@pytest.fixture(autouse=True)
def no_runs() -> Iterator[None]:
    """Each test counts its own runs."""
    RUNS.clear()
    yield
    RUNS.clear()


def reads(db: varve.Varve) -> dict[str, Callable[[], list[Any]]]:
    """Every way to read the stream's events as the newest type."""
    stream = db.stream("orders", Order)

    def in_snapshot(read: Callable[[varve.Snapshot], Any]) -> list[Any]:
        with db.snapshot() as snap:
            return [r.event for r in read(snap)]

    return {
        "get": lambda: [stream.reader().get(1, n) for n in range(3)],
        "get_recorded": lambda: [r.event for n in range(3) if (r := stream.reader().get_recorded(1, n))],
        "iter_stream": lambda: [r.event for r in stream.reader().iter_stream(1)],
        "iter_stream reversed": lambda: [r.event for r in stream.reader().iter_stream(1, reverse=True)][::-1],
        "iter_all": lambda: [r.event for r in stream.reader().iter_all()],
        "replay": lambda: [r.event for r in db.global_reader().iter_from()],
        "replay of streams": lambda: [r.event for r in db.global_reader().iter_from(streams=["orders"])],
        "replay of types": lambda: [r.event for r in db.global_reader().iter_from(types=[Order])],
        "replay, get": lambda: [r.event for n in range(3) if (r := db.global_reader().get(n))],
        "replay, strictly": lambda: [r.event for r in db.global_reader(unknown="error").iter_from()],
        "snapshot": lambda: in_snapshot(lambda snap: snap.reader(stream).iter_stream(1)),
        "snapshot, replay": lambda: in_snapshot(lambda snap: snap.global_reader().iter_from()),
        "write": lambda: db.write(lambda tx: [r.event for r in tx.reader(stream).iter_stream(1)]),
        "write, replay": lambda: db.write(lambda tx: [r.event for r in tx.global_reader().iter_from()]),
    }


@pytest.mark.parametrize("how", [
    "get", "get_recorded", "iter_stream", "iter_stream reversed", "iter_all", "replay", "replay of streams", "replay of types",
    "replay, get", "replay, strictly", "snapshot", "snapshot, replay", "write", "write, replay",
])  # fmt: skip
def test_old_events_come_as_the_newest_type(old_orders: varve.Varve, how: str) -> None:
    """Through one upcast and through two; the newest type's own events are untouched."""
    found = reads(old_orders)[how]()
    assert found == AS_V3
    assert all(isinstance(event, Order) for event in found)
    assert sorted(RUNS) == ["v1", "v2", "v2"]


def test_raw_reads_stay_raw(old_orders: varve.Varve) -> None:
    """Bytes are those that were written, and no upcast runs for them, nor for anything recorded beside the event."""
    reader = old_orders.stream("orders", Order).reader()
    raw = [bytes(data) for data in old_orders.global_reader().iter_bytes(0)]
    assert [bytes(reader.get_bytes(1, n) or b"") for n in range(3)] == raw
    for number, recorded in enumerate(reader.iter_stream(1)):
        assert bytes(recorded.raw) == raw[number]
        assert (recorded.stream_sequence, recorded.stream, recorded.stream_id) == (number, "orders", 1)
        assert recorded.type is Order
    assert RUNS == []
    old = old_orders.stream("orders", OrderV1 | OrderV2 | Order).reader()
    assert [bytes(r.raw) for r in old.iter_stream(1)] == raw


def test_a_declared_old_type_stays_what_it_is(old_orders: varve.Varve) -> None:
    """The stream's declaration says how far upcasts go: to the first declared type on the way."""

    def events(declared: Any) -> list[Any]:
        return [r.event for r in old_orders.stream("orders", declared).reader().iter_stream(1)]

    assert events(OrderV1 | OrderV2 | Order) == [V1, V2, V3]
    assert events(OrderV2 | Order) == [*AS_V2, V3]
    assert events(OrderV1 | Order) == [V1, *AS_V3[1:]]
    assert [r.type for r in old_orders.stream("orders", OrderV2 | Order).reader().iter_all()] == [
        OrderV2,
        OrderV2,
        Order,
    ]


def test_upcasts_that_lead_nowhere_declared_change_nothing(old_orders: varve.Varve) -> None:
    """``UnexpectedEventType`` names the stored type, where no declared type is on the way."""
    reader = old_orders.stream("orders", Other).reader()
    with pytest.raises(varve.UnexpectedEventType) as caught:
        reader.get(1, 0)
    assert caught.value.type_name == "upcasts.Order"
    backwards = old_orders.stream("orders", OrderV1).reader()
    assert backwards.get(1, 0) == V1
    with pytest.raises(varve.UnexpectedEventType):
        backwards.get(1, 1)


def test_another_class_of_the_new_types_name_is_not_the_new_type(old_orders: varve.Varve) -> None:
    """A reader never gets instances of a class that its stream did not declare."""
    fields = {"order_id": str, "products": tuple[str, ...], "paid": bool}
    twin = varve.event(name="upcasts.Order.v3")(type("Twin", (), {"__annotations__": fields, "__module__": __name__}))
    reader = old_orders.stream("orders", twin).reader()
    assert isinstance(reader.get(1, 2), twin)
    with pytest.raises(varve.UnexpectedEventType):
        reader.get(1, 1)


def test_types_of_a_replay_say_how_far_upcasts_go(old_orders: varve.Varve) -> None:
    """An old type that is asked for comes as it was written; a new one brings what leads to it; names do as classes do."""
    old_orders.stream("others", Other).append(1, Other(9))

    def events(*types: Any) -> list[Any]:
        return [r.event for r in old_orders.global_reader().iter_from(types=types)]

    assert events(Order) == events("upcasts.Order.v3") == AS_V3
    assert events(OrderV2) == events("upcasts.Order.v2") == AS_V2
    assert events(OrderV1) == events("upcasts.Order") == [V1]
    assert events(OrderV1, Order) == [V1, *AS_V3[1:]]
    assert events(Other) == [Other(9)]
    assert events() == []
    assert [r.event for r in old_orders.global_reader().iter_from(types=[Order], reverse=True)] == AS_V3[::-1]


def test_replays_need_no_stream_for_upcasts(old_orders: varve.Varve, varve_path: Path) -> None:
    """A handle that has bound nothing gives the newest type all the same, also where events were of it already."""
    path = old_orders.path
    old_orders.close()
    with varve.open(path, readonly=True) as db:
        found = [r.event for r in db.global_reader().iter_from()]
        assert found == AS_V3
        assert [type(varve.owned(event)) for event in found] == [Order, Order, Order]
        assert [r.event for r in db.global_reader(unknown="error").iter_from()] == AS_V3


def test_an_upcast_runs_once_when_the_event_is_asked_for(old_orders: varve.Varve) -> None:
    """Iterating runs nothing; two looks at the event are one run and one object."""
    reader = old_orders.stream("orders", Order).reader()
    [first, second, _] = reader.iter_stream(1)
    assert RUNS == []
    assert first.event is first.event
    assert RUNS == ["v1", "v2"]
    assert second.event == AS_V3[1]
    assert RUNS == ["v1", "v2", "v2"]


def test_recorded_events_are_values(old_orders: varve.Varve) -> None:
    """Equal, hashable, printable, copyable and picklable as any others."""
    reader = old_orders.stream("orders", Order).reader()
    once, again = list(reader.iter_stream(1)), list(reader.iter_stream(1))
    assert once == again
    assert len({*once, *again}) == 3
    assert "Order(order_id='#1', products=('Laptop',), paid=True)" in repr(once[0])
    for twin in (pickle.loads(pickle.dumps(once[0])), copy.copy(once[0]), copy.deepcopy(again[0])):
        assert twin == once[0]
        assert twin.type is Order
        assert twin.event == AS_V3[0]
        assert bytes(twin.raw) == bytes(once[0].raw)
    assert isinstance(once[0], varve.Recorded)


def test_an_upcast_may_keep_what_it_was_given(db: varve.Varve) -> None:
    """Vectors of the old event stay readable in the new one after the store is closed."""
    first, second = fresh({"data": bytes, "numbers": tuple[varve.u32, ...]}, {"numbers": tuple[varve.u32, ...]})
    varve.upcast(first, second)(lambda old: second(old.numbers))
    db.stream("s", first).append(1, first(bytes(6_000), tuple(range(500))))
    reader = db.stream("s", second).reader()
    event = reader.get(1, 0)
    walked = next(reader.iter_stream(1)).event
    del reader
    db.__exit__()
    assert tuple(event.numbers) == tuple(walked.numbers) == tuple(range(500))


def test_an_error_of_the_function_comes_through_with_a_note(old_orders: varve.Varve) -> None:
    """It names the event; what is recorded beside it, and the other events, stay readable."""
    stream = old_orders.stream("orders", OrderV1)
    stream.append(1, OrderV1(4, "bad"))
    reader = old_orders.stream("orders", Order).reader()
    recorded = list(reader.iter_stream(1))
    for read in (lambda: recorded[3].event, lambda: recorded[3].event, lambda: reader.get(1, 3)):
        with pytest.raises(ValueError, match="no such product") as caught:
            read()
        assert caught.value.__notes__ == [
            "while upcasting global sequence 3 from 'upcasts.Order' to 'upcasts.Order.v2'"
        ]
    assert recorded[3].stream_sequence == 3
    assert recorded[3].type is Order
    assert recorded[0].event == AS_V3[0]


@pytest.mark.parametrize("given", [None, 7, Other(1), V1], ids=repr)
def test_a_function_that_gives_something_else_is_named(db: varve.Varve, given: Any) -> None:
    """``UpcastError`` with its facts; the raw bytes stay readable."""
    first, second = fresh({"a": int}, {"a": str})

    @varve.upcast(first, second)
    def wrong(_: Any) -> Any:
        return given

    db.stream("s", first).append(1, first(1))
    reader = db.stream("s", second).reader()
    with pytest.raises(varve.UpcastError, match="wrong") as caught:
        reader.get(1, 0)
    error = caught.value
    assert (error.old_type, error.new_type) == (first.__varve__.name, second.__varve__.name)
    assert (error.got, error.global_sequence) == (type(given), 0)
    assert isinstance(error, TypeError)
    recorded = next(reader.iter_stream(1))
    with pytest.raises(varve.UpcastError):
        recorded.event  # noqa: B018 - reading it is the test
    assert recorded.raw


def test_an_upcast_may_give_a_view(db: varve.Varve) -> None:
    """A nested event of the old one, for instance."""
    [inner] = fresh({"x": int})
    [outer] = fresh({"inner": inner})
    varve.upcast(outer, inner)(lambda old: old.inner)
    db.stream("s", outer).append(1, outer(inner(5)))
    assert db.stream("s", inner).reader().get(1, 0) == inner(5)
    assert next(db.global_reader().iter_from()).event == inner(5)


def test_old_versions_of_an_old_type_are_upcast_too(db: varve.Varve) -> None:
    """A type that grew before it was replaced: events of each version, and of a version newer than the class, come through."""

    def version(**fields: Any) -> Any:
        annotations: dict[str, Any] = {"a": int} | fields
        return varve.event(name="upcasts.Grew")(
            type("Grew", (), {"__annotations__": annotations, "__module__": __name__})
        )

    one, two, three = version(), version(b=int | None), version(b=int | None, c=int | None)
    [new] = fresh({"total": int})
    for cls, event in ((one, one(1)), (two, two(2, 20)), (three, three(3, 30, 300))):
        db.stream("s", cls).append(1, event)
    varve.upcast(two, new)(lambda old: new(old.a + (old.b or 0)))
    assert [r.event for r in db.stream("s", new).reader().iter_stream(1)] == [new(1), new(22), new(33)]


def test_an_old_class_that_cannot_read_its_events_is_a_conflict(db: varve.Varve) -> None:
    """The class given to the upcast must fit what is stored: typed readers say so, replays decode what is there."""
    [stored] = fresh({"a": int})
    name = stored.__varve__.name
    other = varve.event(name=name)(type("Other", (), {"__annotations__": {"a": str}, "__module__": __name__}))
    [new] = fresh({"a": str})
    varve.upcast(other, new)(lambda old: new(old.a))
    db.stream("s", stored).append(1, stored(1))
    with pytest.raises(varve.SchemaConflict):
        db.stream("s", new).reader().get(1, 0)
    assert next(db.global_reader().iter_from()).event.a == 1
    with pytest.raises(varve.SchemaConflict):
        next(db.global_reader(unknown="error").iter_from()).event  # noqa: B018 - reading it is the test
    assert next(db.global_reader(unknown="event").iter_from()).event.type_name == name
    assert db.stream("s", new).reader(unknown="event").get(1, 0).type_name == name


def test_an_upcast_that_comes_later_is_noticed(db: varve.Varve) -> None:
    """A reader that read before the registration gives the new type after it, in replays."""
    first, second = fresh({"a": int}, {"a": str})
    db.stream("s", first).append(1, first(1))
    replay = db.global_reader()
    assert next(replay.iter_from()).event == first(1)
    reader = db.stream("s", second).reader()
    with pytest.raises(varve.UnexpectedEventType):
        reader.get(1, 0)
    varve.upcast(first, second)(lambda old: second(str(old.a)))
    assert next(replay.iter_from()).event == second("1")
    assert reader.get(1, 0) == second("1")


def test_upcasting_writes_nothing(old_orders: varve.Varve) -> None:
    """Neither new types nor new events; an upcast event may be appended as a new one."""
    stream = old_orders.stream("orders", Order)
    types, events = old_orders.stats().types, old_orders.next_global_sequence
    found = [r.event for r in stream.reader().iter_stream(1)]
    assert (old_orders.stats().types, old_orders.next_global_sequence) == (types, events)
    stream.append_batch(2, found)
    assert [r.event for r in stream.reader().iter_stream(2)] == AS_V3


def test_many_events_in_one_block_are_upcast_each_by_itself(db: varve.Varve) -> None:
    """In long runs and in runs of one, forwards and backwards."""
    old = db.stream("orders", OrderV1)
    old.append_batch("run", [OrderV1(n, f"p{n}") for n in range(200)])
    old.append_many([(n % 3, OrderV1(n, f"p{n}")) for n in range(60)])
    db.stream("orders", Order).append("run", V3)
    reader = db.stream("orders", Order).reader()
    assert [r.event.order_id for r in reader.iter_stream("run")] == [*(f"#{n}" for n in range(200)), "#3"]
    assert [r.event.products for r in reader.iter_stream(2, reverse=True)] == [(f"p{n}",) for n in range(59, 0, -3)]
    assert [r.event.order_id for r in reader.iter_all(200, 205)] == ["#0", "#1", "#2", "#3", "#4"]


# -- registration ----------------------------------------------------------------------------------


def test_a_registered_function_stays_a_function() -> None:
    """The decorator gives back what it was given."""
    assert upcast_models.one_product_to_several(V1) == AS_V2[0]


@pytest.mark.parametrize("bad", [int, None, "Order", varve.Varve, Order | Other, V1, list[Order]], ids=repr)
def test_only_event_classes_can_be_upcast(bad: Any) -> None:
    """``SchemaError``, which is a TypeError, at the decoration."""
    for pair in ((bad, Order), (Order, bad)):
        with pytest.raises(varve.SchemaError):
            varve.upcast(*pair)


def test_structs_are_no_events() -> None:
    """They stand inside of events only."""
    point = varve.struct(type("Point", (), {"__annotations__": {"x": varve.u8}, "__module__": __name__}))
    with pytest.raises(varve.SchemaError, match="a struct"):
        varve.upcast(point, Order)


@pytest.mark.parametrize("bad", [None, 7, Order], ids=repr)
def test_only_functions_upcast(bad: Any) -> None:
    """What is no function is refused, and registers nothing."""
    first, second = fresh({"a": int}, {"b": int})
    with pytest.raises(varve.SchemaError, match="function"):
        varve.upcast(first, second)(bad)
    varve.upcast(first, second)(lambda old: second(old.a))


def test_functions_that_wait_or_yield_are_refused() -> None:
    """They would run while an event is read."""
    first, second = fresh({"a": int}, {"b": int})

    async def waits(old: Any) -> Any:
        return second(old.a)

    def yields(old: Any) -> Any:
        yield second(old.a)

    for bad in (waits, yields):
        with pytest.raises(varve.SchemaError, match="plain function"):
            varve.upcast(first, second)(bad)


def test_two_classes_of_one_name_are_refused() -> None:
    """Names are store-wide: a class that evolution refuses needs a name of its own."""
    [first] = fresh({"a": int})
    second = varve.event(name=first.__varve__.name)(
        type("Second", (), {"__annotations__": {"a": str}, "__module__": __name__})
    )
    with pytest.raises(varve.SchemaError, match=r"another type.*\.v2"):
        varve.upcast(first, second)


def test_a_second_upcast_from_one_type_is_refused() -> None:
    """Which of them should run? The first stays."""
    first, second, third = fresh({"a": int}, {"b": int}, {"c": int})

    @varve.upcast(first, second)
    def upcast(old: Any) -> Any:
        return second(old.a)

    with pytest.raises(varve.SchemaError, match="upcast already"):

        @varve.upcast(first, third)
        def to_another(old: Any) -> Any:
            return third(old.a)

    with pytest.raises(varve.SchemaError, match="upcast already"):

        @varve.upcast(first, second)
        def upcast(old: Any) -> Any:
            return second(-old.a)


def test_circles_are_refused(db: varve.Varve) -> None:
    """Of two and of three; the way as far as it was stays usable."""
    first, second, third = fresh({"a": int}, {"b": int}, {"c": int})
    varve.upcast(first, second)(lambda old: second(old.a))
    with pytest.raises(varve.SchemaError, match="circle"):
        varve.upcast(second, first)(lambda old: first(old.b))
    varve.upcast(second, third)(lambda old: third(old.b))
    with pytest.raises(varve.SchemaError, match=r"circle: .*v3 -> .*v1 -> .*v2 -> .*v3"):
        varve.upcast(third, first)(lambda old: first(old.c))
    db.stream("s", first).append(1, first(5))
    assert db.stream("s", third).reader().get(1, 0) == third(5)


def test_a_module_that_is_loaded_again_replaces_its_upcasts(db: varve.Varve, tmp_path: Path, monkeypatch: Any) -> None:
    """Its classes are new ones then, and the newer function runs; no matter where in the file it has moved."""
    source = """
import varve

{more}
@varve.event(name="upcasts.Loaded.v1")
class A:
    a: int


@varve.event(name="upcasts.Loaded.v2")
class B:
    b: int


@varve.upcast(A, B)
def _(old):
    return B(old.a * {factor})
"""
    (tmp_path / "loaded_upcasts.py").write_text(source.format(more="", factor=2))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loaded = importlib.import_module("loaded_upcasts")
    db.stream("s", loaded.A).append(1, loaded.A(21))
    assert db.stream("s", loaded.B).reader().get(1, 0) == loaded.B(42)
    assert next(db.global_reader().iter_from()).event == loaded.B(42)
    (tmp_path / "loaded_upcasts.py").write_text(source.format(more="X = 1\n\n", factor=3))
    importlib.invalidate_caches()
    loaded = importlib.reload(loaded)
    assert next(db.global_reader().iter_from()).event == loaded.B(63)  # before a stream is bound anew
    assert db.stream("s", loaded.B).reader().get(1, 0) == loaded.B(63)


def test_classes_may_name_what_comes_later() -> None:
    """Registering compiles nothing: annotations that are resolved at first use still may be."""
    later = varve.event(name="upcasts.Later")(
        type("Later", (), {"__annotations__": {"x": "DeclaredLater"}, "__module__": __name__})
    )
    [new] = fresh({"a": int})
    varve.upcast(later, new)(lambda _: new(1))

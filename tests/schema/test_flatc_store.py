"""Streams of classes that flatc generated: objects in, accessors out, and what is refused."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from flatc_helpers import generated
from flatc_texts import DEFAULTS, FILLED, ORDERS, filled, shown
from official import Flatc

import varve
from varve import EventEncodingError, EventTypeError, IdempotencyConflict, SchemaConflict, SchemaError, ViewsStillAlive
from varve.codec import event_type


@varve.event
class Note:
    text: str


@pytest.fixture(scope="module")
def package(flatc: Flatc) -> str:
    return flatc.to_python(ORDERS, "--gen-object-api")


def folder_of(package: str) -> Path:
    return next(Path(path) for path in sys.path if (Path(path) / package).is_dir())


def forget(package: str) -> None:
    """The modules of a package, as if they had never been imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def same(found: Any, want: dict[str, Any]) -> bool:
    return isinstance(found, generated(type(found).__module__.rpartition(".")[0], "Order")[0]) and shown(found) == want


def test_every_kind_of_field_comes_back_through_every_reader(varve_path: Path, package: str) -> None:
    """Typed reads, replays both ways, snapshots and reads by sequence give accessors with every value; what was not set reads
    as its default."""
    order, held = generated(package, "Order")
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        assert orders.append(1, filled(package)) == (0, 0)
        assert orders.append(1, held()) == (1, 1)
        orders.append_batch("b", [filled(package), held()])
        orders.append_many([(7, held()), ("x", filled(package))])
        with db.transaction() as tx:
            tx.append(orders, 1, filled(package), expected=2)
        reader = orders.reader()
        wants = [FILLED, DEFAULTS, FILLED, DEFAULTS, DEFAULTS, FILLED, FILLED]
        assert same(reader.get(1, 0), FILLED)
        assert same(reader.get(1, 1), DEFAULTS)
        recorded = reader.get_recorded("b", 0)
        assert recorded is not None
        assert same(recorded.event, FILLED)
        assert recorded.type is order
        for found in (reader.iter_all(), db.global_reader().iter_from(0), db.global_reader().iter_from(types=[order])):
            assert [shown(one.event) for one in found] == wants
        backwards = db.global_reader().iter_from(0, reverse=True)
        assert [shown(one.event) for one in backwards] == wants[::-1]
        with db.snapshot(at=2) as snap:
            seen = list(snap.global_reader().iter_from(0))
            assert [shown(one.event) for one in seen] == wants[:2]
            assert same(snap.reader(orders).get(1, 0), FILLED)
        assert all(one.type is order and one.stream == "orders" for one in seen)
        for view in db.global_reader().iter_bytes(0):
            assert shown(order.GetRootAs(view)) in (FILLED, DEFAULTS)
        del found, seen, view, backwards


def test_big_events_are_read_in_the_map(varve_path: Path, package: str) -> None:
    """An event above the copying limit is pinned, and so is what its accessors give."""
    order, _ = generated(package, "Order")
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        orders.append(1, filled(package, data=bytes(range(256)) * 400))
        event: Any = orders.reader().get(1, 0)
        assert event.DataLength() == 102_400
        part = event.Box()
        del event
        gc.collect()
        with pytest.raises(ViewsStillAlive):
            db.close()
        assert part.N() == [1, -2, 3]
        del part
        db.close()


def test_streams_of_several_kinds(varve_path: Path, package: str) -> None:
    """Generated classes stand in unions with one another and with classes of Varve's own."""
    order, _ = generated(package, "Order")
    shipped, shipped_held = generated(package, "Shipped")
    done = shipped_held()
    done.orderId = 5
    with varve.open(varve_path) as db:
        stream = db.stream("orders", order | Note | shipped)
        stream.append_batch(1, [filled(package), Note("a"), done, Note("b"), filled(package)])
        found = [one.type for one in stream.reader().iter_stream(1)]
        assert found == [order, Note, shipped, Note, order]
        last: Any = stream.reader().get(1, 2)
        assert last.OrderId() == 5
        assert isinstance(last, shipped)
        only = [one.global_sequence for one in db.global_reader().iter_from(types=[shipped, f"{package}.Order"])]
        assert only == [0, 2, 4]
        with pytest.raises(
            EventTypeError, match=r"takes Note, not OrderT: declare its accessor, db.stream\(name, ... \| Order\)"
        ):
            db.stream("notes", Note).append(1, filled(package))


def test_the_object_class_names_the_same_type(varve_path: Path, package: str) -> None:
    """A type checker that shall see appends takes ``OrderT``; reads give accessors all the same."""
    order, held = generated(package, "Order")
    with varve.open(varve_path) as db:
        orders = db.stream("orders", held)
        orders.append(1, filled(package))
        assert isinstance(orders.reader().get(1, 0), order)


def test_an_object_may_change_after_its_append(varve_path: Path, package: str) -> None:
    """What counts is what the object held when it was given, in a transaction too."""
    order, _ = generated(package, "Order")
    event = filled(package)
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        with db.transaction() as tx:
            tx.append(orders, 1, event)
            event.tags.append("late")
            event.orderId = 1
        assert same(orders.reader().get(1, 0), FILLED)


def test_views_are_values(varve_path: Path, package: str) -> None:
    """Equal and hashable by value, printed with their values; copies, pickles and ``owned`` hold bytes of their own."""
    order, _ = generated(package, "Order")
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        orders.append_batch(1, [filled(package), filled(package), filled(package, quantity=2)])
        one, two, other = (recorded.event for recorded in orders.reader().iter_stream(1))
        assert one == two
        assert hash(one) == hash(two)
        assert one != other
        assert one != 5
        assert repr(one).startswith("Order(order_id=9223372036854775808, product_name='L\u00e4pt\\x00p', quantity=1,")
        kept = [copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one)), varve.owned(one)]
        with pytest.raises(AttributeError):
            one.Init(b"", 0)
        with pytest.raises(AttributeError):
            _ = one.Nothing
        del one, two, other
        db.close()
    for view in kept:
        assert shown(view) == FILLED
        assert type(view) is type(kept[0])


def test_events_as_json(varve_path: Path, package: str) -> None:
    """Views and objects alike, with the schema's names; from JSON comes an accessor."""
    order, held = generated(package, "Order")
    plain = varve.to_dict(filled(package))
    assert plain["product_name"] == "L\u00e4pt\0p"
    assert plain["extra"] == {"$type": f"{package}.Gift", "note": "hi"}
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        orders.append(1, filled(package))
        event = orders.reader().get(1, 0)
        assert varve.to_dict(event) == plain
        assert varve.from_json(order, varve.to_json(event)) == event
        assert shown(varve.from_json(held, plain)) == FILLED
        with pytest.raises(EventEncodingError, match="is no field of"):
            varve.from_json(order, {"orderId": 1})
    with pytest.raises(TypeError):
        varve.to_dict(object())


def test_views_and_whole_buffers_can_be_appended(varve_path: Path, package: str) -> None:
    """A view goes into another stream as it is; an accessor over bytes from elsewhere is verified first."""
    order, _ = generated(package, "Order")
    builder = flatbuffers.Builder(0)
    builder.Finish(filled(package).Pack(builder))
    data = bytes(builder.Output())
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        orders.append(1, filled(package))
        orders.append(2, orders.reader().get(1, 0))
        orders.append(2, next(orders.reader().iter_stream(1)).event)
        orders.append(2, order.GetRootAs(data + b"garbage"))
        assert [shown(one.event) for one in orders.reader().iter_stream(2)] == [FILLED] * 3
        broken = bytearray(data)
        broken[4:12] = b"\xff" * 8
        for bad, why in [
            (order.GetRootAs(data[:40]), "has an invalid buffer"),
            (order.GetRootAs(bytes(broken)), "has an invalid buffer"),
            (order.GetRootAs(b"\0" * 8 + data, 8), "is part of a buffer; append OrderT.InitFromObj"),
            (order(), "has no buffer; append a OrderT"),
        ]:
            with pytest.raises(EventEncodingError, match=why):
                orders.append(1, bad)
        assert orders.reader().length(1) == 1


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"quantity": -1}, "quantity", r"must be in 0 \.\. 4294967295 \(u32\), not -1"),
    ({"quantity": 1.5}, "quantity", "must be an int"),
    ({"quantity": None}, "quantity", "must be an int"),
    ({"amount": 2**63}, "amount", "must be in"),
    ({"color": 200}, "color", "must be in"),
    ({"paid": 1}, "paid", "must be a bool"),
    ({"part": 1e39}, "part", "must fit 32 bits"),
    ({"ratio": "1"}, "ratio", "must be a float"),
    ({"productName": 5}, "product_name", "must be a str"),
    ({"productName": "\ud800"}, "product_name", "must be text without lone surrogates"),
    ({"productName": b"\xff"}, "product_name", "must be UTF-8"),
    ({"tags": ["a", None]}, r"tags\[1\]", "must be a str"),
    ({"tags": "abc"}, "tags", "must be a list or tuple"),
    ({"data": [1, 256]}, "data", "must be bytes, or a list of numbers from 0 to 255"),
    ({"data": "abc"}, "data", "must be bytes"),
    ({"numbers": [1, 2.5]}, r"numbers\[1\]", "must be an int"),
    ({"numbers": {1: 2}}, "numbers", "must be a list or tuple"),
    ({"flags": [2]}, r"flags\[0\]", "must be a bool"),
    ({"items": [None]}, r"items\[0\]", "must be a ItemT"),
    ({"items": 3}, "items", "must be a list or tuple"),
    ({"pos": 7}, "pos", "must be a VecT"),
    ({"extraType": 0}, "extra", "needs its type, a number from 1 to 2, not 0"),
    ({"extraType": 3}, "extra", "needs its type"),
    ({"extraType": True}, "extra", "needs its type"),
    ({"extraType": 1}, "extra", "must be a ItemT, not"),
    ({"extra": None}, "extra", "must be a GiftT, not None"),
    ({"quantitty": 3}, "quantitty", "is no field of OrderT"),
]


@pytest.mark.parametrize(("changes", "field", "why"), BAD, ids=lambda value: str(value)[:30])
def test_values_that_do_not_fit(varve_path: Path, package: str, changes: dict[str, Any], field: str, why: str) -> None:
    """Class, field and value are named, nothing is written, and a batch says which of its events it was."""
    order, _ = generated(package, "Order")
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        with pytest.raises(EventEncodingError, match=rf"^{package}.Order.{field} {why}") as caught:
            orders.append_batch(1, [filled(package), filled(package, **changes)])
        assert caught.value.type_name == f"{package}.Order"
        assert "event 1 of a batch of 2" in caught.value.__notes__[0]
        with pytest.raises(EventEncodingError), db.transaction() as tx:
            tx.append(orders, 1, filled(package, **changes))
        assert db.next_global_sequence == 0


def test_values_inside_structs_and_nested_objects_are_named(package: str, varve_path: Path) -> None:
    """The path leads to the value, however deep; a field that was deleted is one too, and so is an object inside itself."""
    order, _ = generated(package, "Order")
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        event = filled(package)
        event.box.lo.x = None
        with pytest.raises(EventEncodingError, match=r"Order.box.lo.x must be a float"):
            orders.append(1, event)
        event = filled(package)
        event.box.n = [1, 2]
        with pytest.raises(EventEncodingError, match=r"Order.box.n must hold exactly 3"):
            orders.append(1, event)
        event = filled(package)
        del event.items[0].next.sku
        with pytest.raises(EventEncodingError, match=r"Order.items\[0\].next.sku is not set"):
            orders.append(1, event)
        event = filled(package)
        event.first.next = event.first
        with pytest.raises(EventEncodingError, match="nested deeper than 64"):
            orders.append(1, event)
        assert db.next_global_sequence == 0


def test_generated_code_that_packs_something_else_is_caught(
    varve_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``Pack`` wrote is verified and compared; what it raises is told."""
    order, held = generated(package, "Order")
    right = held.Pack

    def wrong(self: Any, builder: Any) -> Any:
        changed = copy.copy(self)
        changed.quantity += 1
        return right(changed, builder)

    def fails(self: Any, builder: Any) -> Any:
        raise KeyError("oops")

    def exhausted(self: Any, builder: Any) -> Any:
        raise MemoryError

    def garbage(self: Any, builder: Any) -> Any:
        text = builder.CreateByteVector(b"\xff\xff")
        builder.StartObject(30)
        builder.PrependUOffsetTRelativeSlot(1, text, 0)
        return builder.EndObject()

    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        for pack, why in [
            (wrong, r"Order.quantity was packed to something else by the generated code"),
            (fails, r"could not be packed by its own Pack \(KeyError: 'oops'\)"),
            (garbage, "was packed to an invalid buffer"),
        ]:
            monkeypatch.setattr(held, "Pack", pack)
            with pytest.raises(EventEncodingError, match=why):
                orders.append(1, filled(package))
        monkeypatch.setattr(held, "Pack", exhausted)
        with pytest.raises(MemoryError):  # not the event's fault
            orders.append(1, filled(package))
        assert db.next_global_sequence == 0


def test_a_pickled_view_needs_its_generated_class(flatc: Flatc) -> None:
    """Where another class has taken its name, SchemaError says so."""
    package = flatc.to_python("table T { n:int; } root_type T;", "--gen-object-api")
    table, held = generated(package, "T")
    official = event_type(table)
    one = held()
    one.n = 7
    pickled = pickle.dumps(official.view(official.pack(one)))
    assert pickle.loads(pickled).N() == 7
    sys.modules[f"{package}.T"].T = type("T", (), {"__module__": f"{package}.T"})  # type: ignore[attr-defined]
    with pytest.raises(varve.SchemaError, match="is no class generated by flatc any more"):
        pickle.loads(pickled)


def test_what_is_no_event(varve_path: Path, package: str) -> None:
    """Other objects, subclasses, structs and classes themselves are refused, saying what to do."""
    order, held = generated(package, "Order")
    _, item_held = generated(package, "Item")
    vec, vec_held = generated(package, "Vec")

    class Mine(held):  # type: ignore[misc, valid-type]
        pass

    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        for bad, why in [
            (item_held(), r"not ItemT: declare its accessor"),
            (vec_held(), "VecT"),
            (Mine(), "not Mine, which is no event class"),
            (held, "the class OrderT itself: append an instance"),
            ({"orderId": 1}, "not dict"),
        ]:
            with pytest.raises(EventTypeError, match=why):
                orders.append(1, bad)
        for cls in (vec, vec_held, type("Empty", (), {})):
            with pytest.raises(SchemaError, match="is no event class"):
                db.stream("other", cls)


def test_a_retry_is_recognised_by_value(varve_path: Path, package: str) -> None:
    """Across objects, views and other classes of the same schema; another value under the same key is refused."""
    order, _ = generated(package, "Order")
    loaded = varve.schema.load(folder_of(package) / "schema.fbs")
    varve.schema.flatc(order, folder_of(package) / "schema.fbs")
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        first = orders.append(1, filled(package), idempotency_key="k")
        again = orders.append(1, filled(package), idempotency_key="k")
        assert (again, again.replayed) == (first, True)
        view = orders.reader().get(1, 0)
        assert orders.append(1, view, idempotency_key="k").replayed
        twin = db.stream("orders", loaded[f"{package}.Order"])
        assert twin.append(
            1, varve.from_json(loaded[f"{package}.Order"], varve.to_json(view)), idempotency_key="k"
        ).replayed
        with pytest.raises(IdempotencyConflict):
            orders.append(1, filled(package, quantity=2), idempotency_key="k")


def test_the_log_reads_without_the_generated_class(varve_path: Path, package: str) -> None:
    """By a class made from the schema in the log, with the same field names, also in a process that has never seen flatc's."""
    order, _ = generated(package, "Order")
    with varve.open(varve_path) as db:
        db.stream("orders", order).append(1, filled(package))
    script = """
import sys, varve
with varve.open(sys.argv[1]) as db:
    event = db.global_reader().get(0).event
    print(event.order_id, event.box.n, event.items[0].next.sku, event.extra.note, event.data, event.color)
    assert "flatbuffers" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script, varve_path], capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 1) == ["9223372036854775808", "(1, -2, 3) b hi b'\\x00\\xff' 5\n"]


def test_views_outlive_the_store(varve_path: Path, package: str) -> None:
    """Accessors inside of accessors keep their bytes through commits, the end of the iterator and of the store, in an
    interpreter that a mistake would kill."""
    script = """
import gc, sys
sys.path[:0] = sys.argv[2].split("|")
import varve
from flatc_helpers import generated
from flatc_texts import FILLED, filled, shown
package = sys.argv[3]
order = generated(package, "Order")[0]
with varve.open(sys.argv[1], durability="bulk") as db:
    orders = db.stream("orders", order)
    orders.append_batch(1, [filled(package) for _ in range(100)])
    kept = [one.event for one in orders.reader().iter_stream(1)]
    inner = [event.Items(0).Next() for event in kept[::2]]
    boxes = [event.Box() for event in kept[::2]]
    del kept[::2]
    for n in range(300):
        orders.append(n % 5, filled(package, quantity=n))
    db.sync()
gc.collect()
assert all(shown(event) == FILLED for event in kept)
assert all((item.Sku(), item.Quantity()) == (b"b", 9) for item in inner)
assert all(box.N() == [1, -2, 3] for box in boxes)
print("kept")
"""
    paths = "|".join([str(Path(__file__).parent), str(folder_of(package))])
    command = [sys.executable, "-X", "faulthandler", "-c", script, str(varve_path), paths, package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "kept\n", "")


def test_a_class_generated_anew_follows_the_rules_of_evolution(varve_path: Path, flatc: Flatc) -> None:
    """Appended fields are fine, both ways; a changed field is refused with its reason."""
    first = "table Order { order_id:ulong; name:string; } root_type Order;"
    second = "table Order { order_id:ulong; name:string; quantity:uint = 3; extra:[string]; } root_type Order;"
    third = "table Order { order_id:uint; name:string; quantity:uint = 3; extra:[string]; } root_type Order;"
    classes = []
    for text in (first, second, third):
        flatc.to_python(text, "--gen-object-api", package="evolving")
        forget("evolving")
        classes.append(generated("evolving", "Order"))
        varve.codec.event_type(classes[-1][0])
    (old, old_held), (new, new_held), (changed, _) = classes
    event = old_held()
    event.orderId, event.name = 1, "a"
    with varve.open(varve_path) as db:
        db.stream("orders", old).append(1, event)
    newer = new_held()
    newer.orderId, newer.quantity, newer.extra = 2, 9, ["x"]
    with varve.open(varve_path) as db:
        orders = db.stream("orders", new)
        orders.append(1, newer)
        found: list[Any] = [one.event for one in orders.reader().iter_stream(1)]
        assert [(e.OrderId(), e.Name(), e.Quantity(), e.ExtraLength()) for e in found] == [
            (1, b"a", 3, 0),
            (2, None, 9, 1),
        ]
        assert all(isinstance(e, new) for e in found)
        with pytest.raises(SchemaConflict, match=r"Order.order_id was u64 and is u32 now"):
            db.stream("orders", changed)
        del found
    with varve.open(varve_path, readonly=True) as db:
        unaware: list[Any] = [one.event for one in db.global_reader().iter_from(0)]
        assert [(e.order_id, getattr(e, "quantity", None)) for e in unaware] == [(1, None), (2, 9)]
        del unaware

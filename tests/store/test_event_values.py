"""Events as values: what was read is what was written, as a view, a copy, JSON or a pickle."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from store_models import OrderPlaced, OrderShipped, Shelf, Wide, placed, shipped

import varve


def wide(note: str | None = None) -> Wide:
    return Wide(
        flag=True, small=-5, ratio=0.1, measure=1e300, text="äöü\0", data=b"\0\xff" * 9,
        when=datetime(2024, 2, 29, 12, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=2))), ident=UUID(int=77),
        price=Decimal("12.340"), shelf=Shelf.BACK, tags=("a", "", "ß"), numbers=(1, -2, 3), nested=shipped(4), note=note,
    )  # fmt: skip


def read_back(db: varve.Varve, event: Any) -> dict[str, Any]:
    """The event by every way to read it."""
    stream = db.stream("wide", Wide)
    stream.append(1, event)
    reader = stream.reader()
    return {
        "get": reader.get(1, 0),
        "get_recorded": reader.get_recorded(1, 0).event,
        "iter_stream": next(reader.iter_stream(1)).event,
        "iter_all": next(reader.iter_all()).event,
        "global get": db.global_reader().get(0).event,
        "iter_from": next(db.global_reader().iter_from(0)).event,
    }


@pytest.mark.parametrize("note", [None, "set"])
def test_a_view_equals_its_instance(db: varve.Varve, note: str | None) -> None:
    """Equal and hashing alike in both directions, an instance of the class, read-only, with its repr."""
    event = wide(note)
    for how, view in read_back(db, event).items():
        assert view == event, how
        assert event == view
        assert hash(view) == hash(event)
        assert isinstance(view, Wide)
        assert repr(view) == repr(event)
        assert view != dataclasses.replace(event, small=1)
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            view.small = 1


def test_dataclass_functions_work_on_views(db: varve.Varve) -> None:
    """``fields``, ``replace``, ``asdict``, ``astuple`` and ``match``."""
    event = wide("x")
    for view in read_back(db, event).values():
        assert dataclasses.is_dataclass(view)
        assert [f.name for f in dataclasses.fields(view)] == [f.name for f in dataclasses.fields(Wide)]
        assert dataclasses.replace(view, note="y") == wide("y")
        assert dataclasses.asdict(view) == dataclasses.asdict(event)
        assert dataclasses.astuple(view) == dataclasses.astuple(event)
        match view:
            case Wide(small=small, nested=OrderShipped(order_id=order_id)):
                assert (small, order_id) == (-5, 4)
            case _:
                pytest.fail("no match")


def test_views_pickle_and_copy_as_owned_instances(db: varve.Varve) -> None:
    """They become plain instances of the class."""
    event = wide()
    for view in read_back(db, event).values():
        for twin in (pickle.loads(pickle.dumps(view)), copy.copy(view), copy.deepcopy(view), varve.owned(view)):
            assert type(twin) is Wide
            assert twin == event
    assert varve.owned(event) == event


def test_a_pickled_view_is_read_in_another_process(db: varve.Varve, orders: Any) -> None:
    """It needs the class and nothing of the store."""
    orders.append(1, placed(5))
    dumped = pickle.dumps(orders.reader().get(1, 0))
    script = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()))"
    here = str(Path(__file__).parent)
    root = str(Path(varve.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[here, root]!r}; {script}"],
        input=dumped,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == repr(placed(5))


def test_owned_events_outlive_the_store(varve_path: Path) -> None:
    """A plain instance holds nothing: the store closes, and it is still there."""
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("wide", Wide).append(1, wide())
        kept = varve.owned(next(db.global_reader().iter_from(0)).event)
        db.close()
    assert kept == wide()


def test_events_become_json_and_come_back(db: varve.Varve) -> None:
    """``to_dict``, ``to_json`` and ``from_json`` for instances and views alike."""
    event = wide()
    for view in read_back(db, event).values():
        assert varve.to_dict(view) == varve.to_dict(event)
        assert json.loads(varve.to_json(view)) == varve.to_dict(event)
        assert varve.from_json(Wide, varve.to_json(view)) == event


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324])
def test_odd_floats_come_back(db: varve.Varve, value: float) -> None:
    """NaN equals its own view, so that an event equals its copy."""
    event = dataclasses.replace(wide(), measure=value)
    for view in read_back(db, event).values():
        assert view == event
        assert hash(view) == hash(event)
        assert repr(view.measure) == repr(value)


# -- types without their class -----------------------------------------------------------------------------------------


def test_an_unbound_type_is_decoded_through_the_stored_schema(varve_path: Path) -> None:
    """A fresh handle that binds no class reads the same attributes, and works with JSON."""
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("mixed", Wide | OrderShipped).append_batch("x", [wide("n"), shipped(1)], metadata={"m": 1})
    with varve.open(varve_path, readonly=True) as db:
        first, second = db.global_reader().iter_from(0)
        assert first.type.__name__ == "Wide"
        assert first.type is not Wide
        assert type(first.event).__mro__[-2].__name__ != "Wide" or isinstance(first.event, first.type)
        for name in ("flag", "small", "ratio", "measure", "text", "data", "when", "ident", "price", "note"):
            assert getattr(first.event, name) == getattr(wide("n"), name), name
        assert tuple(first.event.tags) == ("a", "", "ß")
        assert tuple(first.event.numbers) == (1, -2, 3)
        assert first.event.nested.carrier == "DHL"
        assert int(first.event.shelf) == 2
        assert varve.to_dict(first.event) == varve.to_dict(wide("n"))
        assert (second.event.order_id, second.event.carrier) == (1, "DHL")
        assert first.metadata == {"m": 1}
        assert (first.stream, first.stream_id) == ("mixed", "x")
        assert repr(second).count("OrderShipped") == 1
        assert varve.owned(second.event) == second.event
        assert [r.global_sequence for r in db.global_reader().iter_from(0, types=["OrderShipped"])] == [1]
        assert [r.global_sequence for r in db.global_reader().iter_from(0, types=[Wide])] == [0]
        del first, second


def test_binding_a_class_changes_what_replays_yield(varve_path: Path) -> None:
    """From ``db.stream`` on, events come as that class."""
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("orders", OrderPlaced).append(1, placed(1))
    with varve.open(varve_path, durability="relaxed") as db:
        replay = db.global_reader()
        assert replay.get(0).type is not OrderPlaced
        db.stream("orders", OrderPlaced)
        assert replay.get(0).type is OrderPlaced
        assert replay.get(0).event == placed(1)


# -- classes that change -----------------------------------------------------------------------------------------------


def version(name: str = "Thing", **fields: Any) -> Any:
    """An event class of these fields; ``int | None`` ones get a default."""
    namespace: dict[str, Any] = {"__annotations__": fields, "__module__": __name__}
    namespace |= {field: None for field, kind in fields.items() if kind == int | None}
    return varve.event(type(name, (), namespace))


V1 = version(a=int)
V2 = version(a=int, b=int | None)


def test_an_appended_field_works_both_ways(db: varve.Varve) -> None:
    """Old events read as the new class lack it; new events read as the old class do not show it; both may append."""
    old, new = db.stream("s", V1), None
    old.append(1, V1(1))
    new = db.stream("s", V2)
    new.append(1, V2(2, 20))
    old.append(1, V1(3))
    new.append(1, V2(4))
    assert [r.event for r in new.reader().iter_stream(1)] == [V2(1), V2(2, 20), V2(3), V2(4)]
    assert [r.event for r in old.reader().iter_stream(1)] == [V1(1), V1(2), V1(3), V1(4)]
    assert db.stats().types == 2


@pytest.mark.parametrize(
    "changed",
    [
        version(a=str),
        version(b=int),
        version(a=varve.u8),
        version(a=int, b=int),
        version(),
        version(b=int | None, a=int | None),
    ],
    ids=["type", "name", "width", "required", "removed", "inserted"],
)
def test_a_changed_class_is_refused_at_once(db: varve.Varve, changed: Any) -> None:
    """``SchemaConflict`` from ``db.stream`` with the reasons; the store is untouched."""
    stream = db.stream("s", V1)
    stream.append(1, V1(1))
    with pytest.raises(varve.SchemaConflict) as caught:
        db.stream("other", changed)
    assert caught.value.type_name == "Thing"
    assert caught.value.reasons
    assert all(reason in str(caught.value) for reason in caught.value.reasons)
    assert stream.append(1, V1(2)) == (1, 1)


def test_a_changed_class_is_refused_again_at_its_first_append(db: varve.Varve, orders: Any) -> None:
    """Both classes were bound while the store knew neither: the transaction of the first append decides."""
    first, second = db.stream("s", V1), db.stream("s", version(a=str))
    first.append(1, V1(1))
    bad = version(a=str)
    with pytest.raises(varve.SchemaConflict):
        second.append(1, next(iter(second._types.by_name.values())).cls("x"))
    with pytest.raises(varve.SchemaConflict), db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        tx.append(second, 1, next(iter(second._types.by_name.values())).cls("x"))
    assert db.next_global_sequence == 1
    with pytest.raises(varve.SchemaConflict):
        db.stream("t", bad)


def test_a_class_declared_by_another_process_is_noticed(varve_path: Path) -> None:
    """Another process declares the type between ``db.stream`` and the first append."""
    root = str(Path(varve.__file__).parents[1])
    script = (
        f"import sys; sys.path.insert(0, {root!r})\nimport varve\n@varve.event\nclass Thing:\n    a: str\n"
        f"with varve.open({str(varve_path)!r}, durability='relaxed') as db:\n    db.stream('s', Thing).append(1, Thing('x'))\n"
    )
    with varve.open(varve_path, durability="relaxed") as db:
        stream = db.stream("s", V1)
        subprocess.run([sys.executable, "-c", script], check=True)
        with pytest.raises(varve.SchemaConflict):
            stream.append(1, V1(1))
        assert db.next_global_sequence == 1
        assert db.global_reader().get(0).event.a == "x"  # once it came as V1 and showed an offset as a number
        assert next(db.global_reader().iter_from(0)).event.a == "x"
        for read in (lambda r: r.get(1, 0), lambda r: r.get_recorded(1, 0), lambda r: next(r.iter_stream(1))):
            with pytest.raises(varve.SchemaConflict) as caught:
                read(stream.reader())
            assert caught.value.reasons


def test_two_types_of_one_name_in_a_stream_are_refused(db: varve.Varve) -> None:
    """A union must tell its members apart by their stored names."""
    with pytest.raises(varve.SchemaError, match="Thing"):
        db.stream("s", V1 | V2)


def test_a_type_may_have_a_stored_name_of_its_own(db: varve.Varve) -> None:
    """``@varve.event(name=...)`` is what the store knows; typed and untyped filters use it."""
    named = varve.event(name="shop.Renamed")(type("Local", (), {"__annotations__": {"a": int}, "__module__": __name__}))
    stream = db.stream("s", named)
    stream.append(1, named(1))
    assert [r.event for r in db.global_reader().iter_from(0, types=["shop.Renamed"])] == [named(1)]
    assert list(db.global_reader().iter_from(0, types=["Local"])) == []

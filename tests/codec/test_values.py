"""Events are values: frozen, equal and hashable by content, whether instance or view."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import threading
import weakref
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from codec_models import Card, Cash, Everything, Line, OrderPlaced, Point, Tree, everything, plain

from varve.codec import event, event_type, owned
from varve.codec.values import NAN
from varve.types import f32
from varve.unknown import UnknownEvent

ORDER = OrderPlaced(12345, "Laptop", 1, 99900)


def view_of(one: Any) -> Any:
    compiled = event_type(type(one))
    return compiled.view(compiled.pack(one))


BOTH = [ORDER, view_of(ORDER)]


def test_construction_is_a_dataclass_s() -> None:
    """By position, by keyword, with defaults; wrong arguments are TypeErrors."""
    assert OrderPlaced(order_id=12345, product="Laptop", quantity=1, amount=99900) == ORDER
    assert Tree(1).children == ()
    assert Tree(1).link is None
    with pytest.raises(TypeError):
        OrderPlaced(1, "x", 2)
    with pytest.raises(TypeError):
        OrderPlaced(1, "x", 2, 3, 4)


@pytest.mark.parametrize("one", BOTH)
def test_events_are_frozen(one: Any) -> None:
    """No field can be set or deleted, no attribute added."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.order_id = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.order_id
    with pytest.raises((AttributeError, TypeError)):
        one.other = 3
    assert one.order_id == 12345


@pytest.mark.parametrize("one", BOTH)
def test_the_dataclasses_module_works(one: Any) -> None:
    """fields, replace, asdict, astuple and is_dataclass."""
    assert [f.name for f in dataclasses.fields(one)] == ["order_id", "product", "quantity", "amount"]
    changed = dataclasses.replace(one, quantity=7)
    assert type(changed) is OrderPlaced
    assert changed == OrderPlaced(12345, "Laptop", 7, 99900)
    assert dataclasses.asdict(one) == {"order_id": 12345, "product": "Laptop", "quantity": 1, "amount": 99900}
    assert dataclasses.astuple(one) == (12345, "Laptop", 1, 99900)
    assert dataclasses.is_dataclass(one)


def test_asdict_of_a_view_goes_deep() -> None:
    """Nested views and vectors come out as dictionaries and tuples."""
    one = everything()
    assert dataclasses.asdict(view_of(one)) == dataclasses.asdict(one)
    assert type(dataclasses.asdict(view_of(one))["numbers"]) is tuple


@pytest.mark.parametrize("one", BOTH)
def test_match_works(one: Any) -> None:
    """By position and by keyword."""
    match one:
        case OrderPlaced(12345, product, quantity=1):
            assert product == "Laptop"
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("one", BOTH)
def test_reprs_tell_class_and_fields(one: Any) -> None:
    """The same for both, and in notebooks as a table."""
    assert repr(one) == "OrderPlaced(order_id=12345, product='Laptop', quantity=1, amount=99900)"
    assert "<td>&#x27;Laptop&#x27;</td>" in one._repr_html_()


def test_long_reprs_are_cut() -> None:
    """A vector of a million items does not flood the screen."""
    one = everything(numbers=range(1000), blob=bytes(1000))
    for each in (one, view_of(one)):
        assert "984 more)" in repr(each)
        assert len(repr(each)) < 5000


def test_views_equal_instances_and_hash_alike() -> None:
    """One set holds one of them."""
    for one in (ORDER, everything(), Cash(), Tree(1, (Tree(2),))):
        view = view_of(one)
        assert view == one
        assert one == view
        assert len({one, view, owned(view)}) == 1


def test_different_events_differ() -> None:
    """By field or by class."""
    assert dataclasses.replace(ORDER, amount=1) != ORDER
    assert Cash() != Card("1", datetime.now(UTC))
    assert ORDER != (12345, "Laptop", 1, 99900)


def test_nan_equals_nan() -> None:
    """An event with NaN equals its copy and its view: it is the same value."""
    one = everything(exact=math.nan, ratios=(math.nan, 1.0), ratio=math.nan)
    again = everything(exact=float("nan"), ratios=(float("nan"), 1.0), ratio=float("nan"))
    assert one == again == view_of(one)
    assert hash(one) == hash(again) == hash(view_of(one))
    assert event_type(Everything).digest(one) == event_type(Everything).digest(view_of(again))


def test_values_are_normalised_at_construction() -> None:
    """Lists become tuples, f32 is rounded, datetimes go to UTC: what is compared is what is stored."""
    there = datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    one = everything(
        texts=["a"], ratio=0.1, at=there, times=[there], numbers=np.array([1, 2]), points=[Point(0.1, 0.1)]
    )
    assert one.texts == ("a",)
    assert one.numbers == (1, 2)
    assert type(one.numbers[0]) is int
    assert one.ratio == float(np.float32(0.1)) != 0.1
    assert one.at == there
    assert one.at.tzinfo is UTC
    assert one.times[0].hour == 7
    assert one.points[0].x != 0.1
    assert view_of(one) == one


def test_a_user_s_post_init_runs_after_normalisation() -> None:
    """And sees the values as they are stored."""
    seen = []

    @event
    class Checked:
        ratio: f32

        def __post_init__(self) -> None:
            seen.append(self.ratio)

    Checked(0.1)
    assert seen == [float(np.float32(0.1))]


def test_an_own_constructor_is_kept() -> None:
    """What it sets is normalised as usual."""

    @event
    class Squared:
        ratio: f32

        def __init__(self, root: float) -> None:
            object.__setattr__(self, "ratio", root * root)

    one = Squared(0.3)
    assert one.ratio == float(np.float32(0.3 * 0.3))
    assert view_of(one) == one


def test_constructors_take_every_kind_of_default() -> None:
    """Plain, from a factory, keyword-only."""

    @event
    class Many:
        a: int
        b: list[int] = dataclasses.field(default_factory=lambda: [1])
        c: float = dataclasses.field(default=1.5, kw_only=True)
        d: str = dataclasses.field(kw_only=True)

    assert Many(1, d="x") == Many(1, [1], c=1.5, d="x")
    assert Many(1, d="x").b == (1,)
    with pytest.raises(TypeError, match=r"Many\.__init__\(\) missing 1 required keyword-only argument: 'd'"):
        Many(1)


def test_own_methods_win() -> None:
    """A class's own __repr__ and __eq__ are kept."""

    @event
    class Loose:
        n: int

        def __repr__(self) -> str:
            return "loose"

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    assert repr(Loose(1)) == "loose"
    assert Loose(1) == 5
    assert hash(Loose(1)) == hash(Loose(1)) != hash(Loose(2))


def test_an_own_hash_wins() -> None:
    """With the fields' own equality."""

    @event
    class Bucketed:
        n: int

        def __hash__(self) -> int:
            return self.n % 10

    assert hash(Bucketed(25)) == hash(view_of(Bucketed(25))) == 5
    assert Bucketed(25) == view_of(Bucketed(25)) != Bucketed(15)


def test_an_own_constructor_of_plain_fields_is_called_as_it_is() -> None:
    """Where nothing needs to be normalised, nothing stands around it."""

    def __init__(self: Any, root: int) -> None:
        object.__setattr__(self, "n", root * root)

    cls: Any = event(type("Squared", (), {"__annotations__": {"n": int}, "__init__": __init__}))
    assert cls.__init__ is __init__
    assert cls(3).n == 9
    assert view_of(cls(3)) == cls(3)


SEEN: list[Any] = []


@event
class Early:
    items: list[Late]
    ratio: f32

    def __post_init__(self) -> None:
        SEEN.append((self.items, self.ratio))


@event
class Late:
    n: int


def test_a_post_init_runs_also_where_annotations_wait_for_a_later_class() -> None:
    """It sees normalised values, as with any class."""
    SEEN.clear()
    one = Early([Late(1)], 0.1)
    assert [((Late(1),), float(np.float32(0.1)))] == SEEN
    assert view_of(one) == one


def test_nan_is_told_apart_from_its_name() -> None:
    """Equality looks at keys, in which NaN is one object; in a debugger it reads as what it is."""
    assert repr(NAN) == "nan"
    assert everything(exact=math.nan) == view_of(everything(exact=math.nan)) != everything(exact=0.0)


@pytest.mark.parametrize("one", [ORDER, everything(), Cash(), Point(1, 2)])
def test_events_pickle_and_copy(one: Any) -> None:
    """Views come out as owned instances."""
    sources = [one] if isinstance(one, Point) else [one, view_of(one)]
    for source in sources:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(source, protocol))
            assert again == one
            assert type(again) is type(one)
        for twin in (copy.copy(source), copy.deepcopy(source)):
            assert twin == one
            assert type(twin) is type(one)


def test_an_unknown_event_is_owned_by_its_bytes() -> None:
    """``owned`` copies them out of whatever they were a look at."""
    held = bytearray(b"12345678")
    unknown = UnknownEvent("Gone", memoryview(held))
    one = owned(unknown)
    held[0] = 0
    assert bytes(one.data) == b"12345678"
    assert (type(one), one.type_name) == (UnknownEvent, "Gone")


def test_owned_holds_no_buffer() -> None:
    """Neither at the root nor in any nested part."""
    one = everything(maybe_line=Line("x", 1, 2), maybe_numbers=(1.5,))
    compiled = event_type(Everything)

    class Buffer(bytearray):
        pass

    buffer = Buffer(compiled.pack(one))
    alive = weakref.ref(buffer)
    view = compiled.view(memoryview(buffer))
    plain_one = owned(view)
    assert type(plain_one.lines[0]) is Line
    assert type(plain_one.payment) is Card
    assert type(plain_one.numbers) is tuple
    del view, buffer
    assert alive() is None
    assert plain_one == one
    assert owned(plain_one) is plain_one
    with pytest.raises(TypeError):
        owned(5)


def test_vectors_of_numbers_are_memoryviews() -> None:
    """Typed, read-only, without a copy, also for numpy."""
    one = everything()
    compiled = event_type(Everything)
    data = bytearray(compiled.pack(one))
    view = compiled.view(memoryview(data))
    numbers = view.numbers
    assert isinstance(numbers, memoryview)
    assert numbers.readonly
    assert numbers.format == "Q"
    assert tuple(numbers) == one.numbers
    array = np.asarray(numbers)
    assert array.dtype == np.uint64
    data[data.index((2**63).to_bytes(8, "little"))] = 1
    assert array[2] == 2**63 + 1
    assert plain(view_of(everything(numbers=())).numbers) == ()


def test_threads_may_read_one_fresh_view() -> None:
    """The first access changes the view's class; whoever comes second does the same again."""
    one = everything()
    compiled = event_type(Everything)
    data = compiled.pack(one)
    wrong: list[Any] = []

    def read(view: Any, gate: threading.Barrier) -> None:
        gate.wait()
        if view != one:
            wrong.append(view)

    for _ in range(20):
        view, gate = compiled.view(data), threading.Barrier(4)
        threads = [threading.Thread(target=read, args=(view, gate)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_digests_leave_out_absent_values() -> None:
    """Appending a field does not change the digests of events that do not use it."""

    @event(name="Paid")
    class Old:
        amount: int

    @event(name="Paid")
    class New:
        amount: int
        note: str | None = None
        fee: int = 3

    old, new = event_type(Old), event_type(New)
    assert old.digest(Old(5)) == new.digest(New(5)) == new.digest(view_of(New(5)))
    assert new.digest(New(5, "x")) != new.digest(New(5))
    assert new.digest(New(5, None, 0)) != new.digest(New(5))


def test_a_decimal_digests_digit_by_digit() -> None:
    """1.5 and 1.50 are other texts in other events, and a float would lose digits."""
    price = Decimal("12345678901234567890.50")
    assert b"('price', '12345678901234567890.50')" in event_type(Everything).digest(everything(price=price))


def test_a_writable_memoryview_does_not_pickle() -> None:
    """What events made picklable are their own vectors, which nobody can change."""
    assert pickle.loads(pickle.dumps(memoryview(b"ab"))) == (97, 98)
    with pytest.raises(TypeError, match="cannot pickle 'memoryview' object"):
        pickle.dumps(memoryview(bytearray(b"ab")))

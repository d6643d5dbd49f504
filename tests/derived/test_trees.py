"""State with events and objects in it: everything comes back, nothing else is taken, nothing stale is misread."""

import contextlib
from pathlib import Path
from typing import Any, Self

import pytest
from derived_models import Basket, Bought, Colour, Paid, Rights
from hypothesis import given
from hypothesis import strategies as st

import varve
from varve.derived.trees import PLAIN, Snapshotted, Trees
from varve.layout.records import MalformedRecord
from varve.layout.values import encode_value

TREES = Trees(Bought, Paid, Colour, Rights, Basket)
LEAVES: Any = (
    st.integers(-5, 5)
    | st.text(max_size=5)
    | st.builds(Bought, st.text(max_size=5), st.integers(0, 9), st.lists(st.text(max_size=3), max_size=2))
    | st.builds(Paid, st.integers(-9, 9))
    | st.sampled_from([*Colour, *Rights, Rights(0), Rights.READ | Rights.WRITE])
)
STATES: Any = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.builds(Paid, st.integers(0, 3)), inner, max_size=3)
        | st.lists(inner, max_size=3).map(Basket)
        | st.sets(LEAVES, max_size=3)
    ),
    max_leaves=12,
)


@given(STATES)
def test_what_goes_in_comes_out(state: Any) -> None:
    back = TREES.decode(TREES.encode(state))
    assert back == state
    assert repr(type(back)) == repr(type(state))


def test_views_come_back_as_instances_that_outlive_the_store(varve_path: Path) -> None:
    with varve.open(varve_path) as db:
        stream = db.stream("bought", Bought)
        stream.append_batch(1, [Bought("a", 1, ["x"]), Bought("b" * 9_000, 2)])
        reader = stream.reader()
        raw = TREES.encode([reader.get(1, 0), reader.get(1, 1)])
    first, second = TREES.decode(raw)
    assert (type(first), type(second)) == (Bought, Bought)
    assert first == Bought("a", 1, ["x"])
    assert second.product == "b" * 9_000


def test_bytes_are_for_ever() -> None:
    schema = b'{"format":1,"root":"derived.Paid","types":{"derived.Paid":{"table":[{"name":"amount","type":"i64"}]}}}'
    assert TREES.encode([Paid(-1), Colour.RED, Rights.WRITE, Basket([])]).hex() == (
        "0c02"
        + ("0f01" + "060c" + b"derived.Paid".hex() + "0766" + schema.hex())
        + "075d"
        + "0b04"
        + ("10060d" + b"ederived.Paid".hex() + "0718" + "0c000000000006000c00040006000000ffffffffffffffff")
        + ("1006076d436f6c6f7572" + "0603524544")
        + ("1006076d526967687473" + "030102")
        + ("1006076f4261736b6574" + "0f0106056974656d730b00")
    )


@pytest.mark.parametrize(
    ("trees", "state", "says"),
    [
        (PLAIN, {"a": [1, Paid(1)]}, r"cannot hold Paid, whose class was not given.* \(at 'a' / 1\)"),
        (TREES, Basket([{1: object()}]), r"cannot hold object.*\(at oBasket / 'items' / 0 / 1\)"),
        (TREES, type("Sub", (Basket,), {})([]), "cannot hold Sub"),
        (Trees(), Colour.RED, "cannot hold Colour"),
        (TREES, varve.UnknownEvent("x", b""), "cannot hold UnknownEvent"),
    ],
)
def test_what_was_not_given_is_refused_with_its_place(trees: Trees, state: Any, says: str) -> None:
    with pytest.raises(varve.InvalidInput, match=says):
        trees.encode(state)


def test_a_circle_is_refused() -> None:
    state: list[Any] = []
    state.append(state)
    with pytest.raises(varve.InvalidInput, match="64 deep"):
        TREES.encode(state)


def test_what_to_snapshot_raises_comes_through_with_its_place() -> None:
    class Broken(Basket):
        def to_snapshot(self) -> Any:
            raise KeyError("gone")

    with pytest.raises(KeyError) as caught:
        Trees(Broken).encode({"x": [Broken([])]})
    assert caught.value.__notes__ == ["while a value was taken apart (at 'x' / 0)"]


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ((int,), "int is no event class"),
        ((type("Half", (), {"to_snapshot": lambda self: self}),), "from_snapshot"),
        ((Basket, type("Basket", (Basket,), {})), "two classes are named 'Basket'"),
        (("Basket",), "is none"),
    ],
)
def test_classes_that_cannot_be_known(classes: Any, says: str) -> None:
    with pytest.raises(varve.InvalidInput, match=says):
        Trees(*classes)


def test_the_protocol_is_what_is_asked_for() -> None:
    assert isinstance(Basket([]), Snapshotted)
    assert not isinstance(Colour.RED, Snapshotted)


def changed(*, appended: bool) -> type:
    if appended:

        @varve.event(name="derived.Paid")
        class Appended:
            amount: varve.i64
            currency: str = "EUR"

        return Appended

    @varve.event(name="derived.Paid")
    class Changed:
        amount: str

    return Changed


def test_a_class_that_has_grown_reads_what_was_saved() -> None:
    grown = changed(appended=True)
    [back] = Trees(grown).decode(TREES.encode([Paid(3)]))
    assert (type(back), back.amount, back.currency) == (grown, 3, "EUR")


class Picky(Basket):
    @classmethod
    def from_snapshot(cls, value: dict[str, Any]) -> Self:
        if value["items"] == ["varve"]:
            raise varve.InvalidInput("not that")
        raise KeyError("price")


@pytest.mark.parametrize(
    ("trees", "state", "says"),
    [
        (Trees(changed(appended=False)), Paid(1), "amount was i64 and is str"),
        (PLAIN, Paid(1), "its class was not given"),
        (PLAIN, Basket([]), "its class was not given"),
        (PLAIN, Colour.RED, "its class was not given"),
        (Trees(type("Colour", (), Basket.__dict__ | {})), Colour.RED, "its class was not given"),
    ],
)
def test_stale_state_is_never_misread(trees: Trees, state: Any, says: str) -> None:
    raw = TREES.encode([state])
    with pytest.raises(varve.SchemaConflict, match=says):
        trees.decode(raw)


class Conflicting(Basket):
    @classmethod
    def from_snapshot(cls, value: dict[str, Any]) -> Self:
        raise varve.SchemaConflict("mine", type_name="mine", reasons=())


def test_a_conflict_of_from_snapshot_comes_through() -> None:
    trees = Trees(Conflicting)
    with pytest.raises(varve.SchemaConflict, match=r"^mine$"):
        trees.decode(trees.encode(Conflicting([])))


def test_errors_of_from_snapshot_are_stale_state() -> None:
    trees = Trees(Picky)
    for items, says in (([], "from_snapshot raised KeyError: 'price'"), (["varve"], "from_snapshot raised not that")):
        with pytest.raises(varve.SchemaConflict, match=says) as caught:
            trees.decode(trees.encode(Picky(items)))
        assert caught.value.type_name == "Picky"


def test_a_member_that_is_gone_is_stale_state() -> None:
    import enum

    raw = TREES.encode([Colour.BLUE, Rights.WRITE])
    fewer = enum.IntEnum("Colour", {"RED": 1})
    with pytest.raises(varve.SchemaConflict, match="no member 'BLUE'"):
        Trees(fewer, Rights).decode(raw)
    strict = enum.Flag("Rights", {"READ": 1})
    with pytest.raises(varve.SchemaConflict, match="no member 2"):
        Trees(Colour, strict).decode(raw)


@given(st.binary(max_size=80))
def test_any_bytes_are_state_or_typed_errors(data: bytes) -> None:
    for raw in (data, encode_value(({}, data)), encode_value(({"derived.Paid": data}, b"\x00"))):
        with contextlib.suppress(MalformedRecord, varve.SchemaConflict):
            TREES.decode(raw)


@pytest.mark.parametrize(
    "parts",
    [
        (1, b""),
        ({}, 1),
        ({1: b""}, b"\x00"),
        ({"derived.Paid": 1}, b"\x00"),
        ({}, b"\x10\x06\x0dederived.Paid\x07\x00"),
        ({}, b"\x10\x06\x01x\x00"),
        ({}, b"\x10\x06\x00\x00"),
    ],
)
def test_bytes_that_nobody_wrote(parts: Any) -> None:
    with pytest.raises(MalformedRecord):
        TREES.decode(encode_value(parts))


@given(st.data())
def test_damaged_events_are_malformed_or_other_events(data: st.DataObject) -> None:
    raw = bytearray(TREES.encode([Bought("abc", 3, ["x", "y"])]))
    start = raw.rindex(b"derived.Bought") + 14
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(start, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedRecord, varve.SchemaConflict):
        repr(TREES.decode(bytes(raw)))

"""Given, when, then: what holds passes; what does not says how it differs, field by field."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

import varve
from varve.testing import given


@varve.event(name="scenarios.Added")
class Added:
    name: str
    count: varve.u32


@varve.event(name="scenarios.Cleared")
class Cleared:
    pass


class Refused(Exception):
    pass


@dataclasses.dataclass
class Basket:
    items: dict[str, int]
    open: bool = True


TWO = [Added("x", 1), Added("x", 2)]


def evolve(state: Basket, event: Added | Cleared) -> Basket:
    if isinstance(event, Added):
        return Basket({**state.items, event.name: event.count}, state.open)
    return Basket({}, state.open)


def decide(state: Basket, command: str) -> list[Added | Cleared] | None:
    if command == "clear":
        return [Cleared()] if state.items else None
    if command == "refuse":
        raise Refused("not today", 7)
    return [Added(command, 1), Added(command, 2)]


decider: varve.Decider[Basket, str, Added | Cleared] = varve.Decider(Basket({}), evolve, decide)


def test_what_holds_passes() -> None:
    given(decider, Added("a", 1)).when("clear").then(Cleared()).then_state(Basket({}))
    given(decider).when("clear").then_nothing().then()
    given(decider).when("refuse").then_raises(Refused).then_raises(Exception, match="not today")
    given(decider).when("refuse").then_raises(Refused("not today", 7))
    given(decider, Added("a", 1), Added("b", 2)).then_state(Basket({"a": 1, "b": 2})).when("clear").then(Cleared())


def test_an_aggregate_stands_for_its_decider(varve_store: varve.Varve) -> None:
    baskets: Any = varve_store.stream("baskets", Added | Cleared)
    basket = varve.Aggregate(baskets, initial=Basket({}), evolve=evolve, decide=decide)
    given(basket, Added("a", 1)).when("b").then(Added("b", 1), Added("b", 2))
    assert varve_store.next_global_sequence == 0
    with pytest.raises(TypeError, match="given takes"):
        given(evolve)  # type: ignore[arg-type]


def test_views_equal_instances(varve_store: varve.Varve) -> None:
    stream = varve_store.stream("added", Added)
    stream.append(1, Added("a", 1))
    view = stream.reader().get(1, 0)
    assert view is not None
    given(decider, view).when("clear").then(Cleared())
    with pytest.raises(AssertionError, match=re.escape("event 0.name: 'b', expected 'a'")):
        given(decider).when("b").then(view, Added("b", 2))


@pytest.mark.parametrize(
    ("claim", "lines"),
    [
        (
            lambda: given(decider).when("x").then(Added("x", 1), Added("y", 3)),
            ["'x' came to other events:", "  event 1.name: 'x', expected 'y'", "  event 1.count: 2, expected 3"],
        ),
        (
            lambda: given(decider).when("x").then(Added("x", 1)),
            ["'x' came to other events:", "  event 1: not expected: Added(name='x', count=2)"],
        ),
        (
            lambda: given(decider).when("clear").then(Cleared()),
            ["'clear' came to other events:", "  event 0: missing, expected Cleared()"],
        ),
        (
            lambda: given(decider).when("x").then(Cleared(), Added("x", 2)),
            ["'x' came to other events:", "  event 0: Added(name='x', count=1), expected Cleared()"],
        ),
        (
            lambda: given(decider).when("refuse").then(Cleared()),
            ["'refuse' was refused: Refused: ('not today', 7)", "expected 1 event: Cleared()"],
        ),
        (
            lambda: given(decider).when("refuse").then(),
            ["'refuse' was refused: Refused: ('not today', 7)", "expected no events"],
        ),
        (
            lambda: given(decider).when("x").then_raises(Refused),
            ["'x' was not refused: expected Refused, it came to 2 events: " + ", ".join(map(repr, TWO))],
        ),
        (
            lambda: given(decider).when("refuse").then_raises(KeyError),
            ["it raised Refused: ('not today', 7)", "expected KeyError"],
        ),
        (
            lambda: given(decider).when("refuse").then_raises(Refused("other")),
            ["it raised Refused('not today', 7), expected Refused('other')"],
        ),
        (
            lambda: given(decider).when("refuse").then_raises(Refused, match="tomorrow"),
            ["it raised Refused: ('not today', 7)", "expected 'tomorrow' in that"],
        ),
        (
            lambda: given(decider, Added("a", 1), Added("b", 2)).then_state(Basket({"b": 3, "c": 4}, open=False)),
            [
                "the state is another:",
                "  state.items['a']: not expected: 1",
                "  state.items['b']: 2, expected 3",
                "  state.items['c']: missing, expected 4",
                "  state.open: True, expected False",
            ],
        ),
        (
            lambda: given(decider).when("x").then_state(Basket({})),
            ["the state is another:", "  state.items['x']: not expected: 2"],
        ),
    ],
)
def test_what_does_not_hold_says_how(claim: Callable[[], object], lines: list[str]) -> None:
    with pytest.raises(AssertionError) as caught:
        claim()
    assert str(caught.value).splitlines() == lines


class Plain:
    def __init__(self, **values: Any) -> None:
        self.__dict__ |= values

    def __repr__(self) -> str:
        return "Plain"


class Same(Plain):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("found", "expected", "lines"),
    [
        (1, 1.0, []),
        (1, 2.5, [": 1, expected 2.5"]),
        (1, "1", [": 1, expected '1'"]),
        ([1, [2, 3]], [1, [2, 4], 5], ["[1][1]: 3, expected 4", "[2]: missing, expected 5"]),
        ([1, 2], [1], ["[1]: not expected: 2"]),
        ({1}, {2}, [": {1}, expected {2}"]),
        (Same(a=1, b=2), Same(a=1, c=2), [".b: not expected: 2", ".c: missing, expected 2"]),
        (Same(a=1), Same(a=1), []),
        (Plain(a=1), Plain(a=1), [": Plain, expected Plain"]),
        ("x" * 300, "y", [": '" + "x" * 199 + "..., expected 'y'"]),
    ],
)
def test_states_of_all_kinds(found: Any, expected: Any, lines: list[str]) -> None:
    one: Any = varve.Decider(lambda: found, lambda state, event: state, lambda state, command: None)
    if not lines:
        given(one).then_state(expected)
        return
    with pytest.raises(AssertionError) as caught:
        given(one).then_state(expected)
    assert str(caught.value).splitlines() == ["the state is another:", *(f"  state{line}" for line in lines)]

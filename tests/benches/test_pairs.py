"""The pair runner: what it measures, and what it refuses to measure."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benches.pairs import ChecksumMismatch, Pair, Side, compare, with_interval


class FakeClock:
    """Seconds that pass only when a side spends them."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def spending(self, seconds: Callable[[int], float]) -> Callable[[Any], int]:
        rounds = iter(range(1_000))

        def run(_: Any) -> int:
            self.now_s += seconds(next(rounds))
            return 7

        return run


def side(name: str, run: Callable[[Any], Any], checksum: object = 7) -> Side:
    return Side(name, run, lambda _state, _result: checksum)


def planted(rounds: int = 9) -> Pair:
    """B takes three times as long, while the machine gets slower and slower."""
    clock = FakeClock()
    a = side("a", clock.spending(lambda number: 1.0 + number))
    b = side("b", clock.spending(lambda number: 3.0 * (1.0 + number)))
    return compare(a, b, rounds=rounds, clock=clock)


def test_a_slower_side_is_reported_as_slower() -> None:
    """The ratio is exact although the machine drifts: both sides of a round are disturbed alike."""
    pair = planted()
    assert pair.speed.median == pytest.approx(3.0)
    assert pair.cost.median == pytest.approx(1 / 3)
    assert pair.speed.low == pytest.approx(3.0)
    assert pair.speed.high == pytest.approx(3.0)


def test_sides_that_did_different_work_are_refused() -> None:
    """A wrong checksum stops the comparison and names both sides."""
    clock = FakeClock()
    a = side("ours", clock.spending(lambda _: 1.0), checksum=(1_000, 17))
    b = side("theirs", clock.spending(lambda _: 1.0), checksum=(999, 17))
    with pytest.raises(ChecksumMismatch, match=r"ours gave \(1000, 17\), theirs gave \(999, 17\)"):
        compare(a, b, rounds=3, clock=clock)


def test_the_sides_take_turns_in_going_first() -> None:
    """A B, then B A: neither side always inherits the other's caches."""
    order: list[str] = []
    a = side("a", lambda _: order.append("a"))
    b = side("b", lambda _: order.append("b"))
    compare(a, b, rounds=2, warmups=0)
    assert order == ["a", "b", "b", "a"]


def test_setup_and_checksum_are_not_timed() -> None:
    """What prepares a round and what checks it may take as long as they like."""
    clock = FakeClock()

    @contextlib.contextmanager
    def slow_setup() -> Iterator[int]:
        clock.now_s += 100
        yield 7
        clock.now_s += 100

    def slow_checksum(_state: Any, result: int) -> int:
        clock.now_s += 100
        return result

    a = Side("a", clock.spending(lambda _: 1.0), slow_checksum, slow_setup)
    b = side("b", clock.spending(lambda _: 2.0))
    pair = compare(a, b, rounds=3, clock=clock)
    assert pair.a_s == (1.0, 1.0, 1.0)
    assert pair.speed.median == pytest.approx(2.0)


def test_warmups_do_not_count() -> None:
    """The first round fills caches and is thrown away."""
    clock = FakeClock()
    a = side("a", clock.spending(lambda number: 50.0 if number == 0 else 1.0))
    b = side("b", clock.spending(lambda _: 1.0))
    pair = compare(a, b, rounds=1, clock=clock)
    assert pair.speed.median == pytest.approx(1.0)


def test_the_interval_holds_the_median_and_is_the_same_each_time() -> None:
    """The bootstrap has a fixed seed."""
    values = [1.0, 1.1, 0.9, 1.3, 1.05, 0.95, 1.2]
    first, second = with_interval(values), with_interval(values)
    assert first == second
    assert first.low <= first.median <= first.high
    assert first.low < first.high


def test_no_rounds_are_refused() -> None:
    """A median of nothing is nothing."""
    with pytest.raises(ValueError, match="rounds is at least 1"):
        compare(side("a", lambda _: 7), side("b", lambda _: 7), rounds=0)

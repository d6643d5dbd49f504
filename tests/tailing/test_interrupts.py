"""An exception that may strike anywhere (Ctrl-C, a signal handler that raises, no memory): whoever goes on misses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tailing_models import Placed, Shipped

import varve
from varve.tailing import scan
from varve.tailing.partitions import Share

Orders = varve.Stream[Placed | Shipped]

_EVENTS = 200


class Interrupt(BaseException):
    """As KeyboardInterrupt."""


def struck(function: Callable[..., Any], every: int, *, behind: bool = False) -> Callable[..., Any]:
    """A function that an interrupt strikes every so many calls, at its end where ``behind``; twenty times in all."""
    calls = 0

    def run(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = function(*arguments) if behind else None
        if not calls % every and calls <= 20 * every:
            raise Interrupt
        return result if behind else function(*arguments)

    return run


def awaited(coroutine: Any) -> Any:
    """What comes out of a coroutine that waits for nothing but its turn."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as exc:
        return exc.value


def one_by_one(events: Any) -> Iterator[varve.Recorded[Any]]:
    yield from events


def listed(batches: Any) -> Iterator[varve.Recorded[Any]]:
    for batch in batches:
        yield from batch


def one_by_one_async(events: Any) -> Iterator[varve.Recorded[Any]]:
    while True:
        yield awaited(events.__anext__())


def listed_async(batches: Any) -> Iterator[varve.Recorded[Any]]:
    while True:
        yield from awaited(batches.__anext__())


READINGS: dict[str, Callable[[Any], Iterator[varve.Recorded[Any]]]] = {
    "follow": one_by_one,
    "follow batches": lambda reading: listed(reading.batches(100)),
    "tail": one_by_one_async,
    "tail batches": lambda reading: listed_async(reading.batches(100)),
    "consumer": one_by_one_async,
    "consumer batches": lambda reading: listed_async(reading.batches(100)),
    "consumer follows": lambda reading: reading.follow(0),
    "consumer follows batches": lambda reading: listed(reading.follow_batches(100, 0)),
}


def opened(db: varve.Varve, orders: Orders, kind: str) -> Any:
    if kind.startswith("consumer"):
        return db.consumer("c", commit="manual")
    return orders.follow(stream_id=1, timeout_s=0) if kind.startswith("follow") else db.tail()


@pytest.mark.parametrize("where", ["making events", "copying blocks", "choosing a share"])
@pytest.mark.parametrize("kind", READINGS)
def test_going_on_after_an_interrupt_misses_nothing(
    db: varve.Varve, orders: Orders, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    """Every event comes, once and in order, however often it strikes."""
    for n in range(0, _EVENTS, 2):
        orders.append_batch(1, [Placed(n, "x" * 4_000), Shipped(n + 1)])
    if where == "making events":
        monkeypatch.setattr(scan, "recorded_class", struck(scan.recorded_class, 17))
    elif where == "copying blocks":
        monkeypatch.setattr(scan, "CopiedBlock", struck(scan.CopiedBlock, 7))
        monkeypatch.setattr(varve.limits, "TAIL_BLOCKS_MAX", 4)
    else:
        monkeypatch.setattr(Share, "of", struck(Share.of, 2, behind=True))
    reading = opened(db, orders, kind)
    given: list[int] = []
    strikes = 0
    while len(given) < _EVENTS:
        try:
            for recorded in READINGS[kind](reading):
                given.append(recorded.event.number)
                assert reading.position == recorded.global_sequence + 1 or "batches" in kind
                if len(given) == _EVENTS:
                    break
            else:
                break
        except Interrupt:
            strikes += 1
            assert "batches" in kind or reading.position == len(given)
    assert given == list(range(_EVENTS))
    assert strikes or (where == "choosing a share" and not kind.startswith("consumer"))

"""The poller's thread: there while somebody waits, gone afterwards."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tailing_models import Placed, Shipped

import varve
from varve import limits
from varve.engine.core import Engine
from varve.tailing.hub import hub_of
from varve.tailing.poller import Poller

Orders = varve.Stream[Placed | Shipped]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends as soon as nobody waits."""
    monkeypatch.setattr(limits, "POLLER_LINGER_S", 0.0)
    monkeypatch.setattr(limits, "POLL_IDLE_INTERVAL_S", 0.0)
    monkeypatch.setattr(limits, "POLL_ACTIVE_INTERVAL_S", 0.0)


def join(poller: Poller) -> None:
    thread = poller._thread
    if thread is not None:
        thread.join()


def test_it_runs_while_somebody_waits_and_no_longer(tmp_path: Path) -> None:
    """And begins again with the next one."""
    waiting, seen = [1], []
    looked = threading.Event()

    def look(number: int) -> int:
        seen.append(number)
        looked.set()
        return 7

    poller = Poller(str(tmp_path), look, lambda: len(waiting))
    for _ in range(2):
        waiting[:] = [1]
        looked.clear()
        poller.start()
        poller.start()
        looked.wait()
        waiting.clear()
        join(poller)
        assert poller._thread is None
    assert seen[0] == -1
    assert set(seen) == {-1, 7}
    assert not list((tmp_path / "watch").iterdir())


def test_who_begins_to_wait_while_it_ends_is_seen(tmp_path: Path) -> None:
    """Either it stays or another one starts: here somebody comes between its last two looks."""
    answers = iter([0, 1, 0, 0])
    looks = 0

    def look(_: int) -> int:
        nonlocal looks
        looks += 1
        return looks

    gone: list[bool] = []

    def waiting() -> int:
        gone.append(poller._thread is None)
        return next(answers, 0)

    poller = Poller(str(tmp_path), look, waiting)
    poller.start()
    join(poller)
    assert looks == 2
    assert gone == [False, True, False, True]  # gone before the last look: who comes then starts another


def test_an_end_stops_it_for_good(tmp_path: Path) -> None:
    """Whether it is told to or finds that there is nothing left to look at."""
    poller = Poller(str(tmp_path), lambda _: None, lambda: 1)
    poller.start()
    join(poller)
    poller.start()
    join(poller)
    told = Poller(str(tmp_path), lambda _: 1, lambda: 1)
    told.start()
    told.stop()
    join(told)
    told.start()
    assert told._thread is None or not told._thread.is_alive()


def test_it_polls_where_no_descriptor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe", none_left)
    looks = 0
    enough = threading.Event()

    def look(_: int) -> int:
        nonlocal looks
        looks += 1
        if looks == 10:
            enough.set()
        return looks

    poller = Poller(str(tmp_path), look, lambda: 1)
    poller.start()
    enough.wait()
    poller.stop()
    join(poller)


def test_a_look_compares_with_the_instant_that_was_read(db: varve.Varve, orders: Orders) -> None:
    """The number that it gives is that of the snapshot in which it read the next sequence."""
    engine: Engine = db._engine
    found = engine.look(-1)
    assert found is not None
    number, next_sequence = found
    assert next_sequence == 0
    assert engine.look(number) is None
    orders.append_batch(1, [Placed(0), Placed(1)])
    assert engine.look(number) == (number + 1, 2)
    assert not engine.environment.active


def test_a_failed_look_tells_who_waits(db: varve.Varve, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the handle refuses everything from then on; a passing failure is tried again."""
    hub = hub_of(db._engine)
    failures: list[Exception] = [MemoryError(), varve.TooManyReaders("full", path=db.path, limit=1)]
    original = db._engine.look

    def look(seen: int) -> tuple[int, int] | None:
        if failures:
            raise failures.pop()
        return original(seen)

    monkeypatch.setattr(db._engine, "look", look)
    assert hub._look(-1) == -1
    assert hub._look(-1) == -1
    orders.append(1, Placed(0))
    assert hub._look(-1) == db._engine.look(-1)[0]  # type: ignore[index]
    failed = db._engine.environment.fail("the disk is gone", "test")
    failures.append(failed)
    assert hub._look(-1) is None
    with pytest.raises(varve.StoreFailed):
        hub.watermark.wait_blocking(9, None)


def test_closing_waits_for_a_poller_that_is_just_being_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that began to wait made the poller's thread known before it ran; ``close()`` joined it there and then and
    raised RuntimeError ("cannot join thread before it is started"), half closed."""
    poller = Poller(str(tmp_path), lambda seen: seen, lambda: 1)
    made, go = threading.Event(), threading.Event()
    start = threading.Thread.start

    def slow_start(thread: threading.Thread) -> None:
        if thread.name.startswith("varve poller"):
            made.set()
            go.wait()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slow_start)
    starter = threading.Thread(target=poller.start)
    starter.start()
    made.wait()
    errors: list[BaseException] = []

    def join() -> None:
        try:
            poller.stop()
            poller.join(60)
        except RuntimeError as exc:
            errors.append(exc)

    joiner = threading.Thread(target=join)
    joiner.start()
    go.set()
    joiner.join()
    starter.join()
    assert not errors

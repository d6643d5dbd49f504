"""Pins: where memory of the map lies, who holds it, and for how long."""

from __future__ import annotations

import ctypes
import gc
import mmap
import random
import warnings
import weakref

import pytest

from varve import limits
from varve.engine import pins
from varve.engine.pins import Pins


class Transaction:
    """Stands for LMDB's: something that must live as long as a view."""


def memory(size: int = 64) -> tuple[ctypes.Array[ctypes.c_ubyte], int]:
    buffer = (ctypes.c_ubyte * size)(*(n % 251 for n in range(size)))
    return buffer, ctypes.addressof(buffer)


def test_the_calibrated_address_is_the_protocols() -> None:
    """The address read out of the memoryview object is what PyObject_GetBuffer says: for slices, casts, empty and read-
    only views, of arrays, bytes and maps."""
    with mmap.mmap(-1, 1 << 16) as mapped:
        owners = [bytes(range(256)), bytearray(5_000), memory(100)[0], (ctypes.c_uint64 * 8)(), mapped]
        seed = random.randrange(2**32)
        print("seed", seed)  # noqa: T201 - shown with a failure
        rng = random.Random(seed)
        for owner in owners:
            whole = memoryview(owner).cast("B")
            for _ in range(50):
                start, stop = sorted(rng.choices(range(len(whole) + 1), k=2))
                view = whole[start:stop]
                for one in (view, view.toreadonly(), memoryview(view)):
                    assert pins.address_of(one) == pins.address_by_protocol(one)
                assert pins.address_of(view) == pins.address_of(whole) + start or start == stop
            del whole, view, one


def test_here_the_address_is_read_from_the_object() -> None:
    """On the interpreters that we test the fast way is found, not the fallback."""
    assert pins.address_of is not pins.address_by_protocol


def test_another_object_layout_falls_back_to_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no word of the memoryview object is its address, PyObject_GetBuffer is asked."""

    class Elsewhere:
        value = 1

    class Word(ctypes.c_size_t):
        from_address = staticmethod(lambda _: Elsewhere)  # type: ignore[assignment]

    monkeypatch.setattr(pins.ctypes, "c_size_t", Word)
    assert pins._calibrate() is pins.address_by_protocol


@pytest.mark.parametrize("address_of", [pins.address_of, pins.address_by_protocol], ids=["calibrated", "protocol"])
def test_a_slice_of_a_pin_shows_the_memory_and_holds_the_transaction(address_of: object) -> None:
    """A slice of a pin at an address shows the bytes there, read-only, and the last slice to die releases the
    transaction."""
    buffer, _ = memory()
    address = address_of(memoryview(buffer))  # type: ignore[operator]
    transaction = Transaction()
    alive = weakref.ref(transaction)
    held = Pins()
    space = held.pin(transaction, 7, lambda: 3)
    assert space is not None
    view = space[address : address + 64]
    part = view[8:][:4]
    del transaction, space, view
    assert bytes(part) == bytes(range(8, 12))
    assert part.readonly
    with pytest.raises(TypeError):
        part[0] = 1
    assert alive() is not None
    assert [(pin.snapshot_id, pin.last_page) for pin in held.live()] == [(7, 3)]
    del part
    assert alive() is None
    assert held.count == 0
    assert held.live() == []


def test_releasing_a_view_does_not_release_its_slices() -> None:
    """``release()`` of one view leaves slices of it, and what they hold, alone."""
    _buffer, address = memory()
    held = Pins()
    space = held.pin(Transaction(), 1, lambda: 0)
    assert space is not None
    view = space[address : address + 64]
    part = view[4:8]
    view.release()
    space.release()
    gc.collect()
    assert bytes(part) == bytes(range(4, 8))
    assert held.count == 1


def test_one_instant_has_one_pin() -> None:
    """Pins of the same snapshot id share one owner; of another they do not."""
    held = Pins()
    first, second = Transaction(), Transaction()
    views = [held.pin(first, 5, lambda: 0), held.pin(second, 5, lambda: 0)]
    assert held.count == 1
    views.append(held.pin(second, 6, lambda: 0))
    assert held.count == 2
    assert [pin.snapshot_id for pin in held.live()] == [5, 6]


def test_beyond_the_limit_there_is_no_pin_until_one_is_dropped() -> None:
    """PINNED_SNAPSHOTS_MAX live pins are all; dropping any one, not only the oldest, makes room for another."""
    held = Pins()
    views = [held.pin(Transaction(), at, lambda: 0) for at in range(limits.PINNED_SNAPSHOTS_MAX)]
    assert None not in views
    assert held.pin(Transaction(), 1_000, lambda: 0) is None
    last = limits.PINNED_SNAPSHOTS_MAX - 1
    assert held.pin(Transaction(), last, lambda: 0) is not None  # the newest instant is pinned already
    views[3] = None
    assert held.pin(Transaction(), 1_000, lambda: 0) is not None


def test_ages_are_told_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """``live`` gives each pin's age in seconds."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    held = Pins()
    views = [held.pin(Transaction(), 1, lambda: 0)]
    now[0] = 130.0
    views.append(held.pin(Transaction(), 2, lambda: 9))
    now[0] = 131.5
    assert [(pin.snapshot_id, pin.age_s, pin.last_page) for pin in held.live()] == [(1, 31.5, 0), (2, 1.5, 9)]


def test_an_old_snapshot_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pin older than SNAPSHOT_AGE_S_WARN gives one ResourceWarning, whatever lives beside it."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    held = Pins()
    held.warn_of_old()
    first, second = held.pin(Transaction(), 1, lambda: 0), held.pin(Transaction(), 2, lambda: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        now[0] += limits.SNAPSHOT_AGE_S_WARN
        held.warn_of_old()
        now[0] += 1
    with pytest.warns(ResourceWarning, match="alive for 61 s") as told:
        held.warn_of_old()
    assert len(told) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held.warn_of_old()
        assert first is not None
        del first
        held.warn_of_old()
    assert second is not None


def test_pins_that_die_in_cycles_are_neither_lost_nor_counted() -> None:
    """Pins that only the collector ends leave the others counted right, wherever it runs."""
    held = Pins()
    threshold = gc.get_threshold()
    gc.set_threshold(3, 1, 1)
    try:
        kept = []
        for at in range(200):
            cycle: list[object] = [held.pin(Transaction(), at, lambda: 0)]
            cycle.append(cycle)
            if at % 50 == 0:
                kept.append(held.pin(Transaction(), at, lambda: 0))
            if at % 20 == 0:
                gc.collect()
            assert held.count >= len(kept)
        del cycle
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert [pin.snapshot_id for pin in held.live()] == [0, 50, 100, 150]
    assert held.count == 4
    del kept
    assert held.count == 0

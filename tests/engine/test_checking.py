"""Checksums ahead of a long scan, on two threads: what is right is known then, what is wrong is told by whoever reads it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import raw_lmdb

import varve
from varve import limits
from varve.engine import checked, checking
from varve.engine import snapshot as snapshot_module


@varve.event(name="checking.Number")
class Number:
    value: varve.u64


def filled(path: Path) -> Path:
    with varve.open(path, durability="relaxed") as db:
        db.stream("numbers", Number).append_batch(1, [Number(number) for number in range(100)])
    return path


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred events are many blocks, all of which are worth a thread on two processors."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 480)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 480)
    monkeypatch.setattr(snapshot_module, "SHARED_BYTES_MIN", 1)
    monkeypatch.setattr(snapshot_module, "UNLOCKED_BYTES_MIN", 1)
    monkeypatch.setattr(snapshot_module, "processors", lambda: 2)


@pytest.fixture
def snapshot(varve_path: Path) -> Iterator[Any]:
    with varve.open(filled(varve_path)) as db, db._engine.snapshot() as found:
        yield found


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """By which thread each checksum was looked at, and of how many bytes."""
    seen: list[tuple[str, int]] = []
    holds = checking.crc_holds

    def noted(data: memoryview) -> bool:
        seen.append((threading.current_thread().name, len(data)))
        return holds(data)

    monkeypatch.setattr(checking, "crc_holds", noted)
    monkeypatch.setattr(checked, "crc_holds", noted)
    return seen


def blocks_of(snapshot: Any) -> list[Any]:
    """First sequence and length of each block, without a checksum that is looked at."""
    cursor = snapshot.transaction.cursor(snapshot._environment.log)
    return [(int.from_bytes(key, "big"), len(data)) for key, data in cursor.iternext()]


def test_all_are_known_afterwards(snapshot: Any, looked_at: list[tuple[str, int]]) -> None:
    """Each was looked at once, and none is again."""
    blocks = blocks_of(snapshot)
    assert len(blocks) > 8
    assert snapshot.check_ahead(0, 100, 1 << 20) == 100
    assert sorted(size for _, size in looked_at) == sorted(size for _, size in blocks)
    assert snapshot.check_ahead(0, 100, 1 << 20) == 1  # the first is known: likely all are
    assert len(snapshot.map_frames(0, 100, 1 << 16, 100).firsts) == len(blocks)
    assert len(looked_at) == len(blocks)
    assert not [thread for thread in threading.enumerate() if thread.name == "varve-checksums"]


def test_as_many_as_were_asked_for(
    snapshot: Any, looked_at: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By bytes, by frames, by sequence, and by what is known already; nothing where no block begins."""
    blocks = blocks_of(snapshot)
    (_, size), (second, _), (third, _), (fourth, _) = blocks[:4]
    assert snapshot.check_ahead(0, 100, size + 1) == third
    assert len(looked_at) == 2
    assert snapshot.check_ahead(third, fourth, 1 << 20) == fourth
    assert len(looked_at) == 3
    assert snapshot.check_ahead(second, 100, 1 << 20) == second + 1
    assert snapshot.check_ahead(fourth + 1, 100, 1 << 20) == 100
    assert len(looked_at) == 3
    snapshot.checked._seen.clear()
    monkeypatch.setattr(snapshot_module, "_AHEAD_FRAMES_MAX", 2)
    assert snapshot.check_ahead(0, 100, 1 << 20) == third
    monkeypatch.setattr(snapshot_module, "_AHEAD_FRAMES_MAX", 1 << 20)
    snapshot.checked._seen.clear()
    snapshot.block(third)
    del looked_at[:]
    assert snapshot.check_ahead(0, 100, 1 << 20) == 100
    assert len(looked_at) == len(blocks) - 1


def test_few_bytes_or_one_processor_are_left_alone(
    snapshot: Any, looked_at: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are checked by whoever reads them."""
    for least in ("SHARED_BYTES_MIN", "UNLOCKED_BYTES_MIN"):
        monkeypatch.setattr(snapshot_module, least, 1 << 20)
        assert snapshot.check_ahead(0, 100, 1 << 20) == 100
        monkeypatch.setattr(snapshot_module, least, 1)
    monkeypatch.setattr(snapshot_module, "processors", lambda: 1)
    assert snapshot.check_ahead(0, 100, 1 << 20) == 100
    monkeypatch.setattr(snapshot_module, "processors", lambda: 2)
    snapshot.unpin()
    monkeypatch.setattr(snapshot._environment.pins, "pin", lambda *_: None)
    assert snapshot.check_ahead(0, 100, 1 << 20) == 100
    assert looked_at == []


def test_a_rotten_block_is_told_where_it_is_read(tmp_path: Path) -> None:
    """The ones before and behind it are known; it is not, however often one asks."""
    path = filled(tmp_path / "rotten")
    with raw_lmdb(path) as (transaction, databases):
        key, frame = [(bytes(key), bytearray(data)) for key, data in transaction.cursor(databases["log"])][4]
        frame[-3] ^= 4
        transaction.put(key, bytes(frame), db=databases["log"])
    rotten = int.from_bytes(key, "big")
    with varve.open(path) as db:
        with db._engine.snapshot() as snapshot:
            firsts = [first for first, _ in blocks_of(snapshot)]
            assert snapshot.check_ahead(0, 100, 1 << 20) == 100
            assert set(snapshot.checked._seen) == {*firsts} - {rotten}
            assert snapshot.map_frames(0, 100, 1 << 16, 100).firsts == firsts[:4]
            for _ in range(2):
                with pytest.raises(varve.CorruptedBlock) as caught:
                    snapshot.map_frames(rotten, 100, 1 << 16, 100)
                assert caught.value.first_sequence == rotten
                snapshot.check_ahead(rotten, 100, 1 << 20)
        assert db.stats().snapshots == ()


def test_a_frame_too_short_for_a_checksum(tmp_path: Path) -> None:
    """It is wrong as any other is."""
    path = filled(tmp_path / "short")
    with raw_lmdb(path) as (transaction, databases):
        firsts = [bytes(key) for key, _ in transaction.cursor(databases["log"])]
        transaction.put(firsts[3], b"", db=databases["log"])
    with varve.open(path) as db, db._engine.snapshot() as snapshot:
        assert snapshot.check_ahead(0, 100, 1 << 20) == 100
        assert len(snapshot.checked._seen) == len(firsts) - 1
        assert len(snapshot.map_frames(0, 100, 1 << 16, 100).firsts) == 3
        with pytest.raises(varve.CorruptedBlock):
            snapshot.map_frames(int.from_bytes(firsts[3], "big"), 100, 1 << 16, 100)


def frames_of(snapshot: Any) -> list[memoryview]:
    return [block.data for block in snapshot.blocks(0, 100)]


def test_both_threads_take_their_share(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is free takes the next one: here each waits until the other has taken one."""
    frames = frames_of(snapshot)
    main, both = threading.current_thread(), threading.Barrier(2)
    turns: list[threading.Thread] = []
    holds = checking.crc_holds

    def taken(data: memoryview) -> bool:
        is_first = threading.current_thread() not in turns
        turns.append(threading.current_thread())
        if is_first:
            both.wait(60)
        return holds(data)

    monkeypatch.setattr(checking, "crc_holds", taken)
    assert checking.find_right(frames) == [True] * len(frames)
    assert len(turns) == len(frames)
    assert {turn is main for turn in turns} == {True, False}
    assert not turns[[turn is main for turn in turns].index(False)].is_alive()


def test_without_another_thread_it_is_done_here(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more threads can be had, or the interpreter ends."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    frames = frames_of(snapshot)
    assert checking.find_right([*frames, memoryview(b"abc")]) == [True] * len(frames) + [False]


def test_a_thread_that_fails_proves_nothing(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had taken is looked at again by whoever reads it."""
    frames = frames_of(snapshot)
    failed = threading.Event()
    main = threading.current_thread()
    holds = checking.crc_holds

    def failing(data: memoryview) -> bool:
        if threading.current_thread() is main:
            assert failed.wait(60)
            return holds(data)
        failed.set()
        raise MemoryError

    monkeypatch.setattr(checking, "crc_holds", failing)
    right = checking.find_right(frames)
    assert right.count(False) == 1


def test_an_interrupt_stops_both(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other thread takes no more of them, and is gone when the error is seen."""
    frames = frames_of(snapshot)
    main, goes_on, turns = threading.current_thread(), threading.Event(), iter(range(10**6))
    ended = threading.Thread.join

    def interrupted(_: memoryview) -> bool:
        next(turns)
        if threading.current_thread() is main:
            raise KeyboardInterrupt
        return goes_on.wait(60)

    def joined(thread: threading.Thread, timeout: float | None = None) -> None:
        goes_on.set()
        ended(thread, timeout)

    monkeypatch.setattr(checking, "crc_holds", interrupted)
    monkeypatch.setattr(threading.Thread, "join", joined)
    with pytest.raises(KeyboardInterrupt):
        checking.find_right(frames)
    assert next(turns) <= 2
    assert not [thread for thread in threading.enumerate() if thread.name == "varve-checksums"]


@pytest.mark.parametrize(("count", "allowed", "found"), [(8, {0, 1}, 2), (1, {0, 1}, 1), (None, {3}, 1), (4, None, 4)])
def test_processors(monkeypatch: pytest.MonkeyPatch, count: int | None, allowed: set[int] | None, found: int) -> None:
    """As many as there are, as far as this process may use them."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: count, raising=False)
    if allowed is None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    assert checking.processors() == found

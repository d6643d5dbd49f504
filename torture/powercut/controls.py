"""Planted faults. Each must be noticed, or a million images without a finding would mean nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torture.part import Budget, Control
from torture.powercut import workload
from torture.powercut.disk import Disk
from torture.powercut.history import History
from torture.powercut.look import Folder, look
from torture.powercut.runs import Recorded, Recorder, Runner, recorded
from torture.powercut.trace import Kind, Op

_IMAGES = 400


def controls(budget: Budget, scratch: Path) -> Iterator[Control]:
    """Every one, with what was said."""
    with Recorder(scratch) as recorder:
        yield from _controls(recorder, budget.seed, scratch)


def _controls(recorder: Recorder, seed: int, scratch: Path) -> Iterator[Control]:
    single = recorder.record("single", seed)
    yield _judged("nothing planted", _finding(single, scratch, seed), wanted=False)

    for name, kind, fault in (
        ("sync disabled, level still called full", "single", "nosync"),
        ("a transaction that is several commits", "transactions", "split"),
        ("state and its events in two commits", "state", "split"),
    ):
        yield _judged(name, _finding(recorder.record(kind, seed, fault=fault), scratch, seed))

    lying: tuple[tuple[str, str, Callable[[list[Op]], list[Op]]], ...] = (
        ("fsync of the data file does nothing", "single", _lying_files),
        ("fsync of folders does nothing", "creation", _lying_folders),
        ("the meta page is written before the data", "rollover", _meta_first),
        ("events acknowledged before they are written", "group", _too_early("ack", "try")),
        ("positions acknowledged before they are written", "consumers", _too_early("ackpos", "trypos")),
    )
    for name, kind, spoil in lying:
        honest = single if kind == "single" else recorder.record(kind, seed)
        spoilt = recorded(kind, honest.root, spoil(honest.ops), scratch)
        yield _judged(name, _finding(spoilt, scratch, seed))

    yield _judged("an event missing in the store", _finding(_missing(single), scratch, seed))
    yield _judged("a flipped byte in the last block", _flipped(single, scratch))


def _judged(name: str, finding: str, *, wanted: bool = True) -> Control:
    if wanted:
        return Control(name, bool(finding), finding or "no image showed it")
    return Control(name, not finding, finding or "nothing was found, as it should be")


def _finding(run: Recorded, scratch: Path, seed: int) -> str:
    """The first thing that is wrong with an image of a run."""
    for problem in run.history.problems:
        return problem
    for _, what in Runner(scratch, set()).look_at(run, seed, 0, _IMAGES, lambda *_: None):
        return what
    return ""


def _lying_files(ops: list[Op]) -> list[Op]:
    files = {op.inode for op in ops if op.kind is Kind.WRITTEN}
    return [op for op in ops if not (op.kind in {Kind.SYNC_BEGUN, Kind.SYNC_ENDED} and op.inode in files)]


def _lying_folders(ops: list[Op]) -> list[Op]:
    files = {op.inode for op in ops if op.kind is Kind.WRITTEN}
    return [op for op in ops if not (op.kind in {Kind.SYNC_BEGUN, Kind.SYNC_ENDED} and op.inode not in files)]


def _meta_first(ops: list[Op]) -> list[Op]:
    """Each write of a meta page, before the pages of its commit."""
    spoilt: list[Op] = []
    commit = 0
    for op in ops:
        if op.kind is Kind.THROUGH:
            spoilt[commit:commit] = [op, Op(Kind.THROUGH_ENDED, op.inode, op.offset, b"")]
        elif op.kind is Kind.THROUGH_ENDED:
            commit = len(spoilt)
        else:
            spoilt.append(op)
            if op.kind is not Kind.WRITTEN and commit == len(spoilt) - 1:
                commit = len(spoilt)
    return spoilt


def _too_early(acknowledged: str, tried: str) -> Callable[[list[Op]], list[Op]]:
    """Each acknowledgement, right behind its try."""

    def spoil(ops: list[Op]) -> list[Op]:
        spoilt = []
        for op in ops:
            mark: list[Any] = json.loads(op.data) if op.kind is Kind.MARK else [""]
            if mark[0] == acknowledged:
                continue
            spoilt.append(op)
            if mark[0] == tried:
                what = [event[0] for event in mark[1]] if tried == "try" else mark[1]
                early = [acknowledged, what, *mark[2:]]
                spoilt.append(op._replace(data=json.dumps(early).encode()))
        return spoilt

    return spoil


def _missing(run: Recorded) -> Recorded:
    """What a run should have come to, had it one event more, in the middle: its stores lack it."""
    at = len(run.log) // 2
    log = list(run.log)
    log.insert(at, log[at]._replace(number=10**6, raw=b"lost"))
    log = [fact._replace(global_sequence=sequence) for sequence, fact in enumerate(log)]
    marks = [op for op in run.ops if op.kind is Kind.MARK]
    extra = [Op(Kind.MARK, 0, 0, json.dumps(mark).encode()) for mark in (["try", [[10**6, ""]]], ["ack", [10**6]])]
    ops = [*run.ops, *extra] if marks else run.ops
    history = History(ops, log, "full")
    history.problems.clear()
    return Recorded(run.kind, run.root, ops, log, history)


def _flipped(run: Recorded, scratch: Path) -> str:
    """One bit of the last event, in the store that a run came to."""
    disk = Disk(run.root)
    for op in run.ops:
        disk.feed(op)
    folder = Folder(scratch / "flipped")
    try:
        folder.lay_out(disk.settled(), fresh=True)
        store = folder.path / workload.STORE
        data = bytearray((store / "data.mdb").read_bytes())
        raw = run.log[-1].raw
        at = -1
        while (at := data.find(raw, at + 1)) >= 0:  # older versions of the block may lie about
            data[at + len(raw) // 2] ^= 1
        (store / "data.mdb").write_bytes(data)
        return "; ".join(run.history.broken(run.history.duties[-1], look(store, run.log, closer=False)))
    finally:
        folder.clear()
        folder.path.rmdir()

"""The state made again: the newest usable snapshot, and the commands since."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from varve.errors import Archived, ReplayFailed, WrongExpectedVersion
from varve.logs import WARNING, say

if TYPE_CHECKING:
    from varve.derived.snapshots import Snapshots
    from varve.prevalent.journal import Journal, Run


class Failed(Exception):
    """A command's ``apply`` raised (the cause). The state is half changed: throw it away."""

    def __init__(self, stream_sequence: int, command: Any, *, is_last: bool) -> None:
        super().__init__(stream_sequence)
        self.stream_sequence = stream_sequence
        self.command = command
        self.is_last = is_last
        """Nothing stands behind it."""


class Undone(Exception):
    """A command that is in the state was taken back behind others."""

    def __init__(self, stream_sequence: int) -> None:
        super().__init__(stream_sequence)
        self.stream_sequence = stream_sequence


class Dropped(Exception):
    """A command is not there any more: compaction dropped it."""

    def __init__(self, stream_sequence: int) -> None:
        super().__init__(stream_sequence)
        self.stream_sequence = stream_sequence


def replay(journal: Journal, state: Any, start: int, stop: int, passed_over: Collection[int]) -> None:
    """Apply what stands at ``start .. stop`` to the state, but for commands that are taken back or shall be passed over.

    The last of a run is held back until it is known whether what follows takes it back. Raises ``Failed``, ``Undone``,
    ``Dropped``.
    """
    held: tuple[int, Any, Any] | None = None
    with contextlib.closing(journal.runs(start, stop)) as runs:
        for run in runs:
            apply = run.kind.apply
            if apply is None:
                held = _take_back(run, held, passed_over)
                continue
            if held is not None:
                _apply(*held, state, is_last=False)
            is_plain = run.kind.take is not None and not passed_over
            held = _apply_run(run, state) if is_plain else _apply_singly(run, state, passed_over)
    if held is not None:
        _apply(*held, state, is_last=True)


def _apply_run(run: Run, state: Any) -> tuple[int, Any, Any]:
    """Apply all but the last, which is given: what recovery spends its time in."""
    first, _, (take, _, apply), buffer, offsets = run
    assert take is not None
    assert apply is not None
    done = first
    try:
        for offset in offsets[:-1]:
            apply(take(buffer, offset), state)
            done += 1
    except Exception as exc:
        command = take(buffer, offsets[done - first])  # or what it raises
        raise Failed(done, command, is_last=False) from exc
    return first + len(offsets) - 1, take(buffer, offsets[-1]), apply


def _apply_singly(run: Run, state: Any, passed_over: Collection[int]) -> tuple[int, Any, Any] | None:
    """The same of commands that go through upcasts, or where some are passed over."""
    held = None
    apply = run.kind.apply
    assert apply is not None
    for sequence, command in enumerate(run.events(), run.first):
        if sequence not in passed_over:
            if held is not None:
                _apply(*held, state, is_last=False)
            held = sequence, command, apply
    return held


def _take_back(
    run: Run, held: tuple[int, Any, Any] | None, passed_over: Collection[int]
) -> tuple[int, Any, Any] | None:
    if run.kind.view is None:
        raise Dropped(run.first)
    for record in run.events():
        if held is not None and held[0] == record.stream_sequence:
            held = None
        elif record.stream_sequence not in passed_over:
            raise Undone(record.stream_sequence)
    return held


def _apply(sequence: int, command: Any, apply: Callable[[Any, Any], Any], state: Any, *, is_last: bool) -> None:
    try:
        apply(command, state)
    except Exception as exc:
        raise Failed(sequence, command, is_last=is_last) from exc


class Recovery:
    """How the state of a system is made from what is on disk."""

    def __init__(
        self,
        system: str,
        journal: Journal,
        snapshots: Snapshots,
        schema: str,
        initial: Callable[[], Any],
        *,
        writes: bool,
    ) -> None:
        self.system = system
        self.snapshot_position = 0
        """Where the snapshot stood that the last one began with; 0: none."""
        self._journal = journal
        self._snapshots = snapshots
        self._schema = schema
        self._initial = initial
        self._writes = writes

    @property
    def scope(self) -> tuple[str, int]:
        """Where its snapshots are."""
        return self._journal.name, 0

    def save(self, position: int, state: Any, keep: int) -> None:
        """Save a state. Raises what ``db.snapshots.save`` raises."""
        self._snapshots.save(self.scope, position, state, schema=self._schema, keep=keep)

    def newest(self) -> tuple[Any, int]:
        """The state of everything that is on disk, and the stream sequence that comes next.

        The last command's ``apply`` may raise: then whoever executed it went down before it could take it back, and it is
        taken back now, if it raises the same again (memory that is short, or a signal, says nothing of the command). A handle
        that cannot write stops before it. Raises ``ReplayFailed`` where another one's does.
        """
        suspected: tuple[int, type[BaseException]] | None = None
        passed_over: set[int] = set()
        stop: int | None = None
        highest: int | None = None
        while True:
            end = self._journal.length() if stop is None else stop
            state, start = self._begin(end if highest is None else min(end, highest))
            self.snapshot_position = start
            try:
                self.advance(state, start, end, passed_over)
            except Undone as undone:
                passed_over.add(undone.stream_sequence)
                highest = min(undone.stream_sequence, end if highest is None else highest)
            except Failed as failed:
                if not failed.is_last or stop is not None:
                    raise self.failed(failed) from failed.__cause__
                if not self._writes:
                    stop = failed.stream_sequence
                    continue
                cause = failed.__cause__ or failed
                found = failed.stream_sequence, type(cause)
                if found == suspected:
                    self.take_back(failed.stream_sequence, cause)
                suspected = found
            else:
                return state, end

    def from_zero(self, end: int) -> Any:
        """The state of the first ``end`` events, without any snapshot."""
        passed_over: set[int] = set()
        while True:
            state = self._initial()
            try:
                self.advance(state, 0, end, passed_over)
            except Undone as undone:
                passed_over.add(undone.stream_sequence)
            except Failed as failed:
                raise self.failed(failed) from failed.__cause__
            else:
                return state

    def advance(self, state: Any, start: int, end: int, passed_over: Collection[int] = ()) -> None:
        """Apply what stands at ``start .. end``. Raises ``Failed``, ``Undone``, ``ReplayFailed``, ``Archived``."""
        if start >= end:
            return
        try:
            replay(self._journal, state, start, end, passed_over)
        except Dropped as dropped:
            raise ReplayFailed(
                f"prevalent system {self.system!r}: the command at {dropped.stream_sequence} of {self._journal.name!r} was "
                "dropped by a compaction, and no snapshot behind it can be used: restore a backup that has it, or its snapshots",
                system=self.system,
                stream_sequence=dropped.stream_sequence,
                type_name="varve.Gap",
            ) from None
        except Archived as exc:
            raise Archived(
                f"prevalent system {self.system!r}: commands from {start} on were archived, and no snapshot behind them can be "
                "used. Bring back the store's folder of snapshots, or a backup from before the archiving",
                path=exc.path,
                first_sequence=exc.first_sequence,
            ) from None

    def take_back(self, stream_sequence: int, error: BaseException) -> None:
        """Write that the last command is taken back. Where somebody else wrote meanwhile, that says what to do next."""
        try:
            self._journal.abort(stream_sequence, error, stream_sequence + 1)
        except WrongExpectedVersion:
            return
        say(
            WARNING,
            "prevalent system %r: the command at %d of %r was taken back: %s",
            self.system,
            stream_sequence,
            self._journal.name,
            type(error).__name__,
        )

    def failed(self, failed: Failed) -> ReplayFailed:
        """The error for a command that cannot be applied again."""
        cause = failed.__cause__
        name = type(failed.command).__name__
        return ReplayFailed(
            f"prevalent system {self.system!r}: {name}.apply raised {type(cause).__name__} for the command at "
            f"{failed.stream_sequence} of {self._journal.name!r}, which was executed once: its code has changed, or depends on "
            "more than the command and the state. Nothing was changed; run the code that wrote it, or repair apply",
            system=self.system,
            stream_sequence=failed.stream_sequence,
            type_name=name,
        )

    def _begin(self, at_most: int) -> tuple[Any, int]:
        saved = self._snapshots.at_or_before(self.scope, at_most, schema=self._schema)
        return (self._initial(), 0) if saved is None else (saved.state, saved.position)

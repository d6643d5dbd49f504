"""The prevalent system: what a user holds."""

from __future__ import annotations

import os
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from varve import limits
from varve.derived.trees import Trees
from varve.errors import (
    HandleUnusable,
    InvalidInput,
    PrevalentSystemBehind,
    PrevalentSystemClosed,
    PrevalentSystemPoisoned,
    WrongExpectedVersion,
)
from varve.layout.keys import check_name
from varve.logs import ERROR, WARNING, say
from varve.opening import open as open_store
from varve.prevalent.commands import Command, Commands
from varve.prevalent.endings import remember
from varve.prevalent.flushing import Flush, Flushing
from varve.prevalent.journal import Journal
from varve.prevalent.recovery import Failed, Recovery, Undone
from varve.store import Varve

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

S = TypeVar("S")
R = TypeVar("R")


class PrevalentSystem(Generic[S]):
    """Objects in memory whose every change is an event: nothing is mapped to tables, and nothing is lost.

    Commands are event classes with ``apply(self, state)`` and, where they may be refused, ``check(self, state)``. ``execute``
    checks a command, writes it to the log, applies it; ``query`` reads. After a restart the state is made again of the newest
    snapshot and the commands since. The state is whatever ``initial()`` gives: a dict, list or set, events, or an object with
    ``to_snapshot`` and ``from_snapshot``; it has to fit into memory.

    Thread-safe: one command or query at a time. Close it, or use it as ``with varve.PrevalentSystem(...) as system``.

    - ``store``: an open store, or the path of one that the system opens and closes itself.
    - ``name``: its commands are the stream ``prevalent/<name>``, id 0; a store may have many systems.
    - ``initial``: makes the state in which there was no command yet; always the same.
    - ``commands``: the classes of its commands.
    - ``classes``: what the state holds beside plain values and commands: event classes, enums, and classes with
      ``to_snapshot(self)`` and the class method ``from_snapshot(cls, value)``. ``initial`` itself need not be named.
    - ``version``: of what the state means and of what ``apply`` does. Raise it when either changes, and snapshots from before
      are passed over.
    - ``snapshot_every``: a snapshot is taken after so many commands; None: only by ``snapshot()``. ``keep``: how many of them.
    - ``flush``: when commands become durable (``"commit"``, seconds, ``"manual"``): docs/prevalent.md says what each may lose.
    - ``checks_are_checked``: for tests: the state is encoded before and after each ``check`` and each query, and it is an error
      where they changed it.
    - ``clock``: nanoseconds that never go backwards, for the intervals of ``flush``.

    Raises ``InvalidInput``, ``InvalidName``, ``SchemaError``, ``SchemaConflict``, ``ReplayFailed``, ``Archived``, and what
    opening and reading a store raises.
    """

    def __init__(
        self,
        store: Varve | str | os.PathLike[str],
        name: str,
        *,
        initial: Callable[[], S],
        commands: Iterable[type],
        classes: Iterable[type] = (),
        version: str | int = 1,
        snapshot_every: int | None = 10_000,
        keep: int = 2,
        flush: Flush = "commit",
        checks_are_checked: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = check_name(name, "name of a prevalent system")
        self._is_closed = True  # until it is open
        if not callable(initial):
            raise InvalidInput(f"initial= is a function, or a class, that makes the first state, not {initial!r:.80}")
        _check_count(snapshot_every, "snapshot_every", or_none=True)
        _check_count(keep, "keep")
        self._commands = Commands(commands, f"prevalent/{name}")
        known = (*self._commands.classes, *_state_classes(classes))
        if isinstance(initial, type) and hasattr(initial, "to_snapshot"):
            known = (*known, initial)
        self._trees = Trees(*dict.fromkeys(known))
        self._trees.encode(initial())  # what cannot be saved is refused here, not at the first snapshot
        self._flushing = Flushing(flush, clock)
        self._is_immediate = self._flushing.is_immediate
        self._snapshot_every = snapshot_every
        self._keep = keep
        self._checked = checks_are_checked
        self._lock = threading.RLock()
        self._at_work = ""
        self._pending: list[Any] = []
        self._pending_bytes = 0
        self._poison: PrevalentSystemPoisoned | None = None
        self._interrupted = 0
        self._to_take_back: tuple[int, BaseException] | None = None
        self._is_whole = False
        self._workers = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self.store = store if isinstance(store, Varve) else open_store(store)
        self._own_store = None if isinstance(store, Varve) else self.store
        try:
            self._journal = Journal(self.store, self.name, self._commands.classes)
            self._recovery = Recovery(
                self.name,
                self._journal,
                self.store.snapshots.holding(*dict.fromkeys(known)),
                f"prevalent 1: {version}",
                initial,
                writes=not self.store.readonly,
            )
            self._state: S
            self._position = 0
            self._rebuild()
        except BaseException:
            if self._own_store is not None:
                self._own_store.__exit__(None, None, None)
            raise
        self._is_closed = False
        remember(self)

    # -- about -------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """How many events of its stream are in the state: commands that are written, and records that take one back."""
        return self._position

    @property
    def pending(self) -> int:
        """How many commands were executed and wait for a flush."""
        return len(self._pending)

    @property
    def snapshot_position(self) -> int:
        """Where the newest snapshot stands that this system took, or began with; 0: none."""
        return self._recovery.snapshot_position

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "poisoned" if self._poison is not None else f"at {self._position}"
        return f"<PrevalentSystem {self.name!r} ({state}) in {self.store.path}>"

    # -- commands and queries ----------------------------------------------------------------------

    def execute(self, command: Command[S, R]) -> R:
        """Check a command, write it, apply it; what ``apply`` returned. Durable when it returns, unless ``flush`` says
        otherwise.

        What ``check`` raises is raised here; nothing was written then. What ``apply`` raises, too: then the command is taken
        back in the log, and the state is made again without it. What is returned may be part of the living state: change
        nothing of it.

        Raises ``EventTypeError``, ``EventEncodingError``, ``EventTooLarge``; ``PrevalentSystemBehind`` where another system
        of this name was faster; ``PrevalentSystemPoisoned``; ``HandleUnusable`` and what an append raises.
        """
        with self._lock:
            self._enter("execute")
            try:
                one: Any = self._commands.owned(command)
                self._journal.check_writable()
                size = self._journal.encoded_bytes(one)
                self._check(one)
                result: R = self._write_and_apply(one) if self._is_immediate else self._apply_and_keep(one, size)
                self._snapshot_if_due()
                return result
            finally:
                self._at_work = ""

    async def execute_async(self, command: Command[S, R]) -> R:
        """``execute`` without blocking the event loop: in the order of the calls, on a thread of the system's own.

        A call that is cancelled may be executed all the same. Errors as ``execute``.
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        with self._workers:  # not the lock of commands, which is held while one is written
            self._check_open()
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="varve-prevalent")
            waiting = asyncio.get_running_loop().run_in_executor(self._worker, self.execute, command)
        return await waiting

    def query(self, fn: Callable[[S], R], *, copy: bool = False) -> R:
        """What ``fn(state)`` returns; no command is applied meanwhile. ``fn`` changes nothing of the state, and is quick.

        What it returns may be part of the living state, which goes on changing: return numbers, text, events, or what was made
        for it. With ``copy`` it comes as an object of its own (it is encoded and decoded as in a snapshot).

        Raises what ``fn`` raises, ``PrevalentSystemPoisoned``, and ``HandleUnusable``.
        """
        if not callable(fn):
            raise InvalidInput(f"query takes a function of the state, not {fn!r:.80}")
        with self._lock:
            self._enter("query")
            try:
                before = self._trees.encode(self._state) if self._checked else b""
                result = fn(self._state)
                if isinstance(result, types.GeneratorType | types.CoroutineType):
                    result.close()
                    raise InvalidInput(
                        "the function of a query is a generator, or async: it would read when the query is over"
                    )
                if self._checked:
                    self._check_unchanged(before, "a query")
                raw = self._trees.encode(result) if copy else b""
            finally:
                self._at_work = ""
        if not copy:
            return result
        copied: R = self._trees.decode(raw)
        return copied

    # -- durability --------------------------------------------------------------------------------

    def flush(self) -> int:
        """Write the commands that wait; how many there were. They are durable then.

        Raises what an append raises; the system is poisoned then.
        """
        with self._lock:
            self._enter("flush")
            try:
                return self._flush()
            finally:
                self._at_work = ""

    def snapshot(self) -> int:
        """Write what waits, and save the state, so that the next start begins there; where that is (``position``).

        Raises what a flush raises, ``InvalidInput`` where the state holds what cannot be saved (it says where), and what
        ``db.snapshots.save`` raises.
        """
        with self._lock:
            self._enter("snapshot")
            try:
                self._flush()
                self._save()
                return self._position
            finally:
                self._at_work = ""

    def refresh(self) -> int:
        """Apply what others have written (other processes with this system, or a system beside this one); how many events of
        the stream that were. For a handle that is ``readonly`` it is how it follows.

        Raises ``ReplayFailed``, and what a flush raises.
        """
        with self._lock:
            self._enter("refresh")
            try:
                self._flush()
                before, end = self._position, self._journal.length()
                self._is_whole = False
                try:
                    self._recovery.advance(self._state, before, end)
                except (Failed, Undone):
                    self._rebuild()
                else:
                    self._position, self._is_whole = end, True
                return self._position - before
            finally:
                self._at_work = ""

    def recover(self) -> tuple[Any, ...]:
        """Make the state again from what is on disk, whatever is in memory; a poisoned system is usable then.

        Gives the commands that were acknowledged and are lost (none with ``flush="commit"``), for you to decide about.
        Commands that wait and can still be written are. Raises ``ReplayFailed`` and what reading raises.
        """
        with self._lock:
            self._check_open()
            self._check_idle("recover")
            lost = () if self._poison is None else self._poison.lost
            if self._poison is None:
                self._flush()
            self._rebuild()
            self._poison = None
            return lost

    def verify(self) -> bool:
        """Whether the log makes the very state that is in memory: all commands are applied from the first on, without
        snapshots, and both states compared as a snapshot's bytes. Commands go on meanwhile, but for the first moment.

        False means that an ``apply`` depends on more than the command and the state, that its code has changed, or that
        somebody changed the state elsewhere. Raises ``ReplayFailed``, ``Archived``, and what ``snapshot()`` raises.
        """
        with self._lock:
            self._enter("verify")
            try:
                self._flush()
                living, end = self._trees.encode(self._state), self._position
            finally:
                self._at_work = ""
        return self._trees.encode(self._recovery.from_zero(end)) == living

    def close(self) -> None:
        """Write what waits, and let go of the store where the system opened it. Closing twice is fine.

        Raises what a flush raises, and ``PrevalentSystemPoisoned`` where acknowledged commands are lost; it is closed all the
        same. Only an interrupt leaves it open where commands wait: close it again.
        """
        with self._lock:
            if self._is_closed:
                return
            self._check_idle("close")
            try:
                self._write_all()
            except Exception:
                self._end()
                raise
            self._end()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True) and self._pending:
            warnings.warn(
                f"{self!r} was dropped with {len(self._pending)} commands that were not written: use it in a with block, or "
                "close it",
                ResourceWarning,
                stacklevel=2,
            )

    # -- inside ------------------------------------------------------------------------------------

    def _enter(self, what: str) -> None:
        """One thing at a time, on a state that is whole. Under the lock."""
        self._check_open()
        self._check_idle(what)
        if self._poison is not None and self._poison.lost:
            raise self._poison.with_traceback(None)
        if not self._is_whole:
            self._mend()
        self._at_work = what

    def _check_open(self) -> None:
        if self._is_closed:
            raise PrevalentSystemClosed(f"the prevalent system {self.name!r} was closed; make another one")
        self._journal.check_usable()

    def _check_idle(self, what: str) -> None:
        if self._at_work:  # the lock is this thread's: check, apply or a query calls
            raise HandleUnusable(
                f"{what} was called while this thread is in {self._at_work} of the prevalent system {self.name!r}: commands and "
                "queries do not nest. Do it in one command, or after it"
            )

    def _mend(self) -> None:
        """What was begun was not finished (a write that failed, an interrupt): make the state again from what is on disk."""
        try:
            if self._poison is None:
                self._flush()
            self._rebuild()
        except BaseException as exc:
            if isinstance(exc, Exception):
                raise self._poisoned((), exc) from exc
            raise
        self._poison = None

    def _rebuild(self) -> None:
        """Make the state of what is on disk."""
        self._is_whole = False
        self._take_back_first()
        self._state, self._position = self._recovery.newest()
        self._counted_from = self._recovery.snapshot_position
        self._is_whole = True

    def _take_back_first(self) -> None:
        """A command whose ``apply`` raised, if that is not on disk yet: a replay might not raise again."""
        if self._to_take_back is not None:
            self._recovery.take_back(*self._to_take_back)
            self._to_take_back = None

    def _check(self, command: Any) -> None:
        check = self._commands.checks[type(command)]
        if check is None:
            return
        if not self._checked:
            check(command, self._state)
            return
        before = self._trees.encode(self._state)
        try:
            check(command, self._state)
        finally:
            self._check_unchanged(before, f"{type(command).__name__}.check")

    def _check_unchanged(self, before: bytes, who: str) -> None:
        if self._trees.encode(self._state) != before:
            self._flush()
            self._rebuild()
            raise InvalidInput(f"{who} has changed the state of the prevalent system {self.name!r}: only apply may")

    def _write_and_apply(self, command: Any) -> Any:
        sequence = self._position
        self._is_whole = False
        self._append([command])
        try:
            result = command.apply(self._state)
        except BaseException as exc:
            self._take_back(sequence, command, exc)
            raise
        self._is_whole = True
        return result

    def _take_back(self, sequence: int, command: Any, error: BaseException) -> None:
        """``apply`` raised: take the command back in the log, and make the state again without it."""
        raised = f"{type(command).__name__}.apply raised this"
        self._to_take_back = sequence, error
        try:
            self._rebuild()
        except Exception as exc:  # noqa: BLE001 - the user's own error is the one to be raised
            self._poisoned((), exc)
            error.add_note(
                f"{raised}, and the command could not be taken back yet ({type(exc).__name__}: {exc}): that comes before "
                "anything else that the prevalent system does"
            )
        else:
            error.add_note(
                f"{raised}: the command at {sequence} of {self._journal.name!r} was taken back, the state made again"
            )

    def _apply_and_keep(self, command: Any, size: int) -> Any:
        self._is_whole = False
        try:
            result = command.apply(self._state)
        except BaseException as exc:
            exc.add_note(f"{type(command).__name__}.apply raised this: the command was not written")
            if isinstance(exc, Exception):
                self._flush()
                self._rebuild()
            raise
        self._pending.append(command)
        self._pending_bytes += size
        self._is_whole = True
        self._flushing.waiting(self._flush_if_due)
        if self._flushing.is_due or self._pending_bytes > limits.PREVALENT_PENDING_BYTES_MAX:
            self._flush()
        return result

    def _flush(self) -> int:
        count = len(self._pending)
        if count:
            if self._interrupted:
                self._settle()
            if self._pending:
                self._append(self._pending)
            self._pending_bytes = 0
            self._flushing.done()
        return count

    def _settle(self) -> None:
        """An interrupt came while the first of those that wait were being written: they wait no longer if they are on disk."""
        first, left = self._pending[: self._interrupted], self._pending[self._interrupted :]
        position = self._position + len(first)
        if self._journal.holds(self._position, first):
            self._position, self._pending = position, left  # in one step, as in _append
        self._interrupted = 0

    def _append(self, commands: list[Any]) -> None:
        expected = self._position
        position = expected + len(commands)
        lost = tuple(commands) if commands is self._pending else ()
        left = [] if lost else self._pending
        try:
            self._journal.append(commands, expected)
        except WrongExpectedVersion as exc:
            behind = self._behind(exc, expected)
            if lost:  # what is in memory is a state that never was
                raise self._poisoned(lost, behind) from behind
            self._is_whole = True
            raise behind from exc
        except BaseException as exc:
            if lost and not isinstance(exc, Exception):  # an interrupt: nothing is wrong with them, or with the disk
                self._interrupted = len(lost)
                raise
            self._poisoned(lost, exc)
            way = (
                "recover() makes its state again, and gives the commands that are lost"
                if lost
                else "its state is made again"
            )
            exc.add_note(
                f"{len(commands)} commands of the prevalent system {self.name!r} could not be written; before it goes on, {way}"
            )
            raise
        self._position, self._pending = position, left  # in one step: no interrupt makes what is written wait again

    def _behind(self, exc: WrongExpectedVersion, expected: int) -> PrevalentSystemBehind:
        return PrevalentSystemBehind(
            f"the prevalent system {self.name!r} has applied {expected} events of {self._journal.name!r}, which holds "
            f"{exc.actual}: somebody else executes commands, too. refresh() applies them; then decide again",
            system=self.name,
            expected=expected,
            actual=exc.actual,
        )

    def _poisoned(self, lost: tuple[Any, ...], cause: BaseException) -> PrevalentSystemPoisoned:
        """From now on everything is refused, or at least not done before the state was made again."""
        self._is_whole = False
        self._pending = []
        self._interrupted = 0
        self._pending_bytes = 0
        self._flushing.done()
        say(ERROR, "prevalent system %r: %d commands are lost", self.name, len(lost), failure=cause)
        told = f"{len(lost)} commands that were acknowledged are not on disk; " if lost else ""
        self._poison = PrevalentSystemPoisoned(
            f"the prevalent system {self.name!r} cannot be used: {told}{type(cause).__name__}: {cause}. recover() makes its "
            "state again from what is on disk; where the store itself refuses, open that again",
            system=self.name,
            lost=lost,
        )
        self._poison.__cause__ = cause
        return self._poison

    def _flush_if_due(self, timer: int) -> None:
        """What the timer calls."""
        with self._lock:
            if self._is_closed or not self._pending or not self._flushing.is_current(timer):
                return
            if not self._flushing.is_due:
                self._flushing.call_later(self._flush_if_due)
                return
            try:
                self._flush()
            except Exception:  # noqa: BLE001 - it is poisoned: whoever comes next is told
                return

    def _write_all(self) -> None:
        """What has to be on disk before the end."""
        if self._poison is not None and self._poison.lost:
            raise self._poison
        if self._pending:
            self._flush()
        self._take_back_first()

    def _end(self) -> None:
        self._is_closed = True
        self._pending = []
        self._flushing.done()
        if self._own_store is not None:
            self._own_store.__exit__(None, None, None)
        with self._workers:
            if self._worker is not None:
                self._worker.shutdown(wait=False)

    def _at_exit(self) -> None:
        """The program ends, which is no crash: what waits is written, as ``close`` would."""
        if self._is_closed or not self._pending:
            return
        try:
            self.flush()
        except Exception as exc:  # noqa: BLE001 - nobody is there to be told
            say(ERROR, "prevalent system %r: what waited when the program ended is lost", self.name, failure=exc)

    def _after_fork(self) -> None:
        """This is a child: what waits is the parent's to write, and whoever held the lock is not here."""
        self._lock = threading.RLock()
        self._workers = threading.Lock()
        self._worker = None
        self._at_work = ""
        self._pending = []
        self._pending_bytes = 0
        self._interrupted = 0
        self._to_take_back = None
        self._poison = None

    def _snapshot_if_due(self) -> None:
        every = self._snapshot_every
        if every is None or self._position + len(self._pending) - self._counted_from < every:
            return
        self._flush()
        try:
            self._save()
        except Exception as exc:  # noqa: BLE001 - the command is executed and durable
            self._counted_from = self._position  # tried again after as many commands
            say(
                WARNING, "prevalent system %r: no snapshot could be taken at %d", self.name, self._position, failure=exc
            )

    def _save(self) -> None:
        self._recovery.save(self._position, self._state, self._keep)
        self._recovery.snapshot_position = self._counted_from = self._position


_HOW_IT_GOES_ON = (
    "before the prevalent system {name!r} does anything else, its state is made again from what is on disk"
)


def _state_classes(classes: Iterable[type]) -> tuple[type, ...]:
    if isinstance(classes, type) or not isinstance(classes, Iterable):
        raise InvalidInput(f"classes= takes a list of classes, not {classes!r:.80}")
    return tuple(classes)


def _check_count(value: int | None, what: str, *, or_none: bool = False) -> None:
    if value is None and or_none:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"{what}= is a number from 1 on{', or None' if or_none else ''}, not {value!r:.80}")

"""The scoped handle itself."""

from __future__ import annotations

import datetime as dt
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from varve.appends import Metadata
from varve.bindings import UnknownAnywhere
from varve.errors import InvalidInput
from varve.layout.keys import IdempotencyKey, check_name
from varve.layout.ordered import StateKey
from varve.reader import GlobalReader
from varve.replay import Live
from varve.scoped.audit import AccessRefused, Auditor, Refusals
from varve.scoped.patterns import Pattern
from varve.scoped.reading import ScopedReplay, ScopedSelection
from varve.scoped.scope import Scope
from varve.scoped.snapshot import ScopedSnapshot, WholeSnapshot
from varve.scoped.state import ScopedState
from varve.scoped.stream import ScopedStream
from varve.scoped.transaction import ScopedTransaction, ScopedWriteTransaction
from varve.state.live import State
from varve.stream import Stream
from varve.tailing.consumer import CommitMode, Consumer
from varve.tailing.follow import Follow
from varve.tailing.scan import Selection, selection
from varve.tailing.start import TailStart, check_start
from varve.tailing.tail import Tail
from varve.tailing.watcher import Watcher
from varve.transaction import Transaction, WriteTransaction
from varve.typing_support import E

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from varve.bindings import Bindings
    from varve.engine.core import Engine

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Optimistic(Protocol[R_co]):
    """A call of ``optimistic`` that is yet to be run."""

    def run(self, sleep: Callable[[float], object]) -> R_co: ...  # noqa: D102 - varve.derived.optimistic says it
    async def run_async(self, sleep: Callable[[float], Awaitable[object]] | None) -> R_co: ...  # noqa: D102


class Whole(Protocol):
    """An open store, as far as a scoped handle needs it."""

    _engine: Engine
    _bindings: Bindings

    @property
    def path(self) -> str: ...  # noqa: D102 - varve.store says it
    @property
    def readonly(self) -> bool: ...  # noqa: D102
    @property
    def uuid(self) -> uuid.UUID: ...  # noqa: D102
    @property
    def next_global_sequence(self) -> int: ...  # noqa: D102
    @property
    def first_global_sequence(self) -> int: ...  # noqa: D102
    def stream(self, name: str, types: TypeForm[E]) -> Stream[E]: ...  # noqa: D102
    def snapshot(self, at: int | None = None) -> WholeSnapshot: ...  # noqa: D102
    def sequence_at(self, when: dt.datetime) -> int: ...  # noqa: D102
    def watcher(self) -> Watcher: ...  # noqa: D102
    def _check_writable(self) -> None: ...
    def _write(
        self,
        make: Callable[..., WriteTransaction],
        fn: Callable[[Any], R],
        idempotency_key: IdempotencyKey | None,
        metadata: Metadata | None,
    ) -> R: ...
    @property
    def _optimistic(self) -> Callable[..., Optimistic[Any]]: ...
    @property
    def _consumer(self) -> Callable[..., Consumer[Any]]: ...


class ScopedVarve:
    """An open store for what it was made for: ``db.scoped(read=..., append=..., state=...)``. docs/scoped.md.

    Its methods are those of ``Varve``, and do the same. What names something that is not allowed raises
    ``PermissionRefused``; what reads over many streams leaves out those that are not. What concerns the whole store
    (``close``, ``backup``, ``stats``,
    ``archive``, the list of consumers ...) it refuses altogether. Thread-safe; it cannot be pickled or copied.

    A guard rail against mistakes, not a security boundary: Python code can reach round it.
    """

    __slots__ = ("_scope", "_whole")

    def __init__(self, whole: Whole, scope: Scope) -> None:
        self._whole = whole
        self._scope = scope

    # -- about -------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """What errors and the audit stream call it."""
        return self._scope.label

    @property
    def refusals(self) -> Refusals:
        """What it and its relatives (all that were narrowed from one ``db.scoped``) have refused so far."""
        return self._scope.auditor.refusals

    @property
    def path(self) -> str:
        """The store's folder, absolute."""
        return self._whole.path

    @property
    def readonly(self) -> bool:
        """Whether the store was opened readonly."""
        return self._whole.readonly

    @property
    def uuid(self) -> uuid.UUID:
        """The store's identity."""
        return self._whole.uuid

    @property
    def next_global_sequence(self) -> int:
        """The next global sequence of the whole log: how long that is, any position tells."""
        return self._whole.next_global_sequence

    @property
    def first_global_sequence(self) -> int:
        """The first global sequence that the log still holds."""
        return self._whole.first_global_sequence

    def sequence_at(self, when: dt.datetime) -> int:
        """The first global sequence recorded at or after an instant, whatever stands there."""
        return self._whole.sequence_at(when)

    def __repr__(self) -> str:
        return f"<ScopedVarve {self.label!r} of {self.path}: {self._scope}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a scoped handle belongs to an open store: it cannot be pickled or copied; make one with db.scoped()"
        )

    if not TYPE_CHECKING:  # to a type checker a class with it has every method

        def __getattr__(self, name: str) -> Any:
            """What else the whole store's handle has: refused when it is used."""
            found = None if name.startswith("_") else getattr(type(self._whole), name, None)
            if found is None:
                raise AttributeError(f"a scoped handle has no attribute {name!r}")
            if not callable(found):
                raise self._beyond(name)

            def refused(*_args: object, **_options: object) -> NoReturn:
                raise self._beyond(name)

            return refused

    def _beyond(self, name: str) -> Exception:
        return self._scope.refusal(
            name, "the store", why="that is for the handle of the whole store", verb=f"use {name!r} of"
        )

    # -- streams and readers -----------------------------------------------------------------------

    def stream(self, name: str, types: TypeForm[E]) -> Stream[E]:
        """As ``Varve.stream``, for the streams of the name that are allowed. Raises ``PermissionRefused`` where none is."""
        self._scope.check_known(check_name(name))
        return ScopedStream(self._whole.stream(name, types), self._scope)

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """As ``Varve.global_reader``, over the events that may be read."""
        engine = self._whole._engine  # noqa: SLF001 - the same library
        engine.check_usable()
        return ScopedReplay(Live(engine), self._whole._bindings, unknown, self._scope)  # noqa: SLF001

    def snapshot(self, at: int | None = None) -> ScopedSnapshot:
        """As ``Varve.snapshot``; its readers see what may be read."""
        return ScopedSnapshot(self._whole.snapshot(at), self._scope)

    @property
    def state(self) -> State:
        """As ``Varve.state``, of the keys that are allowed: others raise ``PermissionRefused``, ranges are cut to them."""
        return ScopedState(self._whole._engine, self._scope)  # noqa: SLF001

    # -- writing -----------------------------------------------------------------------------------

    def transaction(
        self, *, idempotency_key: IdempotencyKey | None = None, metadata: Metadata | None = None
    ) -> Transaction:
        """As ``Varve.transaction``. What it is given, it may do only if this handle may."""
        self._whole._check_writable()  # noqa: SLF001
        whole = self._whole
        return ScopedTransaction(whole._engine, idempotency_key, metadata, whole._bindings, self._scope)  # noqa: SLF001

    def write(
        self,
        fn: Callable[[WriteTransaction], R],
        *,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> R:
        """As ``Varve.write``."""
        try:
            make = partial(ScopedWriteTransaction, scope=self._scope)
            return self._whole._write(make, fn, idempotency_key, metadata)  # noqa: SLF001
        finally:
            self._scope.auditor.flush()  # what was refused while nothing else could be committed

    def optimistic(
        self,
        fn: Callable[[Transaction], R],
        *,
        retries: int | None = None,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> R:
        """As ``Varve.optimistic``."""
        try:
            return self._optimistic(fn, retries, idempotency_key, metadata, rng).run(sleep)
        finally:
            self._scope.auditor.flush()

    async def optimistic_async(
        self,
        fn: Callable[[Transaction], R],
        *,
        retries: int | None = None,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> R:
        """As ``Varve.optimistic_async``."""
        try:
            return await self._optimistic(fn, retries, idempotency_key, metadata, rng).run_async(sleep)
        finally:
            self._scope.auditor.flush()

    def _optimistic(self, fn: Callable[[Transaction], R], *given: Any) -> Optimistic[R]:
        make, make_inside = (partial(one, scope=self._scope) for one in (ScopedTransaction, ScopedWriteTransaction))
        return self._whole._optimistic(fn, *given, make, make_inside)  # noqa: SLF001

    # -- live --------------------------------------------------------------------------------------

    def watcher(self) -> Watcher:
        """As ``Varve.watcher``: how far the whole log reaches."""
        return self._whole.watcher()

    def tail(
        self,
        start: TailStart = 0,
        *,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
        unknown: UnknownAnywhere = "decode",
    ) -> Tail[Any]:
        """As ``Varve.tail``, of what may be read."""
        return Tail(self._whole._engine, self._chosen(streams, types, unknown), check_start(start))  # noqa: SLF001

    def follow(
        self,
        start: TailStart = 0,
        *,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
        unknown: UnknownAnywhere = "decode",
        timeout_s: float | None = None,
    ) -> Follow[Any]:
        """As ``Varve.follow``, of what may be read."""
        return Follow(self._whole._engine, self._chosen(streams, types, unknown), check_start(start), timeout_s)  # noqa: SLF001

    def consumer(
        self,
        name: str,
        *,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
        start: TailStart = 0,
        commit: CommitMode = "auto",
        interval_s: float | None = None,
        member: int | None = None,
        members: int | None = None,
        force: bool = False,
    ) -> Consumer[Any]:
        """As ``Varve.consumer``, of what may be read. Names belong to the whole store: give tenants names of their own."""
        self._scope.check_consumer(name)
        return self._whole._consumer(  # noqa: SLF001
            self._chosen(streams, types),
            name,
            start=start,
            commit=commit,
            interval_s=interval_s,
            member=member,
            members=members,
            force=force,
        )

    def _chosen(
        self, streams: Iterable[str] | None, types: Iterable[type | str] | None, unknown: UnknownAnywhere = "decode"
    ) -> Selection:
        chosen = selection(self._whole._bindings, streams, types, unknown)  # noqa: SLF001
        for name in chosen.names or ():
            self._scope.check_read_name(name)
        return ScopedSelection(chosen, self._scope.read)

    # -- parts of it -------------------------------------------------------------------------------

    def scoped(
        self,
        *,
        read: Iterable[Pattern] = (),
        append: Iterable[Pattern] = (),
        state: Iterable[StateKey] = (),
        state_read: Iterable[StateKey] = (),
        consumers: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        label: str | None = None,
    ) -> ScopedVarve:
        """A narrower handle: it may do what is named here *and* allowed there. Arguments as those of ``Varve.scoped``; the
        label is this one's where none is given, and refusals are recorded where this one's are."""
        scope = self._scope.narrowed(
            label, read=read, append=append, state=state, state_read=state_read, consumers=consumers, metadata=metadata
        )
        return ScopedVarve(self._whole, scope)


def make_scoped(
    whole: Whole,
    *,
    read: Iterable[Pattern],
    append: Iterable[Pattern],
    state: Iterable[StateKey],
    state_read: Iterable[StateKey],
    consumers: Iterable[str] | None,
    metadata: Metadata | None,
    label: str,
    audit: str | Stream[Any] | None,
) -> ScopedVarve:
    """What ``Varve.scoped`` gives."""
    engine = whole._engine  # noqa: SLF001 - the same library
    engine.check_usable()
    auditor = Auditor(engine, None if audit is None else _audit_stream(whole, audit))
    scope = Scope.first(
        label,
        read=read,
        append=append,
        state=state,
        state_read=state_read,
        consumers=consumers,
        metadata=metadata,
        auditor=auditor,
    )
    return ScopedVarve(whole, scope)


def _audit_stream(whole: Whole, audit: str | Stream[Any]) -> Stream[Any]:
    """Where refusals are recorded. Raises ``InvalidInput`` and its kin, and what every write is refused with."""
    whole._check_writable()  # noqa: SLF001
    if isinstance(audit, str):
        return whole.stream(audit, AccessRefused)
    if not isinstance(audit, Stream) or isinstance(audit, ScopedStream):
        raise InvalidInput(
            f"audit= takes a stream of the whole store, db.stream(name, varve.AccessRefused), or a name, not {audit!r:.80}"
        )
    if audit._engine is not whole._engine:  # noqa: SLF001
        raise InvalidInput("audit= takes a stream of the same store")
    if AccessRefused.__name__ not in audit._types.by_name:  # noqa: SLF001
        raise InvalidInput(f"audit= takes a stream that declares varve.AccessRefused; {audit!r} does not")
    return audit

"""Handlers: which one an event goes to, how it is called, and the transaction that it is given."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from varve.codec import EventType, event_type
from varve.errors import HandlerCancelled, InvalidInput, TransactionClosed
from varve.record import Recorded
from varve.transaction import Transaction
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.bindings import Bindings, UnknownAnywhere, UnknownTyped
    from varve.engine.core import Engine
    from varve.layout.keys import StreamId
    from varve.layout.ordered import StateKey
    from varve.reader import GlobalReader, StreamReader
    from varve.stream import Stream

Handler = Callable[[Recorded[Any], Transaction], Awaitable[object] | object]
"""What is called for an event; sync or async. What it returns is not looked at."""
BatchHandler = Callable[[list[Recorded[Any]], Transaction], Awaitable[object] | object]
"""What is called for consecutive events."""


@dataclass(frozen=True, slots=True)
class Batched:
    """A handler that takes lists of consecutive events: ``db.processor("totals", varve.Batched(fn))``, ``fn(events, tx)``.

    Where it fails, nothing of the list is kept, and it is called again with each event of it alone, in lists of one: so the
    strategy is asked about the event that it fails for, and about no other.
    """

    fn: BatchHandler

    def __post_init__(self) -> None:
        _check_callable(self.fn, "varve.Batched takes")


Handlers = Handler | Batched | Mapping[Any, Handler | Batched]
"""What ``db.processor`` takes: one handler for all events, or one for each event class."""


class Handling:
    """The handlers of a processor. Raises ``InvalidInput``, ``SchemaError``.

    ``types``: the event types that they are for; None: all.
    """

    def __init__(self, handlers: Any) -> None:
        self.types: list[EventType] | None = None
        self._default: Handler | Batched | None = None
        self._by_name: dict[str, Handler | Batched] = {}
        self._by_class: dict[type, Handler | Batched | None] = {}
        """The same by the class of the events that were met, as they are read."""
        if not isinstance(handlers, Mapping):
            if not callable(handlers) and not isinstance(handlers, Batched):
                raise InvalidInput(
                    "handlers is a function fn(recorded, tx), sync or async, or a mapping from event classes to such "
                    f"functions, not {handlers!r:.80}"
                )
            self._default = _checked(handlers, "handlers is")
            return
        if not handlers:
            raise InvalidInput("handlers is an empty mapping: there is nothing to process")
        self.types = []
        for cls, handler in handlers.items():
            declared = event_type(cls)
            if declared.name in self._by_name:
                raise InvalidInput(f"handlers has two classes of the type name {declared.name!r}")
            self._by_name[declared.name] = _checked(handler, f"the handler of {declared.name!r} is")
            self.types.append(declared)

    def of(self, recorded: Recorded[Any]) -> Handler | Batched | None:
        """The handler of an event; None where it is for none of them."""
        if self._default is not None:
            return self._default
        try:
            return self._by_class[type(recorded._event)]  # noqa: SLF001 - its property costs as much as the rest
        except KeyError:
            return self._found(recorded)

    def _found(self, recorded: Recorded[Any]) -> Handler | Batched | None:
        kind = recorded.type
        found = None if kind is UnknownEvent else self._by_name.get(event_type(kind).name)
        # What `event` gives may still have to be made of it, by upcasts, which may fail: in the handler, that is.
        self._by_class[type(recorded._event)] = found  # noqa: SLF001 - the same library
        return found

    def together(
        self,
        handler: Batched,
        events: Sequence[Recorded[Any]],
        at: int,
        end: int,
        holds: Callable[[Recorded[Any]], bool],
    ) -> list[Recorded[Any]]:
        """The events from ``at`` to below ``end`` that a handler takes in one call: those for it in a row that are not held."""
        taken = [events[at]]
        for recorded in islice(events, at + 1, end):
            if self.of(recorded) is not handler or holds(recorded):
                break
            taken.append(recorded)
        return taken


def _checked(handler: Any, what: str) -> Handler | Batched:
    if isinstance(handler, Batched):
        return handler
    checked: Handler = _check_callable(handler, what)
    return checked


def _check_callable(handler: Any, what: str) -> Any:
    if not callable(handler) or isinstance(handler, type):
        raise InvalidInput(f"{what} a function of events and a transaction, sync or async, not {handler!r:.80}")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise InvalidInput(f"{what} a function, not a generator, of which nothing would run: {handler!r:.80}")
    return handler


async def call(handler: Handler | Batched, events: list[Recorded[Any]], tx: HandlerTransaction) -> None:
    """Call a handler, and await it where it is async. Raises what it raises."""
    result: Any = handler.fn(events, tx) if isinstance(handler, Batched) else handler(events[0], tx)
    if result is None:
        return
    if isinstance(result, Awaitable):
        await result
    elif isinstance(result, Generator):
        raise InvalidInput(f"the handler {handler!r:.80} gave a generator, of which nothing has run")


def cancelled_within(error: BaseException) -> HandlerCancelled | None:
    """What a handler failed of, where a cancellation came out of it that nobody has asked its task for: of something that it
    awaited. None: it is no such thing."""
    import asyncio

    task = asyncio.current_task()
    if not isinstance(error, asyncio.CancelledError) or (task is not None and task.cancelling()):
        return None
    failure = HandlerCancelled("what the handler awaited was cancelled, though nobody has cancelled the processor")
    failure.__cause__ = error
    return failure


class HandlerTransaction(Transaction):
    """The transaction that handlers are given: the processor commits it, with the position behind their events.

    ``looks``: a handler read events through it, or demanded something of what is stored. Neither sees what earlier events of the
    same commit have brought, so such an event has a commit of its own.
    """

    __slots__ = ("_measured", "_size", "looks")

    def __init__(self, engine: Engine, bindings: Bindings) -> None:
        super().__init__(engine, None, None, bindings)
        self.looks = False
        self._measured = 0, 0
        self._size = 0

    @property
    def size(self) -> int:
        """About how many bytes it brings. What is returned from is not taken off."""
        changes = () if self._work is None else self._work.state._changes  # noqa: SLF001 - the same library
        before, now = self._measured, (len(self._appends), len(changes))
        if before != now:
            self._size += sum(append.payload_bytes for append in self._appends[before[0] :])
            self._size += sum(change.size for change in changes[before[1] :])
            self._measured = now
        return self._size

    def reader(self, stream: Stream[Any], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        """As ``Transaction.reader``."""
        self.looks = True
        return super().reader(stream, unknown=unknown)

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """As ``Transaction.global_reader``."""
        self.looks = True
        return super().global_reader(unknown=unknown)

    def _require(self, name: str, key: StateKey, test: Callable[[Any, bool], bool], bound: Any = None) -> None:
        self.looks = True
        super()._require(name, key, test, bound)

    def require_version(self, stream: Stream[Any], stream_id: StreamId, version: int) -> None:
        """As ``Transaction.require_version``."""
        self.looks = True
        super().require_version(stream, stream_id, version)

    def ensure(self, *demand: Any) -> None:
        """As ``Transaction.ensure``."""
        self.looks = True
        super().ensure(*demand)

    def ride(self, effect: Any) -> None:
        """A change of a side table becomes part of it: an ``Effect`` whose ``arrived()`` is called once it is committed."""
        self._rides.append(effect)

    async def finish(self) -> None:
        """Commit it. Raises what a commit does."""
        await super().commit_async()

    def forget(self) -> None:
        """Nothing of it is written."""
        if self._open:
            super().rollback()

    def _not_yours(self) -> NoReturn:
        raise TransactionClosed(
            "a handler does not end its transaction: the processor commits it with the position. Return, or raise to have "
            "nothing of this event kept"
        )

    def commit(self) -> None:
        """Not for handlers."""
        self._not_yours()

    async def commit_async(self) -> None:
        """Not for handlers."""
        self._not_yours()

    def rollback(self) -> None:
        """Not for handlers."""
        self._not_yours()

    def __enter__(self) -> Self:
        self._not_yours()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._not_yours()

    async def __aenter__(self) -> Self:
        self._not_yours()

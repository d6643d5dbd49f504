"""Three things that are an aggregate: where it begins, what an event does to it, what a command comes to."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, cast

from typing_extensions import TypeVar

from varve.errors import InvalidInput

S = TypeVar("S", default=Any)
C = TypeVar("C", default=Any)
E = TypeVar("E", default=Any)


class Decided(NamedTuple, Generic[S, E]):
    """What a command came to."""

    events: tuple[E, ...]
    """The events that were decided on; none is an answer too."""
    state: S
    """The state with them."""


class Decider(Generic[S, C, E]):
    """An aggregate without a stream: pure functions, for tests, and for whoever keeps events elsewhere.

    ``initial``: the state before the first event: a value (each use gets a copy) or a function or class that makes one.
    ``evolve(state, event)`` gives the state after an event: a new one, or the same one changed. ``decide(state, command)`` gives
    the events that a command comes to (an iterable, one event, or None), or raises to refuse it; it changes nothing.
    """

    __slots__ = ("_decide", "_evolve", "_initial")

    def __init__(
        self,
        initial: S | Callable[[], S],
        evolve: Callable[[S, E], S],
        decide: Callable[[S, C], Iterable[E] | E | None],
    ) -> None:
        for function, name in ((evolve, "evolve"), (decide, "decide")):
            if not callable(function):
                raise InvalidInput(f"{name} is a function of two arguments, not {function!r:.80}")
        for state_of, name in ((initial, "initial"), (evolve, "evolve")):  # of decide, what it returns is looked at
            if inspect.iscoroutinefunction(state_of) or inspect.isasyncgenfunction(state_of):
                raise InvalidInput(f"{name} is async, and would give a coroutine for a state: it waits for nothing")
        self._initial = initial
        self._evolve = evolve
        self._decide = decide

    def start(self) -> S:
        """The state before the first event: a fresh one."""
        initial: Any = self._initial
        return cast("S", initial() if callable(initial) else copy.deepcopy(initial))

    def evolve(self, state: S, event: E) -> S:
        """The state after one more event."""
        return self._evolve(state, event)

    def fold(self, events: Iterable[E], state: S | None = None) -> S:
        """The state after these events, from the beginning or from a state on (which ``evolve`` may change)."""
        folded = self.start() if state is None else state
        for event in events:
            folded = self._evolve(folded, event)
        return folded

    def decide(self, state: S, command: C) -> tuple[E, ...]:
        """The events that a command comes to. Raises what the function raises, and ``InvalidInput`` where it gave neither events
        nor None."""
        found: Any = self._decide(state, command)
        if found is None:
            return ()
        if hasattr(type(found), "__varve__"):
            return (found,)
        if isinstance(found, Iterable) and not isinstance(found, str | bytes | dict):
            return tuple(found)
        if hasattr(found, "__await__"):
            close = getattr(found, "close", None)
            if close is not None:
                close()
            raise InvalidInput("decide is async: it decides on a state that it is given, and waits for nothing")
        raise InvalidInput(f"decide gives events (an iterable, one event, or None), not {found!r:.80}")

    def run(self, events: Iterable[E], command: C) -> Decided[S, E]:
        """What a command comes to after these events, and the state then."""
        state = self.fold(events)
        decided = self.decide(state, command)
        return Decided(decided, self.fold(decided, state))

    def __repr__(self) -> str:
        return f"<Decider {getattr(self._decide, '__qualname__', self._decide)}>"

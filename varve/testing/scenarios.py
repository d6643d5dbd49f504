"""Given these events, when this command, then those events: tests of deciders and aggregates, without a store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Generic, Self, TypeVar

from varve.aggregates.aggregate import Aggregate
from varve.aggregates.decider import Decided, Decider

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

_SHOWN_CHARS_MAX = 200


def given(decider: Decider[S, C, E] | Aggregate[S, C, E], *events: E) -> Given[S, C, E]:
    """The history of a test: ``given(account, Opened("Ann")).when(Withdraw(10)).then(Withdrawn(10))``.

    ``decider``: a ``varve.Decider``, or an aggregate, whose stream is left alone. Needs no store and no test framework: what is
    not as it should be raises ``AssertionError``.
    """
    found = decider.decider if isinstance(decider, Aggregate) else decider
    if not isinstance(found, Decider):
        raise TypeError(f"given takes a varve.Decider or a varve.Aggregate, and events; not {decider!r:.80}")
    return Given(found, events)


class Given(Generic[S, C, E]):
    """A history. Made by ``given``."""

    def __init__(self, decider: Decider[S, C, E], events: Iterable[E]) -> None:
        self._decider = decider
        self._events = tuple(events)

    def when(self, command: C) -> When[S, C, E]:
        """The command of the test. It is decided when the first ``then`` asks."""
        return When(self._decider, self._events, command)

    def then_state(self, state: S) -> Self:
        """The history alone comes to this state."""
        _check_state(self._decider.fold(self._events), state)
        return self


class When(Generic[S, C, E]):
    """A command on a history. Made by ``Given.when``. What its ``then`` methods give back can be asked more."""

    def __init__(self, decider: Decider[S, C, E], events: tuple[E, ...], command: C) -> None:
        self._decider = decider
        self._events = events
        self._command = command
        self._decided: Decided[S, E] | None = None

    def _run(self) -> Decided[S, E]:
        if self._decided is None:
            self._decided = self._decider.run(self._events, self._command)
        return self._decided

    def then(self, *events: E) -> Self:
        """The command comes to exactly these events, in this order; to none of them: it changes nothing."""
        try:
            found = self._run().events
        except Exception as exc:
            raise AssertionError(
                f"{_shown(self._command)} was refused: {type(exc).__name__}: {exc}\nexpected {_counted(events)}"
            ) from exc
        wrong = _wrong_events(found, events)
        if wrong:
            raise AssertionError(f"{_shown(self._command)} came to other events:\n" + "\n".join(wrong))
        return self

    def then_nothing(self) -> Self:
        """The command is accepted, and comes to no events."""
        return self.then()

    def then_state(self, state: S) -> Self:
        """With its events the state is equal to this one."""
        _check_state(self._run().state, state)
        return self

    def then_raises(self, error: type[BaseException] | BaseException, match: str | None = None) -> Self:
        """The command is refused: by an error of this class, or by one like this (its class and its ``args``); ``match``: text
        that stands in its message."""
        expected = error if isinstance(error, type) else type(error)
        try:
            events = self._run().events
        except expected as exc:
            if not isinstance(error, type) and exc.args != error.args:
                raise AssertionError(f"it raised {exc!r}, expected {error!r}") from exc
            if match is not None and match not in str(exc):
                raise AssertionError(f"it raised {type(exc).__name__}: {exc}\nexpected {match!r} in that") from exc
            return self
        except Exception as exc:
            raise AssertionError(f"it raised {type(exc).__name__}: {exc}\nexpected {expected.__name__}") from exc
        raise AssertionError(
            f"{_shown(self._command)} was not refused: expected {expected.__name__}, it came to {_counted(events)}"
        )


def _wrong_events(found: tuple[Any, ...], expected: tuple[Any, ...]) -> list[str]:
    """Lines on every event that is not as expected."""
    lines = []
    for index in range(max(len(found), len(expected))):
        if index >= len(found):
            lines.append(f"  event {index}: missing, expected {_shown(expected[index])}")
        elif index >= len(expected):
            lines.append(f"  event {index}: not expected: {_shown(found[index])}")
        else:
            lines += [f"  event {index}{line}" for line in _differences(found[index], expected[index])]
    return lines


def _check_state(found: Any, expected: Any) -> None:
    wrong = _differences(found, expected)
    if wrong:
        raise AssertionError("the state is another:\n" + "\n".join(f"  state{line}" for line in wrong))


def _differences(found: Any, expected: Any) -> list[str]:
    """Where two values differ, a line each, as deep as their shapes agree."""
    if _kind(found) is _kind(expected):
        inner = _inner(found, expected)
        if inner is not None:
            lines = [f"{step}{line}" for step, a, b in inner for line in _one(a, b)]
            if lines:
                return lines
    elif not isinstance(found, int | float) or not isinstance(expected, int | float):
        return [f": {_shown(found)}, expected {_shown(expected)}"]
    return [] if _equal(found, expected) else [f": {_shown(found)}, expected {_shown(expected)}"]


_MISSING: Any = object()


def _one(found: Any, expected: Any) -> list[str]:
    if found is _MISSING:
        return [f": missing, expected {_shown(expected)}"]
    if expected is _MISSING:
        return [f": not expected: {_shown(found)}"]
    return [] if _equal(found, expected) else _differences(found, expected)


def _equal(found: Any, expected: Any) -> bool:
    return bool(found == expected)


def _inner(found: Any, expected: Any) -> list[tuple[str, Any, Any]] | None:
    """What two values of one kind are made of, side by side; None where nobody can say."""
    if dataclasses.is_dataclass(found):
        names = [f.name for f in dataclasses.fields(found)]
        return [(f".{name}", getattr(found, name), getattr(expected, name)) for name in names]
    if isinstance(found, dict):
        keys = [*found, *(key for key in expected if key not in found)]
        return [(f"[{key!r}]", found.get(key, _MISSING), expected.get(key, _MISSING)) for key in keys]
    if isinstance(found, list | tuple):
        longest = range(max(len(found), len(expected)))
        return [
            (
                f"[{index}]",
                found[index] if index < len(found) else _MISSING,
                expected[index] if index < len(expected) else _MISSING,
            )
            for index in longest
        ]
    if getattr(found, "__dict__", None):
        names = sorted({*vars(found), *vars(expected)})
        return [(f".{name}", vars(found).get(name, _MISSING), vars(expected).get(name, _MISSING)) for name in names]
    return None


def _kind(value: Any) -> type:
    """The class of a value; of an event's view the declared one."""
    cls: type = getattr(getattr(type(value), "__varve__", None), "cls", type(value))
    return cls


def _counted(events: tuple[Any, ...]) -> str:
    if not events:
        return "no events"
    return f"{len(events)} event{'s' * (len(events) != 1)}: " + ", ".join(map(_shown, events))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}..."

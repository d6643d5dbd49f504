"""What a transaction demands of state and streams: asked inside the write transaction, before its changes or after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from varve.errors import CheckFailed
from varve.layout.state import TABLE
from varve.state.view import InCommit, StateView, decoded, named

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.core import Engine
    from varve.engine.side import Table

Test = Callable[[Any, bool], bool]
"""``test(value, exists)``: whether a key's value will do."""


class Require:
    """A demand on one key as the commit finds it."""

    __slots__ = ("_bound", "_engine", "_key", "_name", "_test")

    def __init__(self, engine: Engine, name: str, key: bytes, test: Test, bound: Any = None) -> None:
        self._engine = engine
        self._name = name
        self._key = key
        self._test = test
        self._bound = bound

    def __call__(self, session: Session) -> None:
        """Raises ``CheckFailed``."""
        self.check(session.side_table(TABLE))

    def check(self, table: Table) -> None:
        """The same of a table. Raises ``CheckFailed``, ``CorruptedState``."""
        record = table.get(self._key)
        value = None if record is None else decoded(self._engine.path, self._key, record)
        try:
            with self._engine.users_code():
                holds = self._test(value, record is not None)
        except Exception as exc:
            key = named(self._key)
            exc.add_note(
                f"raised by {self._name}{_bounded(self._bound)} of state under {key!r:.80}, which holds {value!r:.80}"
            )
            raise
        if not holds:
            key = named(self._key)
            found = f"holds {value!r:.80} under {key!r:.80}" if record is not None else f"has no {key!r:.80}"
            raise failed(self._name, found, key, value, exists=record is not None, bound=self._bound)


class EnsureAll:
    """A demand on state as a whole, after the changes of the transaction."""

    __slots__ = ("_engine", "_test")

    def __init__(self, engine: Engine, test: Callable[[StateView], bool]) -> None:
        self._engine = engine
        self._test = test

    def __call__(self, session: Session) -> None:
        """As ``Require``: of a transaction that changes no state."""
        self.check(session.side_table(TABLE))

    def check(self, table: Table) -> None:
        """Raises ``CheckFailed``."""
        engine = self._engine
        with engine.users_code():
            holds = self._test(StateView(InCommit(table), engine.path))
        if not holds:
            name = getattr(self._test, "__name__", "a function")
            raise failed("ensure", f"is not as {name} wants it", None, None, exists=False, bound=None)


Ensure = Require | EnsureAll


class RequireVersion:
    """A stream has exactly so many events before the transaction's own."""

    __slots__ = ("_id_key", "_stream", "_stream_id", "_version")

    def __init__(self, stream: str, stream_id: Any, id_key: bytes, version: int) -> None:
        self._stream = stream
        self._stream_id = stream_id
        self._id_key = id_key
        self._version = version

    def __call__(self, session: Session) -> None:
        """Raises ``CheckFailed``."""
        length = session.length_now(self._stream, self._id_key)
        if length != self._version:
            raise CheckFailed(
                f"require_version: stream {self._stream!r} {self._stream_id!r} holds {length} events, not {self._version}. "
                "Nothing was written",
                check="require_version",
                key=(self._stream, self._stream_id),
                value=length,
                exists=length > 0,
                bound=self._version,
            )


def failed(name: str, found: str, key: Any, value: Any, *, exists: bool, bound: Any) -> CheckFailed:
    """The error for state that is not as it should be."""
    return CheckFailed(
        f"{name}{_bounded(bound)}: state {found}. Nothing was written",
        check=name,
        key=key,
        value=value,
        exists=exists,
        bound=bound,
    )


def _bounded(bound: Any) -> str:
    return "" if bound is None else f" ({bound!r:.80})"

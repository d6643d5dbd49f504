"""What is done to a key of state: put, delete, add, update; and the effect that does it inside a commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from varve import limits
from varve.errors import TooManyItems
from varve.layout.state import TABLE, encode_record
from varve.state.view import decoded, missing, named

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.side import Table
    from varve.state.checks import Ensure
    from varve.state.numbers import Addition

NOTHING: Any = object()
"""No value was given."""


class Change(Protocol):
    """A change of one key."""

    key: bytes
    size: int
    """About what it writes."""
    looks: bool
    """Whether it needs to know what is stored."""

    def __call__(self, record: bytes | None, /) -> bytes | None:
        """The record that takes the place of another; None: none. Raises to refuse the commit."""
        ...


class Put:
    """A value takes the place of whatever was there."""

    __slots__ = ("_record", "key", "size")
    looks = False

    def __init__(self, key: bytes, value: Any) -> None:
        self.key = key
        self._record = record_of(key, value)
        self.size = len(key) + len(self._record)

    def __call__(self, _record: bytes | None, /) -> bytes | None:
        """As ``Change``."""
        return self._record


class Delete:
    """A key goes."""

    __slots__ = ("key", "size")
    looks = False

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.size = len(key)

    def __call__(self, _record: bytes | None, /) -> bytes | None:
        """As ``Change``."""
        return None


class Discard:
    """A key goes; ``existed`` says whether it was there."""

    __slots__ = ("existed", "key", "size")
    looks = True

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.size = len(key)
        self.existed = False

    def __call__(self, record: bytes | None) -> bytes | None:
        """As ``Change``."""
        self.existed = record is not None
        return None


class Add:
    """A number grows or shrinks; ``value`` is what it has become."""

    __slots__ = ("_addition", "_path", "key", "size", "value")
    looks = True

    def __init__(self, path: str, key: bytes, addition: Addition) -> None:
        self._path = path
        self.key = key
        self._addition = addition
        self.size = len(key) + 32
        self.value: Any = None

    def __call__(self, record: bytes | None) -> bytes | None:
        """As ``Change``."""
        return record_of(self.key, self.first(record))

    def first(self, record: bytes | None) -> Any:
        """The sum with the value of a record. Raises as ``Change``."""
        before = None if record is None else decoded(self._path, self.key, record)
        return self.onto(before, exists=record is not None)

    def onto(self, before: Any, *, exists: bool = True) -> Any:
        """The sum with a value. Raises as ``Change``."""
        self.value = self._addition.to(self._path, self.key, before, exists=exists)
        return self.value


class Update:
    """A function makes the new value of the old one; ``value`` is what it gave."""

    __slots__ = ("_default", "_engine", "_fn", "key", "size", "value")
    looks = True

    def __init__(self, engine: Engine, key: bytes, fn: Callable[[Any], Any], default: Any) -> None:
        self._engine = engine
        self.key = key
        self._fn = fn
        self._default = default
        self.size = len(key) + 64
        self.value: Any = None

    def __call__(self, record: bytes | None) -> bytes | None:
        """As ``Change``."""
        before = value_before(self._engine.path, self.key, record, self._default)
        with self._engine.users_code():
            self.value = self._fn(before)
        return record_of(self.key, self.value)


def value_before(path: str, key: bytes, record: bytes | None, default: Any) -> Any:
    """What the function of an update is given. Raises ``StateKeyMissing``, ``CorruptedState``."""
    if record is not None:
        return decoded(path, key, record)
    if default is NOTHING:
        raise missing(path, named(key))
    return default


def record_of(key: bytes, value: Any) -> bytes:
    """The record of a value. Raises ``InvalidInput``, ``TooManyItems`` where it is too large."""
    record = encode_record(key, value)
    if len(record) > limits.STATE_VALUE_BYTES_MAX:
        raise TooManyItems(
            f"a value of state of {len(record)} bytes; the limit is STATE_VALUE_BYTES_MAX = {limits.STATE_VALUE_BYTES_MAX}",
            limit_name="STATE_VALUE_BYTES_MAX",
            limit=limits.STATE_VALUE_BYTES_MAX,
        )
    return record


class Changes:
    """Changes of state that ride on a commit, and what shall hold after them."""

    __slots__ = ("_changes", "_ensured")
    table = TABLE

    def __init__(self, changes: Sequence[Change], ensured: Sequence[Ensure] = ()) -> None:
        self._changes = changes
        self._ensured = ensured

    @property
    def size(self) -> int:
        """About what they write."""
        return sum(change.size for change in self._changes)

    def __call__(self, table: Table) -> None:
        """Make them, in order. Raises what refuses one of them."""
        sums: dict[
            bytes, Any
        ] = {}  # numbers that may be added to once more: decoded and encoded once for all additions
        for change in self._changes:
            key = change.key
            if isinstance(change, Add):
                sums[key] = change.onto(sums[key]) if key in sums else change.first(table.get(key))
                continue
            if key in sums:
                table.put(key, record_of(key, sums.pop(key)))
            record = change(table.get(key) if change.looks else None)
            if record is None:
                table.delete(key)
            else:
                table.put(key, record)
        for key, value in sums.items():
            table.put(key, record_of(key, value))
        for ensure in self._ensured:
            ensure.check(table)

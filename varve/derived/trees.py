"""State as bytes: plain values, events, and objects of classes that say how they are taken apart. No pickle.

Stored bytes name classes, they never import one: a program says which it knows (``Trees(OrderPlaced, Account)``), and a name that
it does not know is an error.

The bytes are a value (``varve.layout.values``): the tuple of the schemas of the events in it (type name -> canonical schema) and
the bytes of the state, itself a value, in which the foreign objects are

=============  =========================================
``e`` | name   an event of that type: its FlatBuffer
``o`` | name   an object: what its ``to_snapshot`` gave
``m`` | name   a member of an enum: its name; of a flag its number
=============  =========================================
"""

from __future__ import annotations

import enum
import struct
from typing import Any, Final, Protocol, Self, runtime_checkable

from varve.codec import EventType, event_type, incompatibilities, owned
from varve.errors import CorruptedStore, InvalidInput, MalformedEvent, SchemaConflict, SchemaError, VarveError
from varve.layout.records import malformed
from varve.layout.values import decode_value, encode_value

_EVENT, _OBJECT, _MEMBER = "e", "o", "m"
_UNREADABLE = (MalformedEvent, ValueError, TypeError, IndexError, struct.error)


@runtime_checkable
class Snapshotted(Protocol):
    """An object that can be part of saved state."""

    def to_snapshot(self) -> Any:
        """A value from which ``from_snapshot`` makes an equal object: of plain values, events, and objects of this kind."""
        ...

    @classmethod
    def from_snapshot(cls, value: Any) -> Self:
        """The object again."""
        ...


class Trees:
    """Turns state into bytes and back. What state may hold beside plain values: events and objects of the ``classes``.

    A class is an event class, an enum, or a class with ``to_snapshot(self)`` and the class method ``from_snapshot(cls, value)``;
    it is stored under its type name, or its ``__name__``. Raises ``InvalidInput`` for any other, and for two of one name.
    """

    __slots__ = ("_by_class", "_events", "_members", "_objects")

    def __init__(self, *classes: type) -> None:
        self._events: dict[str, EventType] = {}
        self._objects: dict[str, Any] = {}
        self._members: dict[str, Any] = {}
        self._by_class: dict[type, tuple[str, str]] = {}
        for cls in classes:
            self._add(cls)

    def _add(self, cls: Any) -> None:
        if not isinstance(cls, type):
            raise InvalidInput(f"state holds objects of classes; {cls!r:.80} is none")
        accepts: tuple[type, ...] = (cls,)
        named: dict[str, Any]
        try:
            known = event_type(cls)
            tag, named, name, accepts = _EVENT, self._events, known.name, known.accepts
            found: Any = known
        except SchemaError:
            tag, named = self._kind_of_class(cls)
            name, found = cls.__name__, cls
        if named.setdefault(name, found) is not found:
            raise InvalidInput(f"two classes are named {name!r} in saved state; rename one of them")
        self._by_class.update(dict.fromkeys(accepts, (tag, name)))

    def _kind_of_class(self, cls: type) -> tuple[str, dict[str, Any]]:
        if issubclass(cls, enum.Enum):
            return _MEMBER, self._members
        if callable(getattr(cls, "to_snapshot", None)) and callable(getattr(cls, "from_snapshot", None)):
            return _OBJECT, self._objects
        raise InvalidInput(
            f"{cls.__qualname__} is no event class and no enum, and has not both of to_snapshot(self) and the class method "
            "from_snapshot(cls, value): give it those"
        )

    # -- to bytes ----------------------------------------------------------------------------------

    def encode(self, state: Any) -> bytes:
        """The bytes of state: None, bool, int of up to 256 bits, float, str, bytes, Decimal, aware datetime, UUID, events (views
        too) and objects of the classes; lists, tuples, sets, frozensets and dicts of all that, 64 deep at most.

        What stands in two places of it comes back as two objects. Raises ``InvalidInput``, which says where in the state it
        stands, ``EventEncodingError``, and what ``to_snapshot`` raises.
        """
        schemas: dict[str, bytes] = {}

        def take_apart(value: Any) -> tuple[str, Any]:
            tag, name = self._kind_of(value)
            if tag == _EVENT:
                kind = self._events[name]
                schemas[name] = kind.schema_bytes
                return _EVENT + name, kind.pack(value)
            if tag == _OBJECT:
                return _OBJECT + name, value.to_snapshot()
            return _MEMBER + name, value.value if isinstance(value, enum.Flag) else value.name

        body = encode_value(state, take_apart)
        return encode_value((schemas, body))

    def _kind_of(self, value: Any) -> tuple[str, str]:
        cls = type(value)
        found = self._by_class.get(cls)
        if found is None:
            declared = getattr(getattr(cls, "__varve__", None), "cls", cls)
            if declared is not cls and hasattr(cls, "_b"):  # a view
                found = self._by_class.get(declared)
            if found is None:
                raise InvalidInput(
                    f"saved state cannot hold {cls.__qualname__}, whose class was not given. It holds plain values (None, bool, "
                    "int, float, str, bytes, Decimal, datetime, UUID; list, tuple, set, frozenset, dict), events, enums, and "
                    "objects with to_snapshot and from_snapshot, of the classes that it was told of"
                )
            self._by_class[cls] = found
        return found

    # -- and back ----------------------------------------------------------------------------------

    def decode(self, data: bytes | memoryview) -> Any:
        """The state of ``encode``'s bytes. Events come as instances of their own, which hold no buffer.

        Raises ``SchemaConflict`` where a class has changed in a way that what was saved cannot follow, is not among the classes,
        or its ``from_snapshot`` raised (the cause); ``CorruptedStore`` for bytes that nobody wrote.
        """
        whole = decode_value(data)
        if type(whole) is not tuple or len(whole) != 2 or type(whole[0]) is not dict or type(whole[1]) is not bytes:
            raise malformed("saved state", data)
        schemas, body = whole
        for name, schema in schemas.items():
            self._check(name, schema, data)

        def put_together(kind: str, parts: Any) -> Any:
            tag, name = kind[:1], kind[1:]
            if tag == _EVENT and name in schemas and type(parts) is bytes:
                return self._event(name, parts)
            if tag == _OBJECT:
                return self._object(name, parts)
            if tag == _MEMBER:
                return self._member(name, parts)
            raise malformed("saved state", data)

        return decode_value(body, put_together)

    def _check(self, name: Any, schema: Any, data: bytes | memoryview) -> None:
        """Whether events of a stored schema can come as their class. Raises ``SchemaConflict``."""
        if type(name) is not str or type(schema) is not bytes:
            raise malformed("saved state", data)
        known = self._events.get(name)
        if known is None:
            raise _conflict(name, "its class was not given")
        try:
            reasons = incompatibilities(schema, known.schema_bytes)
        except MalformedEvent as exc:
            reasons = [f"its stored schema is beyond this Varve ({exc})"]
        if reasons:
            raise _conflict(name, *reasons)

    def _event(self, name: str, data: bytes) -> Any:
        known = self._events[name]
        try:
            return owned(known.view(data))
        except _UNREADABLE as exc:
            raise malformed(f"event of type {name}", data) from exc

    def _object(self, name: str, parts: Any) -> Any:
        cls = self._objects.get(name)
        if cls is None:
            raise _conflict(name, "its class was not given")
        try:
            return cls.from_snapshot(parts)
        except VarveError as exc:
            if isinstance(exc, SchemaConflict | CorruptedStore):
                raise
            raise _conflict(name, f"from_snapshot raised {exc}") from exc
        except Exception as exc:
            raise _conflict(name, f"from_snapshot raised {type(exc).__name__}: {exc}") from exc

    def _member(self, name: str, member: Any) -> Any:
        cls = self._members.get(name)
        if cls is None:
            raise _conflict(name, "its class was not given")
        try:
            return cls(member) if issubclass(cls, enum.Flag) else cls[member]
        except (KeyError, TypeError, ValueError):
            raise _conflict(name, f"it has no member {member!r:.80}") from None


def _conflict(name: str, *reasons: str) -> SchemaConflict:
    return SchemaConflict(
        f"saved state holds a {name!r} that cannot be read: {'; '.join(reasons)}. Make the state of the log again",
        type_name=name,
        reasons=tuple(reasons),
    )


PLAIN: Final = Trees()
"""Plain values only."""

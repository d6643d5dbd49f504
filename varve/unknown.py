"""Events of types that a reader does not know."""

from __future__ import annotations

from typing import Any

from typing_extensions import override


class UnknownEvent:
    """An event whose type the reader does not know, where it asked for such events: ``reader(unknown="event")``.

    Equal by type name and bytes, picklable, frozen. ``varve.owned`` gives one that holds its own bytes.
    """

    __match_args__ = ("type_name", "data")
    __slots__ = ("data", "type_name")

    type_name: str
    """The store-wide name of its type."""
    data: memoryview
    """The FlatBuffer, read-only; zero padding up to a multiple of 8 may follow it. Where it lies in the memory map it keeps
    its snapshot alive for as long as it or any slice of it lives."""

    def __init__(self, type_name: str, data: bytes | memoryview) -> None:
        object.__setattr__(self, "type_name", type_name)
        object.__setattr__(self, "data", memoryview(data).toreadonly())

    @override
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}: events are frozen")

    @override
    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}: events are frozen")

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnknownEvent):
            return NotImplemented
        return self.type_name == other.type_name and self.data == other.data

    @override
    def __hash__(self) -> int:
        return hash((self.type_name, bytes(self.data)))

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return UnknownEvent, (self.type_name, bytes(self.data))

    @override
    def __repr__(self) -> str:
        return f"UnknownEvent({self.type_name!r}, {len(self.data)} bytes)"

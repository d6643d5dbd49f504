"""Field types of event classes that Python itself has no name for.

A type checker sees ``int`` or ``float``; the codec sees the width behind it. ``int`` itself is stored as ``i64`` and
``float`` as ``f64``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

__all__ = ["Length", "Nested", "Width", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]


@dataclass(frozen=True, slots=True)
class Width:
    """How a number is stored: ``u8`` .. ``u64``, ``i8`` .. ``i64``, ``f32`` or ``f64``."""

    name: str


@dataclass(frozen=True, slots=True)
class Length:
    """In a struct, an array of so many items: ``Annotated[tuple[varve.f32, ...], Length(3)]``."""

    items: int


@dataclass(frozen=True, slots=True)
class Nested:
    """What bytes hold: a whole FlatBuffer of an event class, ``Annotated[bytes, Nested(OrderPlaced)]``."""

    of: type


u8: TypeAlias = Annotated[int, Width("u8")]
u16: TypeAlias = Annotated[int, Width("u16")]
u32: TypeAlias = Annotated[int, Width("u32")]
u64: TypeAlias = Annotated[int, Width("u64")]
i8: TypeAlias = Annotated[int, Width("i8")]
i16: TypeAlias = Annotated[int, Width("i16")]
i32: TypeAlias = Annotated[int, Width("i32")]
i64: TypeAlias = Annotated[int, Width("i64")]
f32: TypeAlias = Annotated[float, Width("f32")]
f64: TypeAlias = Annotated[float, Width("f64")]

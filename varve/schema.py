"""Schemas as text: what programs in other languages need to read and write the same events, and what Varve generates of
a class."""

from varve.codec import event_type
from varve.codec.fbs import to_fbs

__all__ = ["source", "to_fbs"]


def source(cls: type) -> str:
    """The Python code that was generated of an event class: its packers and views.

    Raises ``SchemaError`` for a class that is no event class.
    """
    return event_type(cls).source

"""Events that are not simply views of their bytes: what the reader gives is made when it is asked for.

A reader resolves each type once to a class of views. Where that is a ``Deferred``, the walk makes one like any view (two
attributes, no call), and whoever hands the event out calls ``finish``.
"""

from __future__ import annotations

from typing import Any

from varve.codec import EventType
from varve.unknown import UnknownEvent
from varve.upcasts import Step


class Deferred:
    """Where an event's bytes are, and what to make of them. Subclasses stand where a class of views would."""

    __slots__ = ("_b", "_o")

    _b: bytes | memoryview
    _o: int

    def finish(self, raw: bytes | memoryview, global_sequence: int) -> Any:
        """The event itself; ``raw`` are its bytes alone."""
        raise NotImplementedError

    @classmethod
    def gives(cls) -> Any:
        """The declared class of what ``finish`` gives."""
        raise NotImplementedError


def upcast_view(stored: EventType, steps: tuple[Step, ...]) -> type[Deferred]:
    """What stands for the views of an event type whose events go through upcasts."""
    view_class: Any = stored.view_class

    class Upcast(Deferred):
        __slots__ = ()

        def finish(self, raw: bytes | memoryview, global_sequence: int) -> Any:  # noqa: ARG002 - the view's place is known
            event = object.__new__(view_class)
            event._b = self._b
            event._o = self._o
            for step in steps:
                event = step.apply(event, global_sequence)
            return event

        @classmethod
        def gives(cls) -> Any:
            return steps[-1].new_class

    return Upcast


def unknown_view(name: str) -> type[Deferred]:
    """What stands for the views of an event type that the reader does not know."""

    class Unknown(Deferred):
        __slots__ = ()

        def finish(self, raw: bytes | memoryview, global_sequence: int) -> Any:  # noqa: ARG002 - nothing fails here
            return UnknownEvent(name, raw)

        @classmethod
        def gives(cls) -> Any:
            return UnknownEvent

    return Unknown

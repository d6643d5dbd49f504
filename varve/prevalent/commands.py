"""Commands: event classes that say what they do to the state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

from varve.codec import event_type, owned
from varve.codec.schema import PLAIN_TAGS
from varve.errors import EventTypeError, InvalidInput
from varve.prevalent.aborts import Aborted

_PLAIN: Final = PLAIN_TAGS | {"enum"}

S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Command(Protocol[S_contra, R_co]):
    """What ``PrevalentSystem.execute`` takes: an instance of an event class with ``apply``, and ``check`` where it may be
    refused.

    ``check(self, state)`` looks whether the command may be executed, and raises where it may not; it changes nothing.
    ``apply(self, state)`` changes the state; what it returns goes to whoever executed the command. It depends on nothing but
    the command and the state: time and random numbers are fields of the command.
    """

    def apply(self, state: S_contra, /) -> R_co:
        """Change the state."""
        ...


class Commands:
    """The classes of commands of a system, which are the events of a stream."""

    def __init__(self, classes: Iterable[type], stream: str) -> None:
        self._stream = stream
        if isinstance(classes, type) or not isinstance(classes, Iterable):
            raise InvalidInput(f"commands= takes a list of event classes, not {classes!r:.80}")
        self.classes = tuple(dict.fromkeys(classes))
        if not self.classes:
            raise InvalidInput("commands= is empty: a system needs a command that changes it")
        self.checks: dict[type, Callable[[Any, Any], object] | None] = {}
        self._holding: set[type] = set()  # those that may hold other events
        for cls in self.classes:
            self._add(cls)

    def _add(self, cls: Any) -> None:
        fields = event_type(cls).declaration.fields  # raises SchemaError
        if any((f.kind.item or f.kind).tag not in _PLAIN for f in fields):
            self._holding.add(cls)
        for method in ("apply", "check"):
            found = getattr(cls, method, None)
            if not callable(found) and (method == "apply" or found is not None):
                raise InvalidInput(
                    f"{cls.__name__} is no command: give it a method {method}(self, state)"
                    + ("" if found is None else f"; now it has a {type(found).__name__} of that name")
                )
        if cls is Aborted:
            raise InvalidInput("varve.Aborted is no command: a system writes it where one could not be applied")
        self.checks[cls] = getattr(cls, "check", None)

    def owned(self, command: Any) -> Any:
        """A command as an instance of its own, also where events in it are views, which would hold the map for as long as the
        state keeps them. Raises ``EventTypeError`` for anything else."""
        if type(command) in self.checks:
            return owned(command) if type(command) in self._holding else command
        if isinstance(command, self.classes) and hasattr(type(command), "_b"):  # a view
            return owned(command)
        spelled = (
            f"the class {command.__name__} itself: make an instance"
            if isinstance(command, type)
            else f"{type(command).__name__}: list its class in commands="
        )
        names = " | ".join(cls.__name__ for cls in self.classes)
        raise EventTypeError(f"this system executes {names}, not {spelled}", stream=self._stream, got=type(command))

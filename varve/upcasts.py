"""Upcasts: functions that turn events of an old type into those of the type that took its place, when they are read."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from varve.codec import EventType, event_type
from varve.codec.declare import declaration
from varve.errors import SchemaError, UpcastError

Old = TypeVar("Old")
New = TypeVar("New")

_lock: Final = threading.Lock()


class Step(NamedTuple):
    """One upcast: a function of an event of the old class that gives one of the new class."""

    old_name: str
    new_name: str
    old_class: Any
    new_class: Any
    function: Callable[[Any], Any]

    @property
    def old_type(self) -> EventType:
        """The old class, compiled."""
        return event_type(self.old_class)

    def replaces(self, there: Step) -> bool:
        """Whether this is the same upcast again, its module or notebook cell having been run anew: the same lines of a file
        (a script may also be imported under its name), or a function of the same name for classes made anew. A second
        function of the same name further down one file is another."""
        if self.new_name != there.new_name:
            return False
        (file, line, name), (file_there, line_there, name_there) = self.place, there.place
        if (file, line, name) == (file_there, line_there, name_there):
            return True
        made_anew = self.old_class is not there.old_class or self.new_class is not there.new_class
        return self.where == there.where and (made_anew or file != file_there)

    @property
    def where(self) -> str:
        """Module and name of the function."""
        return f"{self.function.__module__}.{self.place[2]}"

    @property
    def place(self) -> tuple[str, int, str]:
        """File, line and name of the function."""
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        code = getattr(self.function, "__code__", None)
        return ("", 0, name) if code is None else (code.co_filename, code.co_firstlineno, name)

    def apply(self, event: Any, global_sequence: int) -> Any:
        """The new event. Raises what the function raises, with a note on the event, and ``UpcastError``."""
        where = f"global sequence {global_sequence}"
        try:
            made = self.function(event)
        except Exception as error:
            error.add_note(f"while upcasting {where} from {self.old_name!r} to {self.new_name!r}")
            raise
        if not isinstance(made, self.new_class):
            raise UpcastError(
                f"the upcast {self.spelled} gave a {type(made).__name__} for {where}: return a {self.new_class.__name__}",
                old_type=self.old_name,
                new_type=self.new_name,
                got=type(made),
                global_sequence=global_sequence,
            )
        return made

    @property
    def spelled(self) -> str:
        """For messages."""
        return f"{self.where} ({self.old_name!r} to {self.new_name!r})"


class Registry:
    """The upcasts of a process, by the old type's name."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self.generation = 0
        """Rises with each registration: what was worked out before may be out of date."""

    def add(self, step: Step) -> None:
        """Register one. Raises ``SchemaError`` for a second one from a type, and for a circle."""
        with _lock:
            there = self._steps.get(step.old_name)
            if there is not None and not step.replaces(there):
                raise SchemaError(
                    f"events of {step.old_name!r} are upcast already, by {there.spelled}: an old type has one successor; "
                    f"upcast from {there.new_name!r} to go further"
                )
            steps = {**self._steps, step.old_name: step}
            after = [passed.new_name for passed in _path(steps, step.new_name)]
            if step.old_name in (step.new_name, *after):
                raise SchemaError(
                    f"an upcast from {step.old_name!r} to {step.new_name!r} would make a circle: "
                    f"{' -> '.join([step.old_name, step.new_name, *after])}"
                )
            self._steps = steps
            self.generation += 1

    def path(self, name: str) -> tuple[Step, ...]:
        """The upcasts that events of a type can go through, in order; none where it is nobody's old type."""
        return tuple(_path(self._steps, name))

    def known(self, name: str) -> EventType | None:
        """The event type of a name that an upcast gives; where several do, the first's."""
        for step in self._steps.values():
            if step.new_name == name:
                return event_type(step.new_class)
        return None


def _path(steps: dict[str, Step], name: str) -> Iterator[Step]:
    """Ends where a circle closes, which ``Registry.add`` refuses."""
    seen: set[str] = set()
    while name in steps and name not in seen:
        seen.add(name)
        yield steps[name]
        name = steps[name].new_name


REGISTRY: Final = Registry()


def upcast(old: type[Old], new: type[New]) -> Callable[[Callable[[Old], New]], Callable[[Old], New]]:
    """Register a function that makes an event of ``new`` out of one of ``old``, whenever one is read::

        @varve.upcast(OrderPlacedV1, OrderPlaced)
        def _(old: OrderPlacedV1) -> OrderPlaced:
            return OrderPlaced(old.order_id, [Line(old.product, old.quantity)])

    A stream that declares ``new`` then gives events of ``old`` as ``new``, through as many upcasts as it takes to reach a
    declared type, and so does a replay; raw bytes stay as they were written. The two classes have different store-wide names
    (``@varve.event(name=...)``). The function runs when ``Recorded.event`` is first asked for, or in ``get``; it should depend
    on nothing but the event, since it may run again for the same one. What it raises comes through with a note on the event.

    For the whole process, from the registration on: put it beside the classes. Readers and iterators that exist already keep to
    what they have resolved. The same function registered again (its module was loaded anew) replaces the first.

    Raises ``SchemaError`` for what is no event class or no plain function of one argument, for two classes of one type name, a
    second upcast from ``old``, and a circle. While reading, ``UpcastError`` where the function gave something else than ``new``.
    """
    old_name, new_name = _name_of(old), _name_of(new)
    if old_name == new_name:
        raise SchemaError(
            f"an upcast leads to another type; both of these are named {old_name!r} in a store: give the newer class a name "
            f"of its own, e.g. @varve.event(name='{old_name}.v2')"
        )

    def register(function: Callable[[Old], New]) -> Callable[[Old], New]:
        if not callable(function) or isinstance(function, type):
            raise SchemaError(f"@varve.upcast decorates a function of one event, not {function!r:.80}")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise SchemaError("an upcast is a plain function: it runs while an event is read")
        REGISTRY.add(Step(old_name, new_name, old, new, function))
        return function

    return register


def _name_of(cls: Any) -> str:
    """The type name of an event class, without compiling it: its annotations may name what comes later."""
    found = declaration(cls)
    return found.name if found is not None and found.what == "table" else event_type(cls).name

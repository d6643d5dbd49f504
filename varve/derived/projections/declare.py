"""What users write: a class with a schema, and a method per event type."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin

from varve import limits
from varve.codec import EventType, event_type
from varve.errors import InvalidProjection
from varve.reader import stream_names

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__varve_on__"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Projection:
    """Base of what turns events into rows of SQLite tables::

        class OrdersByCustomer(varve.Projection):
            version = 1
            schema = "CREATE TABLE orders (customer INTEGER PRIMARY KEY, placed INTEGER NOT NULL)"

            @varve.on(OrderPlaced, sql="INSERT INTO orders VALUES (?, 1) ON CONFLICT DO UPDATE SET placed = placed + 1")
            def placed(self, recorded):
                return (recorded.stream_id,)

            @varve.on(CustomerForgotten)
            def forgotten(self, sql, recorded):
                sql.execute("DELETE FROM orders WHERE customer = ?", (recorded.stream_id,))

    ``db.projection(OrdersByCustomer)`` gives what runs and reads it. A method depends on its event and on the projection's own
    tables and on nothing else (no clock, no random numbers, no other database): it runs again when the projection is rebuilt.

    An instance may set in ``__init__`` what follows, each with a ``name`` of its own: ``db.projection(OrdersOf("berlin"))``.
    """

    name: str = ""
    """Of its folder: letters, digits, ``_``, ``-`` and ``.``, 64 at most. By default the name of the class."""
    version: int = 1
    """Raise it when methods come to do something else: the projection then rebuilds itself. (That the schema, the statements in
    ``@varve.on``, the event types or ``streams`` changed, it sees by itself.)"""
    schema: str = ""
    """Statements that make the tables and indexes, one or several."""
    streams: Iterable[str] | None = None
    """Stream names whose events it gets; None: of all."""


class On(NamedTuple):
    """What ``@varve.on`` says of a method."""

    types: tuple[Any, ...]
    statement: str | None


class Handler:
    """A method of a projection, and the statement that its rows go into."""

    __slots__ = ("label", "method", "statement")

    def __init__(self, label: str, method: Callable[..., Any], statement: str | None) -> None:
        self.label = label
        self.method = method
        self.statement = statement


def on(*types: Any, sql: str | None = None) -> Callable[[F], F]:
    """Give the events of a class (of several, or of a union) to a method of a ``Projection``.

    Without ``sql`` it is called as ``method(self, sql, recorded)``: ``sql`` is the ``sqlite3.Connection``, inside the transaction
    that the position is stored in; it can do anything to the projection's tables, and nothing to transactions.

    With ``sql``, a statement, it is called as ``method(self, recorded)`` and returns the statement's parameters: a tuple or
    a dict
    for one row, a list of them (or it yields them) for several, None for none. This is the fast form: consecutive events of one
    statement are one ``executemany``. Statements are never reordered.

    Raises ``InvalidProjection`` (a TypeError).
    """
    members = tuple(member for one in types for member in _members(one))
    if not members:
        raise InvalidProjection("@varve.on names the event classes that the method is for: @varve.on(OrderPlaced)")
    if sql is not None and (not isinstance(sql, str) or not sql.strip()):
        raise InvalidProjection(f"sql is a statement, not {sql!r:.80}")

    def mark(method: F) -> F:
        found: Any = method  # a function keeps its type
        if not inspect.isfunction(found):
            raise InvalidProjection(f"@varve.on decorates a method, not {method!r:.80}")
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise InvalidProjection(f"{method.__qualname__} is async: a projection's methods run inside a transaction")
        if sql is None and inspect.isgeneratorfunction(method):
            raise InvalidProjection(f"{method.__qualname__} is a generator, nothing of which would run: execute in it")
        setattr(method, _MARK, On(members, sql))
        return method

    return mark


def _members(one: Any) -> tuple[Any, ...]:
    import types

    is_union = isinstance(one, types.UnionType) or get_origin(one) is Union
    return get_args(one) if is_union else (one,)


class Declared:
    """A projection class, checked.

    Attributes: ``name``, ``version``, ``schema``; ``streams``, names or None; ``types``, the event types by name;
    ``handlers``, by
    type name; ``stamp``, which changes with whatever makes rows that are there already wrong, except for what methods do.
    """

    def __init__(self, projection: Projection | type[Projection]) -> None:
        cls, self.instance = _made(projection)
        said = self.instance  # which may have set what the class says of others
        self.name = check_projection_name(said.name or cls.__name__)
        self.version = said.version
        if not isinstance(self.version, int) or isinstance(self.version, bool) or not 1 <= self.version < 2**63:
            raise InvalidProjection(f"{cls.__name__}.version is an int from 1 on, not {self.version!r}")
        self.schema = said.schema
        if not isinstance(self.schema, str) or not self.schema.strip():
            raise InvalidProjection(f"{cls.__name__}.schema is the SQL that makes its tables, not {self.schema!r:.80}")
        self.streams = None if said.streams is None else tuple(sorted(set(stream_names(said.streams))))
        self.types: dict[str, EventType] = {}
        self.handlers: dict[str, Handler] = {}
        self._collect(cls)
        if not self.handlers:
            raise InvalidProjection(f"{cls.__name__} has no method with @varve.on: it would get no event")
        self.stamp = self._stamp()

    def _collect(self, cls: type[Projection]) -> None:
        for attribute in sorted({name for base in cls.__mro__ for name in vars(base)}):
            said: On | None = getattr(inspect.getattr_static(cls, attribute), _MARK, None)
            if said is None:
                continue
            handler = Handler(f"{cls.__name__}.{attribute}", getattr(self.instance, attribute), said.statement)
            for member in said.types:
                compiled = event_type(member)
                there = self.handlers.get(compiled.name)
                if there is not None:
                    raise InvalidProjection(
                        f"events of {compiled.name!r} go to two methods, {there.label} and {handler.label}: do both in one"
                    )
                self.types[compiled.name] = compiled
                self.handlers[compiled.name] = handler

    def _stamp(self) -> str:
        handlers = [(name, handler.statement) for name, handler in sorted(self.handlers.items())]
        said = json.dumps([self.schema.strip(), self.streams, handlers], ensure_ascii=True)
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def _made(projection: Projection | type[Projection]) -> tuple[type[Projection], Projection]:
    if isinstance(projection, type) and issubclass(projection, Projection) and projection is not Projection:
        try:
            return projection, projection()
        except TypeError as exc:
            raise InvalidProjection(
                f"{projection.__name__}() cannot be made: {exc}. Hand over an instance instead: "
                f"db.projection({projection.__name__}(...))"
            ) from exc
    if isinstance(projection, Projection) and type(projection) is not Projection:
        return type(projection), projection
    raise InvalidProjection(f"a projection is a class that derives from varve.Projection, not {projection!r:.80}")


def check_projection_name(name: object) -> str:
    """A name that can be a folder's. Raises ``InvalidProjection``."""
    if isinstance(name, str) and len(name) <= limits.PROJECTION_NAME_CHARS_MAX and _NAME.fullmatch(name):
        return name
    raise InvalidProjection(
        f"a projection's name is 1 to {limits.PROJECTION_NAME_CHARS_MAX} letters of the English alphabet, digits, '_', '-' and "
        f"'.', the first one no '-' and no '.': not {name!r:.100}. Set the class attribute `name`"
    )

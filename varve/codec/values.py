"""Events as values: equality, hash, repr, pickle and copy, the same for instances and views.

Two events are equal when their class and all their fields are. Vectors compare as tuples; NaN equals NaN, so that an event
equals its own copy and its own view; 0.0 equals -0.0, as everywhere in Python.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.codec.declare import Declaration
    from varve.codec.schema import FieldDef

__all__ = ["add_value_methods", "owned", "post_init"]

E = TypeVar("E")

SHOWN_ITEMS_MAX: Final = 16
"""Items of a vector that a repr shows."""

SHOWN_BYTES_MAX: Final = 64


class _NaN:
    def __repr__(self) -> str:
        return "nan"


NAN: Final = _NaN()


def post_init(declaration: Declaration, users: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """A ``__post_init__`` for a class whose annotations cannot be read yet: normalises, then runs the user's own."""
    ready: Callable[[Any], None] | None = None

    def __post_init__(self: Any) -> None:
        nonlocal ready
        if ready is None:
            ready = _fixing(dict(declaration.normalisers()), users)
        ready(self)

    return __post_init__


def _fixing(fixes: dict[str, Callable[[Any], Any]], users: Callable[[Any], None] | None) -> Callable[[Any], None]:
    put = object.__setattr__

    def __post_init__(self: Any) -> None:
        for name, fix in fixes.items():
            put(self, name, fix(getattr(self, name)))
        if users is not None:
            users(self)

    return __post_init__


def add_constructor(cls: Any, fixes: dict[str, Callable[[Any], Any]]) -> None:
    """An ``__init__`` with the dataclass's signature that sets slots by their descriptors, at half the cost of the frozen
    dataclass's own, and normalises the fields that need it."""
    fields = dataclasses.fields(cls)
    namespace: dict[str, Any] = {}
    parameters, lines = ["_self"], []
    for f in [*(f for f in fields if not f.kw_only), *(f for f in fields if f.kw_only)]:
        if f.kw_only and "*" not in parameters:
            parameters.append("*")
        parameter, value = f.name, f.name
        if f.default_factory is not dataclasses.MISSING:
            namespace |= {f"_make_{f.name}": f.default_factory, "_MISSING": dataclasses.MISSING}
            parameter, value = f"{f.name}=_MISSING", f"_make_{f.name}() if {f.name} is _MISSING else {f.name}"
        elif f.default is not dataclasses.MISSING:
            namespace[f"_default_{f.name}"] = f.default
            parameter = f"{f.name}=_default_{f.name}"
        parameters.append(parameter)
        namespace[f"_set_{f.name}"] = cls.__dict__[f.name].__set__
        if f.name in fixes:
            namespace[f"_fix_{f.name}"] = fixes[f.name]
            value = f"_fix_{f.name}({value})"
        lines.append(f"    _set_{f.name}(_self, {value})\n")
    if hasattr(cls, "__post_init__"):
        lines.append("    _self.__post_init__()\n")
    exec(f"def __init__({', '.join(parameters)}):\n{''.join(lines) or '    pass'}", namespace)
    made = namespace["__init__"]
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    made.__annotations__ = cls.__init__.__annotations__
    cls.__init__ = made


def normalise_after(cls: Any, fixes: dict[str, Callable[[Any], Any]]) -> None:
    """For a class with its own ``__init__``: what that has set is normalised when it returns."""
    users = cls.__init__
    fix = _fixing(fixes, None)

    @functools.wraps(users)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        users(self, *args, **kwargs)
        fix(self)

    if fixes:
        cls.__init__ = __init__


def _key_item(f: FieldDef) -> str:
    kind = f.kind
    name = f"e.{f.name}"
    if kind.tag in {"f32", "f64"}:
        return f"(x if (x := {name}) == x else NAN)"
    if kind.item is not None:
        return f"{'floats' if kind.item.tag in {'f32', 'f64'} else 'items'}({name})"
    return name


def _items(value: Any) -> Any:
    return tuple(value) if type(value) is memoryview else value


def _floats(value: Any) -> Any:
    if type(value) not in {memoryview, tuple}:
        return value
    return tuple(x if x == x else NAN for x in value)  # noqa: PLR0124  (only NaN differs from itself)


def key_function(declaration: Declaration) -> Callable[[Any], tuple[Any, ...]]:
    """What equality and hash look at: a tuple of the field values in comparable form. Made once, kept in ``declaration.key``."""
    items = "".join(f"{_key_item(f)}, " for f in declaration.fields)
    key: Callable[[Any], tuple[Any, ...]] = eval(
        f"lambda e: ({items})", {"NAN": NAN, "items": _items, "floats": _floats}
    )
    declaration.key = key
    return key


def shown(value: Any) -> str:
    """A field's repr, cut where it would flood the screen."""
    if type(value) is memoryview:
        value = tuple(value[: SHOWN_ITEMS_MAX + 1]) + (None,) * max(0, len(value) - SHOWN_ITEMS_MAX - 1)
    if type(value) is tuple and len(value) > SHOWN_ITEMS_MAX:
        head = ", ".join(map(repr, value[:SHOWN_ITEMS_MAX]))
        return f"({head}, ... {len(value) - SHOWN_ITEMS_MAX} more)"
    if type(value) is bytes and len(value) > SHOWN_BYTES_MAX:
        return f"{value[:SHOWN_BYTES_MAX]!r}... {len(value) - SHOWN_BYTES_MAX} more"
    return repr(value)


def add_value_methods(cls: Any, declaration: Declaration) -> None:
    """Methods that the class does not define itself."""
    own = cls.__dict__

    def __eq__(self: Any, other: object) -> bool:
        if not isinstance(other, cls):
            return NotImplemented
        key = declaration.key or key_function(declaration)
        return key(self) == key(other)

    def __hash__(self: Any) -> int:
        return hash((declaration.key or key_function(declaration))(self))

    def __repr__(self: Any) -> str:
        inside = ", ".join(f"{f.name}={shown(getattr(self, f.name))}" for f in dataclasses.fields(cls) if f.repr)
        return f"{cls.__qualname__}({inside})"

    def _repr_html_(self: Any) -> str:
        import html

        rows = "".join(
            f"<tr><th>{f.name}</th><td>{html.escape(shown(getattr(self, f.name)))}</td></tr>"
            for f in dataclasses.fields(cls)
            if f.repr
        )
        return f"<table><caption>{html.escape(declaration.name)}</caption>{rows}</table>"

    if "__eq__" not in own:
        cls.__eq__ = __eq__
    if own.get("__hash__") is None:
        cls.__hash__ = __hash__
    if "__repr__" not in own:
        cls.__repr__ = __repr__
    cls._repr_html_ = own.get("_repr_html_", _repr_html_)
    cls.__reduce__ = _reduce(cls, declaration)


def _reduce(cls: type, declaration: Declaration) -> Callable[[Any], tuple[Any, ...]]:
    def __reduce__(self: Any) -> tuple[Any, ...]:
        fields = tuple(owned_value(getattr(self, f.name)) for f in dataclasses.fields(cls))
        if declaration.dynamic is not None:
            from varve.codec.dynamic import rebuild_event

            return rebuild_event, (declaration.dynamic, declaration.name, fields)
        return rebuild, (cls, fields)

    return __reduce__


def rebuild(cls: Any, fields: tuple[Any, ...]) -> Any:
    """An instance from field values that were normalised already: no ``__init__``, as with any pickled dataclass."""
    out = object.__new__(cls)
    put = object.__setattr__
    for f, value in zip(dataclasses.fields(cls), fields, strict=True):
        put(out, f.name, value)
    return out


def owned_value(value: Any) -> Any:
    """A field's value that outlives the buffer a view looks into."""
    if type(value) is memoryview:
        return tuple(value)
    if type(value) is tuple:
        if not value or not _is_event(value[0]):
            return value
        items = tuple(map(owned_value, value))
        return value if all(map(operator.is_, items, value)) else items
    return owned(value) if _is_event(value) else value


def _is_event(value: Any) -> bool:
    return hasattr(type(value), "__varve__")


def owned(event: E) -> E:
    """A plain instance of the event's declared class that holds no reference to a buffer, however deep.

    An instance comes back as it is when nothing in it is a view. Raises TypeError for what is no event.
    """
    if isinstance(event, UnknownEvent):
        return type(event)(event.type_name, bytes(event.data))
    found = getattr(type(event), "__varve__", None)
    if found is None:
        raise TypeError(f"varve.owned takes an event, not {type(event).__name__}")
    cls = found.cls
    if not dataclasses.is_dataclass(cls):  # flatc's own: an accessor over bytes of its own
        return found.owned(event)  # type: ignore[no-any-return]
    before = [getattr(event, f.name) for f in dataclasses.fields(cls)]
    after = [owned_value(value) for value in before]
    if type(event) is cls and all(a is b for a, b in zip(before, after, strict=True)):
        return event
    plain: E = rebuild(cls, tuple(after))
    return plain


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    if not view.readonly or view.ndim != 1:
        raise TypeError("cannot pickle 'memoryview' object")
    return tuple, (view.tolist(),)


# A view's vector is a read-only memoryview, which neither pickles nor copies, so that dataclasses.asdict(view) would fail:
# it deep-copies what it does not know. Python offers no narrower hook; what failed before becomes a tuple.
copyreg.pickle(memoryview, _reduce_memoryview)

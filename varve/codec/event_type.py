"""EventType: an event class, compiled. What the store, the readers and the tools work with."""

from __future__ import annotations

import linecache
import re
import threading
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from struct import Struct
from typing import Any, Final
from uuid import UUID

from varve import limits
from varve.codec import pack, runtime, view
from varve.codec.check import coerce_event, encoding_error
from varve.codec.declare import Declaration, declaration
from varve.codec.digest import digest_text
from varve.codec.json import absent_object
from varve.codec.plan import StructPlan, TablePlan, inline_shape, plan_struct, plan_table
from varve.codec.schema import SCALARS, Kind, Schema
from varve.codec.verify import is_buffer, verify_event
from varve.errors import SchemaError

__all__ = ["EventType", "event_type"]

COMPILE_LOCK: Final = threading.RLock()


class EventType:
    """The compiled descriptor of an event class. Made once per class by ``event_type``."""

    __slots__ = (
        "bodies",
        "body",
        "cls",
        "declaration",
        "fingerprint",
        "name",
        "nested",
        "nested_vector",
        "pack",
        "pack_all",
        "plan",
        "schema",
        "schema_bytes",
        "source",
        "view_class",
    )

    cls: Any
    """The declared class."""
    name: str
    """The store-wide type name."""
    schema_bytes: bytes
    """Canonical text of the schema; ``event_type_from_schema`` makes a class of it."""
    fingerprint: bytes
    """16 bytes that tell schemas apart."""
    body: Callable[[Any, int], bytes]
    """An event as a table inside something else, at a nesting depth; raises ``runtime.Reject`` for what does not fit."""
    bodies: Callable[[Any, int], bytes] | None
    """A vector of such tables; None where ``runtime.table_vector`` makes it of ``body``."""
    nested: Callable[[Any, int], Any]
    """A view of the table to which the uoffset at a position of a buffer points."""
    nested_vector: Callable[[Any, int], tuple[Any, ...]]
    """Views of the tables in the vector to which the uoffset at a position of a buffer points."""
    pack: Callable[[Any], bytes]
    """An event (an instance of ``cls`` or a view) as FlatBuffer bytes, a multiple of 8; the first byte belongs at a multiple of
    8. Raises EventEncodingError."""
    pack_all: Callable[[Any], list[bytes]]
    """Events as ``pack`` gives them one by one."""
    view_class: Any
    """A subclass of ``cls``; the hot path is ``v = object.__new__(view_class); v._b = buffer; v._o = offset``."""
    source: str
    """The generated Python source of the packers and views."""

    def __init__(self, declared: Declaration) -> None:
        self.declaration = declared
        self.cls = declared.cls
        self.name = declared.name
        self.schema: Schema = declared.schema()
        self.schema_bytes = self.schema.to_bytes()
        self.fingerprint = blake2b(self.schema_bytes, digest_size=16).digest()
        self.plan: TablePlan = plan_table(
            self.schema.table, self._struct_plan, lambda name: self.schema.types[name].base
        )

    def _struct_plan(self, name: str) -> StructPlan:
        return plan_struct(self.schema.types[name], self._struct_plan, lambda enum: self.schema.types[enum].base)

    def __repr__(self) -> str:
        return f"<EventType {self.name} {self.fingerprint.hex()}>"

    @property
    def accepts(self) -> tuple[type, ...]:
        """Classes whose instances ``pack`` takes, beside views."""
        return (self.cls,)

    def view(self, buffer: bytes | memoryview, offset: int = 0) -> Any:
        """A view of the event whose FlatBuffer starts at ``offset``, unchecked. It lives as long as the buffer does."""
        out = object.__new__(self.view_class)
        out._b = buffer
        out._o = offset
        return out

    def digest(self, event: Any) -> bytes:
        """Canonical text of the event by value: equal for an instance and its view, on every Python version, and after
        fields were appended to the class. Raises EventEncodingError."""
        return digest_text(self.declaration, coerce_event(self.declaration, event))

    def digest_packed(self, buffer: bytes) -> bytes:
        """``digest`` of the event that ``pack`` made these bytes of, without checking its values again."""
        return digest_text(self.declaration, self.view(buffer))

    def verify(self, buffer: bytes | memoryview) -> None:
        """Check bytes of any origin; raises MalformedEvent and nothing else. What passes reads without errors."""
        verify_event(self, buffer)


class StructType:
    """A compiled struct class: an instance to bytes and back."""

    __slots__ = ("pack", "plan", "read", "source")

    pack: Callable[[Any], bytes]
    read: Callable[[Any, int], Any]
    source: str
    plan: StructPlan


class Build:
    """One event class while its code is written: collects what the code refers to."""

    def __init__(self, compiled: EventType) -> None:
        self.compiled = compiled
        self.declaration = compiled.declaration
        self.fields = self.declaration.fields
        self.plan = compiled.plan
        self.optional = [index for index, f in enumerate(self.fields) if f.optional]
        self.refs: dict[str, tuple[str, str, Kind | None]] = {}

    def ref(self, what: str, name: str, item: Kind | None = None) -> str:
        """An identifier for something of another type, bound when every type of the schema has its code."""
        plain = re.sub(r"\W+", "_", f"{what}_{name}").strip("_")
        entry = (what, name, item)
        label, n = plain, 2
        while self.refs.setdefault(label, entry) != entry:
            label, n = f"{plain}_{n}", n + 1
        return label

    def where(self, f: Any) -> str:
        return f"{self.declaration.name}.{f.name}"

    def shape(self, kind: Kind) -> tuple[int, int, str]:
        """Size, alignment and code of what stands in a slot or vector for this kind."""
        return inline_shape(kind, lambda name: self.compiled_struct(name).plan, self.declaration.base_of)

    def compiled_struct(self, name: str) -> StructType:
        return compile_struct(self.declaration.declaration_of(name))

    def compiled_table(self, name: str) -> EventType:
        found: EventType = self.declaration.declaration_of(name).compiled
        return found

    def build_of(self, name: str) -> Build:
        """The same for another table of the schema."""
        return Build(self.compiled_table(name))

    def is_wide(self) -> bool:
        """Whether this table, or any that it can hold, has 8-byte values."""
        return is_wide(self.declaration)

    def wide(self, kind: Kind) -> bool:
        """Whether what a field points to holds 8-byte values."""
        if kind.tag == "vector":
            assert kind.item is not None
            return self.shape(kind.item)[1] == 8 if kind.item.inline else self.wide(kind.item)
        if kind.nested:  # a buffer begins at a multiple of 8, for readers that look into it where it lies
            return True
        names = kind.references() if kind.tag in {"table", "union"} else ()
        return any(is_wide(self.declaration.declaration_of(name)) for name in names)

    def resolve(self, what: str, name: str, item: Kind | None) -> Any:
        bound = self.declaration.bound
        if what == "enum":
            return bound[name]
        if what == "read_enum":
            return view.reader(Kind("enum", name=name), self)
        if what == "enum_members":
            return bound[name]._value2member_map_
        if what in {"pack_struct", "read_struct"}:
            compiled = self.compiled_struct(name)
            return compiled.pack if what == "pack_struct" else compiled.read
        if what == "pack_vector":
            assert item is not None
            return pack.vector_packer(item, self)
        if what == "read_vector":
            return view.reader(Kind("vector", item=item), self)
        if what in {"members", "read_members"}:
            assert item is not None
            tables = [self.compiled_table(member) for member in item.names]
            if what == "read_members":
                return tuple(table.nested for table in tables)
            return {t.cls: (tag, t.body, t.plan.table_at - 4) for tag, t in enumerate(tables, 1)}
        table = self.compiled_table(name)
        if what == "holds":
            return partial(is_buffer, table.schema, name)
        return table.plan.table_at - 4 if what == "table_at" else getattr(table, what)


def is_wide(declared: Declaration) -> bool:
    """Whether a table, or any table it can hold, has 8-byte values."""
    for _, target in declared.reachable():
        if not isinstance(target, Declaration) or target.what != "table":
            continue
        table = Build(target.compiled)
        for f in table.fields:
            kind = f.kind.item if f.kind.item is not None else f.kind
            if (kind.inline and table.shape(kind)[1] == 8) or f.align == 8 or f.kind.nested:
                return True
    return False


def event_type(cls: Any) -> EventType:
    """The EventType of a class decorated with ``@varve.event``, or generated by flatc; SchemaError for anything else."""
    found = declaration(cls)
    if found is None:
        from varve.codec.official import official_type  # which builds on this module

        official = official_type(cls)
        if official is not None:
            return official
    if found is None or found.what != "table":
        kind = "a struct" if found is not None else "no event class"
        spelled = cls.__name__ if isinstance(cls, type) else repr(cls)
        raise SchemaError(f"{spelled} is {kind}; decorate the class with @varve.event")
    ready = found.compiled
    return ready if ready is not None and hasattr(ready, "pack") else compile_event(found)


def compile_event(declared: Declaration) -> EventType:
    """Compile a class and every class it needs: plans first, since they refer to one another, then code, then links."""
    with COMPILE_LOCK:
        tables = [t for _, t in declared.reachable() if isinstance(t, Declaration) and t.what == "table"]
        fresh = [t for t in tables if t.compiled is None or not hasattr(t.compiled, "pack")]
        depth_check(declared)
        for table in fresh:
            table.compiled = EventType(table)
        written = [write_code(Build(table.compiled)) for table in fresh]
        # ``pack`` is what makes an EventType visible as ready: it is set last of all.
        for build, namespace in written:
            namespace.update({label: build.resolve(*entry) for label, entry in build.refs.items()})
        for build, namespace in written:
            build.compiled.pack_all = namespace["pack_all"]
            build.compiled.pack = namespace["pack"]
        ready: EventType = declared.compiled
        return ready


def depth_check(declared: Declaration) -> None:
    """Classes that cannot hold themselves have a fixed depth; one above the limit could never be written."""
    # Each class is measured once: there may be astronomically many ways through classes that share what they hold.
    heights: dict[str, int] = {}

    def height(d: Declaration, level: int) -> int:
        if level + heights.get(d.name, 1) > limits.NESTING_DEPTH_MAX + 1:
            return limits.NESTING_DEPTH_MAX + 1
        if d.name not in heights:
            heights[d.name] = 0
            nested = [t for t in d.bound.values() if isinstance(t, Declaration) and t.what == "table"]
            heights[d.name] = 1 + max((height(t, level + 1) for t in nested), default=0)
        return heights[d.name]

    if height(declared, 1) > limits.NESTING_DEPTH_MAX:
        raise SchemaError(f"{declared.name} nests event classes deeper than {limits.NESTING_DEPTH_MAX}")


def run_source(source: str, label: str, namespace: dict[str, Any]) -> None:
    """Compile generated source so that tracebacks and debuggers show its lines."""
    filename = f"<varve {label}>"
    exec(compile(source, filename, "exec"), namespace)
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)


def write_code(build: Build) -> tuple[Build, dict[str, Any]]:
    compiled = build.compiled
    source = f"# {build.declaration.name}: packers\n\n" + pack.pack_source(build)
    source += f"\n# {build.declaration.name}: views\n\n" + view.view_source(build)
    namespace = pack.pack_namespace(build) | view.view_namespace(build)
    namespace |= {f"ABSENT_{f.name}": absent_object_of(build, f) for f in build.fields if not f.required}
    namespace["pack_slow"] = slow_packer(build, namespace)
    run_source(source, build.declaration.name, namespace)
    compiled.source = source
    compiled.body, compiled.bodies, compiled.nested = namespace["body"], namespace.get("bodies"), namespace["nested"]
    compiled.nested_vector = namespace["nested_vector"]
    compiled.view_class = view.make_view_classes(build, namespace)
    return build, namespace


def absent_object_of(build: Build, f: Any) -> Any:
    return None if f.optional else absent_object(f.kind, f.default, build.declaration)


def slow_packer(build: Build, namespace: dict[str, Any]) -> Callable[[Any], bytes]:
    """Validate field by field, and pack what turned out to be fine in an unusual form."""
    declared = build.declaration

    def pack_slow(event: Any) -> bytes:
        fit = coerce_event(declared, event)
        try:
            return namespace["pack_whole"](fit)  # type: ignore[no-any-return]
        except (runtime.Reject, ValueError, TypeError, ArithmeticError, AttributeError) as error:
            raise encoding_error(declared.name, "", "cannot be encoded", event) from error

    return pack_slow


def compile_struct(declared: Declaration) -> StructType:
    """Code for a struct class: its fields to one ``struct`` call and back."""
    with COMPILE_LOCK:
        if declared.compiled is not None:
            return declared.compiled  # type: ignore[no-any-return]
        out = StructType()
        schema = declared.schema()

        def struct_plan(name: str) -> StructPlan:
            return compile_struct(declared.declaration_of(name)).plan

        out.plan = plan_struct(schema.table, struct_plan, declared.base_of)
        out.source, namespace = struct_code(declared, out.plan)
        run_source(out.source, declared.name, namespace)
        out.pack, out.read = namespace["pack_struct"], namespace["read_struct"]
        declared.compiled = out
        return out


def open_class(cls: type) -> type:
    """A struct's class without what freezes it: an instance is filled as one of these, and becomes one of the other before
    anybody sees it. Both methods are replaced, since one slot of the interpreter serves both."""
    thawed = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__, "__init__": object.__init__}
    return type(cls.__name__, (cls,), thawed | {"__slots__": ()})


def struct_code(declared: Declaration, plan: StructPlan) -> tuple[str, dict[str, Any]]:
    layout = Struct(plan.format)
    namespace: dict[str, Any] = {
        "CLS": declared.cls,
        "OPEN": runtime.maker(open_class(declared.cls)),
        "PACK": layout.pack,
        "UNPACK": layout.unpack_from,
        "Reject": runtime.Reject,
        "UUID": UUID,
        "nanoseconds": runtime.nanoseconds,
    }
    src = pack.Source()
    build: Any = _StructBuild(declared, namespace)  # stands in for a Build, of which no more is asked here
    src.put("def pack_struct(e):", "    if not isinstance(e, CLS):", "        raise Reject")
    src.put(*(f"    v{i} = e.{f.name}" for i, f in enumerate(declared.fields)))
    checks = [c for i, f in enumerate(declared.fields) if (c := pack.check_of(f.kind, f"v{i}", build))]
    if checks:
        src.put(f"    if not ({' and '.join(checks)}):", "        raise Reject")
    args = [build.packed(f.kind, f"v{i}") for i, f in enumerate(declared.fields)]
    src.put(f"    return PACK({', '.join(args)})", "", "")
    src.put("def read_struct(b, p):", "    e = OPEN()")
    names = ", ".join(f"v{i}" for i in range(len(declared.fields)))
    src.put(f"    {names}{',' if len(declared.fields) == 1 else ''} = UNPACK(b, p)")
    for i, (f, offset) in enumerate(zip(declared.fields, plan.offsets, strict=True)):
        src.put(f"    e.{f.name} = {build.read(f.kind, f'v{i}', offset)}")
    src.put("    e.__class__ = CLS", "    return e")
    return src.text(), namespace


class _StructBuild:
    """The part of Build that structs need; references bind at once, since structs cannot be recursive."""

    def __init__(self, declared: Declaration, namespace: dict[str, Any]) -> None:
        self.declaration = declared
        self.namespace = namespace

    def ref(self, what: str, name: str) -> str:
        plain = re.sub(r"\W", "_", name)
        label = f"{what}_{plain}" if plain == name else f"{what}_{plain}_{len(self.namespace)}"
        target = self.declaration.bound[name]
        self.namespace[label] = target if what == "enum" else getattr(compile_struct(target), what.partition("_")[0])
        return label

    def shape(self, kind: Kind) -> tuple[int, int, str]:
        """Size, alignment and code of what stands in the struct for this kind."""
        return inline_shape(kind, lambda name: self.compiled_struct(name).plan, self.declaration.base_of)

    def compiled_struct(self, name: str) -> StructType:
        return compile_struct(self.declaration.declaration_of(name))

    def packed(self, kind: Kind, v: str) -> str:
        """The ``struct`` argument of a field."""
        build: Any = self  # the part of Build that structs need
        if kind.tag != "array":
            return pack.inline_value(kind, v, build)
        label = f"pack_array_{len(self.namespace)}"
        self.namespace[label] = pack.array_packer(kind, build)
        return f"{label}({v})"

    def read(self, kind: Kind, raw: str, offset: int) -> str:
        """An expression for a field's value; ``raw`` is what ``struct`` unpacked."""
        if kind.tag == "array":
            assert kind.item is not None
            label = f"read_array_{len(self.namespace)}"
            build: Any = self
            item = view.reader(kind.item, build)
            self.namespace[label] = runtime.array_reader(item, self.shape(kind.item)[0], kind.length)
            return f"{label}(b, p + {offset})"
        if kind.tag == "struct":
            return f"{self.ref('read_struct', kind.name)}(b, p + {offset})"
        if kind.tag == "enum":
            label = f"enum_reader_{len(self.namespace)}"
            code = SCALARS[self.declaration.base_of(kind.name)].code
            self.namespace[label] = runtime.enum_reader(self.declaration.enum_of(kind.name), code)
            return f"{label}(b, p + {offset})"
        if kind.tag == "uuid":
            return f"UUID(bytes={raw})"
        if kind.tag == "datetime":
            self.namespace["datetime_of"] = runtime.datetime_of
            return f"datetime_of({raw})"
        return raw

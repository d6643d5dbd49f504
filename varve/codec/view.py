"""Generated views: reading an event's fields straight from its FlatBuffer.

A view is an instance of one of four subclasses of the event class, all with the same memory layout:

- *fresh* (root or nested): created unchecked. The first field access compares the bytes up to the table with what our packer
  writes and turns the view into one of the others by assigning ``__class__``;
- *fast*: fields at fixed offsets, no further checks;
- *general* (root or nested): any valid FlatBuffer of the schema; every access goes through its vtable.

``_b`` is the buffer, ``_o`` the offset of the event's root uoffset; for a nested table the offset that makes its fields stand
where they stand in a root event, so that fast views serve both. Views never change: two threads that turn the same view into
another class do the same thing twice.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, Any

from varve import limits
from varve.codec import runtime
from varve.codec.pack import Source
from varve.codec.schema import SCALARS, FieldDef, Kind

if TYPE_CHECKING:
    from varve.codec.event_type import Build

__all__ = ["make_view_classes", "view_namespace", "view_source"]


def _getter(src: Source, name: str, prefix: str) -> None:
    src.put(f"def {prefix}_{name}(self):")


def read_call(kind: Kind, build: Build) -> str:
    """The name of a function (buffer, position) -> value for what stands, or is pointed to, at a position."""
    tag = kind.tag
    if tag in {"str", "bytes", "decimal", "uuid", "datetime"}:
        return f"read_{tag}"
    if tag == "struct":
        return build.ref("read_struct", kind.name)
    if tag == "table":
        return build.ref("nested", kind.name)
    if tag == "enum":
        return build.ref("read_enum", kind.name)
    if tag == "vector":
        return build.ref("read_vector", str(kind.item), kind.item)
    return f"read_{tag}"


def reader(kind: Kind, build: Build) -> Any:
    """The function that ``read_call`` names, for vectors and structs to be built on."""
    tag = kind.tag
    if tag in SCALARS:
        return runtime.scalar_reader(SCALARS[tag].code)
    if tag == "enum":
        return runtime.enum_reader(build.declaration.enum_of(kind.name), build.shape(kind)[2])
    if tag == "struct":
        return build.compiled_struct(kind.name).read
    if tag == "table":
        return build.compiled_table(kind.name).nested
    if tag == "vector":
        assert kind.item is not None
        if kind.item.tag in SCALARS:
            return runtime.scalar_vector_reader(kind.item.tag)
        item = runtime.read_bytes_item if kind.item.tag == "bytes" else reader(kind.item, build)
        return runtime.vector_reader(item, build.shape(kind.item)[0])
    return {
        "str": runtime.read_str,
        "bytes": runtime.read_bytes,
        "decimal": runtime.read_decimal,
        "uuid": runtime.read_uuid,
        "datetime": runtime.read_datetime,
    }[tag]


def _read_lines(f: FieldDef, build: Build) -> list[str]:
    """Lines that return the value at slot position ``p`` of buffer ``b`` (``q``: of a union's tag, or vector of tags)."""
    kind = f.kind
    if kind.tag == "bool":
        return ["return b[p] != 0"]
    if kind.tag == "u8":
        return ["return b[p]"]
    if kind.tag in SCALARS:
        return [f"return get_{kind.tag}(b, p)[0]"]
    if kind.tag == "str":
        return ["p += U4(b, p)[0]", 'return str(b[p + 4 : p + 4 + U4(b, p)[0]], "utf-8")']
    if kind.tag == "union":
        lines = ["t = b[q]"]
        for tag, name in enumerate(kind.names, 1):
            lines += [f"if t == {tag}:", f"    return {build.ref('nested', name)}(b, p)"]
        return [*lines, f"raise unknown_member({build.where(f)!r}, t)"]
    if kind.paired:
        members = build.ref("read_members", str(kind.item), kind.item)
        return [f"return read_union_vector(b, q, p, {members}, {build.where(f)!r})"]
    return [f"return {read_call(kind, build)}(b, p)"]


def _fast(src: Source, build: Build, index: int, f: FieldDef) -> None:
    plan = build.plan
    slot = next(s for s in plan.slots if s.field == index and not s.tag)
    tag_slot = next((s for s in plan.slots if s.field == index and s.tag), None)
    _getter(src, f.name, "fast")
    src.depth += 1
    if f.kind.tag in SCALARS and not f.optional:
        if f.kind.tag in {"u8", "bool"}:
            src.put(f"return self._b[self._o + {slot.pos}]" + (" != 0" if f.kind.tag == "bool" else ""))
        else:
            src.put(f"return get_{f.kind.tag}(self._b, self._o + {slot.pos})[0]")
    else:
        src.put("b = self._b", "o = self._o")
        if f.optional:
            src.put(f"if U2(b, o + {plan.vtable_at + slot.entry})[0] == 0:", "    return None")
        src.put(f"p = o + {slot.pos}")
        if tag_slot is not None:
            src.put(f"q = o + {tag_slot.pos}")
        src.put(*_read_lines(f, build))
    src.depth -= 1
    src.put("")


def reads_with_head(f: FieldDef, build: Build) -> bool:
    """Whether one ``struct`` call gives the head and the field: a number, in a class whose head never varies."""
    return f.kind.tag in SCALARS and not f.optional and not build.optional


def _fresh(src: Source, build: Build, f: FieldDef, which: str) -> None:
    """First access: settle the class, then read."""
    start = 0 if which == "root" else 4
    _getter(src, f.name, f"fresh_{which}")
    src.depth += 1
    if reads_with_head(f, build):
        src.put("try:")
        src.put(f"    head, value = HEAD_{which}_{f.name}(self._b, self._o{f' + {start}' if start else ''})")
        src.put("except StructError:", "    head = None")
        src.put(f"if head == PREFIX_{which}:", "    self.__class__ = FAST", "    return value")
        src.put(f"self.__class__ = settle_{which}(head)", f"return self.{f.name}")
        src.depth -= 1
        src.put("")
        return
    src.put("try:")
    src.put(f"    head = HEAD_{which}(self._b, self._o{f' + {start}' if start else ''})[0]")
    src.put("except StructError:", "    head = None")
    if build.optional:
        src.put(f"if head in KNOWN_{which}:")
    else:
        src.put(f"if head == PREFIX_{which}:")
    src.put("    self.__class__ = FAST", f"    return fast_{f.name}(self)")
    src.put(f"self.__class__ = settle_{which}(head)", f"return self.{f.name}")
    src.depth -= 1
    src.put("")


def _general(src: Source, build: Build, index: int, f: FieldDef, which: str) -> None:
    plan = build.plan
    slots = [s for s in plan.slots if s.field == index]
    _getter(src, f.name, f"general_{which}")
    src.depth += 1
    src.put("b = self._b")
    src.put("t = self._o + U4(b, self._o)[0]" if which == "root" else f"t = self._o + {plan.table_at}")
    src.put(f"p = slot(b, t, {slots[-1].entry})")
    absent = f"return ABSENT_{f.name}" if not f.required else f"raise absent({build.where(f)!r})"
    src.put("if not p:", f"    {absent}")
    if f.kind.paired:
        unset = "not q or not b[q]" if f.kind.tag == "union" else "not q"
        src.put(f"q = slot(b, t, {slots[0].entry})", f"if {unset}:", f"    {absent}")
    src.put(*_read_lines(f, build))
    src.depth -= 1
    src.put("")


def view_source(build: Build) -> str:
    """The source of the field getters of every view class."""
    src = Source()
    for index, f in enumerate(build.fields):
        _fast(src, build, index, f)
        for which in ("root", "nested"):
            _fresh(src, build, f, which)
            _general(src, build, index, f, which)
    src.put("def nested(b, p):", '    """A view of the table whose uoffset stands at p."""')
    src.put(
        "    v = NEW(FRESH_NESTED)",
        "    v._b = b",
        f"    v._o = p + U4(b, p)[0] - {build.plan.table_at}",
        "    return v",
    )
    return src.text()


class Known(dict[bytes, int]):
    """Heads (the bytes up to the table's fields) that our packer writes for one class; at most PACK_LAYOUTS_MAX."""

    def __init__(self, build: Build, start: int) -> None:
        super().__init__()
        self.usual = build.plan.prefix()[start:]
        self.start = start
        self.plan = build.plan
        self.gaps = [
            (build.plan.vtable_at + s.entry - start, build.fields[s.field].kind.paired, s.tag)
            for s in build.plan.slots
            if build.fields[s.field].optional
        ]
        self[self.usual] = 1

    def usual_but_for_gaps(self, head: bytes) -> bool:
        """Whether only optional fields differ from the usual head, and those by being absent."""
        filled = bytearray(head)
        both: list[bool] = []
        for at, union, _ in self.gaps:
            gone = filled[at : at + 2] == b"\0\0"
            if gone:
                filled[at : at + 2] = self.usual[at : at + 2]
            if union:
                both.append(gone)
        # A union's tag and value are absent together, or this is no head of ours.
        return bytes(filled) == self.usual and both[::2] == both[1::2]

    def accept(self, head: bytes | None) -> bool:
        if head is None or not self.usual_but_for_gaps(head):
            return False
        if len(self) < limits.PACK_LAYOUTS_MAX:
            self[head] = 1
        return True


def _frozen_set(_self: Any, _value: object) -> None:
    raise dataclasses.FrozenInstanceError("events are frozen; dataclasses.replace makes a changed copy")


def _frozen_delete(_self: Any) -> None:
    raise dataclasses.FrozenInstanceError("events are frozen")


def make_view_classes(build: Build, namespace: dict[str, Any]) -> tuple[type, type]:
    """Compile-time half two: classes around the getters. Gives the fresh classes (root, nested)."""
    cls: Any = build.declaration.cls

    def __new__(_: Any, *args: Any, **kwargs: Any) -> Any:
        # dataclasses.replace and copy.replace call the class of the view: what they make is an owned instance.
        return cls(*args, **kwargs)

    common = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__varve__": build.declaration,
    }
    base = type(
        cls.__name__,
        (cls,),
        common
        | {
            "__slots__": ("_b", "_o"),
            "__new__": __new__,
            # The slots are set on every read: no Python-level __setattr__. Fields are properties that refuse.
            "__setattr__": object.__setattr__,
            "__delattr__": object.__delattr__,
        },
    )

    def view_class(prefix: str) -> type:
        fields = {f.name: property(namespace[f"{prefix}_{f.name}"], _frozen_set, _frozen_delete) for f in build.fields}
        return type(cls.__name__, (base,), common | fields | {"__slots__": ()})

    fast = view_class("fast")
    general = {which: view_class(f"general_{which}") for which in ("root", "nested")}
    fresh = {which: view_class(f"fresh_{which}") for which in ("root", "nested")}
    namespace["FAST"] = fast
    namespace["FRESH_NESTED"] = fresh["nested"]
    for which in ("root", "nested"):
        known: Known = namespace[f"KNOWN_{which}"]
        namespace[f"settle_{which}"] = _settler(known, fast, general[which])
    return fresh["root"], fresh["nested"]


def _settler(known: Known, fast: type, general: type) -> Any:
    def settle(head: bytes | None) -> type:
        return fast if known.accept(head) else general

    return settle


def view_namespace(build: Build) -> dict[str, Any]:
    """Names that the source needs, but for references to other types and the classes themselves."""
    prefix = build.plan.prefix()
    out: dict[str, Any] = {
        "HEAD_root": struct.Struct(f"{len(prefix)}s").unpack_from,
        "HEAD_nested": struct.Struct(f"{len(prefix) - 4}s").unpack_from,
        "KNOWN_root": Known(build, 0),
        "KNOWN_nested": Known(build, 4),
        "NEW": object.__new__,
        "PREFIX_root": prefix,
        "PREFIX_nested": prefix[4:],
        "StructError": struct.error,
        "U2": runtime.U2,
        "U4": runtime.U4,
        "absent": runtime.absent,
        "read_bytes": runtime.read_bytes,
        "read_datetime": runtime.read_datetime,
        "read_decimal": runtime.read_decimal,
        "read_union_vector": runtime.read_union_vector,
        "read_uuid": runtime.read_uuid,
        "slot": runtime.slot,
        "unknown_member": runtime.unknown_member,
    }
    for index, f in enumerate(build.fields):
        if reads_with_head(f, build):
            pos = next(slot.pos for slot in build.plan.slots if slot.field == index)
            for which, start in (("root", 0), ("nested", 4)):
                layout = f"<{len(prefix) - start}s{pos - len(prefix)}x{SCALARS[f.kind.tag].code}"
                out[f"HEAD_{which}_{f.name}"] = struct.Struct(layout).unpack_from
    out |= {f"get_{tag}": struct.Struct("<" + s.code).unpack_from for tag, s in SCALARS.items()}
    return out

"""Generated views: reading an event's fields straight from its FlatBuffer.

A view is an instance of one of several subclasses of the event class, all with the same memory layout:

- *fresh*: created unchecked by a reader. The first field access compares the bytes up to the table with what our packer writes
  and turns the view into one of the others by assigning ``__class__``;
- *fast*: fields at fixed offsets, no further checks;
- *full*: as fast, and the numbers stand in the slots that the event class itself has for them. Nested tables begin so: whoever
  makes their view checks it at once, and the call that reads their head reads the numbers too;
- *general* (root or nested): any valid FlatBuffer of the schema; every access goes through its vtable.

``_b`` is the buffer, ``_o`` the offset of the event's root uoffset; for a nested table the offset that makes its fields stand
where they stand in a root event, so that fast views serve both. Views never change: two threads that turn the same view into
another class do the same thing twice.
"""

from __future__ import annotations

import dataclasses
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from varve.codec import runtime
from varve.codec.pack import Source, head_bounds
from varve.codec.plan import UOFFSET, Slot, TablePlan
from varve.codec.schema import SCALARS, FieldDef, Kind

if TYPE_CHECKING:
    from varve.codec.event_type import Build

__all__ = ["make_view_classes", "view_namespace", "view_source"]


TEXT_OF_X: Final = "return (x.tobytes() if type(x) is memoryview else x).decode()"


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
    return build.ref("read_vector", str(kind.item), kind.item)  # numbers and unions are read on the spot


def reader(kind: Kind, build: Build) -> Any:
    """The function that ``read_call`` names, for vectors and structs to be built on (no table: a vector of them has its own)."""
    tag = kind.tag
    if tag in SCALARS:
        return runtime.scalar_reader(SCALARS[tag].code)
    if tag == "enum":
        return runtime.enum_reader(build.declaration.enum_of(kind.name), build.shape(kind)[2])
    if tag == "struct":
        return build.compiled_struct(kind.name).read
    if tag == "vector":
        assert kind.item is not None
        if kind.item.tag in SCALARS:
            return runtime.scalar_vector_reader(kind.item.tag)
        if kind.item.tag == "table":
            return build.compiled_table(kind.item.name).nested_vector
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
        return ["p += U4(b, p)[0] + 4", "x = b[p : p + U4(b, p - 4)[0]]", TEXT_OF_X]
    if kind.tag == "enum":
        code = next(tag for tag, s in SCALARS.items() if s.code == build.shape(kind)[2])
        return [
            f"x = {build.ref('enum_members', kind.name)}.get(get_{code}(b, p)[0])",
            f"return {read_call(kind, build)}(b, p) if x is None else x",
        ]
    if kind.tag == "union":
        lines = ["t = b[q]"]
        for tag, name in enumerate(kind.names, 1):
            lines += [f"if t == {tag}:", f"    return {build.ref('nested', name)}(b, p)"]
        return [*lines, f"raise unknown_member({build.where(f)!r}, t)"]
    if kind.paired:
        members = build.ref("read_members", str(kind.item), kind.item)
        return [f"return read_union_vector(b, q, p, {members}, {build.where(f)!r})"]
    return [f"return {read_call(kind, build)}(b, p)"]


def numbers(build: Build) -> list[Slot]:
    """The slots of the fields that a full view holds in its slots, in order of position."""
    return [slot for slot in build.plan.inline if not slot.tag and build.fields[slot.field].kind.tag in SCALARS]


def presence(plan: TablePlan, slot: Slot) -> int:
    """Where a byte of the vtable stands that is 0 exactly when our packer left the field out."""
    low = plan.vtable_at + slot.entry
    return low if (slot.pos - plan.table_at) & 0xFF else low + 1


def _fast(src: Source, build: Build, index: int, f: FieldDef) -> None:
    plan = build.plan
    slot = next(s for s in plan.slots if s.field == index and not s.tag)
    tag_slot = next((s for s in plan.slots if s.field == index and s.tag), None)
    _getter(src, f.name, "fast")
    src.depth += 1
    if is_first_text(build, slot):
        _first_text(src, build, slot)
        return
    if f.kind.tag in SCALARS and not f.optional:
        if f.kind.tag in {"u8", "bool"}:
            src.put(f"return self._b[self._o + {slot.pos}]" + (" != 0" if f.kind.tag == "bool" else ""))
        else:
            src.put(f"return get_{f.kind.tag}(self._b, self._o + {slot.pos})[0]")
    else:
        if f.optional or tag_slot is not None:
            src.put("b = self._b", "o = self._o")
        else:
            src.put("b = self._b", f"p = self._o + {slot.pos}")
        if f.optional:
            src.put(f"if not b[o + {presence(plan, slot)}]:", "    return None")
        if f.optional or tag_slot is not None:
            src.put(f"p = o + {slot.pos}")
        if tag_slot is not None:
            src.put(f"q = o + {tag_slot.pos}")
        src.put(*_read_lines(f, build))
    src.depth -= 1
    src.put("")


def is_first_text(build: Build, slot: Slot) -> bool:
    """Whether this is a string, and the first thing that our packer puts behind the table."""
    f = build.fields[slot.field]
    return f.kind.tag == "str" and build.plan.inline[0] == slot and f.align < 8


def _first_text(src: Source, build: Build, slot: Slot) -> None:
    """One ``struct`` call reads the uoffset of the string, and the length that stands there if our packer wrote the event."""
    f, end = build.fields[slot.field], build.plan.end
    src.put("b = self._b", "o = self._o")
    if f.optional:
        src.put(f"if not b[o + {presence(build.plan, slot)}]:", "    return None")
    src.put(
        f"to, n = TEXT_{f.name}(b, o + {slot.pos})",
        f"p = o + {end + 4}",
        f"if to != {end - slot.pos}:",
        f"    p = o + {slot.pos + 4} + to",
        "    n = U4(b, p - 4)[0]",
        "x = b[p : p + n]",
        TEXT_OF_X,
    )
    src.depth -= 1
    src.put("")


def reads_with_head(f: FieldDef, build: Build) -> bool:
    """Whether one ``struct`` call gives the head and the field: a number, in a class whose head never varies."""
    return f.kind.tag in SCALARS and not f.optional and not build.optional


def heads(build: Build) -> list[str]:
    """Names for the pieces of a head: one, or as many as the packer makes it of."""
    return [f"h{k}" for k in range(len(head_bounds(build.plan, build.optional)) - 1)]


def usual(build: Build, which: str) -> str:
    """The condition under which the pieces of a head are what our packer writes."""
    if not build.optional:
        return f"h0 == PREFIX_{which}"
    first, *rest = heads(build)
    return " and ".join([f"{first} in KNOWN_{which}_0", *(f"{h} in KNOWN_{h[1:]}" for h in rest)])


def _fresh(src: Source, build: Build, f: FieldDef) -> None:
    """First access: settle the class, then read."""
    names = heads(build)
    _getter(src, f.name, "fresh_root")
    src.depth += 1
    src.put("try:")
    if reads_with_head(f, build):
        src.put(f"    h0, value = HEAD_{f.name}(self._b, self._o)")
    else:
        src.put(f"    {', '.join(names)}{',' if len(names) == 1 else ''} = HEAD_root(self._b, self._o)")
    src.put("except StructError:", f"    {' = '.join(names)} = None")
    src.put(f"if {usual(build, 'root')}:", "    self.__class__ = FAST")
    if reads_with_head(f, build):
        src.put("    return value")
    else:
        src.put(f"    return fast_{f.name}(self)")
    src.put(f"self.__class__ = settle_root({', '.join(names)})", f"return self.{f.name}")
    src.depth -= 1
    src.put("")


def _nested(src: Source, build: Build) -> None:
    """``nested(b, p)`` and ``nested_vector(b, p)``: views of tables, settled at once, since they are private until returned."""
    src.put("def nested(b, p):", '    """A view of the table whose uoffset stands at p."""')
    src.depth += 1
    src.put(f"o = p + U4(b, p)[0] - {build.plan.table_at}")
    _settled(src, build)
    src.put("return v")
    src.depth -= 1
    src.put("", "")
    src.put("def nested_vector(b, p):", '    """Views of the tables in the vector whose uoffset stands at p."""')
    src.depth += 1
    src.put("p += U4(b, p)[0]", "count = U4(b, p)[0]", "out = []")
    src.put(f"p -= {build.plan.table_at}")
    src.put(f"for offset in UOFFSETS_AT[count](b, p + {build.plan.table_at + 4}):")
    src.depth += 1
    src.put("p += 4", "o = p + offset")
    _settled(src, build)
    src.put("out.append(v)")
    src.depth -= 1
    src.put("return tuple(out)")
    src.depth -= 1


def _settled(src: Source, build: Build) -> None:
    names, found = heads(build), numbers(build)
    values = [
        f"v{slot.field}" if build.fields[slot.field].optional else f"v.{build.fields[slot.field].name}"
        for slot in found
    ]
    targets = ", ".join([*names, *values])
    src.put("v = OPEN()", "v._b = b", "v._o = o", "try:")
    src.put(f"    {targets}{',' if len(names) + len(values) == 1 else ''} = NESTED(b, o + 4)")
    src.put("except StructError:", f"    {' = '.join(names)} = None")
    settled = f" or settle_nested({', '.join(names)}) is FULL" if build.optional else ""
    src.put(f"if {usual(build, 'nested')}{settled}:")
    for slot, value in zip(found, values, strict=True):
        f = build.fields[slot.field]
        if f.optional:
            src.put(f"    v.{f.name} = {value} if b[o + {presence(build.plan, slot)}] else None")
    src.put("    v.__class__ = FULL", "else:", "    v.__class__ = GENERAL_nested")


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
        _fresh(src, build, f)
        for which in ("root", "nested"):
            _general(src, build, index, f, which)
    _nested(src, build)
    return src.text()


class Known(dict[bytes, int]):
    """What our packer writes for one piece of a class's head (the bytes up to the table's fields): at most PACK_LAYOUTS_MAX, as
    many as its masks have values (``pack.mask_bits``)."""

    def __init__(self, build: Build, start: int, end: int) -> None:
        super().__init__()
        plan = build.plan
        self.usual = plan.prefix()[start:end]
        self.gaps = [
            (plan.vtable_at + s.entry - start, build.fields[s.field].kind.paired)
            for s in plan.slots
            if build.fields[s.field].optional and start <= plan.vtable_at + s.entry < end
        ]
        self[self.usual] = 1

    def usual_but_for_gaps(self, head: bytes) -> bool:
        """Whether only optional fields differ from the usual head, and those by being absent."""
        filled = bytearray(head)
        both: list[bool] = []
        for at, union in self.gaps:
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
        self[head] = 1
        return True


def _frozen_set(_self: Any, _value: object) -> None:
    raise dataclasses.FrozenInstanceError("events are frozen; dataclasses.replace makes a changed copy")


def _frozen_setattr(_self: Any, _name: str, _value: object) -> None:
    _frozen_set(_self, _value)


def _frozen_delete(_self: Any, _name: str = "") -> None:
    raise dataclasses.FrozenInstanceError("events are frozen")


def make_view_classes(build: Build, namespace: dict[str, Any]) -> type:
    """Compile-time half two: classes around the getters. Gives the fresh class."""
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
            # Nested views begin as instances of this class: calling it is quicker than object.__new__.
            "__init__": object.__init__,
            # The slots are set on every read: no Python-level __setattr__. Fields are properties that refuse.
            "__setattr__": object.__setattr__,
            "__delattr__": object.__delattr__,
        },
    )

    def view_class(prefix: str) -> type:
        fields = {f.name: property(namespace[f"{prefix}_{f.name}"], _frozen_set, _frozen_delete) for f in build.fields}
        return type(cls.__name__, (base,), common | fields | {"__slots__": (), "__new__": __new__})

    fast = view_class("fast")
    behind = {f.name: vars(fast)[f.name] for f in build.fields if f.kind.tag not in SCALARS}
    frozen = {"__slots__": (), "__new__": __new__, "__setattr__": _frozen_setattr, "__delattr__": _frozen_delete}
    full = type(cls.__name__, (base,), common | behind | frozen)
    general = {which: view_class(f"general_{which}") for which in ("root", "nested")}
    namespace |= {"OPEN": runtime.maker(base), "FAST": fast, "FULL": full, "GENERAL_nested": general["nested"]}
    rest = namespace["KNOWN_rest"]
    namespace["settle_root"] = _settler([namespace["KNOWN_root_0"], *rest], fast, general["root"])
    namespace["settle_nested"] = _settler([namespace["KNOWN_nested_0"], *rest], full, general["nested"])
    return view_class("fresh_root")


def _settler(known: list[Known], usual: type, general: type) -> Any:
    def settle(*head: bytes | None) -> type:
        return usual if all(each.accept(piece) for each, piece in zip(known, head, strict=True)) else general

    return settle


def view_namespace(build: Build) -> dict[str, Any]:
    """Names that the source needs, but for references to other types and the classes themselves."""
    prefix = build.plan.prefix()
    bounds = head_bounds(build.plan, build.optional)
    rest = [Known(build, start, end) for start, end in pairwise(bounds[1:])]
    pieces = "".join(f"{end - start}s" for start, end in pairwise(bounds[1:]))
    at, values = len(prefix), ""
    for slot in numbers(build):
        values += f"{slot.pos - at}x{slot.code}"
        at = slot.pos + slot.size
    out: dict[str, Any] = {
        "HEAD_root": struct.Struct(f"{bounds[1]}s{pieces}").unpack_from,
        "KNOWN_nested_0": Known(build, bounds[0], bounds[1]),
        "KNOWN_rest": rest,
        "KNOWN_root_0": Known(build, 0, bounds[1]),
        "NESTED": struct.Struct(f"<{bounds[1] - bounds[0]}s{pieces}{values}").unpack_from,
        "PREFIX_root": prefix,
        "PREFIX_nested": prefix[4:],
        "StructError": struct.error,
        "UOFFSETS_AT": runtime.UOFFSETS_AT,
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
    for slot in build.plan.inline:
        if is_first_text(build, slot):
            gap = build.plan.end - slot.pos - UOFFSET
            out[f"TEXT_{build.fields[slot.field].name}"] = struct.Struct(f"<I{gap}xI").unpack_from
    out |= {f"KNOWN_{k}": known for k, known in enumerate(rest, 1)}
    for index, f in enumerate(build.fields):
        if reads_with_head(f, build):
            pos = next(slot.pos for slot in build.plan.slots if slot.field == index)
            layout = f"<{len(prefix)}s{pos - len(prefix)}x{SCALARS[f.kind.tag].code}"
            out[f"HEAD_{f.name}"] = struct.Struct(layout).unpack_from
    out |= {f"get_{tag}": struct.Struct("<" + s.code).unpack_from for tag, s in SCALARS.items()}
    return out

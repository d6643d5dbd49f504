"""Generated packers: an event to FlatBuffer bytes.

For each event class a few functions are written out as source and compiled:

- ``body(e, d)`` packs it as a table inside something else, anywhere; nested tables, vectors and unions compose from bodies,
  since every offset in a FlatBuffer is relative. ``bodies(values, d)`` packs a vector of them.
- ``pack(e)`` packs a whole event: the same lines with the root's offset before and the padding behind.

Where a class holds nothing behind the table but a few strings, all of the table is one ``struct.Struct`` per combination of
string lengths (in steps of 4 bytes), kept in a bounded cache: one call per event. For every other class one call packs the
table's fixed part, and what stands behind it is joined to that. Which optional fields are absent shows in the vtable, whose
bytes come ready made out of a few small caches, by a mask.

All check only what ``struct`` itself would let pass (bools as ints, ints as floats) and leave everything unusual to the
slow path, which validates field by field and names what is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from varve import limits
from varve.codec import runtime
from varve.codec.plan import UOFFSET, Slot, TablePlan
from varve.codec.schema import INT_RANGES, SCALARS, FieldDef, Kind

if TYPE_CHECKING:
    from varve.codec.event_type import Build

__all__ = ["Layouts", "pack_namespace", "pack_source"]

LAYOUT_STRINGS_MAX: Final = 4
"""With more strings the combinations of their lengths are too many to keep layouts for."""

LAYOUT_TEXT_BYTES_MAX: Final = 2**14
"""Longer strings are packed without a layout: ``struct`` no longer is what costs time."""

SHIFT: Final = 12
"""Bits of a string's length (in units of 4) in a layout's key."""

SHORT_TEXT_BYTES: Final = 256
"""Strings that are shorter find their layout by their length in a list, where the class has one string and nothing optional."""

LAYOUT_OPTIONAL_MAX: Final = 6
"""With more optional fields there are too many masks to keep layouts for."""

MASK_BITS_MAX: Final = 10
"""Optional fields that one mask speaks for. Classes with more have several, each with a cache that holds all of its values."""


class Source:
    """Lines of a module that is being written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def put(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line if line else "" for line in lines]

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


class Layouts:
    """Precompiled layouts of one class: what packs them, the constant bytes before, and how many bytes come out. ``known`` has
    them by key: bucketed lengths, and which optional fields are absent."""

    def __init__(self, plan: TablePlan, optional: list[int], strings: int, *, whole: bool) -> None:
        self.known: dict[int, tuple[Callable[..., bytes], bytes, int]] = {}
        self.plan = plan
        self.optional = optional
        self.strings = strings
        self.whole = whole
        self.short: list[tuple[Callable[..., bytes], bytes] | None] = []
        if self.by_text:
            self.short = [None] * SHORT_TEXT_BYTES

    def make(self, key: int, lengths: tuple[int, ...]) -> Any:
        """The layout for a key, kept if there is room; None where packing without one is better."""
        if len(self.known) >= limits.PACK_LAYOUTS_MAX or any(n >= LAYOUT_TEXT_BYTES_MAX for n in lengths):
            return None
        mask = key & ((1 << len(self.optional)) - 1)
        plan = self.plan
        at, offsets, tail = plan.end, [], []
        for n, slot in zip(lengths, plan.inline, strict=False):
            room = (n >> 2) * 4 + 4
            offsets.append(at - slot.pos)
            tail.append(f"I{room}s")
            at += 4 + room
        prefix = plan.prefix(absent_fields(self.optional, mask)) + struct.pack(f"<{len(offsets)}I", *offsets)
        inline = inline_format(plan, plan.inline[self.strings :], len(prefix))
        if not self.whole:
            prefix = prefix[UOFFSET:]
        end = f"{-at % 8}x" if self.whole else ""
        layout = struct.Struct(f"<{len(prefix)}s{inline}{''.join(tail)}{end}")
        self.known[key] = found = (layout.pack, prefix, layout.size)
        return found

    @property
    def by_text(self) -> bool:
        """Whether whole events find their layout by the length of their one text alone."""
        return self.whole and self.strings == 1 and not self.optional

    def of_text(self, length: int) -> Any:
        """Packer and prefix of the layout for a class's only string, from then on in ``short`` where it is that; None where
        packing without one is better."""
        found = self.known.get(length >> 2) or self.make(length >> 2, (length,))
        if found is None:
            return None
        if length < SHORT_TEXT_BYTES:
            self.short[length] = found[:2]
        return found[:2]


class Prefixes(dict[int, bytes]):
    """A piece of the constant head of a table by mask of the absent ones among some optional fields: PACK_LAYOUTS_MAX at most,
    since ``mask_bits`` gives a piece no more bits than that."""

    def __init__(self, plan: TablePlan, optional: list[int], start: int, end: int) -> None:
        super().__init__()
        self.plan = plan
        self.optional = optional
        self.piece = slice(start, end)

    def __missing__(self, mask: int) -> bytes:
        piece = self[mask] = self.plan.prefix(absent_fields(self.optional, mask))[self.piece]
        return piece


def mask_bits(optional: int) -> int:
    """How many optional fields share a mask, so that all masks of a class together have PACK_LAYOUTS_MAX values at most, where
    that is possible."""
    bits = MASK_BITS_MAX
    while bits > 1 and -(-optional // bits) << bits > limits.PACK_LAYOUTS_MAX:
        bits -= 1
    return bits


def head_bounds(plan: TablePlan, optional: list[int]) -> list[int]:
    """Where the pieces of a head (its bytes from the vtable's padding to the table's fields) begin, one for each mask; last,
    where it ends."""
    bits = mask_bits(len(optional))
    entry = {slot.field: plan.vtable_at + slot.entry for slot in reversed(plan.slots)}  # a union's tag stands before it
    return [UOFFSET, *(entry[i] for i in optional[bits::bits]), plan.table_at + 4]


def head_pieces(plan: TablePlan, optional: list[int]) -> list[Prefixes]:
    """The pieces of a head by mask; none where it never varies."""
    bits = mask_bits(len(optional))
    groups = [optional[at : at + bits] for at in range(0, len(optional), bits)]
    bounds = head_bounds(plan, optional)
    return [Prefixes(plan, *piece) for piece in zip(groups, bounds, bounds[1:], strict=False)]


def absent_fields(optional: list[int], mask: int) -> list[int]:
    return [index for bit, index in enumerate(optional) if mask >> bit & 1]


def inline_format(plan: TablePlan, slots: tuple[Slot, ...], at: int) -> str:
    """``struct`` format of the inline fields from ``at`` to the end of the fixed part."""
    out = []
    for slot in slots:
        out.append(f"{slot.pos - at}x" if slot.pos > at else "")
        out.append(slot.code)
        at = slot.pos + slot.size
    return "".join(out) + (f"{plan.end - at}x" if plan.end > at else "")


# -- what a field needs ----------------------------------------------------------------------------------------------


def check_of(kind: Kind, v: str, build: Build) -> str:
    """A condition under which the fast path takes the value; empty where packing itself refuses everything else."""
    if kind.tag in INT_RANGES:
        return f"type({v}) is int"
    if kind.tag in {"f32", "f64"}:
        return f"type({v}) is float"
    if kind.tag == "bool":
        return f"type({v}) is bool"
    if kind.nested:
        return f"(type({v}) is bytes and {build.ref('holds', kind.nested)}({v}, d + 1))"
    if kind.tag == "bytes":
        return f"type({v}) is bytes"
    if kind.tag == "uuid":
        return f"type({v}) is UUID"
    if kind.tag == "enum":
        return f"(type({v}) is {build.ref('enum', kind.name)} or type({v}) is int)"
    return ""


def inline_value(kind: Kind, v: str, build: Build) -> str:
    """The ``struct`` argument of an inline field."""
    if kind.tag == "datetime":
        return f"nanoseconds({v})"
    if kind.tag == "uuid":
        return f"{v}.bytes"
    if kind.tag == "struct":
        return f"{build.ref('pack_struct', kind.name)}({v})"
    return v


def text_bytes(kind: Kind, v: str) -> str:
    """The bytes of a string-like field."""
    return {"str": f"{v}.encode()", "decimal": f"decimal_text({v})", "bytes": v}[kind.tag]


TEXT_TAGS: Final = frozenset({"str", "bytes", "decimal"})


def zero_of(slot: Slot) -> str:
    return f"Z{slot.size}" if slot.code.endswith("s") else "False" if slot.code == "?" else "0"


# -- writing the functions -------------------------------------------------------------------------------------------


def _read_fields(src: Source, fields: tuple[FieldDef, ...]) -> None:
    src.put(*(f"v{i} = e.{f.name}" for i, f in enumerate(fields)))


def _checks(src: Source, build: Build, otherwise: str) -> None:
    """One chain of conditions over the required inline fields, one test per optional field, which also sets ``m``."""
    fields, plan = build.fields, build.plan
    conditions = [c for i, f in enumerate(fields) if not f.optional and (c := check_of(f.kind, f"v{i}", build))]
    if conditions:
        src.put(f"if not ({' and '.join(conditions)}):", f"    {otherwise}")
    optional = build.optional
    if not optional:
        return
    bits = mask_bits(len(optional))
    src.put(" = ".join([*(f"m{k}" for k in range(-(-len(optional) // bits))), "0"]))
    slots = {slot.field: slot for slot in plan.slots if not slot.tag}
    for number, i in enumerate(optional):
        f = fields[i]
        if not f.kind.inline:
            continue  # where what stands behind the table is made
        mark = f"    m{number // bits} |= {1 << number % bits}"
        src.put(f"if v{i} is None:", mark, f"    v{i} = {zero_of(slots[i])}")
        check = check_of(f.kind, f"v{i}", build)
        if check:
            src.put(
                f"elif not {check}:" if not check.startswith("type(") else f"elif {check.replace(' is ', ' is not ')}:"
            )
            src.put(f"    {otherwise}")
        value = inline_value(f.kind, f"v{i}", build)
        if value != f"v{i}":
            src.put("else:", f"    v{i} = {value}")


def _inline_args(build: Build, slots: tuple[Slot, ...]) -> list[str]:
    out = []
    for slot in slots:
        f = build.fields[slot.field]
        if slot.tag:
            out.append(f"t{slot.field}")
        elif not f.kind.inline:
            out.append(f"r{slot.field}")
        else:
            out.append(f"v{slot.field}" if f.optional else inline_value(f.kind, f"v{slot.field}", build))
    return out


def _behind(src: Source, build: Build, slot: Slot) -> list[str]:
    """Lines that make what a field keeps behind the table, and its uoffset ``r<i>``; ``at`` moves on. Gives the names of the
    bytes, in their order."""
    i = slot.field
    kind, v, name = build.fields[i].kind, f"v{i}", f"x{i}"
    pos = slot.pos - 4
    wide = build.wide(kind) or build.fields[i].align == 8
    if wide:
        src.put(f"z{i} = b''", "if at & 4:", f"    z{i} = Z4", "    at += 4")
    parts = [f"z{i}"] if wide else []
    if kind.tag in TEXT_TAGS:
        pads = "PAD_BYTES" if kind.tag == "bytes" else "PAD_TEXT"
        src.put(f"{name} = {text_bytes(kind, v)}", f"n = len({name})")
        src.put(f"h{i} = LENGTHS[n] if n < {len(runtime.LENGTHS)} else LENGTH(n)")
        src.put(f"p{i} = {pads}[n & 3]", f"r{i} = at - {pos}")
        src.put("at += n + 7 & -4" if kind.tag == "bytes" else "at += (n | 3) + 5")
        return [*parts, f"h{i}", name, f"p{i}"]
    if kind.tag == "union":
        for tag, member in enumerate(kind.names, 1):
            body, cls, at = (build.ref(what, member) for what in ("body", "cls", "table_at"))
            src.put(f"{'if' if tag == 1 else 'elif'} isinstance({v}, {cls}):")
            src.put(f"    {name} = {body}({v}, d + 1)", f"    t{i} = {tag}", f"    r{i} = at + {at} - {pos}")
        src.put("else:", "    raise Reject")
    elif kind.tag == "table":
        src.put(f"{name} = {build.ref('body', kind.name)}({v}, d + 1)")
        src.put(f"r{i} = at + {build.ref('table_at', kind.name)} - {pos}")
    elif kind.paired:
        assert kind.item is not None
        members = build.ref("members", str(kind.item), kind.item)
        tag_pos = next(s.pos for s in build.plan.slots if s.field == i and s.tag) - 4
        src.put(f"{name} = union_vector({v}, {members}, {build.wide(kind)}, d + 1)")
        # The vector of member numbers stands first: its count, a byte for each item, padding.
        src.put(f"t{i} = at - {tag_pos}", f"r{i} = at + (len({v}) + 7 & -4) - {pos}")
    else:
        assert kind.item is not None
        src.put(f"{name} = {vector_call(kind.item, v, build)}", f"r{i} = at - {pos}")
    src.put(f"at += len({name})")
    return [*parts, name]


def vector_call(item: Kind, v: str, build: Build) -> str:
    if item.tag == "table":
        if uses_layouts(build.build_of(item.name)):
            return f"{build.ref('bodies', item.name)}({v}, d + 1)"
        body, at = build.ref("body", item.name), build.ref("table_at", item.name)
        return f"table_vector({v}, {body}, {at}, {build.wide(item)}, d + 1)"
    return f"{build.ref('pack_vector', str(item), item)}({v})"


def vector_packer(item: Kind, build: Build) -> Callable[[Any], bytes]:
    """The packer of vectors of anything but tables."""
    if item.tag in SCALARS:
        return runtime.scalar_vector(item.tag)
    if item.tag == "bytes":
        return runtime.bytes_vector
    if item.tag in TEXT_TAGS:
        return runtime.text_vector(runtime.decimal_text if item.tag == "decimal" else runtime.encoded_str)
    size, _, code = build.shape(item)
    if item.tag == "datetime":
        return runtime.converted_vector(code, size, runtime.nanoseconds)
    if item.tag == "uuid":
        return runtime.converted_vector(code, size, runtime.encoded_uuid)
    if item.tag == "enum":
        return runtime.converted_vector(code, size, runtime.enum_number(build.declaration.enum_of(item.name)))
    return runtime.converted_vector(code, size, build.compiled_struct(item.name).pack)


def array_packer(kind: Kind, build: Build) -> Callable[[Any], bytes]:
    """The packer of an array of fixed length in a struct."""
    item = kind.item
    assert item is not None
    convert: Callable[[Any], Any] | None = {"datetime": runtime.nanoseconds, "uuid": runtime.encoded_uuid}.get(item.tag)
    if item.tag == "enum":
        convert = runtime.enum_number(build.declaration.enum_of(item.name))
    elif item.tag == "struct":
        convert = build.compiled_struct(item.name).pack
    return runtime.array_packer(build.shape(item)[2], kind.length, convert, item.tag)


def _fixed(src: Source, build: Build) -> list[str]:
    """Lines that check and pack an event ``e`` piece by piece; gives the names of the pieces, first the table's fixed part."""
    plan, fields = build.plan, build.fields
    _read_fields(src, fields)
    _checks(src, build, "raise Reject")
    behind = [slot for slot in plan.slots if not slot.tag and not fields[slot.field].kind.inline]
    tails: list[str] = []
    if behind:
        src.put(f"at = {plan.end - 4}")
    for slot in behind:
        i = slot.field
        if not fields[i].optional:
            tails += _behind(src, build, slot)
            continue
        bits = mask_bits(len(build.optional))
        number = build.optional.index(i)
        src.put(f"if v{i} is not None:")
        src.depth += 1
        check = check_of(fields[i].kind, f"v{i}", build)
        if check:
            src.put(f"if not {check}:", "    raise Reject")
        names = _behind(src, build, slot)
        src.depth -= 1
        src.put("else:", f"    m{number // bits} |= {1 << number % bits}", f"    {' = '.join(names)} = b''")
        src.put(f"    r{i} = t{i} = 0" if fields[i].kind.paired else f"    r{i} = 0")
        tails += names
    masks = -(-len(build.optional) // mask_bits(len(build.optional)))
    prefix = [f"PREFIXES_{k}[m{k}]" for k in range(masks)] or ["PREFIX"]
    return [f"FIXED({', '.join([*prefix, *_inline_args(build, plan.inline)])})", *tails]


def joined(parts: list[str]) -> str:
    return f"b''.join(({', '.join(parts)}))" if len(parts) > 2 else " + ".join(parts)


def _body(src: Source, build: Build, name: str = "body") -> None:
    src.put(f"def {name}(e, d):", '    """The event as a table: bytes from its vtable on, a multiple of 4."""')
    src.depth += 1
    src.put("if not isinstance(e, CLS) or d > DEPTH_MAX:", "    raise Reject")
    src.put(f"return {joined(_fixed(src, build))}")
    src.depth -= 1
    src.put("", "")


def _pack_whole(src: Source, body: str) -> None:
    src.put("def pack_whole(e):", '    """An event by way of its body."""')
    src.put(f"    x = {body}(e, 1)", "    return ROOT + x if len(x) & 4 else ROOT + x + Z4", "", "")


def _pack(src: Source, build: Build) -> None:
    """``pack(e)`` for events of any shape: the lines of ``body``, without the call."""
    src.put(
        "def pack(e):", '    """The event as a FlatBuffer; EventEncodingError when a value does not fit."""', "    try:"
    )
    src.depth += 2
    src.put("if not isinstance(e, CLS):", "    raise Reject")
    if any(not f.kind.inline and (f.kind.tag not in TEXT_TAGS or f.kind.nested) for f in build.fields):
        src.put("d = 1")
    parts = _fixed(src, build)
    end = build.plan.end
    if len(parts) > 1:
        src.put("end = b'' if at & 4 else Z4", f"return {joined(['ROOT', *parts, 'end'])}")
    else:
        src.put(f"return ROOT + {parts[0]}" + (" + Z4" if end & 4 else ""))
    src.depth -= 2
    src.put("    except FALLBACK:", "        return pack_slow(e)", "", "")
    src.put("def pack_all(events):", '    """Events as FlatBuffers, in their order."""')
    src.put("    return list(map(pack, events))", "", "")


def uses_layouts(build: Build) -> bool:
    """All behind the table is a few strings that are always there."""
    behind = [f for f in build.fields if not f.kind.inline]
    plain = all(f.kind.tag in TEXT_TAGS and not (f.optional or f.kind.nested) and f.align < 8 for f in behind)
    return len(behind) <= LAYOUT_STRINGS_MAX and len(build.optional) <= LAYOUT_OPTIONAL_MAX and plain


def _by_layout(src: Source, build: Build, layouts: str, otherwise: str, without: str) -> str:
    """Lines that check an event ``e`` and find its layout; gives the call that packs it. ``otherwise`` is what to do with
    values that do not fit, ``without`` where there is no layout."""
    plan, fields = build.plan, build.fields
    strings = [slot for slot in plan.inline if not slot.tag and not fields[slot.field].kind.inline]
    _read_fields(src, fields)
    _checks(src, build, otherwise)
    for slot in strings:
        i = slot.field
        src.put(f"x{i} = {text_bytes(fields[i].kind, f'v{i}')}", f"n{i} = len(x{i})")
    lengths = [f"n{slot.field}" for slot in strings]
    bits = len(build.optional)
    parts = [f"{n} >> 2" + (f" << {bits + k * SHIFT}" if bits + k else "") for k, n in enumerate(lengths)]
    key = " | ".join([f"({p})" for p in parts] if len(parts) + bool(bits) > 1 else parts) or "0"
    key = f"{key} | m0" if bits and parts else "m0" if bits else key
    inline = _inline_args(build, plan.inline[len(strings) :])
    texts = [a for n, slot in zip(lengths, strings, strict=True) for a in (n, f"x{slot.field}")]
    if len(strings) > 1:
        src.put(f"if {' | '.join(lengths)} >= {LAYOUT_TEXT_BYTES_MAX}:", f"    {without}")
    if not strings and not bits:
        return f"{layouts}_ONE({', '.join([f'{layouts}_PREFIX', *inline])})"
    if not bits and len(strings) == 1 and layouts == "LAYOUTS":
        src.put("try:", f"    layout, prefix = {layouts}_short[{lengths[0]}]", "except (IndexError, TypeError):")
        src.put(f"    found = {layouts}_of_text({lengths[0]})", "    if found is None:")
        src.put(f"        {without}", "    layout, prefix = found")
        return f"layout({', '.join(['prefix', *inline, *texts])})"
    src.put(f"key = {key}", "try:", f"    layout, prefix, size = {layouts}[key]", "except KeyError:")
    src.put(f"    found = {layouts}_make(key, ({''.join(n + ', ' for n in lengths)}))", "    if found is None:")
    src.put(f"        {without}", "    layout, prefix, size = found")
    return f"layout({', '.join(['prefix', *inline, *texts])})"


def _pack_by_layout(src: Source, build: Build, *, many: bool) -> None:
    """``pack(e)``, or ``pack_all(events)``: the same lines inside a loop, which saves a call per event."""
    give = "put({}); continue" if many else "return {}"
    if many:
        src.put(
            "def pack_all(events):",
            '    """Events as FlatBuffers, in their order; EventEncodingError when a value does not fit."""',
        )
        src.put("    out = []", "    put = out.append", "    for e in events:", "        try:")
    else:
        src.put(
            "def pack(e):",
            '    """The event as a FlatBuffer; EventEncodingError when a value does not fit."""',
            "    try:",
        )
    depth = 3 if many else 2
    src.depth += depth
    packed = _by_layout(src, build, "LAYOUTS", give.format("pack_slow(e)"), give.format("pack_whole(e)"))
    src.put(f"put({packed})" if many else f"return {packed}")
    src.depth -= 1
    src.put("except FALLBACK:", "    put(pack_slow(e))" if many else "    return pack_slow(e)")
    src.depth -= depth - 1
    if many:
        src.put("    return out")
    src.put("", "")


def _bodies_by_layout(src: Source, build: Build) -> None:
    """``body(e, d)`` with one ``struct`` call, and ``bodies(values, d)``, a vector of such tables, in one loop."""
    src.put("def body(e, d):", '    """The event as a table: bytes from its vtable on, a multiple of 4."""')
    src.depth += 1
    src.put("if not isinstance(e, CLS) or d > DEPTH_MAX:", "    raise Reject")
    src.put(f"return {_by_layout(src, build, 'BODIES', 'raise Reject', 'return body_whole(e, d)')}")
    src.depth -= 1
    src.put("", "")
    src.put("def bodies(values, d):", '    """A vector of tables: its count, their uoffsets, the tables."""')
    src.depth += 1
    src.put("if type(values) is not tuple or (values and d > DEPTH_MAX):", "    raise Reject")
    src.put("count = len(values)", "at = 4 + 4 * count", "slot = 4", "offsets = []", "parts = []")
    src.put("for e in values:")
    src.depth += 1
    src.put("if type(e) is not CLS and not isinstance(e, CLS):", "    raise Reject")
    if build.is_wide():
        src.put("if at & 4:", "    parts.append(Z4)", "    at += 4")
    src.put(f"offsets.append(at + {build.plan.table_at - 4} - slot)", "slot += 4")
    without = "part = body_whole(e, d); at += len(part); parts.append(part); continue"
    packed = _by_layout(src, build, "BODIES", "raise Reject", without)
    src.put(f"parts.append({packed})", f"at += {'size' if packed.startswith('layout') else build.plan.end - UOFFSET}")
    src.depth -= 1
    src.put("return UOFFSETS[count](count, *offsets) + b''.join(parts)")
    src.depth -= 1
    src.put("", "")


def pack_source(build: Build) -> str:
    """The source of an event class's packers."""
    src = Source()
    if uses_layouts(build):
        _body(src, build, "body_whole")
        _bodies_by_layout(src, build)
        _pack_whole(src, "body_whole")
        _pack_by_layout(src, build, many=False)
        _pack_by_layout(src, build, many=True)
    else:
        _body(src, build)
        _pack_whole(src, "body")
        _pack(src, build)
    return src.text()


def pack_namespace(build: Build) -> dict[str, Any]:
    """Names that the source needs, but for references to other types, which ``Build.ref`` collects."""
    plan = build.plan
    strings = sum(1 for f in build.fields if not f.kind.inline)
    prefix = plan.prefix()
    pieces = head_pieces(plan, build.optional)
    head = "".join(f"{len(piece[0])}s" for piece in pieces) or f"{len(prefix) - UOFFSET}s"
    out: dict[str, Any] = {
        "CLS": build.declaration.cls,
        "DEPTH_MAX": limits.NESTING_DEPTH_MAX,
        "FALLBACK": Exception,
        "FIXED": struct.Struct(f"<{head}{inline_format(plan, plan.inline, len(prefix))}").pack,
        "LENGTH": runtime.LENGTH,
        "LENGTHS": runtime.LENGTHS,
        "PAD_BYTES": runtime.PAD_BYTES,
        "PAD_TEXT": runtime.PAD_TEXT,
        "PREFIX": prefix[4:],
        "ROOT": prefix[:4],
        "Reject": runtime.Reject,
        "UUID": UUID,
        "decimal_text": runtime.decimal_text,
        "nanoseconds": runtime.nanoseconds,
        "table_vector": runtime.table_vector,
        "union_vector": runtime.union_vector,
    }
    out |= {f"Z{slot.size}": bytes(slot.size) for slot in plan.slots if slot.code.endswith("s")}
    out |= {f"PREFIXES_{k}": piece for k, piece in enumerate(pieces)}
    out |= {"UOFFSETS": runtime.UOFFSETS, "Z4": runtime.Z4}
    if uses_layouts(build):
        out |= _layout_namespace(build, strings)
    return out


def _layout_namespace(build: Build, strings: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, whole in (("LAYOUTS", True), ("BODIES", False)):
        layouts = Layouts(build.plan, build.optional, strings, whole=whole)
        out |= {name: layouts.known, f"{name}_make": layouts.make}
        if layouts.by_text:
            out |= {f"{name}_short": layouts.short, f"{name}_of_text": layouts.of_text}
        if not strings and not build.optional:
            out[f"{name}_ONE"], out[f"{name}_PREFIX"], _ = layouts.make(0, ())
    return out

"""Whether a changed event class and the events already stored can live together.

Allowed: fields appended at the end that are optional or have a plain default; members added to an enum or at the end of a
union; a field marked deprecated (it then has a default or is optional). Old code reads new events too: it does not see
appended fields, and reads an enum's unknown member as an int.
"""

from __future__ import annotations

from varve.codec.schema import NO_DEFAULT, FieldDef, Kind, Schema, TypeDef

__all__ = ["incompatibilities"]


def incompatibilities(old_schema_bytes: bytes, new_schema_bytes: bytes) -> list[str]:
    """Why events of the old schema and of the new one cannot share a type; empty when they can.

    Raises MalformedEvent when either is no schema.
    """
    if old_schema_bytes == new_schema_bytes:
        return []
    old, new = Schema.from_bytes(old_schema_bytes), Schema.from_bytes(new_schema_bytes)
    if old.root != new.root:
        return [f"the event type {old.root} became {new.root}"]
    out: list[str] = []
    used = used_types(new)
    for name, before in old.types.items():
        after = new.types.get(name)
        if after is None or name not in used:
            continue  # whoever referred to it changed as well, and says so
        if before.what != after.what:
            out.append(f"{name} was a {before.what} and is a {after.what} now")
        elif before.what == "enum":
            out += enum_changes(before, after)
        elif before.what == "struct":
            out += struct_changes(before, after)
        else:
            out += table_changes(before, after)
    return out


def used_types(schema: Schema) -> set[str]:
    seen: set[str] = set()
    todo = [schema.root]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [needed for f in schema.types[name].fields for needed in f.kind.references()]
    return seen


def enum_changes(before: TypeDef, after: TypeDef) -> list[str]:
    out = []
    if before.base != after.base:
        out.append(f"enum {before.name} was stored as {before.base} and would be as {after.base} now")
    if before.flags != after.flags:
        out.append(f"enum {before.name} changed between IntEnum and IntFlag")
    now = dict(after.members)
    for label, value in before.members:
        if label not in now:
            out.append(f"enum {before.name} lost its member {label} = {value}")
        elif now[label] != value:
            out.append(f"{before.name}.{label} was {value} and is {now[label]} now")
    return out


def struct_changes(before: TypeDef, after: TypeDef) -> list[str]:
    if before.align != after.align:
        return [f"struct {before.name} can never change: its force_align was {before.align} and is {after.align} now"]
    if [(f.name, f.kind) for f in before.fields] == [(f.name, f.kind) for f in after.fields]:
        return []
    was, now = (", ".join(f"{f.name}: {f.kind}" for f in d.fields) for d in (before, after))
    return [f"struct {before.name} can never change: it was ({was}) and is ({now}) now"]


def table_changes(before: TypeDef, after: TypeDef) -> list[str]:
    name = before.name
    old_names, new_names = [f.name for f in before.fields], [f.name for f in after.fields]
    out = [
        f"{name}.{gone} was removed; keep it, deprecated: field(default=..., metadata={{'deprecated': True}})"
        for gone in old_names
        if gone not in new_names
    ]
    kept = [n for n in new_names if n in old_names]
    if not out and new_names[: len(old_names)] != old_names:
        if kept == old_names:
            added = next(n for n in new_names if n not in old_names)
            out.append(f"{name}.{added} was inserted; new fields go to the end")
        else:
            out.append(f"the fields of {name} were reordered: {', '.join(old_names)} became {', '.join(kept)}")
    now = {f.name: f for f in after.fields}
    for f in before.fields:
        if f.name in now:
            out += field_changes(name, f, now[f.name])
    out += [
        f"{name}.{f.name} is new and needs a plain default, or T | None: older events do not have it"
        for f in after.fields
        if f.name not in old_names and f.defaultless
    ]
    return out


def field_changes(owner: str, before: FieldDef, after: FieldDef) -> list[str]:
    where = f"{owner}.{before.name}"
    if before.kind != after.kind and not grown_union(before.kind, after.kind):
        return [f"{where} was {before.kind} and is {after.kind} now"]
    if before.optional != after.optional:
        was, now = (f"{f.kind} | None" if f.optional else str(f.kind) for f in (before, after))
        return [f"{where} was {was} and is {now} now"]
    if before.default != after.default and not (after.deprecated and before.default is NO_DEFAULT):
        was, now = ("no default" if f.default is NO_DEFAULT else f"the default {f.default!r}" for f in (before, after))
        return [f"{where} had {was} and has {now} now: what older events read as would change"]
    return []


def grown_union(before: Kind, after: Kind) -> bool:
    if before.item is not None and after.item is not None and before.tag == after.tag == "vector":
        return grown_union(before.item, after.item)
    return before.tag == after.tag == "union" and after.names[: len(before.names)] == before.names

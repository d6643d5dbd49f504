"""Whether a changed event class and the events already stored can live together.

Allowed: fields appended at the end that are optional or have a plain default; members added to an enum, or at the end of a
union; a field marked deprecated (it then has a default or is optional). The same holds for every table, struct and enum that
the event needs. Old code reads new events too: it does not see appended fields, and reads an enum's unknown member as an int.

The relation is an order: what may follow a version may follow every version before it. So the versions of a type in a store
form a chain, of which each can read all earlier ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from varve.codec.schema import NO_DEFAULT, NUMBER_TAGS, FieldDef, Kind, Schema, TypeDef
from varve.errors import MalformedEvent

__all__ = ["incompatibilities", "misfits"]


def incompatibilities(old_schema_bytes: bytes, new_schema_bytes: bytes) -> list[str]:
    """Why events of the old schema and of the new one cannot share a type, every reason once; empty when they can.

    Raises MalformedEvent when either is no schema.
    """
    if old_schema_bytes == new_schema_bytes:
        return []
    old, new = Schema.from_bytes(old_schema_bytes), Schema.from_bytes(new_schema_bytes)
    if old.root != new.root:
        return [f"the event type {old.root} became {new.root}"]
    try:
        return _Change(old, new).reasons()
    except RecursionError as error:
        raise MalformedEvent("not a valid event schema: a default is nested too deeply", offset=None) from error


def misfits(stored_schemas: Iterable[bytes], schema_bytes: bytes) -> list[str]:
    """Why a class cannot follow the versions that a store remembers, oldest first; empty when it can.

    A version in words that this Varve does not know is a reason as well.
    """
    reasons: dict[str, None] = {}
    for stored in stored_schemas:
        try:
            reasons.update(dict.fromkeys(incompatibilities(stored, schema_bytes)))
        except MalformedEvent as error:
            reasons[f"a version in the store is beyond this Varve ({error}): upgrade"] = None
    return list(reasons)


class _Change:
    """Two schemas of one root, compared type by type."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self.old = old
        self.new = new

    def reasons(self) -> list[str]:
        """Every incompatibility."""
        out: list[str] = []
        used = used_types(self.new)
        for name, before in self.old.types.items():
            after = self.new.types.get(name)
            if after is None or name not in used:
                continue  # whoever referred to it changed as well, and says so
            if before.what != after.what:
                out.append(f"{name} was a {before.what} and is a {after.what} now")
            elif before.what == "enum":
                out += enum_changes(before, after)
            elif before.what == "struct":
                out += struct_changes(before, after)
            else:
                out += self.table(before, after)
        return out

    def table(self, before: TypeDef, after: TypeDef) -> list[str]:
        """Changes of a table's fields: which there are, then what each is."""
        now = {f.name: f for f in after.fields}
        was = {f.name for f in before.fields}
        out = places(before, after)
        for f in before.fields:
            if f.name in now:
                out += self.field(before.name, f, now[f.name])
        out += [
            f"{before.name}.{f.name} is new and needs a plain default, or T | None: older events do not have it"
            for f in after.fields
            if f.name not in was and f.defaultless
        ]
        return out

    def field(self, owner: str, before: FieldDef, after: FieldDef) -> list[str]:
        """What changed about a field that is still there."""
        where = f"{owner}.{before.name}"
        out: list[str] = []
        became_optional = before.optional != after.optional
        if became_optional or (before.kind != after.kind and not grown_union(before.kind, after.kind)):
            same = (
                str(before.kind) == str(after.kind) and before.kind != after.kind
            )  # a name reused for another kind of type
            was, now = (
                f"{f.kind.to_json() if same else f.kind}{' | None' if became_optional and f.optional else ''}"
                for f in (before, after)
            )
            out.append(f"{where} was {was} and is {now} now")
        if not before.optional and not after.optional and self.default_changed(before, after):
            was, now = self.default_of(before, self.old), self.default_of(after, self.new)
            out.append(f"{where} had {was} and has {now} now: what older events read as would change")
        if before.deprecated and not after.deprecated:
            out.append(f"{where} was deprecated and is not any more: what was written meanwhile says nothing")
        if before.key != after.key:
            changed = "was the key and is none now" if before.key else "is a key now and was none"
            out.append(f"{where} {changed}: stored vectors are not sorted by another")
        if before.align != after.align:
            out.append(f"{where} had force_align {before.align} and has {after.align} now")
        return out

    @staticmethod
    def default_of(f: FieldDef, schema: Schema) -> str:
        """A field's default for a message."""
        if f.default is not NO_DEFAULT:
            return f"the default {f.default!r}"
        return (
            f"no default (absent, it reads as {absent(f.kind, schema)!r})"
            if f.kind.tag in NUMBER_TAGS
            else "no default"
        )

    def default_changed(self, before: FieldDef, after: FieldDef) -> bool:
        """Whether an event without the field would read as something else, or be an error now or no more.

        A number without a default and one with the default that it reads as in any case are the same, in .fbs text too.
        """
        if before.default is after.default is NO_DEFAULT and before.kind != after.kind:
            return False  # which says it all
        was, now = self.reads_as(before, self.old), self.reads_as(after, self.new)
        if was is NO_DEFAULT or now is NO_DEFAULT:
            return was is not now and not (was is NO_DEFAULT and after.deprecated)
        return spelled(was) != spelled(now)

    def reads_as(self, f: FieldDef, schema: Schema) -> Any:
        """What a field reads as where an event leaves it out, as JSON-able data; NO_DEFAULT where that is an error."""
        if f.default is NO_DEFAULT:
            return absent(f.kind, schema) if f.kind.tag in NUMBER_TAGS else NO_DEFAULT
        return self.grown(f.kind, f.default, schema)

    def grown(self, kind: Kind, default: Any, schema: Schema) -> Any:
        """A default of one schema with enum members as numbers, and with the fields that its tables have gained since as
        those read when absent."""
        if kind.tag == "enum":
            return dict(schema.types[kind.name].members).get(default, default) if isinstance(default, str) else default
        if kind.tag == "vector" and kind.item is not None:
            item = kind.item
            return [self.grown(item, one, schema) for one in default] if isinstance(default, list) else default
        if kind.tag not in {"table", "struct", "union"} or not isinstance(default, dict):
            return default
        definition = self.new.types.get(kind.name or str(default.get(UNION_KEY)))
        if definition is None:
            return default
        out = dict(default)
        for f in definition.fields:
            if f.name in out:
                out[f.name] = None if out[f.name] is None else self.grown(f.kind, out[f.name], schema)
            elif not f.defaultless:
                out[f.name] = None if f.optional else self.grown(f.kind, f.default, self.new)
        return out


UNION_KEY: Final = "$type"
"""Beside the fields of a union's default: which member it is."""


def absent(kind: Kind, schema: Schema) -> Any:
    """What a number without a default reads as where an event leaves it out, as JSON-able data."""
    if kind.tag == "enum":
        definition = schema.types[kind.name]
        values = [value for _, value in definition.members]
        return 0 if definition.flags or 0 in values else values[0]
    return {"bool": False, "f32": 0.0, "f64": 0.0, "datetime": "1970-01-01T00:00:00+00:00"}.get(kind.tag, 0)


def spelled(default: Any) -> str:
    """A default's text: it tells 0.0 from -0.0."""
    return json.dumps(default, sort_keys=True)


def used_types(schema: Schema) -> set[str]:
    """Names of the types that the root reaches."""
    seen: set[str] = set()
    todo = [schema.root]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [needed for f in schema.types[name].fields for needed in f.kind.references()]
    return seen


def enum_changes(before: TypeDef, after: TypeDef) -> list[str]:
    """What matters is which number each name means and by which name a number reads; the order of lines does not."""
    name = before.name
    out = []
    if before.base != after.base:
        out.append(f"enum {name} was stored as {before.base} and would be as {after.base} now")
    if before.flags != after.flags:
        out.append(f"enum {name} changed between IntEnum and IntFlag")
    now = dict(after.members)
    was_called, is_called = canonical(before), canonical(after)
    for label, value in before.members:
        if label in now and now[label] != value:
            out.append(f"{name}.{label} was {value} and is {now[label]} now")
        elif label not in now:
            renamed = f"; {value} is called {is_called[value]} now" if value in is_called else ""
            out.append(f"enum {name} lost its member {label} = {value}{renamed}")
        elif was_called[value] == label and is_called[value] != label:
            out.append(f"{name}: {value} was called {label} and is called {is_called[value]} now")
    return out


def canonical(enum: TypeDef) -> dict[int, str]:
    """The name by which each number of an enum reads: its first."""
    return {value: label for label, value in reversed(enum.members)}


def struct_changes(before: TypeDef, after: TypeDef) -> list[str]:
    """A struct has no vtable: any change moves what old events hold."""
    name = before.name
    out = []
    if before.align != after.align:
        out.append(f"struct {name} can never change: its force_align was {before.align} and is {after.align} now")
    if [(f.name, f.kind) for f in before.fields] != [(f.name, f.kind) for f in after.fields]:
        was, now = (", ".join(f"{f.name}: {f.kind}" for f in d.fields) for d in (before, after))
        out.append(f"struct {name} can never change: it was ({was}) and is ({now}) now")
    keys_were, keys_are = ([f.name for f in d.fields if f.key] for d in (before, after))
    if keys_were != keys_are:
        was, now = (", ".join(found) or "none" for found in (keys_were, keys_are))
        out.append(f"struct {name} can never change: its key was {was} and is {now} now")
    return out


def places(before: TypeDef, after: TypeDef) -> list[str]:
    """Fields removed, renamed, inserted or reordered: a field's number is its place."""
    name = before.name
    old_names, new_names = [f.name for f in before.fields], [f.name for f in after.fields]
    out = []
    renamed = set()
    for at, gone in enumerate(old_names):
        if gone in new_names:
            continue
        instead = new_names[at] if at < len(new_names) and new_names[at] not in old_names else None
        how = "removed" if instead is None else f"removed, or renamed to {instead}"
        renamed |= {instead}
        out.append(
            f"{name}.{gone} was {how}; keep it, deprecated: "
            "field(default=..., kw_only=True, metadata={'deprecated': True})"
        )
    was, now = [n for n in old_names if n in new_names], [n for n in new_names if n in old_names]
    last = new_names.index(now[-1]) if now else 0
    out += [
        f"{name}.{added} was inserted; new fields go to the end"
        for added in new_names[:last]
        if added not in old_names and added not in renamed
    ]
    if was != now:
        out.append(f"the fields of {name} were reordered: {', '.join(was)} became {', '.join(now)}")
    return out


def grown_union(before: Kind, after: Kind) -> bool:
    """Members added at the end, also of the union that a vector holds: a member's number is its place."""
    if before.item is not None and after.item is not None and before.tag == after.tag == "vector":
        return grown_union(before.item, after.item)
    return before.tag == after.tag == "union" and after.names[: len(before.names)] == before.names

"""Classes that flatc generates, their objects, and what their code cannot tell of a schema."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np

from varve.codec.declare import Declaration
from varve.codec.official import OfficialType
from varve.codec.plan import plan_struct
from varve.codec.schema import NO_DEFAULT, SCALARS, FieldDef, Kind, Schema, TypeDef


def generated(package: str, name: str) -> tuple[Any, Any]:
    """A generated class and its object class."""
    module = importlib.import_module(f"{package}.{name}")
    return getattr(module, name), getattr(module, f"{name}T")


def as_told(schema: Schema) -> Schema:
    """A schema without what generated code does not tell: enums, ``required``, ``key``, defaults of other than numbers,
    ``force_align`` of vectors and where it changes nothing."""

    def base_of(name: str) -> str:
        return schema.types[name].base

    def kind(of: Kind) -> Kind:
        if of.tag == "enum":
            return Kind(base_of(of.name))
        if of.item is not None:
            item = kind(of.item)
            return Kind("bytes") if of.tag == "vector" and item.tag == "u8" else dataclasses.replace(of, item=item)
        return of

    def field(f: FieldDef, what: str) -> FieldDef:
        told = kind(f.kind)
        marks = {"align": 0, "key": False}
        if what == "struct" or told.tag in SCALARS:
            default = f.default
            if f.kind.tag == "enum" and isinstance(default, str):
                default = dict(schema.types[f.kind.name].members)[default]
            return dataclasses.replace(f, kind=told, default=default, **marks)
        return dataclasses.replace(f, kind=told, optional=True, default=NO_DEFAULT, **marks)

    def plan_of(name: str) -> Any:
        return plan_struct(schema.types[name], plan_of, base_of)

    types = {}
    for name, one in schema.types.items():
        if one.what == "enum":
            continue
        align = 0
        if one.what == "struct" and one.align:
            natural = plan_struct(dataclasses.replace(one, align=0), plan_of, base_of).align
            align = one.align if one.align > natural else 0
        types[name] = TypeDef(one.what, name, tuple(field(f, one.what) for f in one.fields), align=align)
    return Schema(schema.root, types)


def object_of(official: OfficialType, event: Any) -> Any:
    """The generated object that holds what an instance of the twin holds; deprecated fields it has none of."""
    return _record(official, official.name, official.declaration, event)


def _record(official: OfficialType, name: str, declared: Declaration, event: Any) -> Any:
    one = official.generated[name]
    out: Any = one.object_cls()
    fields = {f.name: f for f in declared.fields}
    for there in one.fields:
        f = fields[there.field.name]
        value = getattr(event, f.name)
        if value is None:
            setattr(out, there.attr, None)
        elif f.kind.tag == "union":
            member = type(value).__varve__
            setattr(out, there.tag_attr, f.kind.names.index(member.name) + 1)
            setattr(out, there.attr, _record(official, member.name, member, value))
        else:
            setattr(out, there.attr, _value(official, f.kind, declared, value))
    return out


def _value(official: OfficialType, kind: Kind, declared: Declaration, value: Any) -> Any:
    small = kind.item is not None and "i8" in {
        kind.item.tag,
        declared.base_of(kind.item.name) if kind.item.tag == "enum" else "",
    }
    if kind.tag == "vector" and small:
        return np.array(value, np.int8)  # flatc 2.0 cannot pack negative numbers of a list
    if kind.item is not None:
        return [_value(official, kind.item, declared, one) for one in value]
    if kind.tag in {"table", "struct"}:
        return _record(official, kind.name, declared.declaration_of(kind.name), value)
    if kind.tag == "bytes":
        return list(value)
    return int(value) if kind.tag == "enum" else value

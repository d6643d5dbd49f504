"""What is read out of generated code is the schema that it was generated from."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from codec_models import events_of
from flatc_helpers import as_told, generated, object_of
from flatc_texts import ORDERS
from generated import event_classes
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from official import Accessors, Flatc, as_json

import varve
from varve import EventEncodingError, SchemaError
from varve.codec import event_type
from varve.codec.official import OfficialType, declare_flatc
from varve.schema import load, to_fbs

few = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # each try starts a compiler: a failure is shown as it was met
)


def test_random_schemas_come_out_of_generated_code(flatc: Flatc) -> None:
    """Derived and loaded schemas agree up to what generated code cannot tell; given the .fbs they are the same. Random objects
    are packed by their own code, and read back by accessors and by the schema alone."""
    seen = dict.fromkeys(["holes", "derived"], 0)

    @given(st.data(), event_classes())
    @few
    def check(data: st.DataObject, cls: Any) -> None:
        kinds = [f.kind for one in event_type(cls).schema.types.values() for f in one.fields]
        assume(not any(kind.item is not None and kind.item.tag == "union" for kind in kinds))  # flatc 2.0 fails
        package = flatc.to_python(to_fbs(cls), "--gen-object-api")
        folder = Path(sys.path[0])
        loaded = load(folder / "schema.fbs")
        name = f"{package}.{cls.__name__}"
        want = event_type(loaded[name]).schema
        accessor, _ = generated(package, cls.__name__)
        if any(f.deprecated for one in want.types.values() for f in one.fields):
            seen["holes"] += 1
            with pytest.raises(
                SchemaError, match="is deprecated, and generated code keeps neither its name nor its type"
            ):
                event_type(accessor)
        else:
            seen["derived"] += 1
            assert event_type(accessor).schema.to_bytes() == as_told(want).to_bytes()
        declare_flatc(accessor, loaded)
        official = event_type(accessor)
        assert isinstance(official, OfficialType)
        assert official.schema == want
        if "UUID" in "".join(want.types):
            return  # flatc 2.0 calls CreateUuid of what it named CreateUUID
        accessors = Accessors(package, of_binary=False)
        for event in data.draw(st.lists(events_of(loaded[name]), min_size=1, max_size=4)):
            held = object_of(official, event)
            packed = official.pack(held)
            assert len(packed) % 8 == 0
            official.verify(packed)
            usable = as_json(official.declaration, event, deprecated=False)
            assert exactly(accessors.event(official.declaration, packed)) == exactly(usable)
            view = official.view(packed)
            assert exactly(as_json(official.declaration, official.by_value(view), deprecated=False)) == exactly(usable)
            assert official.digest(held) == official.digest(view) == official.digest_packed(packed)

    check()
    assert min(seen.values()) > 0, seen


def exactly(value: Any) -> Any:
    """Comparable, with NaN equal to itself."""
    if isinstance(value, float):
        return repr(value + 0.0)
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    return [exactly(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("flags", [(), ("--gen-onefile",)], ids=["files", "one file"])
def test_every_kind_of_field_comes_out_of_generated_code(flatc: Flatc, flags: tuple[str, ...]) -> None:
    """From a file for each class, and from one file for all of them, which does not tell the namespace."""
    package = flatc.to_python(ORDERS, "--gen-object-api", *flags)
    text = Path(sys.path[0]) / "schema.fbs"
    want = as_told(event_type(load(text)[f"{package}.Order"]).schema).to_bytes()
    if not flags:
        assert event_type(generated(package, "Order")[0]).schema.to_bytes() == want
        return
    sys.modules.pop("schema_generated", None)
    found = event_type(importlib.import_module("schema_generated").Order)
    assert found.name == "Order"
    assert found.schema.to_bytes() == want.replace(f"{package}.".encode(), b"")
    found.verify(found.pack(found.object_cls()))


EXACT = """
enum Color : byte { Red, Green }
table Line { sku:string (required); }
table Order {
  old:uint (deprecated);
  url:string (required, key);
  camelCase:Color = Green;
  lines:[Line] (required);
  gone:[string] (deprecated);
}
root_type Order;
"""


def test_the_fbs_tells_the_rest(flatc: Flatc, varve_path: Path) -> None:
    """Enums, required fields, keys, spelling and deprecated fields; the type is the very one of ``varve.schema.load``."""
    package = flatc.to_python(EXACT, "--gen-object-api")
    path = Path(sys.path[0]) / "schema.fbs"
    order, held = generated(package, "Order")
    with pytest.raises(
        SchemaError, match=r"Order.Order: field 0 is deprecated.*varve.schema.flatc\(Order, 'path/to.fbs'\)"
    ):
        event_type(order)
    assert varve.schema.flatc(order, path) is order
    loaded: Any = load(path)
    assert event_type(order).schema_bytes == event_type(loaded.Order).schema_bytes
    assert varve.schema.to_fbs(order) == varve.schema.to_fbs(loaded.Order)
    assert "def pack" in varve.schema.source(order)
    line = generated(package, "Line")[1]()
    line.sku = "a"
    event = held()
    event.url, event.lines = "u", [line]
    with varve.open(varve_path) as db:
        orders = db.stream("orders", order)
        orders.append(1, event)
        same = db.stream("orders", loaded.Order)
        same.append(1, loaded.Order(url="v", camelCase=loaded.Color.Red, lines=[loaded.Line("b")]))
        accessors: Any = [one.event for one in orders.reader().iter_stream(1)]
        assert [(e.Url(), e.CamelCase(), e.Lines(0).Sku()) for e in accessors] == [(b"u", 1, b"a"), (b"v", 0, b"b")]
        first: Any = same.reader().get(1, 0)
        assert (first.url, first.camelCase, first.lines[0].sku, first.old) == ("u", loaded.Color.Green, "a", 0)
        for attr, value, why in [
            ("url", None, "Order.url must be a str, not None"),
            ("lines", None, "Order.lines must be a list or tuple"),
            ("camelCase", 200, "Order.camelCase must be in"),
        ]:
            before = getattr(event, attr)
            setattr(event, attr, value)
            with pytest.raises(EventEncodingError, match=why):
                orders.append(1, event)
            setattr(event, attr, before)
        del accessors


OTHER = [
    (EXACT.replace("camelCase:Color = Green", "camelCase:Color"), "camelCase is 1 when absent, and 0 in the schema"),
    (EXACT.replace("camelCase:Color = Green", "camelCase:short = 1"), "camelCase is i8 and not i16"),
    (EXACT.replace("old:uint (deprecated)", "old:uint"), "it lacks the field old"),
    (EXACT.replace("gone:[string] (deprecated);", "gone:[string] (deprecated); more:int;"), "it lacks the field more"),
    (EXACT.replace("url:string", "urn:string"), "url stands where the schema has urn"),
    (EXACT.replace("lines:[Line]", "lines:[string]"), r"lines is list\[.*Line\] and not list\[str\]"),
    (EXACT.replace("sku:string (required);", ""), "the schema lacks sku"),
    (
        EXACT.replace("table Order", "table Bill").replace("root_type Order", "root_type Bill"),
        "which type of the schema is",
    ),
    (
        EXACT.replace("url:string", 'url:string (varve: "decimal")').replace("(required, key)", "")
        + 'attribute "varve";',
        "knows no",
    ),
]


@pytest.mark.parametrize(("text", "why"), OTHER, ids=[why[:40] for _, why in OTHER])
def test_another_fbs_is_refused(flatc: Flatc, tmp_path: Path, text: str, why: str) -> None:
    """The generated code and the schema are compared field by field."""
    package = flatc.to_python(EXACT, "--gen-object-api")
    path = tmp_path / "other.fbs"
    path.write_text(f"namespace {package};\n{text}")
    with pytest.raises(SchemaError, match=why):
        varve.schema.flatc(generated(package, "Order")[0], path)


def test_structs_are_compared_byte_by_byte(flatc: Flatc, tmp_path: Path) -> None:
    """Alignment asked for comes out of the code; another one in the .fbs is refused."""
    text = "struct S (force_align: 8) { a:int; b:int; } struct R { s:S; c:ubyte; } table T { r:R; } root_type T;"
    package = flatc.to_python(text, "--gen-object-api")
    types = event_type(generated(package, "T")[0]).schema.types
    assert (types[f"{package}.S"].align, types[f"{package}.R"].align) == (8, 0)
    for other in (text.replace("8", "4"), text.replace("c:ubyte", "c:byte"), text.replace("b:int", "b:uint")):
        path = tmp_path / "other.fbs"
        path.write_text(f"namespace {package};\n{other}")
        with pytest.raises(SchemaError, match="was not generated from this schema"):
            varve.schema.flatc(generated(package, "T")[0], path)


def test_what_generated_code_cannot_do_is_told(flatc: Flatc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of structs, code without the object API, code that was changed, source that is gone, classes of somebody else."""
    package = flatc.to_python(
        "struct A { n:int; } struct B { a:[A:2]; } table T { b:B; } root_type T;", "--gen-object-api"
    )
    with pytest.raises(SchemaError, match=r"B.B cannot be an event type: A is an array of structs"):
        event_type(generated(package, "T")[0])
    package = flatc.to_python("table T { n:int; } root_type T;")
    table = importlib.import_module(f"{package}.T").T
    with pytest.raises(SchemaError, match="TT is missing; generate it with flatc --python --gen-object-api"):
        event_type(table)
    for before, after, why in [
        ("Int32Flags", "Int24Flags", "is no number that is known"),
        ("Offset(4)", "Offset(four)", "'four' stands where a number should"),
        ("return 0", "return zero()", r"N is zero\(\) when absent"),
        ("self.n = 0", "self.m = 0", r"the attributes of TT \(m\) are not those of its accessors"),
        ("StartObject", "BeginObject", "TStart is missing"),
    ]:
        package = flatc.to_python("table T { n:int; } root_type T;", "--gen-object-api")
        path = Path(sys.path[0]) / package / "T.py"
        path.write_text(path.read_text().replace(before, after))
        with pytest.raises(SchemaError, match=why):
            event_type(generated(package, "T")[0])
    package = flatc.to_python("table T { n:int; } root_type T;", "--gen-object-api")
    table = generated(package, "T")[0]
    (Path(sys.path[0]) / package / "T.py").unlink()
    with pytest.raises(SchemaError, match="its source cannot be read"):
        event_type(table)
    for nothing in (int, "Order", None):
        bad: Any = nothing
        with pytest.raises(SchemaError, match="is no class generated by flatc"):
            varve.schema.flatc(bad, tmp_path / "none.fbs")


def test_structs_read_enums_of_a_namespace(tmp_path: Path) -> None:
    """A dot in the enum's name once made a reader that could not run."""
    path = tmp_path / "s.fbs"
    path.write_text("namespace a.b; enum E : byte { X, Y } struct S { e:E; } table T { s:S; } root_type T;")
    loaded: Any = load(path)
    compiled = event_type(loaded.T)
    event = loaded.T(s=loaded.S(loaded.E.Y))
    assert compiled.view(compiled.pack(event)).s.e is loaded.E.Y


def test_a_nested_buffer_is_known_from_the_file_alone(flatc: Flatc) -> None:
    """Generated code tells of bytes; with the file they must hold what it says."""
    package = flatc.to_python(
        'table Held { x:int; } table Outer { a:[ubyte] (nested_flatbuffer: "Held"); }', "--gen-object-api"
    )
    accessor, held = generated(package, "Outer")
    assert [str(f.kind) for f in event_type(accessor).declaration.fields] == ["bytes"]
    loaded = load(Path(sys.path[0]) / "schema.fbs")
    declare_flatc(accessor, loaded)
    official = event_type(accessor)
    assert official.schema_bytes == event_type(loaded[f"{package}.Outer"]).schema_bytes
    one = held()
    one.a = list(varve.schema.to_bytes(loaded[f"{package}.Held"](x=5)))
    assert official.view(official.pack(one)).ANestedRoot().X() == 5
    one.a = [1, 2, 3]
    with pytest.raises(EventEncodingError, match=r"Outer\.a must be a FlatBuffer of .*Held"):
        official.pack(one)

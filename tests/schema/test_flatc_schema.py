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
from varve import EventEncodingError, SchemaError, limits
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


def test_classes_and_types_are_matched_one_to_one(flatc: Flatc, tmp_path: Path) -> None:
    """Two classes for one type, and a struct for a table, are refused; a vector of small enums is bytes in the code."""
    two = "table M { n:int; } table N { n:int; } table T { a:M; b:N; } root_type T;"
    for text, name, other, why in [
        (two, "T", two.replace("b:N", "b:M"), "would both be .*M"),
        (
            "struct S { n:int; } table T { s:S; } root_type T;",
            "T",
            "table S { n:int; } table T { s:S; }",
            "s is .*S and not .*S",
        ),
    ]:
        package = flatc.to_python(text, "--gen-object-api")
        path = tmp_path / "other.fbs"
        path.write_text(f"namespace {package};\n{other}")
        with pytest.raises(SchemaError, match=why):
            varve.schema.flatc(generated(package, name)[0], path)
    small = "enum E : ubyte { A, B } table T { es:[E]; } root_type T;"
    for text, fits in [
        (small, True),
        (small.replace("ubyte", "ushort"), False),
        (small.replace("[E]", "[byte]"), False),
    ]:
        package = flatc.to_python(small, "--gen-object-api")
        path = tmp_path / "small.fbs"
        path.write_text(f"namespace {package};\n{text}")
        table = generated(package, "T")[0]
        if not fits:
            with pytest.raises(SchemaError, match="es is bytes and not"):
                varve.schema.flatc(table, path)
            continue
        varve.schema.flatc(table, path)
        official = event_type(table)
        held = generated(package, "T")[1]()
        held.es = [1, 0]
        assert official.view(official.pack(held)).Es(0) == 1


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


EVERY_KIND = """
struct Pair { x:short; y:int; }
struct S { i:Pair; a:[int:3]; n:ubyte; }
table M { k:int; }
table N { k:int; }
union U { M, N }
table T { s:S; name:string; m:M; u:U; ns:[int]; names:[string]; ms:[M]; d:double; }
root_type T;
"""

UOFFSET = "flatbuffers.number_types.UOffsetTFlags.py_type"
PLACE = f"self._tab.Pos + {UOFFSET}"
GET = "self._tab.Get(flatbuffers.number_types.Int32Flags, "
INIT = "PACKAGE.Pair.PairT.InitFromObj"
ARRAY = f"def A(self): return [{GET}{PLACE}(8 + i * 4)) for i in range(3)]"
ITEM = (
    f"def A(self, j): return {GET}{PLACE}(8 + j * 4))\n    def ALength(self): return 3\n    def AOther(self): return 4"
)
CHANGED = [
    ("T", "from PACKAGE.M import M", "from PACKAGE.M import L as M", "it needs M, which cannot be imported"),
    ("T", "from PACKAGE.M import M", "from PACKAGE.nowhere import M", r"it needs PACKAGE\.nowhere, which cannot be imported"),
    ("T", "obj = M()", "obj = PACKAGE.nowhere.M()", r"it needs PACKAGE\.nowhere, which cannot be imported"),
    ("T", "obj = M()", "obj = TT.nowhere()", r"it refers to TT\.nowhere, which does not exist"),
    ("T", "obj = M()", "obj = flatbuffers()", "is no generated class"),
    ("T", "obj = M()", "other = M()", "M does not say what it holds"),
    ("T", "def Ns(", "def Ns(self, j): return 5\n    def Nss(", "the attributes of TT .* are not those of its accessors"),
    ("T", "self._tab.Offset(8)", "self._tab.Offset(6)", "two of its accessors read the same slot"),
    ("T", "self._tab.Union(obj, o)", "self._tab.Union(obj, o) if self._tab.Offset(12) else 0", ""),
    ("T", "py_type(self._tab.Offset(10))", "py_type(self._tab.Offset(100))", "U is a union without its type"),
    ("T", "self._tab.String(o + self._tab.Pos)", "self._tab.Text(o + self._tab.Pos)", "Name reads in a way that is not known"),
    ("T", "return 0.0", "return '0'", "D is '0' when absent"),
    ("T", "return 0.0", "pass", "D does not end with what an absent field is"),
    ("T", "self._tab.String(a +", "self._tab.Text(a +", "Names is a vector of what is not known"),
    ("T", "self.u = PACKAGE.U.UCreator", "self.v = PACKAGE.U.UCreator", "the object class does not say what the union u holds"),
    ("T", "self.u = PACKAGE.U.UCreator", "self.u = 5\n        self.u = PACKAGE.U.UCreator", ""),
    ("U", "unionType == U().M", "5 == unionType", "a union's members must be tables, numbered 1, 2, 3"),
    ("U", "unionType == U().N", "unionType == U().M", "not a valid event schema"),
    ("U", "return PACKAGE.M.MT.InitFromBuf", "return 1 or PACKAGE.M.MT.InitFromBuf", r"member U\.M of a union is not known"),
    ("U", "MT.InitFromBuf", "MT.Made", r"member U\.M of a union is no table"),
    ("S", f"{PLACE}(20)", "self._tab.Pos + 20", "N reads in a way that is not known"),
    ("S", "py_type(20)", "py_type(2 * 10)", "N reads in a way that is not known"),
    ("S", "py_type(20)", "py_type(21)", "the places of its fields are not those of a struct"),
    ("S", "return 24", "return 28", "the places of its fields are not those of a struct"),
    ("S", "builder.Prep(4, 24)", "builder.Prep(16, 24)", "it is aligned to 16 bytes; events begin at multiples of 8"),
    ("S", "builder.Prep(", "builder.Ready(", ""),
    ("S", "def CreateS(", "def MakeS(", "CreateS is missing"),
    ("S", f"self.i = {INIT}", f"self.j = {INIT}", "the object class does not say what i holds"),
    ("S", f"self.i = {INIT}", f"self.i = 5\n            self.i = {INIT}", ""),
    ("S", "for i in range(3)]", "for i in self.three()]", "the places of its fields are not those of a struct"),
    ("S", "for i in range(3)]", "for i in self.three()]  # and no ALength", "the length of A is not known"),
    ("S", ARRAY, ITEM, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "before", "after", "why"), CHANGED, ids=[f"{m}: {b[:40]} {w[:40]}" for m, b, _, w in CHANGED]
)
def test_code_of_another_shape_is_refused_or_read_right(
    flatc: Flatc, module: str, before: str, after: str, why: str
) -> None:
    """Generated code is read by its shape. Where that is another one, the class is refused with what was met; or the schema is
    what it would have been (no reason is given here), as for arrays in the code of other versions of flatc."""
    package = flatc.to_python(EVERY_KIND, "--gen-object-api")
    path = Path(sys.path[0]) / package / f"{module}.py"
    text = path.read_text()
    before, after, why = (part.replace("PACKAGE", package) for part in (before, after, why))
    assert before in text
    text = text.replace(before, after, 1)
    if "no ALength" in after:
        text = text.replace("def ALength(", "def BLength(")
    path.write_text(text)
    table = generated(package, "T")[0]
    if not why:
        want = event_type(load(path.parents[1] / "schema.fbs")[f"{package}.T"]).schema
        assert event_type(table).schema.to_bytes() == as_told(want).to_bytes()
        return
    with pytest.raises(SchemaError, match=f"cannot be an event type: .*{why}"):
        event_type(table)


def test_the_default_of_a_text_is_read(flatc: Flatc) -> None:
    """Newer versions of flatc write it down."""
    package = flatc.to_python("table T { name:string; } root_type T;", "--gen-object-api")
    path = Path(sys.path[0]) / package / "T.py"
    for default in ('"none yet"', 'b"none yet"'):
        path.write_text(path.read_text().replace("        return None", f"        return {default}"))
        sys.modules.pop(f"{package}.T", None)
        importlib.invalidate_caches()
        [field] = event_type(generated(package, "T")[0]).schema.types[f"{package}.T"].fields
        assert (field.optional, field.default) == (False, "none yet")


def test_classes_that_their_module_does_not_hold_are_refused(flatc: Flatc) -> None:
    """Replaced after the import, or made by something else than its source."""
    package = flatc.to_python("table T { n:int; } root_type T;", "--gen-object-api")
    table = generated(package, "T")[0]
    module = sys.modules[f"{package}.T"]
    module.T = type("T", (table,), {})  # type: ignore[attr-defined]
    with pytest.raises(SchemaError, match=f"its module {package}.T does not hold it any more"):
        event_type(table)
    package = flatc.to_python("table T { n:int; } root_type T;", "--gen-object-api")
    path = Path(sys.path[0]) / package / "T.py"
    path.write_text(
        path.read_text().replace("class TT(object):", "class Base(object):") + "\nTT = type('TT', (Base,), {})\n"
    )
    with pytest.raises(SchemaError, match="its source does not declare it"):
        event_type(generated(package, "T")[0])


def test_two_generated_classes_of_one_name_are_refused(flatc: Flatc) -> None:
    """In single files the namespaces are not told."""
    package = flatc.to_python(
        "table M { n:int; } table T { a:M; b:M; } root_type T;", "--gen-object-api", "--gen-onefile"
    )
    path = Path(sys.path[0]) / "schema_generated.py"
    text = path.read_text()
    (Path(sys.path[0]) / "elsewhere.py").write_text(text)
    at = text.index("def B(self)")
    path.write_text(text[:at] + text[at:].replace("obj = M()", "from elsewhere import M\n            obj = M()", 1))
    for name in ("schema_generated", "elsewhere"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    with pytest.raises(SchemaError, match="it needs two different types named 'M'"):
        event_type(importlib.import_module("schema_generated").T)
    del package


def test_too_many_generated_types_are_refused(flatc: Flatc, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as an event may have fields."""
    package = flatc.to_python(EVERY_KIND, "--gen-object-api")
    monkeypatch.setattr(limits, "FIELDS_MAX", 4)
    with pytest.raises(SchemaError, match="its schema has more than 4 types"):
        event_type(generated(package, "T")[0])


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

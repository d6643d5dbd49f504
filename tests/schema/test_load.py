"""``varve.schema.load``: event classes from .fbs files."""

from __future__ import annotations

import dataclasses
import math
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import varve
from varve.codec import event_type, event_type_from_schema
from varve.schema import SchemaFile, load, to_fbs

ORDERS = """
// Orders of the shop.
include "units.fbs";
namespace shop.orders;
attribute "varve";
attribute "priority";

/// What was bought.
///   On one bill.
table OrderPlaced {
  /// The number on the bill.
  order_id:ulong (key, priority: 1);
  product:string (required);
  quantity:uint = 3;
  amount:ulong;
  color:Color = Blue;
  access:Access = "Read Write";
  maybe:int = null;
  placed_at:long (varve: "datetime");
  old:string (deprecated, required);
  lines:[Line];
  texts:[string];
  pay:Payment;
  where:units.Pos;
  from:float = -inf;
  data:[ubyte] (force_align: 8);
  name:string = "none";
  tags:[string] = [];
}
/// The colors of the rainbow.
enum Color : ubyte (priority: 2) { None, /// Like blood.
  Red, Blue = 0x7, }
enum Access : ushort (bit_flags) { Read, Write, Big = 15 }
table Line { sku:string; n:short = -5; }
table Cash { }
union Payment { Cash, Article: Line }
rpc_service Shop { Go(Line):Cash (streaming: "server"); }
root_type OrderPlaced;
file_identifier "ABCD";
file_extension "ord";
"""

UNITS = """
namespace shop.units;
struct Vec (force_align: 8) { x:float; y:float32; z:float; }
struct Pos { v:[Vec:2]; c:[ubyte:3]; k:[int8:2]; d:double; }
"""


@pytest.fixture
def orders(tmp_path: Path) -> SchemaFile:
    (tmp_path / "orders.fbs").write_text(ORDERS)
    (tmp_path / "units.fbs").write_text(UNITS)
    return load(tmp_path / "orders.fbs")


def loaded(tmp_path: Path, text: str) -> SchemaFile:
    (tmp_path / "one.fbs").write_text(text)
    return load(tmp_path / "one.fbs")


def test_a_file_gives_its_classes_by_name(orders: SchemaFile) -> None:
    """By full name as a mapping, by any clear part of it as attributes."""
    names = "OrderPlaced Color Access Line Cash".split()
    assert sorted(orders) == sorted([f"shop.orders.{name}" for name in names] + ["shop.units.Vec", "shop.units.Pos"])
    assert orders.OrderPlaced is orders["shop.orders.OrderPlaced"] is orders.shop.orders.OrderPlaced is orders.root_type
    assert orders.shop.units["Vec"] is orders.Vec
    assert (orders.file_identifier, orders.file_extension) == ("ABCD", "ord")
    assert {"OrderPlaced", "shop"} <= set(dir(orders))
    assert len(orders) == 7
    assert "shop.units.Vec" in repr(orders)
    with pytest.raises(AttributeError, match="declares no Nothing; it declares shop"):
        _ = orders.Nothing


def test_an_event_is_made_written_and_read(orders: SchemaFile, varve_path: Path) -> None:
    """Loaded classes are event classes like any other, also in a store, and for a reader without the file."""
    pos = orders.Pos((orders.Vec(1, 2, 3), orders.Vec(4, 5, 6)), (1, 2, 3), (-1, 1), 0.5)
    one = orders.OrderPlaced(
        order_id=7, product="Laptop", lines=[orders.Line("a"), orders.Line(n=3)], pay=orders.Line("b"), where=pos
    )
    with varve.open(varve_path) as db:
        stream = db.stream("orders", orders.OrderPlaced)
        stream.append(1, one)
        read = stream.reader().get(1, 0)
        assert read == one
        assert isinstance(read, orders.OrderPlaced)
    with varve.open(varve_path) as db:
        recorded = db.global_reader().get(0)
        assert recorded is not None
        assert recorded.event.product == "Laptop"
        assert recorded.event.where.v[1].z == 6
        assert type(recorded.event).__varve__.name == "shop.orders.OrderPlaced"


def test_what_is_left_out_is_the_default(orders: SchemaFile) -> None:
    """Numbers are 0 or as declared, everything else that is not required is None; required after a default is by name."""
    one = orders.OrderPlaced(product="x")
    assert (one.order_id, one.quantity, one.amount, one.maybe) == (0, 3, 0, None)
    assert (one.color, one.access) == (orders.Color.Blue, orders.Access.Read | orders.Access.Write)
    assert (one.lines, one.pay, one.where, one.old, one.data) == (None, None, None, None, None)
    assert (one.from_, one.name, one.tags) == (-math.inf, "none", ())
    assert one.placed_at == datetime(1970, 1, 1, tzinfo=UTC)
    assert orders.Line("a", 1) == orders.Line(sku="a", n=1)
    with pytest.raises(TypeError):
        orders.OrderPlaced(1, "x")


def test_enums_keep_their_width_and_names(orders: SchemaFile) -> None:
    """A name that Python keeps for itself gets an underscore; bit_flags count bits."""
    assert issubclass(orders.Color, IntEnum)
    assert [(c.name, c.value) for c in orders.Color] == [("None_", 0), ("Red", 1), ("Blue", 7)]
    assert issubclass(orders.Access, IntFlag)
    assert orders.Access.Big == 1 << 15
    schema = event_type(orders.OrderPlaced).schema
    assert (schema.types["shop.orders.Color"].base, schema.types["shop.orders.Access"].base) == ("u8", "u16")


def test_comments_become_docstrings(orders: SchemaFile) -> None:
    """Of classes as they are, of fields in their metadata."""
    assert orders.OrderPlaced.__doc__ == "What was bought.\n  On one bill."
    assert orders.Color.__doc__ == "The colors of the rainbow."
    docs = {f.name: f.metadata.get("doc") for f in dataclasses.fields(orders.OrderPlaced)}
    assert docs["order_id"] == "The number on the bill."
    assert docs["product"] is None
    assert "/// The number on the bill." in to_fbs(orders.OrderPlaced)


def test_the_same_declarations_give_the_same_classes(orders: SchemaFile, tmp_path: Path) -> None:
    """Loading twice is harmless, and pickles find their class, also of enums and nested events."""
    again = load(str(tmp_path / "orders.fbs"))
    assert again.OrderPlaced is orders.OrderPlaced
    one = orders.OrderPlaced(product="x", lines=[orders.Line("a")], color=orders.Color.Red)
    compiled = event_type(orders.OrderPlaced)
    for event in (one, compiled.view(compiled.pack(one))):
        copy = pickle.loads(pickle.dumps(event))
        assert copy == one
        assert type(copy) is orders.OrderPlaced
        assert copy.color is orders.Color.Red


def test_the_stored_schema_rebuilds_the_class(orders: SchemaFile) -> None:
    """A log remembers arrays, widths, keys and alignment of loaded classes."""
    compiled = event_type(orders.OrderPlaced)
    made = event_type_from_schema(compiled.schema_bytes)
    assert made.schema_bytes == compiled.schema_bytes
    one = compiled.pack(orders.OrderPlaced(product="x", data=b"1", access=orders.Access.Big))
    assert made.pack(made.view(one)) == one


def test_ids_order_the_fields(tmp_path: Path) -> None:
    """Fields stand in any order in the text; a union takes two ids and is given the higher."""
    text = "table A { c:int (id: 3); u:U (id: 2); a:string (id: 0); } union U { A } "
    assert [f.name for f in dataclasses.fields(loaded(tmp_path, text).A)] == ["a", "u", "c"]


def test_python_types_beyond_fbs(tmp_path: Path) -> None:
    """(varve: "...") names the Python type of a field."""
    m = loaded(
        tmp_path,
        """attribute "varve"; struct Id { raw:[ubyte:16]; } table Blob { b:[ubyte]; }
        table A { at:long = 1000 (varve: "datetime"); price:string (required, varve: "decimal"); id:Id (varve: "uuid");
        ids:[Id] (varve: "uuid"); blobs:[Blob] (varve: "bytes"); small:[ubyte] (varve: "list"); times:[long] (varve: "datetime"); }
        """,
    )
    one = m.A(
        price=Decimal("1.50"), id=UUID(int=1), ids=[UUID(int=2)], blobs=[b"x"], small=[1, 2], times=[datetime(2020, 1, 1, tzinfo=UTC)]
    )
    compiled = event_type(m.A)
    assert compiled.view(compiled.pack(one)) == one
    assert one.at == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)


def test_constants_of_every_form(tmp_path: Path) -> None:
    """Signs, hexadecimal, exponents, words, quoted numbers, values of enums."""
    m = loaded(
        tmp_path,
        """enum E : int { A = -3, B }
        table T { a:long = -0x10; b:float = .5; c:double = -1.e3; d:bool = 1; e:int = "5"; f:int = +5; g:E = B; h:E = E.A; i:E = -2;
        j:double = nan; k:float = inf; l:bool = true; m:ulong = 18446744073709551615; n:int = E.A; o:uint8 = 255; p:int16; }""",
    )
    one = m.T()
    assert (one.a, one.b, one.c, one.d, one.e, one.f) == (-16, 0.5, -1000.0, True, 5, 5)
    assert (one.g, one.h, one.i) == (m.E.B, m.E.A, m.E.B)
    assert math.isnan(one.j)
    assert (one.k, one.l, one.m, one.n, one.o, one.p) == (math.inf, True, 2**64 - 1, -3, 255, 0)


def test_names_are_found_from_the_inside_out(tmp_path: Path) -> None:
    """A name is looked for in its own namespace, then in each outer one."""
    m = loaded(
        tmp_path,
        """namespace a; table T { x:int; } table V { x:int; } namespace a.b; table T { y:int; }
        namespace a.b.c; table U { t:T; v:V; w:a.T; z:b.T; } namespace ; table U { o:a.b.c.U; }""",
    )
    assert {f.name: f.type for f in dataclasses.fields(m["a.b.c.U"])}.keys() == {"t", "v", "w", "z"}
    bound = {f.name: f.kind.name for f in m["a.b.c.U"].__varve__.fields}
    assert bound == {"t": "a.b.T", "v": "a.V", "w": "a.T", "z": "a.b.T"}
    assert m.U is m["U"]
    with pytest.raises(AttributeError, match=r"T may be a\.T or a\.b\.T: say which"):
        _ = m.T


def test_includes_in_a_circle_a_diamond_and_elsewhere(tmp_path: Path) -> None:
    """Each file is read once; beside the including file first, then in the folders given."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "far.fbs").write_text('include "near.fbs"; table Far { n:Near; }')
    (tmp_path / "lib" / "near.fbs").write_text('include "../top.fbs"; table Near { t:Top; }')
    (tmp_path / "left.fbs").write_text('include "far.fbs"; table Left { f:Far; }')
    (tmp_path / "right.fbs").write_text('include "lib/far.fbs"; table Right { f:Far; }')
    (tmp_path / "top.fbs").write_text('include "left.fbs"; include "right.fbs"; table Top { l:Left; r:Right; }')
    m = load(tmp_path / "top.fbs", include_dirs=[tmp_path / "lib"])
    assert sorted(m) == ["Far", "Left", "Near", "Right", "Top"]
    assert m.Top(l=m.Left(f=m.Far(n=m.Near(t=m.Top())))).r is None
    with pytest.raises(varve.SchemaError, match=r"left\.fbs:1:1: there is no file 'far\.fbs' to include"):
        load(tmp_path / "top.fbs")


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """The file asked for itself; an include is an error of the schema."""
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.fbs")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """With the place of the first bad byte."""
    (tmp_path / "bad.fbs").write_bytes(b"// fine\n// \xff\n")
    with pytest.raises(varve.SchemaError) as caught:
        load(tmp_path / "bad.fbs")
    assert (caught.value.line, caught.value.column) == (2, 4)


def test_the_schema_of_the_log_loads() -> None:
    """schemas/varve.fbs itself: a block is a table like any other."""
    m = load(Path(__file__).parents[2] / "schemas" / "varve.fbs")
    assert m.file_identifier == "VRV1"
    assert m.root_type is m["varve.format.Block"]
    assert next(f for f in m.Block.__varve__.fields if f.name == "payload").align == 8


ERRORS = [
    ("table T { a:int }", 1, 17, r"expected ';', not '}'"),
    ("table T {\n  a:Nothing;\n}", 2, 5, "Nothing is declared nowhere"),
    ("table T { a:[[int]]; }", 1, 14, "a vector of vectors"),
    ("table T { a:int = 1.5; }", 1, 19, "expected a whole number"),
    ("table T { a:byte = 200; }", 1, 20, "200 does not fit byte"),
    ("table T { a:float = 1e60; }", 1, 21, "does not fit float"),
    ("table T { a:int = cos(1); }", 1, 19, "functions in constants"),
    ("table T { a:int (required); }", 1, 18, "numbers are never required"),
    ("table T { a:int (mine); }", 1, 18, 'unknown attribute \'mine\'; declare it: attribute "mine"'),
    ("table T { a:int (id: 1); }", 1, 11, "ids count from 0"),
    ("table T { a:int (id: 0); b:int; }", 1, 26, "all fields of a table have an id"),
    ("union U { T } table T { a:U (id: 0); }", 1, 25, "a union takes two ids"),
    ("table T { a:int; a:int; }", 1, 18, "two fields named a"),
    ("table T { } table T { }", 1, 19, "is declared in .*:1 already"),
    ("table T { a:[int:3]; }", 1, 13, "stands in a struct only"),
    ("table T { a:string = 5; }", 1, 22, "string has no such default"),
    ("table T { a:string = null; }", 1, 22, "only numbers have null"),
    ("table T { a:[int] = [1]; }", 1, 22, r"can only be empty: \[\]"),
    ("table T { a:[string] (key); }", 1, 23, "a key is a number or a string"),
    ("table T { a:int (key); b:int (key); }", 1, 11, "two keys"),
    ("table T { a:int = null (key); }", 1, 25, "no null"),
    ("enum E : byte { A } table T { a:E = A (none); }", 1, 40, "unknown attribute 'none'"),
    ("table T { a:[ubyte] (force_align: 16); }", 1, 22, "force_align is 1, 2, 4 or 8"),
    ("table T { __a:int; }", 1, 11, "reserved"),
    ("table T { a:long (varve: \"decimal\"); } attribute \"varve\";", 1, 19, "'decimal' is for a string"),
    ("struct S { }", 1, 8, "has no fields"),
    ("struct S { a:string; }", 1, 14, "a struct holds numbers"),
    ("struct S { a:int = 5; }", 1, 20, "have no defaults"),
    ("struct S { a:int (deprecated); }", 1, 19, "deprecated is for tables"),
    ("struct S { a:R; } struct R { a:S; }", 1, 8, "S holds itself"),
    ("struct S { a:[int:0]; }", 1, 19, r"1 \.\. 65535 items"),
    ("struct S { a:[double:65535]; }", 1, 8, "larger than 65535 bytes"),
    ("enum E { A }", 1, 6, "say how the enum is stored"),
    ("enum E : float { A }", 1, 10, "an enum is stored as byte"),
    ("enum E : byte { }", 1, 6, "has no values"),
    ("enum E : byte { A = 127, B }", 1, 26, "E.B does not fit byte"),
    ("enum E : byte { A, A }", 1, 20, "two values named A"),
    ("enum E : ubyte (bit_flags) { A = 8 }", 1, 30, "does not fit ubyte"),
    ("enum E : byte { A = 1 } table T { a:E; }", 1, 35, "has no value 0"),
    ("enum E : byte { A } table T { a:E = B; }", 1, 37, "B is no value of E"),
    ("union U { A: string }", 1, 14, "members of a union are tables"),
    ("struct S { a:int; } union U { S }", 1, 31, "members of a union are tables"),
    ("table T { } union U { A: T, B: T }", 1, 29, "twice in one union"),
    ("table T { } union U { T = 5 }", 1, 27, "numbered other than"),
    ("table T { a:[U]; } union U { T }", 1, 13, "a vector of a union"),
    ("struct S { a:int; } root_type S;", 1, 31, "root_type must be a table"),
    ('file_identifier "ABC";', 1, 17, "exactly four bytes"),
    ("/* never ends", 1, 1, "never ends"),
    ('include "x', 1, 9, "does not end on its line"),
    ("table T { a:int = 12ab; }", 1, 19, "no number that .fbs knows"),
    ("table T { \u00e4:int; }", 1, 11, "has no meaning here"),
    ("{ }", 1, 1, "JSON object"),
    ("tabel T { }", 1, 1, "expected a declaration"),
    ("table T { a:int", 1, 16, "the end of the file"),
    ("rpc_service S { A(B):C;", 1, 24, "expected '}'"),
    ('include "nothing.fbs";', 1, 1, "there is no file"),
]


@pytest.mark.parametrize(("text", "line", "column", "reason"), ERRORS, ids=[e[0][:40].replace("\n", " ") for e in ERRORS])
def test_what_is_not_supported_is_told_with_its_place(tmp_path: Path, text: str, line: int, column: int, reason: str) -> None:
    """SchemaError with path, line and column, as attributes too."""
    with pytest.raises(varve.SchemaError, match=reason) as caught:
        loaded(tmp_path, text)
    error = caught.value
    assert (error.path, error.line, error.column) == (str(tmp_path / "one.fbs"), line, column)
    assert str(error).startswith(f"{error.path}:{line}:{column}: ")

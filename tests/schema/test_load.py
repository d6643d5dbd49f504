"""``varve.schema.load``: event classes from .fbs files."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, IntFlag
from pathlib import Path
from uuid import UUID

import pytest
from schema_texts import ERRORS, ORDERS, UNITS

import varve
from varve.codec import event_type, event_type_from_schema, fbs_load
from varve.schema import SchemaFile, load, to_fbs


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
    names = ["OrderPlaced", "Color", "Access", "Line", "Cash"]
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


def test_what_only_python_refuses_is_told_at_its_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own rules come first. What they let pass and a class cannot have (a later Python may keep more names for itself) is
    an error of the file all the same."""
    monkeypatch.setattr(fbs_load._Resolver, "label", lambda resolver, name, at: name)
    with pytest.raises(varve.SchemaError, match=r"one\.fbs:2:6: .*_kept_") as caught:
        loaded(tmp_path, "table T { e:E; }\nenum E : byte { _kept_ }")
    assert caught.value.line == 2
    text = b'{"fbs":1,"docs":{},"types":{"E":{"enum":"i8","members":[["_kept_",0]]}}}'
    with pytest.raises(varve.MalformedEvent):  # the same out of a pickle, which knows no file
        fbs_load.classes_from_model(text)


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
    text = text.replace("u:U", "u:[U]")
    assert [f.name for f in dataclasses.fields(loaded(tmp_path, text).A)] == ["a", "u", "c"]


def test_a_vector_of_a_union_holds_events_of_several_classes(tmp_path: Path) -> None:
    """Optional unless required, of a union declared before or after, in whatever namespace, under an alias."""
    m = loaded(
        tmp_path,
        """namespace a; table A { n:ubyte; } namespace b; table T { us:[a.U]; more:[a.U] (required); one:a.U; none:[a.U] = []; }
        namespace a; union U { A, Other: b.T }""",
    )
    kinds = {f.name: (str(f.kind), f.optional) for f in m["b.T"].__varve__.fields}
    assert kinds["us"] == ("list[a.A | b.T]", True)
    assert kinds["more"] == ("list[a.A | b.T]", False)
    one = m.T(more=[m.A(1), m.T(more=[])])
    compiled = event_type(m.T)
    data = compiled.pack(one)
    compiled.verify(data)
    assert compiled.view(data) == one
    assert compiled.view(data).none == ()
    assert pickle.loads(pickle.dumps(compiled.view(data))) == one


def test_python_types_beyond_fbs(tmp_path: Path) -> None:
    """(varve: "...") names the Python type of a field."""
    m = loaded(
        tmp_path,
        """attribute "varve"; struct Id { raw:[ubyte:16]; } table Blob { b:[ubyte]; }
        table A { at:long = 1000 (varve: "datetime"); price:string (required, varve: "decimal"); id:Id (varve: "uuid");
        ids:[Id] (varve: "uuid"); blobs:[Blob] (varve: "bytes");
        small:[ubyte] (varve: "list"); times:[long] (varve: "datetime"); }
        """,
    )
    one = m.A(
        price=Decimal("1.50"),
        id=UUID(int=1),
        ids=[UUID(int=2)],
        blobs=[b"x"],
        small=[1, 2],
        times=[datetime(2020, 1, 1, tzinfo=UTC)],
    )
    compiled = event_type(m.A)
    assert compiled.view(compiled.pack(one)) == one
    assert one.at == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)


def test_constants_of_every_form(tmp_path: Path) -> None:
    """Signs, hexadecimal, exponents, words, quoted numbers, values of enums."""
    m = loaded(
        tmp_path,
        """enum E : int { A = -3, B }
        table T { a:long = -0x10; b:float = .5; c:double = -1.e3; d:bool = 1; e:int = "5"; f:int = +5; g:E = B; h:E = E.A;
        i:E = -2;
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


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"), ERRORS, ids=[e[0][:40].replace("\n", " ") for e in ERRORS]
)
def test_what_is_not_supported_is_told_with_its_place(
    tmp_path: Path, text: str, line: int, column: int, reason: str
) -> None:
    """SchemaError with path, line and column, as attributes too."""
    with pytest.raises(varve.SchemaError, match=reason) as caught:
        loaded(tmp_path, text)
    error = caught.value
    assert (error.path, error.line, error.column) == (str(tmp_path / "one.fbs"), line, column)
    assert str(error).startswith(f"{error.path}:{line}:{column}: ")


def test_constants_may_stand_in_quotes_and_be_named_by_their_enum(tmp_path: Path) -> None:
    """Signs inside quotes count, as does one before a name; of enums of one name the one that has the value is meant."""
    found = loaded(
        tmp_path,
        """
        native_include "not_for_us.h";
        namespace far; enum Color : int { Red = 1 }
        namespace near; enum Shade : int { Blue = 3 } enum Color : int { Blue = 5 }
        table T { a:int = "-5"; b:int = "+6"; c:int = " 7 "; d:int = Color.Blue; e:int = -Color.Blue; f:[ubyte] = []; }
        """,
    )
    one = found.T()
    assert (one.a, one.b, one.c, one.d, one.e, one.f) == (-5, 6, 7, 5, -5, b"")


def test_models_that_were_dropped_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the models that a process has loaded, the latest used are kept; events of a class that is gone still pickle."""
    monkeypatch.setattr(fbs_load, "CLASSES_MAX", 2)
    monkeypatch.setattr(fbs_load, "_models", OrderedDict())
    first = loaded(tmp_path, "table T { a:int; }").T
    pickled = pickle.dumps(first(a=5))
    second = loaded(tmp_path, "table T { b:int; }").T
    assert loaded(tmp_path, "table T { a:int; }").T is first
    loaded(tmp_path, "table T { c:int; }")
    assert len(fbs_load._models) == 2
    assert loaded(tmp_path, "table T { a:int; }").T is first
    assert loaded(tmp_path, "table T { b:int; }").T is not second
    loaded(tmp_path, "table T { c:int; }")
    again = pickle.loads(pickled)
    assert type(again) is not first
    assert again.a == 5

"""Texts of .fbs files, and what is wrong with some of them."""

from __future__ import annotations

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

ERRORS = [
    ("table T { a:int }", 1, 17, r"expected ';', not '}'"),
    ("table T {\n  a:Nothing;\n}", 2, 5, "Nothing is declared nowhere"),
    ("table T { a:[[int]]; }", 1, 14, "a vector of vectors"),
    ("table T { a:int = 1.5; }", 1, 19, "expected a whole number"),
    ("table T { a:byte = 200; }", 1, 20, "200 does not fit byte"),
    ("table T { a:float = 1e60; }", 1, 21, "does not fit float"),
    ("table T { a:int = cos(1); }", 1, 19, "functions in constants"),
    ("table T { a:int (required); }", 1, 18, "numbers are never required"),
    ("table T { a:int (mine); }", 1, 18, "unknown attribute 'mine'; declare it: attribute \"mine\""),
    ("table T { a:int (id: 1); }", 1, 11, "ids count from 0"),
    ("table T { a:int (id: 0); b:int; }", 1, 26, "all fields of a table have an id"),
    ("union U { T } table T { a:U (id: 0); }", 1, 25, "a union takes two ids"),
    ("table T { a:int; a:int; }", 1, 18, "two fields named a"),
    ("table T { } table T { }", 1, 19, "is declared in .*:1 already"),
    ("table T { a:[int:3]; }", 1, 13, "stands in a struct only"),
    ("table T { a:string = 5; }", 1, 22, "string has no such default"),
    ("table T { a:string = null; }", 1, 22, "only numbers have null"),
    ("table T { a:[int] = [1]; }", 1, 22, r"can only be empty: \[\]"),
    ('table T { a:string = "x" (key); }', 1, 27, "a key that is a string has no default"),
    ("table T { a:[string] (key); }", 1, 23, "a key is a number or a string"),
    ("table T { a:int (key); b:int (key); }", 1, 11, "two keys"),
    ("table T { a:int = null (key); }", 1, 25, "no null"),
    ("enum E : byte { A } table T { a:E = A (none); }", 1, 40, "unknown attribute 'none'"),
    ("table T { a:[ubyte] (force_align: 16); }", 1, 22, "force_align is 1, 2, 4 or 8"),
    ("table T { __a:int; }", 1, 11, "reserved"),
    ('table T { a:long (varve: "decimal"); } attribute "varve";', 1, 19, "'decimal' is for a string"),
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
    ("enum E : byte { A = 1, B = 1 }", 1, 24, "E.B and A are both 1"),
    ("enum E : ubyte (bit_flags) { A = 1, B = 1 }", 1, 37, "E.B and A are both 2"),
    ("struct S (force_align: 2) { a:int; }", 1, 8, "aligned to 4 bytes; force_align: no less"),
    ("enum E : byte { A, A }", 1, 20, "two values named A"),
    ("enum E : ubyte (bit_flags) { A = 8 }", 1, 30, "does not fit ubyte"),
    ("enum E : byte { A = 1 } table T { a:E; }", 1, 35, "has no value 0"),
    ("enum E : byte { A } table T { a:E = B; }", 1, 37, "B is no value of E"),
    ("union U { A: string }", 1, 14, "members of a union are tables"),
    ("struct S { a:int; } union U { S }", 1, 31, "members of a union are tables"),
    ("table T { } union U { A: T, B: T }", 1, 29, "twice in one union"),
    ("table T { } union U { T = 5 }", 1, 27, "numbered other than"),
    ("struct S { a:[U:2]; } table T { } union U { T }", 1, 14, "an array of fixed length holds numbers or structs"),
    ("table T { a:[U] = [1]; } union U { T }", 1, 20, r"can only be empty: \[\]"),
    ("table T { a:[U] (key); } union U { T }", 1, 18, "a key is a number or a string"),
    ("table T { a:[U] (force_align: 8); } union U { T }", 1, 18, "force_align is for structs and vectors of numbers"),
    ("union U { T } table T { a:[U] (id: 0); }", 1, 25, "a union takes two ids"),
    ("struct S { a:int; }\ntable T { a:[U]; }\nunion U {\n  T, S }", 4, 6, "members of a union are tables; S is not"),
    ("table T { a:[U]; } union U { T, A: string }", 1, 36, "members of a union are tables; string is not"),
    ("table T { a:[[U]]; } union U { T }", 1, 14, "a vector of vectors"),
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
    ("enum E : byte { _b }", 1, 17, "cannot be the name of an enum's value"),
    ('include "nothing.fbs";', 1, 1, "there is no file"),
    (r'table T { a:string = "\q"; }', 1, 22, r"unknown escape: \\q"),
    (r'table T { a:string = "\ud800"; }', 1, 22, "half a surrogate pair"),
    ("table int { }", 1, 7, "int is the name of a built-in type"),
    ("table T { a:[int] (vector64); }", 1, 20, "beyond 4 GiB"),
    ("enum E : int { __x }", 1, 16, "__x cannot be the name"),
    ("enum E : int { _x_ }", 1, 16, "_x_ cannot be the name"),
    ("table T { } union U : int { T }", 1, 23, "a union is stored as ubyte"),
    ("union U { }", 1, 7, "a union has 1 .. 255 members"),
    ("table T (force_align: 8) { a:int; }", 1, 10, "force_align is for structs and vectors"),
    ("struct S { a:int (id: 0); b:int (id: 1); }", 1, 8, "no ids"),
    ("table T { a:int (id); }", 1, 18, "id needs a number: id: 4"),
    ('table T { a:int = "12ab"; }', 1, 19, "expected a whole number"),
    ("table T { a:float = hello; }", 1, 21, "expected a number, not 'hello'"),
    ('table T { a:float = "1"; }', 1, 21, "expected a decimal number"),
    ("table T { a:float = 0x10; }", 1, 21, "expected a decimal number"),
    ("enum Color : int { Red } table T { a:int = Color.Blue; }", 1, 44, "Color.Blue is no value of an enum"),
    ("table T { a:int = Color.Blue; }", 1, 19, "Color.Blue is no value of an enum"),
    (
        'enum Color : int { Red, Blue } table T { a:Color = "Red Blue"; }',
        1,
        52,
        "Color is no bit_flags: one value only",
    ),
    ("enum F : ubyte (bit_flags) { A, B } table T { a:F = 300; }", 1, 53, "300 does not fit F"),
    ("enum Color : int { Red } table T { a:Color = 7; }", 1, 46, "7 is no value of Color; a needs one of its values"),
    ("attribute 5;", 1, 11, "expected the name of an attribute"),
    ("enum E : int { A.B }", 1, 16, "has no dots"),
    ("native_include 5;", 1, 16, "expected a path in quotes"),
    (
        'attribute "varve"; struct U { a:int; b:int; } table T { a:U (varve: "uuid"); }',
        1,
        62,
        "'uuid' is for a struct of 16 bytes",
    ),
    ('attribute "varve"; table T { a:[U] (varve: "bytes"); } table U { a:[ubyte]; b:int; }', 1, 37, "'bytes' is for"),
]
"""Text, line, column, and what the message says."""

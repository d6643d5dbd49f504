"""Classes to .fbs text and back, and to the source of a module and back."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
import os
import subprocess
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from codec_models import Cash, Everything, Ledger, Line, Numbers, OrderPlaced, Tree, events_of
from generated import event_classes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import varve
from varve.codec import event_type
from varve.schema import load, to_fbs, to_python

CLASSES = [OrderPlaced, Cash, Line, Numbers, Tree, Everything, Ledger]
many = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],  # compiling classes is slow: a failure is shown as it was met
)

Load = Callable[[str], Any]
Import = Callable[[str], types.ModuleType]

COUNT = itertools.count()


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def from_text(text: str) -> Any:
        path = tmp_path / f"schema{next(COUNT)}.fbs"
        path.write_text(text, encoding="utf-8")
        return load(path)

    return from_text


@pytest.fixture
def import_text(tmp_path: Path) -> Import:
    """Imports source as a module, as a committed file would be."""

    def from_text(source: str) -> types.ModuleType:
        name = f"written{next(COUNT)}"
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return from_text


def class_named(module: types.ModuleType, name: str) -> Any:
    """The class of a module that is an event type of that name."""
    for value in vars(module).values():
        declared = getattr(value, "__varve__", None)
        if declared is not None and declared.name == name:
            return value
    raise AssertionError(name)


def interchangeable(cls: Any, other: Any, events: list[Any]) -> None:
    """Bytes of one class verify, read and pack to the same event by the other."""
    ours, theirs = event_type(cls), event_type(other)
    for one in events:
        data = ours.pack(one)
        theirs.verify(data)
        again = theirs.pack(theirs.view(data))
        ours.verify(again)
        assert ours.view(again) == one


def drawn(data: st.DataObject, cls: Any) -> list[Any]:
    found: list[Any] = data.draw(st.lists(events_of(cls), min_size=1, max_size=3))
    return found


def both_ways(data: st.DataObject, cls: Any, load_text: Load, import_text: Import) -> None:
    events = drawn(data, cls)
    for python_types in (False, True):
        text = to_fbs(cls, python_types=python_types)
        found = load_text(text).root_type
        interchangeable(cls, found, events)
        # What is written of the loaded class says what it was loaded from.
        again = load_text(to_fbs(found, python_types=python_types)).root_type
        assert event_type(again).schema_bytes == event_type(found).schema_bytes
    module = import_text(to_python(cls))
    made = class_named(module, event_type(cls).name)
    assert event_type(made).schema_bytes == event_type(cls).schema_bytes
    interchangeable(cls, made, events)
    again = class_named(import_text(to_python([found])), event_type(found).name)
    assert event_type(again).schema_bytes == event_type(found).schema_bytes


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(many, max_examples=5)
def test_events_of_every_mapped_type_survive(
    cls: Any, data: st.DataObject, load_text: Load, import_text: Import
) -> None:
    """What is loaded from to_fbs reads and writes the same bytes; the module that to_python writes has the very schema."""
    both_ways(data, cls, load_text, import_text)


@given(data=st.data(), cls=event_classes())
@many
def test_any_schema_survives(data: st.DataObject, cls: Any, load_text: Load, import_text: Import) -> None:
    """The same for random schemas."""
    both_ways(data, cls, load_text, import_text)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_python_types_survive(cls: Any, load_text: Load) -> None:
    """With python_types=True a loaded class has the Python types of the first one."""
    found = load_text(to_fbs(cls, python_types=True)).root_type
    kinds = {f.name: str(f.kind) for f in event_type(found).declaration.fields}
    want = {f.name: str(f.kind) for f in event_type(cls).declaration.fields}
    assert kinds == want


ODD = """
namespace shop;
attribute "varve";
/// A class with \\ and \"\"\" in its "docs"
table varve { str:string (required); bytes:[ubyte]; tuple:[int] = []; field:int (deprecated); class:Color = None;
  float:double = inf; name:string = "a\\"b\\\\"; at:long = 5000 (varve: "datetime"); Color:[Color]; _:bool; KW_ONLY:float; }
/// Colors
enum Color : ubyte { None, /// not None
 True = 3 }
namespace other;
table varve { IntEnum:shop.Color; }
struct Annotated { v:[float:3]; Length:int; }
table Holder { x:Annotated; }
"""


def test_names_that_a_module_needs_itself_are_worked_around(load_text: Load, import_text: Import) -> None:
    """Fields named str, tuple or field, classes named varve, members named None."""
    m = load_text(ODD)
    module = import_text(to_python(list(m.values())))
    made = class_named(module, "shop.varve")
    assert event_type(made).schema_bytes == event_type(m["shop.varve"]).schema_bytes
    one = made(str="x", tuple=[1], Color=[0, 3])
    assert (one.name, one.class_, one.float) == ('a"b\\', 0, float("inf"))
    assert made.__doc__ == m["shop.varve"].__doc__


@pytest.mark.parametrize("doc", ['"""', 'a "quote"', '"" two', '\\"', "\\", '""""', 'x """" y'])
def test_comments_become_docstrings_whatever_they_hold(doc: str, load_text: Load, import_text: Import) -> None:
    m = load_text(f"/// {doc}\ntable Told {{ /// {doc}\n a:int; }}")
    assert m.Told.__doc__ == doc
    assert class_named(import_text(to_python([m.Told])), "Told").__doc__ == doc


def test_a_module_is_written_to_be_read(tmp_path: Path) -> None:
    """The whole text: comments become docstrings, classes come after what they need."""
    (tmp_path / "orders.fbs").write_text(
        """namespace shop;
        /// What was bought.
        table OrderPlaced { /// On the bill.
          order_id:ulong; product:string; color:Color = Red; lines:[Line]; }
        table Line { sku:string (required); price:Money (required); }
        struct Money { cents:long; rates:[float:2]; }
        enum Color : ubyte { Red = 1, Blue }
        """
    )
    assert to_python(tmp_path / "orders.fbs") == WRITTEN


WRITTEN = '''"""Event classes of orders.fbs, written by varve.schema.to_python."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

import varve
from varve.schema import Length, stored_as


@stored_as(varve.u8, name="shop.Color")
class Color(IntEnum):
    Red = 1
    Blue = 2


@varve.struct(name="shop.Money")
class Money:
    cents: varve.i64
    rates: Annotated[tuple[varve.f32, ...], Length(2)]


@varve.event(name="shop.OrderPlaced")
class OrderPlaced:
    """What was bought."""

    order_id: varve.u64 = 0
    """On the bill."""
    product: str | None = None
    color: Color = Color.Red
    lines: tuple[Line, ...] | None = None


@varve.event(name="shop.Line")
class Line:
    sku: str
    price: Money
'''


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_accept_what_is_written(checker: str, tmp_path: Path) -> None:
    """Under mypy --strict and pyright's strict mode, with every form of field."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} comes with the extra `lint`")
    (tmp_path / "odd.fbs").write_text(ODD)
    root = Path(varve.__file__).parents[1]
    (tmp_path / "odd.py").write_text(to_python(tmp_path / "odd.fbs"))
    (tmp_path / "everything.py").write_text(to_python([Everything, Tree]))
    (tmp_path / "user.py").write_text(
        "from everything import Card, Tree\nfrom odd import Color_\n\n"
        "tree: Tree = Tree(1, (Tree(2),))\nlink: Tree | None = tree.link\ncolor: Color_ = Color_.None_\n\n\n"
        "def number(card: Card) -> str:\n    return card.number\n"
    )
    command = {
        "mypy": ["mypy", "--strict", "--follow-imports", "silent", "--cache-dir", str(tmp_path / "cache"), "."],
        "pyright": ["pyright", "--pythonpath", sys.executable, "."],
    }[checker]
    (tmp_path / "pyrightconfig.json").write_text(
        f'{{"typeCheckingMode": "strict", "reportMissingTypeStubs": false, "extraPaths": [{str(root)!r}]}}'.replace(
            "'", '"'
        )
    )
    environment = {**os.environ, "MYPYPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Shade(IntEnum):
    DARK = 1


@varve.event
class Innermost:
    n: int = 3
    shade: Shade = Shade.DARK
    when: datetime = datetime(2020, 1, 2, tzinfo=UTC)
    key: UUID = UUID(int=7)
    price: Decimal = Decimal("1.50")
    ratio: float = math.inf


@varve.event
class Alone:
    n: varve.u8 = 1


@varve.event
class Inner:
    held: Innermost
    others: list[Alone | Innermost] = dataclasses.field(default_factory=list)
    gone: Innermost | None = None


@varve.event
class Outer:
    inner: Inner = Inner(Innermost(5), [Alone(2), Innermost()])
    either: Innermost | Alone = Alone(9)


def test_defaults_that_are_events_stand_behind_their_classes(import_text: Import) -> None:
    """The module of a class whose default holds instances of other classes could not be imported: those that were needed
    only inside of the default were written after it."""
    source = to_python(Outer)
    module = import_text(source)
    assert event_type(module.Outer).schema_bytes == event_type(Outer).schema_bytes
    assert varve.to_json(module.Outer()) == varve.to_json(Outer())
    assert module.Outer().inner.others == (module.Alone(2), module.Innermost())


def test_a_module_imports_only_what_it_needs(load_text: Load, import_text: Import) -> None:
    """Enums alone need nothing of varve; where fields are given by name, the mark for it steps aside for a field of its name."""
    source = to_python([Shade])
    assert "varve" not in source.replace("varve.schema.to_python", "")
    assert import_text(source).Shade(1).name == "DARK"
    found = load_text("table T { _:int; late:string (required); early:bool; } root_type T;").root_type
    made = import_text(to_python(found)).T
    assert made(late="x", _=5) == made(_=5, late="x", early=False)
    assert event_type(made).schema_bytes == event_type(found).schema_bytes


def test_two_types_of_one_name_do_not_fit_a_module() -> None:
    """Nor would either be right."""
    other = varve.event(type("Line", (), {"__annotations__": {"n": int}}))
    with pytest.raises(varve.SchemaError, match="two different types are named 'Line'; one module cannot declare both"):
        to_python([Line, other])


def test_a_module_is_written_of_classes_only() -> None:
    """Anything else is a SchemaError."""
    for wrong in ([], [int], 5):
        with pytest.raises((varve.SchemaError, TypeError)):
            to_python(wrong)

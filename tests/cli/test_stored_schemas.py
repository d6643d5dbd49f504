"""``varve schema list``, ``export`` and ``check``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Inside, Placed, Shipped, fill

import varve
from varve.cli.schemas import file_name

NEWER = """
import varve
@varve.event
class Placed:
    order_id: varve.u64
    product: str
    note: str | None = None
    gift: bool = False

@varve.event(name="Placed")
class Broken:
    order_id: str
    note: str | None = None

@varve.event
class Fresh:
    n: int
"""


@pytest.fixture
def data(inside: Inside, tmp_path: Path) -> Path:
    """A store with two types, one in two versions, and a module with others."""
    fill(tmp_path / "data", 2)
    (tmp_path / "newer_events.py").write_text(NEWER)
    inside.done(
        "append", "data", "orders", "7", "--class", "newer_events:Placed", "--json", '{"order_id": 1, "product": ""}'
    )
    return tmp_path / "data"


def test_list(inside: Inside, data: Path) -> None:
    """Each type once, with how many versions it has."""
    found = inside.json("schema", "list", "data", "--json")
    assert [(one["name"], one["versions"], one["numbers"]) for one in found] == [
        ("Placed", 2, [0, 2]),
        ("shop.Shipped", 1, [1]),
    ]
    lines = inside.done("schema", "list", "data").splitlines()
    assert [line.split()[:3] for line in lines] == [["Placed", "2", "versions"], ["shop.Shipped", "1", "version"]]


def test_export_as_fbs(inside: Inside, data: Path, tmp_path: Path) -> None:
    """What was written can be loaded, is what ``varve schema fbs`` prints, and is not replaced unless one says so."""
    told = inside.done("schema", "export", "data", "out/deep")
    assert told == "out/deep/shop.Shipped.fbs\nout/deep/Placed.fbs\n"
    for name in ("Placed", "shop.Shipped"):
        assert (tmp_path / "out/deep" / f"{name}.fbs").read_text() == inside.done("schema", "fbs", "data", name)
        assert name in varve.schema.load(tmp_path / "out/deep" / f"{name}.fbs")
    (tmp_path / "out/deep/Placed.fbs").write_text("mine")
    (tmp_path / "out/deep/shop.Shipped.fbs").unlink()
    assert "is there already; nothing was written" in inside.refused(3, "schema", "export", "data", "out/deep")
    assert [path.name for path in (tmp_path / "out/deep").iterdir()] == ["Placed.fbs"]
    found = inside.json("schema", "export", "data", "out/deep", "--force", "--versions", "--json")
    assert {one["file"] for one in found} == {
        "out/deep/Placed.v1.fbs",
        "out/deep/shop.Shipped.fbs",
        "out/deep/Placed.fbs",
    }
    assert "gift" in (tmp_path / "out/deep/Placed.fbs").read_text()
    assert "gift" not in (tmp_path / "out/deep/Placed.v1.fbs").read_text()


def test_export_in_other_forms(inside: Inside, data: Path, tmp_path: Path) -> None:
    """The schema as the log has it, and a module."""
    inside.done("schema", "export", "data", "out", "--form", "json")
    inside.done("schema", "export", "data", "out", "--form", "python")
    stored = {one.name: one for one in varve.ops.schemas(data)}
    for name, one in stored.items():
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text()) == json.loads(one.text)
        assert "@varve.event" in (tmp_path / "out" / f"{name}.py").read_text()
    inside.refused(6, "schema", "export", "data", "data/data.mdb/x")


def test_names_that_are_no_file_names() -> None:
    """Types whose names differ in what files cannot have, or in case only, do not share a file."""
    taken: set[str] = set()
    names = [file_name(name, ".fbs", taken) for name in ("a/b", "a:b", "A_B", "a.b", "a_b-2")]
    assert names == ["a_b.fbs", "a_b-2.fbs", "A_B-3.fbs", "a.b.fbs", "a_b-2-2.fbs"]


def test_check_a_class(inside: Inside, data: Path) -> None:
    """Taken or refused, with every reason; as ``db.stream`` does it."""
    assert inside.done("schema", "check", "data", "newer_events:Placed") == "Placed: version 2 of 2 in the store\n"
    assert inside.done("schema", "check", "data", "newer_events:Fresh") == "Fresh: new to the store\n"
    told = inside.run("schema", "check", "data", "newer_events:Broken")
    assert (told.code, told.err) == (3, "")
    assert told.out.startswith("Placed: refused\n  ")
    told = inside.run("schema", "check", "data", "newer_events:Broken", "--json")
    [found] = json.loads(told.out)
    assert told.code == 3
    assert (found["accepted"], found["versions"], found["version"]) == (False, 2, None)
    import newer_events  # pyright: ignore[reportMissingImports]

    with varve.open(data) as db:
        with pytest.raises(varve.SchemaConflict) as refused:
            db.stream("orders", newer_events.Broken)
        assert found["reasons"] == list(refused.value.reasons)
        db.stream("orders", newer_events.Placed)
        assert varve.ops.check_schema(db, Placed).version == 1
        assert varve.ops.check_schema(db, Shipped).accepted
    inside.refused(2, "schema", "check", "data", "newer_events:Nothing")


def test_check_a_file(inside: Inside, data: Path, tmp_path: Path) -> None:
    """Every table of a .fbs file, with what it includes."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.fbs").write_text(
        "namespace shop; struct Where { x:int; } table Shipped { order_id:ulong; }"
    )
    (tmp_path / "all.fbs").write_text('include "base.fbs"; table Placed { order_id:ulong; }')
    told = inside.run("schema", "check", "data", "all.fbs", "-I", "more")
    assert told.code == 3
    assert "shop.Shipped: may follow version 1 in the store" in told.out
    assert "Placed: refused" in told.out
    assert "there is no file 'base.fbs'" in inside.refused(2, "schema", "check", "data", "all.fbs")
    (tmp_path / "none.fbs").write_text("struct Where { x:int; }")
    assert "declares no table" in inside.refused(2, "schema", "check", "data", "none.fbs")
    inside.refused(6, "schema", "check", "data", "nowhere.fbs")

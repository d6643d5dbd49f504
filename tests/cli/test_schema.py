"""``varve schema`` as people and scripts run it: real processes, what they print, what they exit with."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import varve
from varve import ops
from varve.cli.app import EXIT_CODES, app

FBS = """
include "money.fbs";
namespace shop;
/// What was bought.
table OrderPlaced { order_id:ulong (key); product:string (required); price:Money; note:string; }
root_type OrderPlaced;
"""
MONEY = "namespace shop; enum Unit : byte { EUR, USD } struct Money { cents:long; unit:Unit; }"
EVENTS = '''
import varve

@varve.event
class Placed:
    """Größe: \u00e4."""
    order_id: varve.u64
    product: str
    quantity: varve.u32 = 1
    note: str | None = None

@varve.event(name="shop.Shipped")
class Shipped:
    order_id: varve.u64

class Plain:
    pass
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with .fbs files and a module."""
    (tmp_path / "orders.fbs").write_text(FBS)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "money.fbs").write_text(MONEY)
    (tmp_path / "events.py").write_text(EVENTS, encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    return tmp_path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, as installed, with its output in pipes."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("varve")), *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "40", **environment},
        check=False,
    )


def done(folder: Path, *arguments: str, **environment: str) -> str:
    """What a command prints that must succeed without a word of complaint."""
    found = run(folder, *arguments, **environment)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


def refused(folder: Path, code: int, *arguments: str) -> str:
    """The one line that a command says which must fail."""
    found = run(folder, *arguments)
    assert found.returncode == code, found
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    assert found.stderr.startswith("varve: ")
    assert found.stderr.count("\n") == 1
    return found.stderr


def fill(folder: Path) -> None:
    """A store with two types, one of them in two versions."""
    script = """
import varve, events
from dataclasses import field
with varve.open("data") as db:
    db.stream("orders", events.Placed | events.Shipped).append_batch(1, [events.Placed(1, "a"), events.Shipped(1)])
@varve.event(name="Placed")
class Newer:
    order_id: varve.u64
    product: str
    quantity: varve.u32 = 1
    note: str | None = None
    old: varve.f64 = field(default=float("nan"), metadata={"deprecated": True})
with varve.open("data") as db:
    db.stream("orders", Newer).append(1, Newer(2, "b"))
"""
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


def test_python_writes_a_module_that_can_be_imported(folder: Path) -> None:
    """To standard output or to a file, the same bytes; the classes are those of ``varve.schema.load``."""
    text = done(folder, "schema", "python", "orders.fbs", "-I", "more")
    assert 'class OrderPlaced:\n    """What was bought."""' in text
    assert done(folder, "schema", "python", "orders.fbs", "--include", "more", "-o", "orders.py") == ""
    assert (folder / "orders.py").read_bytes() == text.encode()
    check = "import orders, varve.schema as s; loaded = s.load('orders.fbs', ['more'])\n"
    check += "print(s.to_fbs(orders.OrderPlaced) == s.to_fbs(loaded.OrderPlaced))"
    ran = subprocess.run([sys.executable, "-c", check], cwd=folder, capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


def test_fbs_of_a_class_and_of_a_stored_type(folder: Path) -> None:
    """A class of the current folder, or the newest version that a store holds."""
    text = done(folder, "schema", "fbs", "events:Placed")
    assert "/// Größe: ä.\ntable Placed {\n  order_id:ulong;\n" in text
    assert text == done(folder, "schema", "fbs", "events:Placed", PYTHONIOENCODING="ascii", LC_ALL="C")
    fill(folder)
    stored = done(folder, "schema", "fbs", "data", "Placed")
    assert "old:double = nan (deprecated);" in stored
    assert done(folder, "schema", "fbs", "data", "Placed", "-o", "placed.fbs") == ""
    assert (folder / "placed.fbs").read_text() == stored
    assert "say which: Placed, shop.Shipped" in refused(folder, 2, "schema", "fbs", "data")


def test_show_lists_types_and_fields_as_plain_text(folder: Path) -> None:
    """Every version in order; lines are not cut to the width of anything; no colours where nobody looks."""
    fill(folder)
    text = done(folder, "schema", "show", "data", FORCE_COLOR="")
    first, shipped, newer = text.split("\n\n")
    stored = ops.schemas(folder / "data")
    assert first.splitlines() == [
        f"Placed  number 0, version 1  {stored[0].fingerprint.hex()}",
        "  order_id  u64",
        "  product   str",
        "  quantity  u32 = 1",
        "  note      str | None",
    ]
    assert shipped.startswith("shop.Shipped  number 1, version 1  ")
    assert newer.startswith("Placed  number 2, version 2  ")
    assert newer.endswith('  old       f64 = "NaN"  (deprecated)\n')
    assert "\x1b" not in text
    assert done(folder, "schema", "show", "data", "shop.Shipped") == shipped + "\n"
    assert "holds no event type 'Nope'; it holds Placed, shop.Shipped" in refused(
        folder, 2, "schema", "show", "data", "Nope"
    )


def test_show_spells_nested_types(folder: Path) -> None:
    """Structs and enums that the type needs follow it."""
    done(folder, "schema", "python", "orders.fbs", "-I", "more", "-o", "orders.py")
    lines = done(folder, "schema", "show", "orders:OrderPlaced").splitlines()
    assert lines[0].startswith("shop.OrderPlaced  ")
    assert lines[1:] == [
        "  order_id  u64 = 0  (key)",
        "  product   str",
        "  price     shop.Money | None",
        "  note      str | None",
        "struct shop.Money",
        "  cents  i64",
        "  unit   shop.Unit",
        "enum shop.Unit",
        "  EUR = 0",
        "  USD = 1",
    ]


def test_show_prints_the_generated_code(folder: Path) -> None:
    """Of a class and of a stored type; it compiles."""
    for target in (["events:Shipped"], ["data", "shop.Shipped"]):
        if target[0] == "data":
            fill(folder)
        head, code = done(folder, "schema", "show", *target, "--code").split("\n\n", 1)
        assert head.startswith("shop.Shipped  ")
        assert "def pack(" in code
        compile(code, "code", "exec")


def test_show_as_json(folder: Path) -> None:
    """The canonical schema and what stands beside it, for programs."""
    fill(folder)
    found = json.loads(done(folder, "schema", "show", "data", "--json"))
    assert [(one["name"], one["number"], one["version"]) for one in found] == [
        ("Placed", 0, 1),
        ("shop.Shipped", 1, 1),
        ("Placed", 2, 2),
    ]
    stored = ops.schemas(folder / "data")
    assert [json.loads(one.text) for one in stored] == [one["schema"] for one in found]
    assert [one.fingerprint.hex() for one in stored] == [one["fingerprint"] for one in found]
    [one] = json.loads(done(folder, "schema", "show", "events:Placed", "--json", "--code"))
    assert (one["number"], one["version"], one["fingerprint"]) == (None, None, found[0]["fingerprint"])
    assert "def pack(" in one["code"]


def test_an_empty_store_has_no_types(folder: Path) -> None:
    """Nothing is printed but a word on stderr; a program gets an empty list."""
    with varve.open(folder / "empty"):
        pass
    found = run(folder, "schema", "show", "empty")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "empty holds no events yet\n")
    assert done(folder, "schema", "show", "empty", "--json") == "[]\n"
    assert ops.schemas(folder / "empty") == []


@pytest.mark.parametrize(
    ("code", "arguments", "why"),
    [
        (6, ["schema", "python", "none.fbs"], "none.fbs: No such file"),
        (2, ["schema", "python", "orders.fbs"], "there is no file 'money.fbs' to include"),
        (6, ["schema", "python", "more/money.fbs", "-o", "no/such/folder"], "no/such/folder: No such file"),
        (6, ["schema", "show", "none"], "there is no store at"),
        (6, ["schema", "fbs", "more"], "there is no store at"),
        (2, ["schema", "show", "none:Class"], "none cannot be imported (ModuleNotFoundError"),
        (2, ["schema", "show", "broken:Class"], "broken cannot be imported (ZeroDivisionError"),
        (2, ["schema", "show", "events:Nothing"], "events has no Nothing"),
        (2, ["schema", "show", "events:Plain"], "Plain is no event class"),
        (2, ["schema", "fbs", "events:varve"], "is no event class"),
        (2, ["schema", "show", "events:Placed", "Placed"], "is one class; TYPE is for a store"),
    ],
)
def test_a_users_mistake_is_one_line(folder: Path, code: int, arguments: list[str], why: str) -> None:
    """No traceback, the reason, and the exit code of its kind."""
    assert why in refused(folder, code, *arguments)


def test_a_damaged_store_exits_with_integrity(folder: Path) -> None:
    """What is no store of Varve's is told apart from what is none at all."""
    (folder / "data").mkdir()
    (folder / "data" / "data.mdb").write_bytes(b"x" * 8192)
    assert run(folder, "schema", "show", "data").returncode == EXIT_CODES["integrity"]


@pytest.mark.parametrize(
    "arguments", [["schema", "show"], ["schema", "nope"], ["--nope"], ["schema", "show", "a", "b", "c"]]
)
def test_a_wrong_command_line_exits_with_2(folder: Path, arguments: list[str]) -> None:
    """And says how it is used."""
    found = run(folder, *arguments)
    assert (found.returncode, found.stdout) == (2, "")
    assert "Usage: varve" in found.stderr
    assert "Traceback" not in found.stderr


def test_help_documents_exit_codes_and_examples(folder: Path) -> None:
    """In plain text, wherever it is read; every command has an example."""
    text = done(folder, "--help", COLUMNS="100")
    for kind, code in EXIT_CODES.items():
        assert f"{code}  {kind}" in text
    for command in ("python", "fbs", "show"):
        assert f"varve schema {command} " in done(folder, "schema", command, "-h").split("Example")[1]


def test_a_reader_that_leaves_early_is_no_error(folder: Path) -> None:
    """``varve schema show ... | head -1``."""
    fill(folder)
    command = f"{Path(sys.executable).with_name('varve')} schema show data --code | head -1; exit ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("Placed  number 0")


def on_a_terminal(folder: Path, *arguments: str, **environment: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("varve")), *arguments],
        cwd=folder,
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**env, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    out = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # Linux says so at the end
            break
        if not piece:
            break
        out += piece
    os.close(ours)
    assert process.wait() == 0, out
    return out.decode()


def test_colours_are_for_terminals_that_want_them(folder: Path) -> None:
    """Code is coloured on a terminal, unless NO_COLOR is set."""
    assert "\x1b[" in on_a_terminal(folder, "schema", "show", "events:Placed", "--code")
    assert "\x1b[3" not in on_a_terminal(folder, "schema", "show", "events:Placed", "--code", NO_COLOR="1")
    assert "\x1b[3" not in on_a_terminal(folder, "schema", "python", "more/money.fbs", NO_COLOR="1")


def test_without_the_extra_it_says_what_to_install(folder: Path) -> None:
    """The command is there in any case; ``python -m varve.cli`` is the same."""
    for missing in ("typer", "rich"):
        (folder / "hide.py").write_text(
            f"import sys\nsys.modules[{missing!r}] = None\nfrom varve.cli import main\nmain()\n"
        )
        found = subprocess.run([sys.executable, "hide.py"], cwd=folder, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout) == (6, "")
        assert (
            found.stderr
            == f"varve: the command line needs {missing}, which is not installed: pip install 'varve-store[cli]'\n"
        )
    same = subprocess.run(
        [sys.executable, "-m", "varve.cli", "-h"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert same.stdout.startswith("Usage: varve ")


def test_the_manual_lists_every_command() -> None:
    """docs/cli.md has a heading for each, and none for what is gone."""
    import typer.main

    def commands(command: object, path: str) -> list[str]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return [path]
        return [found for name, one in inner.items() for found in commands(one, f"{path} {name}")]

    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    headings = [line.removeprefix("## `").partition("`")[0] for line in page.splitlines() if line.startswith("## `")]
    documented = sorted(
        " ".join(word for word in heading.split() if re.fullmatch("[a-z][a-z-]*", word)) for heading in headings
    )
    assert documented == sorted(commands(typer.main.get_command(app), "varve"))
    for kind, code in EXIT_CODES.items():
        assert f"| {code} | {kind} |" in page

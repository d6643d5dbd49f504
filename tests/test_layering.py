"""Imports point one way, and users' code imports public modules only.

The rules are data at the top; ``breaches_in_package`` and ``breaches_in_user_code`` walk syntax trees and name file and
line of whatever breaks one. The tests at the end plant a breach of every kind and see it caught.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up. A room is a folder or a module directly below varve/. It may import itself and what stands in
# lower tiers; rooms of one tier do not know each other. "varve" is the __init__, which gathers the public names.
TIERS: tuple[tuple[str, ...], ...] = (
    ("limits", "errors"),
    ("types", "expected", "typing_support", "unknown", "logs", "reports"),
    ("layout", "codec"),
    ("engine", "schema", "upcasts"),
    ("deferred", "gaps"),
    ("backups",),  # whole stores as files: blocks, side tables and the engine's hot copy, nothing of events
    ("record", "appends", "bindings", "retention", "stats"),
    ("replay",),
    ("columns",),  # readers and streams lead to it; what it needs of them they hand over
    ("reader",),
    ("tailing",),  # below what makes tails: it needs the engine, classes and the walk, nothing of a stream or a store
    ("stream",),
    ("state",),  # a transaction leads to it, as streams lead to columns
    ("transaction", "archive"),
    ("derived", "scoped"),  # what a store makes of its log: it leads to them
    ("store",),
    ("series", "integrations"),  # integrations: what others' tools are told, through what a store tells anybody
    ("opening",),
    ("aggregates", "prevalent"),  # what stands on a store as any program does
    ("ops",),
    ("testing",),
    ("varve",),
    ("ui",),
    ("cli",),
)
TIER_OF = {room: height for height, tier in enumerate(TIERS) for room in tier}

# Modules from outside that only some rooms may import.
RESERVED: dict[str, frozenset[str]] = {
    "lmdb": frozenset({"engine"}),  # the engine is the seam behind which another engine may stand one day
    "flatbuffers": frozenset({"codec"}),
    # `import varve` stays quick, and sync users never pay for it: inside functions, and not where one appends and reads.
    "asyncio": frozenset({"tailing", "derived", "scoped", "aggregates", "prevalent", "testing", "ui", "cli"}),
}
# Optional extras: imported where they are used, inside functions, never when a module loads.
OPTIONAL = frozenset(
    [
        "anyio",
        "numpy",
        "opentelemetry",
        "prometheus_client",
        "pyarrow",
        "rich",
        "sse_starlette",
        "starlette",
        "typer",
        "uvicorn",
    ]
)
# But for the rooms that are nothing without them: the __init__ of each says so where they are missing.
OWN = {"cli": frozenset({"rich", "typer"}), "ui": frozenset({"anyio", "sse_starlette", "starlette", "uvicorn"})}

# Rooms that turn bytes into other bytes: no file, no clock of others' making, no thread.
PURE_ROOMS = frozenset({"layout", "codec"})
NOT_PURE = frozenset(
    [
        "asyncio",
        "concurrent",
        "fcntl",
        "lmdb",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "select",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
    ]
)

# Compiling an event class writes into the class; two threads may need it first at the same moment.
PURE_EXCEPT = {"codec": frozenset({"threading"})}

# What tests, examples and documentation may import.
PUBLIC_MODULES = frozenset(
    {
        "varve",
        *(f"varve.{room}" for room in ("errors", "integrations", "limits", "ops", "schema", "testing")),
        *(f"varve.integrations.{tool}" for tool in ("opentelemetry", "prometheus")),
    }
)

# Calls that open what they are given. Closing lock.mdb destroys LMDB's locks, so nobody may open it.
OPENERS = frozenset(
    [
        "open",
        "read_bytes",
        "read_text",
        "write_bytes",
        "write_text",
        "touch",
        "copy",
        "copy2",
        "copyfile",
        "copyfileobj",
        "copytree",
        "move",
        "make_archive",
    ]
)
LOCK_FILE = "lock" + ".mdb"


class Import(NamedTuple):
    """One imported module; ``on_load`` if it happens when the importing module loads."""

    module: str
    line: int
    on_load: bool


def imports_in(tree: ast.Module, package: str, rooms: frozenset[str]) -> Iterator[Import]:
    """Yield every import, absolute, with ``from varve import engine`` resolved to ``varve.engine``."""

    def visit(node: ast.AST, *, on_load: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield Import(name.name, node.lineno, on_load)
            case ast.ImportFrom(module=module, names=names, level=level):
                if level:
                    base = package.split(".")[: len(package.split(".")) - level + 1]
                    module = ".".join([*base, module] if module else base)
                assert module is not None
                if module == "varve":
                    for name in names:
                        yield Import(f"varve.{name.name}" if name.name in rooms else "varve", node.lineno, on_load)
                else:
                    yield Import(module, node.lineno, on_load)
            case ast.Attribute(value=ast.Name(id="varve"), attr=attr) if attr in rooms:
                yield Import(f"varve.{attr}", node.lineno, on_load=False)
            case _:
                pass
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(node):
            on_load = False
        for child in ast.iter_child_nodes(node):
            yield from visit(child, on_load=on_load)

    yield from visit(tree, on_load=True)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def openings_of_the_lock_file(tree: ast.Module) -> Iterator[int]:
    """Yield the lines where the lock file, named there or through a variable of the same file, is opened or copied."""

    def names_it(node: ast.AST, variables: set[str]) -> bool:
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.endswith(LOCK_FILE):
                return True
            if isinstance(part, ast.Name) and part.id in variables:
                return True
        return False

    variables: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and names_it(node.value, set()) and not isinstance(node.value, ast.Compare):
            variables |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            shields = any(keyword.arg == "ignore" for keyword in node.keywords)
            if called in OPENERS and not shields and names_it(node, variables):
                yield node.lineno


def room_of(module: str) -> str:
    """The room of a module of the package: ``varve.engine.pins`` belongs to engine."""
    return module.split(".")[1] if "." in module else "varve"


def module_of(path: Path, root: Path) -> str:
    """The dotted name of a file below the folder that holds ``varve/``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def breaches_in_package(root: Path) -> list[str]:
    """Every breach of the tables above in ``root/varve``, as ``path:line: what is wrong``."""
    found = []
    rooms = frozenset(TIER_OF) - {"varve"}
    for path in sorted((root / "varve").rglob("*.py")):
        module = module_of(path, root)
        room, where = room_of(module), path.relative_to(root).as_posix()
        if room not in TIER_OF:
            found.append(f"{where}:1: {room} is no room of tests/test_layering.py; give it a tier there")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for imported in imports_in(tree, package, rooms):
            top = imported.module.split(".")[0]
            if top == "varve":
                target = room_of(imported.module)
                if target != room and TIER_OF.get(target, len(TIERS)) >= TIER_OF[room]:
                    found.append(f"{where}:{imported.line}: {room} imports {target}, which does not stand below it")
            if top in RESERVED and room not in RESERVED[top]:
                found.append(f"{where}:{imported.line}: {room} imports {top}, reserved to {sorted(RESERVED[top])}")
            at_home = path.name != "__init__.py" and top in OWN.get(room, ())
            if top in OPTIONAL and imported.on_load and not at_home:
                found.append(f"{where}:{imported.line}: {top} is optional: import it where it is used")
            if room in PURE_ROOMS and top in NOT_PURE - PURE_EXCEPT.get(room, frozenset()):
                found.append(f"{where}:{imported.line}: {room} is pure bytes and imports {top}")
        if room in PURE_ROOMS:
            found += [
                f"{where}:{node.lineno}: {room} is pure bytes and opens a file"
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
            ]
        found += [f"{where}:{line}: opens {LOCK_FILE}" for line in openings_of_the_lock_file(tree)]
    return found


def breaches_in_user_code(root: Path) -> list[str]:
    """Every import of a private module in tests, examples and documentation below ``root``.

    Tests of a room, ``tests/engine/...`` or ``tests/test_engine.py``, may import that room and what stands below it.
    """
    found = []
    rooms = frozenset(TIER_OF) - {"varve"}
    for path, first_line, source in _user_code(root):
        where = path.relative_to(root).as_posix()
        own_room = _own_room(path.relative_to(root))
        height = TIER_OF.get(own_room, -1)
        tree = compile(source, where, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        for imported in imports_in(tree, "", rooms):
            if imported.module.split(".")[0] != "varve" or imported.module in PUBLIC_MODULES:
                continue
            room = room_of(imported.module)
            if room == own_room or TIER_OF.get(room, len(TIERS)) < height:
                continue
            found.append(f"{where}:{first_line + imported.line}: imports {imported.module}, which is private")
        found += [f"{where}:{first_line + line}: opens {LOCK_FILE}" for line in openings_of_the_lock_file(tree)]
    return found


def _own_room(path: Path) -> str:
    """The room that ``tests/engine/test_pins.py`` or ``tests/test_engine.py`` is named after, if there is one."""
    return path.parts[1].removeprefix("test_").removesuffix(".py") if path.parts[0] == "tests" else ""


def _user_code(root: Path) -> Iterator[tuple[Path, int, str]]:
    """Yield files and documentation snippets with the number of lines above them."""
    for folder in ("tests", "examples"):
        for path in sorted((root / folder).rglob("*.py")):
            yield path, 0, path.read_text(encoding="utf-8")
    for path in sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")]):
        text = path.read_text(encoding="utf-8")
        for snippet in re.finditer(r"^```python[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield path, text.count("\n", 0, snippet.start(1)), snippet[1]


def test_imports_in_the_package_point_one_way() -> None:
    """No room imports what stands above or beside it, and reserved modules stay in their rooms."""
    assert breaches_in_package(ROOT) == []


def test_user_code_imports_public_modules_only() -> None:
    """What tests, examples and documentation need, users can import too."""
    assert breaches_in_user_code(ROOT) == []


def plant(root: Path, path: str, source: str) -> None:
    """Write one file of a bad tree."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source, encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        ("varve/layout/keys.py", "\nfrom varve.engine import pins", ":2: layout imports engine"),
        ("varve/layout/keys.py", "from varve import store", ":1: layout imports store"),
        ("varve/layout/keys.py", "import varve.codec.plan", ":1: layout imports codec"),
        ("varve/layout/keys.py", "from ..engine.pins import Pin", ":1: layout imports engine"),
        ("varve/layout/keys.py", "from .. import engine", ":1: layout imports engine"),
        ("varve/engine/__init__.py", "from ..store import Varve", ":1: engine imports store"),
        ("varve/record.py", "from varve import Position", ":1: record imports varve"),
        ("varve/record.py", "def late():\n    from varve.store import Varve", ":2: record imports store"),
        ("varve/errors.py", "from varve import limits", ":1: errors imports limits"),
        ("varve/attic/old.py", "", ":1: attic is no room"),
        ("varve/store.py", "import lmdb", ":1: store imports lmdb"),
        ("varve/stream.py", "def wait():\n    import asyncio", ":2: stream imports asyncio"),
        ("varve/engine/fast.py", "import flatbuffers.table", ":1: engine imports flatbuffers"),
        ("varve/reader.py", "import numpy as np", ":1: numpy is optional"),
        ("varve/columns/read.py", "import pyarrow", ":1: pyarrow is optional"),
        ("varve/ops/check.py", "import typer", ":1: typer is optional"),
        ("varve/integrations/prometheus.py", "import prometheus_client", ":1: prometheus_client is optional"),
        ("varve/integrations/opentelemetry.py", "from opentelemetry import trace", ":1: opentelemetry is optional"),
        ("varve/store.py", "from varve.integrations import prometheus", ":1: store imports integrations"),
        ("varve/cli/__init__.py", "import rich.console", ":1: rich is optional"),
        ("varve/cli/schema.py", "import numpy", ":1: numpy is optional"),
        ("varve/cli/ui.py", "import uvicorn", ":1: uvicorn is optional"),
        ("varve/ui/__init__.py", "import starlette.routing", ":1: starlette is optional"),
        ("varve/ui/app.py", "import rich", ":1: rich is optional"),
        ("varve/ops/look.py", "from varve.ui import app", ":1: ops imports ui"),
        ("varve/codec/view.py", "import os", ":1: codec is pure bytes and imports os"),
        ("varve/layout/keys.py", "import threading", ":1: layout is pure bytes and imports threading"),
        ("varve/codec/view.py", "def f(p):\n    return open(p)", ":2: codec is pure bytes and opens a file"),
        ("varve/ops/copy.py", f"open(folder / '{LOCK_FILE}')", f":1: opens {LOCK_FILE}"),
        ("varve/ops/copy.py", f"lock = folder / '{LOCK_FILE}'\nlock.read_bytes()", f":2: opens {LOCK_FILE}"),
        ("varve/ops/copy.py", f"shutil.copy2(f'{{folder}}/{LOCK_FILE}', there)", f":1: opens {LOCK_FILE}"),
    ],
)
def test_a_breach_in_the_package_is_named(tmp_path: Path, path: str, source: str, breach: str) -> None:
    """Each kind of breach is reported with its file and line, and nothing else is."""
    plant(tmp_path, path, source)
    [found] = breaches_in_package(tmp_path)
    assert found.startswith(path + breach)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("varve/engine/pins.py", "import lmdb\nfrom varve.layout import keys\nfrom . import snapshot"),
        ("varve/store.py", "from varve import errors, limits\nfrom varve.stream import Stream"),
        ("varve/tailing/watcher.py", "import asyncio"),
        ("varve/reader.py", "def column():\n    import numpy"),
        ("varve/cli/schema.py", "import typer\nfrom rich.console import Console"),
        ("varve/cli/__init__.py", "def main():\n    import typer"),
        ("varve/ui/app.py", "from sse_starlette import EventSourceResponse\nimport asyncio"),
        ("varve/reader.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"),
        ("varve/ops/copy.py", f"names = [n for n in names if n != '{LOCK_FILE}']"),
        ("varve/ops/copy.py", f"shutil.copytree(a, b, ignore=shutil.ignore_patterns('{LOCK_FILE}'))"),
    ],
)
def test_what_the_tables_allow_is_no_breach(tmp_path: Path, path: str, source: str) -> None:
    """The walk does not cry wolf."""
    plant(tmp_path, path, source)
    assert breaches_in_package(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        ("examples/orders.py", "import varve\nfrom varve.store import Varve", ":2: imports varve.store"),
        ("examples/orders.py", "from varve import engine", ":1: imports varve.engine"),
        ("examples/orders.py", "import varve\nvarve.codec.compile()", ":2: imports varve.codec"),
        ("tests/layout/test_keys.py", "from varve.engine import pins", ":1: imports varve.engine"),
        ("README.md", "Hello\n\n```python\nimport varve.stream\n```\n", ":4: imports varve.stream"),
        ("docs/tails.md", "```python\nawait x\nfrom varve.tailing import tail\n```\n", ":3: imports varve.tailing"),
        ("tests/test_backup.py", f"open('{LOCK_FILE}')", f":1: opens {LOCK_FILE}"),
    ],
)
def test_a_private_import_in_user_code_is_named(tmp_path: Path, path: str, source: str, breach: str) -> None:
    """Tests, examples and snippets in documentation are held to the public modules."""
    plant(tmp_path, path, source)
    [found] = breaches_in_user_code(tmp_path)
    assert found.startswith(path + breach)


def test_tests_of_a_room_may_import_it_and_what_stands_below(tmp_path: Path) -> None:
    """A room's own tests look inside, and build on what the room builds on."""
    plant(tmp_path, "tests/engine/test_pins.py", "from varve.engine import pins\nfrom varve.layout import keys")
    plant(tmp_path, "tests/test_expected.py", "from varve import expected, errors, schema, testing")
    assert breaches_in_user_code(tmp_path) == []

"""``varve.__all__`` is the API: complete, documented, and cheap to import."""

import ast
import importlib
import importlib.resources
import inspect
import re
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest

import varve
import varve.errors


def imported_names() -> dict[str, str]:
    """What type checkers find in the package: the names that it imports for them alone, and the modules that these come from."""
    tree = ast.parse(Path(varve.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: node.module
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("varve.")
        for alias in node.names
    }


def test_all_is_exactly_the_public_names() -> None:
    """Nothing public is missing from ``__all__``, and nothing in it is missing from the package."""
    assert sorted(imported_names()) == sorted(varve.__all__)
    loaded = {name for name, value in vars(varve).items() if not isinstance(value, types.ModuleType)}
    assert {name for name in loaded if not name.startswith("_")} <= {*varve.__all__, "TYPE_CHECKING"}


@pytest.mark.parametrize("name", varve.__all__)
def test_a_name_is_what_type_checkers_take_it_for(name: str) -> None:
    """Names are loaded when they are first used; where from is said twice, here and for type checkers."""
    home = importlib.import_module(imported_names()[name])
    assert getattr(varve, name) is getattr(home, name)
    assert varve._HOME_OF.get(name, "varve.errors") == home.__name__
    assert name in dir(varve)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    """As of any module, also where somebody only asks."""
    with pytest.raises(AttributeError, match="module 'varve' has no attribute 'opne'"):
        varve.opne  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    assert not hasattr(varve, "__wrapped__")


@pytest.mark.parametrize("module", ["errors", "integrations", "limits", "ops", "schema", "testing"])
def test_public_modules_need_no_import_of_their_own(module: str) -> None:
    """``varve.ops.verify`` works after ``import varve``."""
    script = f"import varve; print(varve.{module}.__name__, '{module}' in dir(varve))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout == f"varve.{module} True\n"


def rank(name: str) -> tuple[int, list[str | int]]:
    """Constants, classes, the rest; each by the alphabet, with i8 before i16."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def test_all_is_sorted_and_without_repetition() -> None:
    """One order for everybody, so that merges do not fight."""
    assert varve.__all__ == sorted(set(varve.__all__), key=rank)
    assert varve.errors.__all__ == sorted(set(varve.errors.__all__), key=rank)


def test_every_error_is_public() -> None:
    """Whatever Varve raises on purpose can be caught by a name of the package."""
    errors = {
        name
        for name, value in vars(varve.errors).items()
        if isinstance(value, type) and issubclass(value, varve.VarveError)
    }
    assert errors <= set(varve.__all__)


def test_every_error_stands_in_the_drawn_tree() -> None:
    """The tree in the docstring of ``varve.errors`` names each error once, below its base."""
    assert varve.errors.__doc__ is not None
    drawn: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in varve.errors.__doc__.splitlines():
        name = line.lstrip(" |`-").split(" ")[0]
        if line.startswith("    ") and isinstance(getattr(varve.errors, name, None), type):
            indent = line.index(name)
            above = [(place, base) for place, base in above if place < indent]
            assert name not in drawn
            drawn[name] = above[-1][1] if above else None
            above.append((indent, name))
    errors = [
        value for value in vars(varve.errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert drawn == {
        error.__name__: next((base.__name__ for base in error.__bases__ if issubclass(base, varve.VarveError)), None)
        for error in errors
    }


def test_every_error_has_a_code_of_its_own_and_a_known_kind() -> None:
    """Programs can tell errors apart by a stable string, and decide by its kind."""
    errors = [getattr(varve, name) for name in varve.__all__ if name in vars(varve.errors)]
    errors = [error for error in errors if isinstance(error, type)]
    assert len({error.code for error in errors}) == len(errors)
    assert {error.kind for error in errors} <= set(typing.get_args(varve.errors.Kind))


@pytest.mark.parametrize("name", varve.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """Classes and functions say in a docstring what a caller must know, and so do their public methods."""
    value = getattr(varve, name)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return  # type aliases and sentinels cannot carry one
    assert inspect.getdoc(value), f"varve.{name} has no docstring"
    if inspect.isclass(value) and value.__module__.split(".")[0] == "varve":
        for member_name, member in vars(value).items():
            if not member_name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"varve.{name}.{member_name} has no docstring"


@pytest.mark.parametrize("form", ["append", "append_batch", "append_many"])
def test_the_awaited_forms_take_what_the_plain_ones_take(form: str) -> None:
    """``append_async`` and its kin: coroutine functions with the very parameters and the return type of their counterparts."""
    plain, awaited = getattr(varve.Stream, form), getattr(varve.Stream, f"{form}_async")
    assert inspect.iscoroutinefunction(awaited)
    assert inspect.signature(awaited) == inspect.signature(plain)


_LOADED = (
    "import sys; before = set(sys.modules); import varve; {use}; print(*sorted(set(sys.modules) - before), sep='\\n')"
)
NEVER = {
    "asyncio",
    "flatbuffers",
    "numpy",
    "opentelemetry",
    "prometheus_client",
    "pyarrow",
    "rich",
    "pytest",
    "starlette",
    "subprocess",
    "typer",
    "uvicorn",
}


@pytest.mark.parametrize(
    ("use", "allowed"),
    [
        ("pass", {"varve"}),
        ("varve.StoreClosed, varve.u64, varve.NO_STREAM", None),
        ("[getattr(varve, name) for name in varve.__all__]", None),
    ],
)
def test_importing_varve_does_not_load(use: str, allowed: set[str] | None) -> None:
    """`import varve` stays quick, a program pays for what it uses, and optional extras stay optional."""
    finished = subprocess.run(
        [sys.executable, "-c", _LOADED.format(use=use)], capture_output=True, text=True, check=True
    )
    loaded = set(finished.stdout.split())
    assert "varve" in loaded
    assert not loaded & NEVER
    assert allowed is None or loaded <= allowed


def test_the_package_carries_its_types() -> None:
    """``py.typed`` tells type checkers that the annotations count."""
    assert importlib.resources.files("varve").joinpath("py.typed").is_file()

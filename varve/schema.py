"""Schemas as text: what programs in other languages need to read and write the same events.

``to_fbs`` gives the .fbs text of a class, ``load`` the classes of a .fbs file, ``to_python`` a module that declares
them, ``flatc`` the schema of a class that flatc generated, ``source`` what Varve generates of one, ``incompatibilities``
whether a changed class may follow an older one, ``to_bytes`` and ``from_bytes`` a single event's FlatBuffer. Three
marks say in Python what only .fbs had words for: ``stored_as`` (how wide an enum is), ``Length`` (an array of fixed
length in a struct) and ``Nested`` (of what event bytes hold the FlatBuffer).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from varve import limits
from varve.codec import event_type
from varve.codec import incompatibilities as stored_incompatibilities
from varve.codec.declare import stored_as
from varve.codec.fbs import to_fbs
from varve.codec.fbs_lexer import At, fbs_error
from varve.codec.fbs_load import classes_from_model, resolve
from varve.codec.fbs_parser import FbsFile, parse_fbs
from varve.codec.flatc import accessor_of
from varve.codec.official import declare_flatc
from varve.codec.to_python import module_source
from varve.errors import SchemaError
from varve.types import Length, Nested

__all__ = [
    "Length",
    "Nested",
    "SchemaFile",
    "flatc",
    "from_bytes",
    "incompatibilities",
    "load",
    "source",
    "stored_as",
    "to_bytes",
    "to_fbs",
    "to_python",
]

StrPath = str | os.PathLike[str]
T = TypeVar("T")


class SchemaFile(Mapping[str, Any]):
    """The classes of a .fbs file and of what it includes: tables as event classes, structs, enums.

    A mapping from full names (``shop.orders.OrderPlaced``), which are also the names of the event types in a store.
    Attributes are shorter: ``loaded.OrderPlaced`` where only one namespace has that name, else
    ``loaded.shop.orders.OrderPlaced``.
    """

    def __init__(self, classes: dict[str, Any], main: FbsFile, root: str | None, prefix: str = "") -> None:
        self._all = classes
        self._prefix = prefix
        self._main = main
        self._root = root

    @property
    def root_type(self) -> Any:
        """The class that ``root_type`` names, or None."""
        return None if self._root is None else self._all[self._root]

    @property
    def file_identifier(self) -> str | None:
        """What ``file_identifier`` says. Varve writes none: the log knows the type of each event."""
        return self._main.file_identifier

    @property
    def file_extension(self) -> str | None:
        """What ``file_extension`` says."""
        return self._main.file_extension

    def __getitem__(self, name: str) -> Any:
        return self._all[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._all if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also what copy and pickle look for before anything is set
            raise AttributeError(name)
        if name in self:
            return self[name]
        found = [full for full in self if full.rpartition(".")[2] == name]
        if len(found) == 1:
            return self[found[0]]
        prefix = f"{self._prefix}{name}."
        if any(full.startswith(prefix) for full in self._all):
            return SchemaFile(self._all, self._main, self._root, prefix)
        if found:
            raise AttributeError(f"{name} may be {' or '.join(found)}: say which")
        raise AttributeError(f"{self._main.path} declares no {name}; it declares {', '.join(self) or 'nothing'}")

    def __dir__(self) -> list[str]:
        return sorted(
            {*super().__dir__(), *(name.split(".")[0] for name in self), *(n.rpartition(".")[2] for n in self)}
        )

    def __repr__(self) -> str:
        return f"<{self._main.path}: {', '.join(self)}>"


def load(path: StrPath, include_dirs: Iterable[StrPath] = ()) -> SchemaFile:
    """Event classes from a .fbs file and the files that it includes.

    Included files are looked for beside the file that includes them, then in ``include_dirs``. The same declarations
    give the same classes, also when they are loaded again. Raises SchemaError, with the attributes ``path``, ``line``
    and ``column``, for what is no valid .fbs or cannot become an event class, and OSError when the file itself cannot
    be read.
    """
    files = _Files([Path(d) for d in include_dirs])
    main = files.read(Path(path))
    model = resolve(files.in_order)
    classes = classes_from_model(model.text())
    return SchemaFile(classes, main, model.root)


class _Files:
    """Reads a file and its includes, each once: those that a file includes before the file itself."""

    def __init__(self, include_dirs: list[Path]) -> None:
        self.include_dirs = include_dirs
        self.seen: set[Path] = set()
        self.in_order: list[FbsFile] = []

    def read(self, path: Path) -> FbsFile:
        main = self._parse(path)
        # A stack of half-read files instead of recursion: chains of includes may be long.
        stack = [(path, main, iter(main.includes))]
        while stack:
            here, parsed, includes = stack[-1]
            include = next(includes, None)
            if include is None:
                self.in_order.append(parsed)
                stack.pop()
                continue
            found = self._find(include.path, include.at, here)
            if found.resolve() not in self.seen:
                if len(self.seen) >= limits.FBS_FILES_MAX:
                    raise fbs_error(include.at, f"more than {limits.FBS_FILES_MAX} files")
                inner = self._parse(found)
                stack.append((found, inner, iter(inner.includes)))
        return main

    def _parse(self, path: Path) -> FbsFile:
        self.seen.add(path.resolve())
        data = path.read_bytes()
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - data.rfind(b"\n", 0, error.start)
            raise fbs_error(At(str(path), line, column), "the file is not UTF-8") from error
        return parse_fbs(text, str(path))

    def _find(self, wanted: str, at: At, includer: Path) -> Path:
        for folder in (includer.parent, *self.include_dirs):
            try:
                candidate = folder / wanted
                if candidate.is_file():
                    return candidate
            except (OSError, ValueError):
                continue
        raise fbs_error(at, f"there is no file {wanted!r} to include")


def to_python(source: StrPath | Any, include_dirs: Iterable[StrPath] = ()) -> str:
    """Source text of a module that declares the event classes of a .fbs file, or those given (one class, or several).

    The text can be committed: type checkers understand it, and the classes it declares write and read the same events.
    Raises what ``load`` raises.
    """
    if isinstance(source, (str, os.PathLike)):
        loaded = load(source, include_dirs)
        return module_source(list(loaded.values()), f"Event classes of {Path(source).name}")
    classes = [source] if isinstance(source, type) else list(source)
    if not classes:
        raise SchemaError("to_python takes the path of a .fbs file, or event classes")
    return module_source(classes, "Event classes")


def flatc(cls: type[T], path: StrPath, include_dirs: Iterable[StrPath] = ()) -> type[T]:
    """Give a class made by ``flatc --python --gen-object-api`` the schema of its .fbs file, and return the class.

    Without it the schema is read from the generated code, which does not tell enums, what is ``required`` or a ``key``, the
    spelling of field names, and deprecated fields. Call it before the class's first use as an event type. Raises what
    ``load`` raises, and SchemaError where the class was not generated from this schema.
    """
    accessor = accessor_of(cls) if isinstance(cls, type) else None
    if accessor is None:
        raise SchemaError(f"{cls!r} is no class generated by flatc --python --gen-object-api")
    declare_flatc(accessor, load(path, include_dirs))
    return cls


def source(cls: type) -> str:
    """The Python code that was generated of an event class: its packers and views.

    Raises ``SchemaError`` for a class that is no event class.
    """
    return event_type(cls).source


def to_bytes(event: Any) -> bytes:
    """An event (or a view) as the FlatBuffer that a store keeps of it, a multiple of 8 bytes long: to put into another event as
    bytes, or to send.

    Raises ``EventEncodingError`` when a value does not fit, ``SchemaError`` for what is no event.
    """
    return event_type(type(event)).pack(event)


def from_bytes(cls: type[T], data: bytes | bytearray | memoryview) -> T:
    """The event in a FlatBuffer of any origin, as a view over a copy of the bytes; all of it is verified first.

    Raises ``MalformedEvent`` where the bytes hold no valid event of the class.
    """
    compiled = event_type(cls)
    buffer = bytes(data)
    compiled.verify(buffer)
    found: T = compiled.view(buffer + bytes(-len(buffer) % 8))
    return found


def incompatibilities(old: type, new: type) -> list[str]:
    """Why a store that holds events of one class would refuse another under the same name: every reason, none if it would not.

    What ``db.stream`` checks, without a store: compare the class with how it was released, e.g. with
    ``varve.schema.load("released/orders.fbs").OrderPlaced``. Names count as well, since events are stored by type name.
    Raises ``SchemaError`` for a class that is no event class.
    """
    return stored_incompatibilities(event_type(old).schema_bytes, event_type(new).schema_bytes)

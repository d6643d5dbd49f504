"""What the codec parses: FlatBuffers, .fbs text, stored schemas, JSON."""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import varve.schema
from torture.hostile.change import mutated
from torture.hostile.target import Attempt, insist
from varve.codec import event_type_from_schema, from_json, incompatibilities, owned, to_json
from varve.codec.event_type import EventType
from varve.codec.fbs_load import resolve
from varve.codec.fbs_parser import parse_fbs
from varve.errors import EventEncodingError, MalformedEvent, SchemaError

Hole = tuple[str, AbstractContextManager[object], int]

_TESTS = Path(__file__).parents[2] / "tests"


def helper(name: str) -> Any:
    """A module of helpers of the codec's or the schema's tests: what mutates and judges there does so here."""
    for folder in ("codec", "schema", "codec/conformance"):
        where = str(_TESTS / folder)
        if where not in sys.path:
            sys.path.insert(0, where)
    return importlib.import_module(name)


@lru_cache(maxsize=1)
def shapes(seed: int, examples: int = 25) -> list[tuple[EventType, bytes]]:
    """Event types of every kind with an event each, as we write it and as the official Builder does."""
    found: list[tuple[EventType, bytes]] = helper("fuzz").shapes(seed, random.Random(seed), examples)
    return found


class VerifierTarget:
    """Events from anywhere: ``tests/codec/fuzz.py``, and ``varve.schema.from_bytes``."""

    name = "verifier"
    share = 250

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Events of the codec's tests and of random classes."""
        fuzz, found = helper("fuzz"), shapes(seed)

        def attempt(chance: random.Random) -> bool:
            compiled, data = chance.choice(found)
            broken = fuzz.mutation(data, chance)
            if chance.randrange(8) == 0:
                try:
                    view = varve.schema.from_bytes(compiled.cls, broken)
                except MalformedEvent:
                    return False
                insist(owned(view) == view, "an event is not what it was read as")
                return True
            read = fuzz.read_everything if chance.randrange(12) == 0 else fuzz.read_fields
            return bool(fuzz.accepted(compiled, broken, read))

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Bounds, alignment and text that nobody looks at."""
        verifier = "varve.codec.verify._Verifier"
        yield "nothing is verified", mock.patch.object(EventType, "verify", lambda *_: None), 2_000
        yield "parts may lie outside of the buffer", mock.patch(f"{verifier}.need", lambda *_: None), 10_000
        yield "text need not be text", mock.patch(f"{verifier}.characters", lambda *_: None), 10_000


class FbsTarget:
    """The text of a .fbs file, up to the model that classes are made of."""

    name = "fbs"
    share = 60

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """The texts of the schema tests, and the project's own."""
        helpers = helper("fbs_fuzz")
        texts = [*helpers.TEXTS, *(p.read_text(encoding="utf-8") for p in (_TESTS.parent / "schemas").glob("*.fbs"))]

        def attempt(chance: random.Random) -> bool:
            text = helpers.mutated(chance.choice(texts), chance) if chance.randrange(2) else generated(chance)
            try:
                model = resolve([parse_fbs(text, "x.fbs")])
            except SchemaError as error:
                insist(error.message, "an error without words")
                return False
            model.text()
            return True

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Names that nobody declared."""
        yield (
            "names of types need not be declared",
            mock.patch("varve.codec.fbs_load._Resolver.find", lambda _self, wanted, _namespace: wanted.name),
            3_000,
        )


class LoadTarget:
    """Files that include each other, up to classes that work."""

    name = "load"
    share = 3

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """As ``FbsTarget``."""
        helpers = helper("fbs_fuzz")
        texts = helpers.TEXTS[:3]

        def attempt(chance: random.Random) -> bool:
            names = ["main.fbs", "a.fbs", "b.fbs", "sub/c.fbs"]
            (folder / "sub").mkdir(exist_ok=True)
            for name in names[1:]:
                includes = "".join(f'include "{_path(names, chance)}";\n' for _ in range(chance.randrange(3)))
                own = f"namespace n{chance.randrange(3)};\n" + generated(chance, 1)
                (folder / name).write_bytes((includes + own).encode("utf-8", "surrogatepass"))
            includes = "".join(f'include "{_path(names, chance)}";\n' for _ in range(chance.randrange(2)))
            text = helpers.mutated(chance.choice(texts), chance) if chance.randrange(3) else generated(chance)
            return bool(helpers.tried(folder / "main.fbs", includes + text))

        return attempt

    def holes(self) -> Iterator[Hole]:
        """What a file gets wrong is an error of Python's."""
        yield (
            "errors have no place, and are not ours",
            mock.patch("varve.codec.fbs_load.fbs_error", lambda _, message: ValueError(message)),
            400,
        )


def _path(names: list[str], chance: random.Random) -> str:
    odd = ("/dev/null", "../" * 40 + "etc/hostname", ".", "", "x" * 5_000, "a\\u0000b", "\\\\", "~/x.fbs", "sub")
    return chance.choice((*names, "../main.fbs", "./a.fbs", chance.choice(odd)))


_WORDS = (
    *("int", "ulong", "string", "float", "bool", "T0", "T1", "S0", "E0", "U0", "n0.T0", "class", "None", "_b", "mro"),
    *("\uff34", "a\u0301", "\u202etable", "\u200b", "\U0001d4e3", "__init__", "_", "A" * 300, "T" * 6_000, "table"),
)
_NUMBERS = (
    *("0", "-1", "1e999", "-1e-999", "0x" + "f" * 20, "9" * 30, "9" * 5_000, "1" + "0" * 400 + ".5", "inf", "-nan"),
    *("1.", ".5", "1e", "0x", "018446744073709551616", "-9223372036854775809", "true", "null", "E0.A", "[]", '"\\u12"'),
)


def generated(chance: random.Random, declarations: int | None = None) -> str:
    """Text that is nearly right, of words that are nearly wrong."""
    names = iter(range(1_000))

    def word() -> str:
        if chance.randrange(30) == 0:
            return chance.choice(_WORDS)
        return f"{chance.choice('abc')}{next(names) if chance.randrange(12) else 0}"

    def number() -> str:
        return chance.choice(_NUMBERS) if chance.randrange(4) == 0 else str(chance.randrange(9))

    def kind() -> str:
        one = chance.choice(_WORDS[:6]) if chance.randrange(3) else chance.choice("TTTSEU") + "0"
        match chance.randrange(12):
            case 0 | 1 | 2:
                return f"[{one}]"
            case 3:
                return f"[{one}:{chance.choice((1, 3, 16, 65_535, 65_536, '9' * 40))}]"
            case 4 if chance.randrange(20) == 0:
                return "[" * chance.choice((2, 3_000)) + one
            case _:
                return one

    def attributes() -> str:
        if chance.randrange(12):
            return ""
        some = ("id: 0", "id: 1", "required", "deprecated", "key", "force_align: 8", f"force_align: {number()}")
        more = ('varve: "datetime"', 'varve: "uuid"', 'nested_flatbuffer: "T0"', "bit_flags", "hash", word())
        return f" ({', '.join(chance.choices((*some, *more), k=chance.randint(1, 3)))})"

    def field(_: int) -> str:
        default = f" = {number()}" if chance.randrange(8) == 0 else ""
        return f"  {word()}:{kind()}{default}{attributes()};\n"

    def declaration(at: int) -> str:
        fields = "".join(map(field, range(chance.choice((1, 1, 2, 3, 8)))))
        match chance.randrange(9):
            case 0 | 1 | 2 | 3:
                return f"table T{at % 5}{attributes()} {{\n{fields}}}\n"
            case 4 | 5:
                return f"struct S{at % 5}{attributes()} {{\n{fields}}}\n"
            case 6:
                members = ", ".join(f"{word()} = {number()}" if chance.randrange(4) == 0 else word() for _ in range(3))
                return f"enum E{at % 5} : {chance.choice(('byte', 'ulong', 'string', 'T0'))}{attributes()} {{ {members} }}\n"
            case 7:
                members = ", ".join(chance.choice(("T0", "T1", "T2", word())) for _ in range(chance.randint(1, 3)))
                return f"union U{at % 5} {{ {members} }}\n"
            case _:
                other = (
                    "namespace a.b.c;",
                    "namespace;",
                    'attribute "x";',
                    "root_type T0;",
                    "rpc_service R { f(T0):T1; }",
                )
                return (
                    chance.choice((*other, f"/* {'*' * 200} */", f'file_identifier "{word()}";', "/// doc", "{}"))
                    + "\n"
                )

    count = chance.randint(1, 6) if declarations is None else declarations
    known = "table T0 { a:int; }\nstruct S0 { a:int; }\nenum E0 : byte { A, B }\nunion U0 { T0 }\n"
    text = (known if chance.randrange(8) else "") + "".join(map(declaration, range(1, 1 + count)))
    if chance.randrange(12) == 0 and text:
        at = chance.randrange(len(text))
        text = text[:at] + chr(chance.choice((0, 0x1A, 0x85, 0x2028, 0xFEFF, 0xD800, 0x10FFFF))) + text[at:]
    return text


# -- JSON ------------------------------------------------------------------------------------------


def replanted(value: Any, chance: random.Random) -> Any:
    """A JSON value with one thing in it changed: another value, a part of another place, something left out or added."""
    nodes: list[tuple[Any, Any]] = []
    _nodes(value, nodes)
    if not nodes:
        return value
    owner, key = chance.choice(nodes)
    odd: tuple[Any, ...] = (
        *(None, True, 0, -1, 2**64, 2**31, 1.5, 1e308, math.nan, "", "\0", "x" * 3_000, "T0", "int", [], {}, [[]]),
        *("1970-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "AA==", "NaN", "1e400", "-" * 40, "\ud800"),
    )
    match chance.randrange(7):
        case 0 | 1:
            owner[key] = chance.choice(odd)
        case 2 | 3:
            other, there = chance.choice(nodes)
            owner[key] = json.loads(json.dumps(other[there]))
        case 4 if isinstance(owner, dict):
            owner[chance.choice(("x", "$type", "", "type", "default", "name", "optional"))] = owner.pop(key)
        case 5:
            del owner[key]
        case _ if isinstance(owner, list):
            owner.insert(key, json.loads(json.dumps(owner[key])))
        case _:
            deep: Any = owner[key]
            for _ in range(chance.choice((1, 2, 70, 150))):
                deep = [deep] if chance.randrange(2) else {str(key): deep}
            owner[key] = deep
    return value


def _nodes(value: Any, found: list[tuple[Any, Any]]) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        _nodes(item, found)


def hostile_json(text: str, chance: random.Random, dump: Callable[[Any], str]) -> bytes:
    """JSON that says something else, or is none."""
    if chance.randrange(10) == 0:
        return mutated(text.encode(), chance)
    if chance.randrange(200) == 0:
        return chance.choice((b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b'"' + b"\\u0000" * 10_000 + b'"'))
    value = json.loads(text)
    for _ in range(chance.choice((1, 1, 1, 2))):
        value = replanted(value, chance)
    return dump(value).encode("utf-8", "surrogatepass")


def _loose_references(within: int) -> Hole:
    return (
        "types may refer to what is not there",
        mock.patch("varve.codec.schema._Parser.check_references", lambda *_: None),
        within,
    )


class StoredSchemaTarget:
    """The schema of an event type as a log holds it, and the classes that are made from it."""

    name = "stored schema"
    share = 6

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Schemas of the codec's tests and of random classes."""
        texts = sorted({compiled.schema_bytes.decode() for compiled, _ in shapes(seed)})

        def dump(value: Any) -> str:
            return json.dumps(value, sort_keys=True, separators=(",", ":"))

        def attempt(chance: random.Random) -> bool:
            text = hostile_json(chance.choice(texts), chance, dump)
            try:
                compiled = event_type_from_schema(text)
            except MalformedEvent:
                return False
            insist(compiled.schema_bytes == text, "a schema is not what it was made from")
            _ = compiled.pack, compiled.view
            with suppress(SchemaError):  # what .fbs has no words for
                varve.schema.to_fbs(compiled.cls)
            with suppress(EventEncodingError):
                event = from_json(compiled, {})
                insist(compiled.view(compiled.pack(event)) == event, "an event is not read as it was written")
            return True

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Types that refer to what is not there."""
        yield _loose_references(600)


class EvolutionTarget:
    """Two schemas, of which the newer may be allowed to follow the older."""

    name = "evolution"
    share = 25

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """As ``StoredSchemaTarget``."""
        texts = sorted({compiled.schema_bytes.decode() for compiled, _ in shapes(seed)})

        def dump(value: Any) -> str:
            return json.dumps(value, sort_keys=True, separators=(",", ":"))

        def attempt(chance: random.Random) -> bool:
            text = chance.choice(texts)
            pair = [
                hostile_json(text, chance, dump),
                hostile_json(text, chance, dump) if chance.randrange(2) else text.encode(),
            ]
            chance.shuffle(pair)
            try:
                reasons = incompatibilities(*pair)
            except MalformedEvent:
                return False
            insist(all(isinstance(reason, str) and reason for reason in reasons), "a reason without words")
            return True

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Fields of a type that need not be fields."""
        yield _loose_references(6_000)


class JsonTarget:
    """Events from JSON."""

    name = "from_json"
    share = 90

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Events of the codec's tests and of random classes."""
        found = [(compiled, to_json(compiled.view(data + bytes(-len(data) % 8)))) for compiled, data in shapes(seed)]

        def attempt(chance: random.Random) -> bool:
            compiled, text = chance.choice(found)
            data: Any = hostile_json(text, chance, json.dumps)
            if chance.randrange(2):
                data = data.decode("utf-8", chance.choice(("replace", "surrogateescape")))
            try:
                event = from_json(compiled, data)
                packed = compiled.pack(event)
            except EventEncodingError:
                return False
            compiled.verify(packed)
            insist(compiled.view(packed) == event, "an event is not read as it was written")
            return True

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Base64, times and numbers as they come."""
        yield (
            "text of any kind is taken",
            mock.patch("varve.codec.json._text", lambda _tag, data, _path: bytes.fromhex(data)),
            4_000,
        )

"""Mutated and hostile .fbs texts, and what has to come of them."""

from __future__ import annotations

import random
import re
from pathlib import Path

from codec_models import Everything, Tree
from schema_texts import ERRORS, ORDERS, UNITS

from varve.codec import event_type
from varve.codec.declare import Declaration
from varve.errors import SchemaError
from varve.schema import load, to_fbs, to_python

TEXTS = [
    ORDERS.replace('include "units.fbs";', UNITS),
    to_fbs(Everything, python_types=True),
    to_fbs(Tree),
    *(text for text, *_ in ERRORS),
]
WORDS = re.compile(r"\w+|\s+|[^\w\s]")
PIECES = sorted(
    {word for text in TEXTS for word in WORDS.findall(text)}
    | {"999999999999999999999999", "1e999", "\0", "\u00e4", "-", "0x", "'"}
)


def mutated(text: str, chance: random.Random) -> str:
    """A few words replaced, doubled, swapped, left out, or characters changed."""
    words = WORDS.findall(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(words)) if words else 0
        match chance.randrange(6):
            case 0 if words:
                words[at] = chance.choice(PIECES)
            case 1:
                words.insert(at, chance.choice(PIECES))
            case 2 if words:
                del words[at]
            case 3 if words:
                other = chance.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            case 4 if words:
                end = min(len(words), at + chance.randint(1, 30))
                words[at:at] = words[at:end]
            case _ if words:
                word = words[at]
                i = chance.randrange(len(word))
                words[at] = (
                    word[:i] + chr(chance.choice([0, 9, 10, 34, 39, 47, 92, 123, 0xD800, 0x1F600])) + word[i + 1 :]
                )
    return "".join(words)


def tried(path: Path, text: str) -> bool:
    """Whether the text was accepted; then all of it works."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = load(path)
        for cls in found.values():
            declared = getattr(cls, "__varve__", None)
            if isinstance(declared, Declaration) and declared.what == "table":
                event_type(cls)
                to_fbs(cls)
        if found:
            compile(to_python(path), "written", "exec")
    except SchemaError as error:
        return len(str(error)) == 0
    return True


HOSTILE = {
    "a long chain of tables": "".join(f"table T{n} {{ a:T{n + 1}; }}\n" for n in range(3000)) + "table T3000 { }",
    "two ways at each of many levels": "".join(
        f"table A{n} {{ a:A{n + 1}; b:B{n + 1}; }} table B{n} {{ a:A{n + 1}; b:B{n + 1}; }}\n" for n in range(60)
    )
    + "table A60 { } table B60 { }",
    "structs that double": "".join(f"struct S{n} {{ a:S{n + 1}; b:S{n + 1}; }}\n" for n in range(64))
    + "struct S64 { x:byte; }",
    "structs in a long chain": "".join(f"struct S{n} {{ a:S{n + 1}; }}\n" for n in range(3000))
    + "struct S3000 { x:byte; }",
    "many fields": "table T {" + "".join(f"f{n}:int;" for n in range(1500)) + "}",
    "deep brackets": "table T { a:" + "[" * 100_000,
    "many comments": "/*" * 100_000,
    "many quotes": '"\\' * 100_000,
    "a long number": "table T { a:int = " + "9" * 200_000 + "; }",
    "a long float": "table T { a:double = " + "9" * 200_000 + "e1; }",
    "a long name": "table " + "T" * 200_000 + " { }",
    "many namespaces": "namespace " + ".".join("a" * 2_000) + "; table T { x:Missing; }",
    "too long a file": "/" * (2**20 + 1),
}

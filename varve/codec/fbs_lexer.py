"""The words of .fbs text, each with its line and column.

The grammar is that of https://flatbuffers.dev/grammar/. Columns and lines count from 1.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from varve import limits
from varve.errors import SchemaError

__all__ = ["At", "Token", "fbs_error", "tokens"]


@dataclass(frozen=True, slots=True)
class At:
    """A place in a file."""

    path: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Token:
    """``what`` is ``word``, ``number``, ``string`` (``text`` is then its value), a punctuation character, or ``end``."""

    what: str
    text: str
    at: At
    doc: tuple[str, ...] = ()


def fbs_error(at: At, reason: str) -> SchemaError:
    """The error for a place in a file."""
    return SchemaError(f"{at.path}:{at.line}:{at.column}: {reason}", path=at.path, line=at.line, column=at.column)


WORDS: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<doc>///(?!/)[^\n]*)
    | (?P<comment>//[^\n]*)
    | (?P<block>/\*)
    | (?P<number>0[xX][0-9A-Fa-f]+(?![0-9A-Za-z_.]) | (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z_.]))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<string>"(?:[^"\\\n]|\\[^\n])*" | '(?:[^'\\\n]|\\[^\n])*')
    | (?P<mark>[{}()\[\]:;,=.+\-])
    """,
    re.VERBOSE,
)

ESCAPE: Final = re.compile(r"""\\(?:([nrtbf"'\\/])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.))""", re.DOTALL)
PLAIN_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def tokens(text: str, path: str) -> list[Token]:
    """All of the text's words, the last one ``end``; SchemaError for what is no word."""
    if len(text) > limits.FBS_CHARS_MAX:
        raise fbs_error(At(path, 1, 1), f"longer than {limits.FBS_CHARS_MAX} characters")
    starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def place(offset: int) -> At:
        line = bisect_right(starts, offset)
        return At(path, line, offset - starts[line - 1] + 1)

    out: list[Token] = []
    docs: list[str] = []
    at = 1 if text.startswith("\ufeff") else 0
    while at < len(text):
        found = WORDS.match(text, at)
        if found is None:
            raise fbs_error(place(at), not_a_word(text[at]))
        what, end = found.lastgroup, found.end()
        assert what is not None
        if what == "doc":
            docs.append(found.group()[3:].rstrip())
        elif what == "block":
            end = text.find("*/", at + 2) + 2
            if end < 2:
                raise fbs_error(place(at), "this comment never ends")
        elif what not in {"space", "comment"}:
            here, word = place(at), found.group()
            value = unescaped(word[1:-1], here) if what == "string" else word
            out.append(Token(word if what == "mark" else what, value, here, tuple(docs)))
            docs.clear()
        at = end
    out.append(Token("end", "the end of the file", place(len(text))))
    return out


def not_a_word(character: str) -> str:
    if character in "\"'":
        return "this string does not end on its line"
    if character.isascii() and character.isdigit():
        return "this is no number that .fbs knows"
    return f"{character!r} has no meaning here"


def unescaped(text: str, at: At) -> str:
    """The value of a string constant."""

    def one(found: re.Match[str]) -> str:
        plain, byte, unit, other = found.groups()
        if other is not None:
            raise fbs_error(at, f"the string holds an unknown escape: \\{other}")
        return PLAIN_ESCAPES.get(plain, plain) if plain else chr(int(byte or unit, 16))

    out = ESCAPE.sub(one, text)
    try:
        # Characters beyond the first 65,536 may be written as two escapes.
        return out.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise fbs_error(at, "the string holds half a surrogate pair") from None

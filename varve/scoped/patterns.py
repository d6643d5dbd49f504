"""Patterns of streams: which a scoped handle may read or append to.

A stream has a text, ``name/id``, that no other one has: an int id is its digits, a UUID its canonical form in lower case, a str
itself; a str that would read as one of the others stands in single quotes, as one does that is in quotes already.
So the text of 7 is ``7`` and that of ``"7"`` is ``'7'``.

A pattern in a str is split at its first slash. Before it stands what the name is matched with, behind it what the text of the id
is; ``*`` is any text and ``?`` any character, all else itself, upper and lower case told apart. Without a slash it is
every stream of such names. A tuple, ``(name,)`` or ``(name, id)``, is exactly that: for names with a slash, and text with stars.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from varve import limits
from varve.errors import InvalidInput
from varve.layout.keys import StreamId, check_name, decode_stream_id, encode_stream_id

Pattern = str | tuple[str] | tuple[str, StreamId]
"""What ``read=`` and ``append=`` take."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INT: Final = re.compile(r"0|[1-9][0-9]*")


class Extent(IntEnum):
    """How much of a name is allowed."""

    NONE = 0
    SOME = 1
    ALL = 2


def id_text(stream_id: StreamId) -> str:
    """The text of an id: no other one has it."""
    if isinstance(stream_id, int):
        return int.__repr__(stream_id)
    if isinstance(stream_id, uuid.UUID):
        return str(stream_id)
    text = str.__str__(stream_id)
    in_quotes = len(text) > 1 and text[0] == text[-1] == "'"
    return f"'{text}'" if in_quotes or _INT.fullmatch(text) or _UUID.fullmatch(text) else text


def stream_text(name: str, stream_id: StreamId | None = None) -> str:
    """The text of a stream, or of a name."""
    return name if stream_id is None else f"{name}/{id_text(stream_id)}"


class _Rule(NamedTuple):
    """A pattern, compiled."""

    text: str
    name: re.Pattern[str] | str
    id: re.Pattern[str] | bytes | None  # None: every id

    def is_of(self, name: str) -> bool:
        """Whether a name is meant."""
        return name == self.name if isinstance(self.name, str) else self.name.fullmatch(name) is not None

    def has(self, stream_id: StreamId) -> bool:
        """Whether an id is."""
        if self.id is None:
            return True
        if isinstance(self.id, bytes):
            return encode_stream_id(stream_id) == self.id
        return self.id.fullmatch(id_text(stream_id)) is not None


class Patterns:
    """Several patterns of one kind: what one of them means is allowed."""

    def __init__(self, given: Iterable[Pattern], what: str) -> None:
        self._rules = tuple(_rule(one, what) for one in listed(given, what))
        self.texts = tuple(rule.text for rule in self._rules)
        self.is_everything = any(rule.id is None and rule.text in {"*", "*/*"} for rule in self._rules)

    def extent(self, name: str) -> Extent:
        """How much of a name they mean."""
        found = [rule for rule in self._rules if rule.is_of(name)]
        if any(rule.id is None for rule in found):
            return Extent.ALL
        return Extent.SOME if found else Extent.NONE

    def allow(self, name: str, stream_id: StreamId) -> bool:
        """Whether they mean a stream."""
        return any(rule.has(stream_id) for rule in self._rules if rule.is_of(name))


class Right:
    """What may be done to which streams: layers of patterns, one for each time a handle was narrowed, all of which must allow it.

    Thread-safe: decisions are remembered in dicts, which a race can only fill twice.
    """

    def __init__(self, layers: tuple[Patterns, ...]) -> None:
        self.layers = layers
        self.is_everything = all(layer.is_everything for layer in layers)
        self._extents: dict[str, Extent] = {}
        self._decisions: dict[tuple[str, type, StreamId], bool] = {}

    def extent(self, name: str) -> Extent:
        """How much of a name is allowed."""
        found = self._extents.get(name)
        if found is None:
            found = min(layer.extent(name) for layer in self.layers)
            if len(self._extents) >= limits.SCOPE_DECISIONS_MAX:
                self._extents.clear()
            self._extents[name] = found
        return found

    def allows(self, name: str, stream_id: StreamId) -> bool:
        """Whether a stream is allowed; the id has to be one (``encode_stream_id``)."""
        extent = self.extent(name)
        if extent is not Extent.SOME:
            return extent is Extent.ALL
        key = (name, type(stream_id), stream_id)  # 1 == True, and a UUID may equal what derives from it
        found = self._decisions.get(key)
        if found is None:
            found = all(layer.allow(name, stream_id) for layer in self.layers)
            if len(self._decisions) >= limits.SCOPE_DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = found
        return found

    def refusing(self, name: str, stream_id: StreamId | None) -> tuple[str, ...]:
        """The patterns of the layer that does not allow it."""
        for layer in self.layers:
            if layer.extent(name) is Extent.NONE or (stream_id is not None and not layer.allow(name, stream_id)):
                return layer.texts
        return self.layers[-1].texts

    def narrowed(self, given: Iterable[Pattern], what: str) -> Right:
        """This right, and these patterns."""
        return Right((*self.layers, Patterns(given, what)))


class Names:
    """Patterns of names that have no ids: those of consumers."""

    def __init__(self, layers: tuple[tuple[str, ...], ...] = ()) -> None:
        self.layers = layers
        self._compiled = [[_glob(text) for text in layer] for layer in layers]

    def allows(self, name: str) -> bool:
        """Whether a name is allowed."""
        return all(any(one.fullmatch(name) for one in layer) for layer in self._compiled)

    def refusing(self, name: str) -> tuple[str, ...]:
        """The patterns that do not allow it."""
        for layer, compiled in zip(self.layers, self._compiled, strict=True):
            if not any(one.fullmatch(name) for one in compiled):
                return layer
        return ()

    def narrowed(self, given: Iterable[str] | None, what: str) -> Names:
        """The same, and these patterns; None: no more than there are."""
        return (
            self if given is None else Names((*self.layers, tuple(_checked(one, what) for one in listed(given, what))))
        )


def listed(given: Iterable[Any], what: str) -> list[Any]:
    """The members of an argument that takes several. Raises ``InvalidInput``, also for a str, which is an iterable of letters."""
    if isinstance(given, str | bytes | bytearray) or not isinstance(given, Iterable):
        raise InvalidInput(f"{what}= takes an iterable such as a list, not {given!r:.80}")
    found = list(given)
    if len(found) > limits.SCOPE_PATTERNS_MAX:
        raise InvalidInput(
            f"{what}= takes at most SCOPE_PATTERNS_MAX = {limits.SCOPE_PATTERNS_MAX} patterns, not {len(found)}"
        )
    return found


def _rule(given: Any, what: str) -> _Rule:
    if isinstance(given, tuple):
        return _exact(given, what)
    text = _checked(given, what)
    name, slash, stream_id = text.partition("/")
    if not name or (slash and not stream_id):
        raise InvalidInput(
            f"{what}= has the pattern {text!r}, which no stream has: write 'orders' for every stream of a name, 'orders/7' or "
            "'orders/*' for those of some ids"
        )
    every_id = not stream_id.strip("*")
    return _Rule(text, _glob(name), None if every_id else _glob(stream_id))


def _exact(given: tuple[Any, ...], what: str) -> _Rule:
    if len(given) not in {1, 2}:
        raise InvalidInput(f"{what}= takes tuples (name,) and (name, id), not {given!r:.80}")
    name = check_name(given[0])
    if len(given) == 1:
        return _Rule(repr((name,)), name, None)
    id_key = encode_stream_id(given[1])
    return _Rule(repr((name, decode_stream_id(id_key))), name, id_key)


def _checked(given: Any, what: str) -> str:
    """A pattern that is text."""
    if not isinstance(given, str):
        raise InvalidInput(f"{what}= takes patterns such as 'orders' or 'orders/7', not {given!r:.80}")
    text = str.__str__(given)
    if not 0 < len(text) <= limits.SCOPE_PATTERN_CHARS_MAX:
        raise InvalidInput(
            f"{what}= takes patterns of 1 to SCOPE_PATTERN_CHARS_MAX = {limits.SCOPE_PATTERN_CHARS_MAX} characters, not "
            f"{len(text)}"
        )
    return text


def _glob(text: str) -> re.Pattern[str]:
    """A pattern of stars and question marks. Each part between stars is found at its first place, and never looked for again:
    no pattern takes longer than pattern times text."""
    head, *rest = [
        "".join("." if char == "?" else re.escape(char) for char in part)
        for part in re.sub(r"\*+", "*", text).split("*")
    ]
    if not rest:
        return re.compile(head, re.DOTALL)
    inner = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return re.compile(f"{head}{inner}.*{rest[-1]}", re.DOTALL)

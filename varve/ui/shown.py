"""What the API answers in: JSON that a browser cannot garble.

A browser's numbers lose digits above 2^53, and its JSON knows neither NaN nor infinity. So sequences, lengths and ids are strings
of digits, and what an event holds is JSON text for each field, exact to the last digit, for the page to show as it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from starlette.responses import Response

from varve import limits, ops
from varve.errors import VarveError
from varve.layout.keys import StreamId
from varve.ops.recorded import type_name_of
from varve.ops.text import json_text

if TYPE_CHECKING:
    import datetime as dt

    from varve.record import Recorded

__all__ = ["Answer", "cut", "error_of", "fields_of", "id_of", "problem", "row_of", "stream_of", "time_of"]

Row = dict[str, Any]


class Answer(Response):
    """A JSON document. Everything but ASCII is escaped, so that no text of the store can trouble whoever decodes it."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200) -> None:
        super().__init__(json.dumps(content, allow_nan=False).encode(), status_code)


def problem(code: str, kind: str, message: str, **facts: str) -> Row:
    """What went wrong."""
    return {"code": code, "kind": kind, "message": message} | facts


def error_of(error: VarveError) -> Row:
    """An error of the store."""
    first = getattr(error, "first_sequence", None)
    facts = {} if not isinstance(first, int) else {"first_sequence": str(first)}
    return problem(error.code, error.kind, error.message, **facts)


def time_of(when: dt.datetime) -> str:
    """A point in time: ISO 8601, UTC, microseconds."""
    return when.isoformat(timespec="microseconds")


def id_of(stream_id: StreamId) -> str:
    """A stream id with its kind: ``int:42``, ``str:42``, ``uuid:...``."""
    return f"{type(stream_id).__name__.lower()}:{stream_id}"


def cut(text: str, chars: int) -> str:
    """A text, its end left out where it is too long; how much that is stands behind it."""
    return text if len(text) <= chars else f"{text[:chars]}… ({len(text) - chars:,} characters more)"


def fields_of(recorded: Recorded[Any], chars: int) -> Row:
    """What an event holds: ``fields`` with name and JSON text of each, ``metadata`` as JSON text, and ``problem`` where it cannot
    be decoded."""
    shown = ops.recorded_to_dict(recorded)
    event, metadata = shown["event"], shown["metadata"]
    return {
        "fields": [] if event is None else [[name, cut(json_text(value), chars)] for name, value in event.items()],
        "metadata": None if metadata is None else cut(json_text(metadata), chars),
        "problem": shown.get("error"),
    }


def row_of(recorded: Recorded[Any]) -> Row:
    """An event as lists show it; it holds nothing of the store."""
    size = len(recorded.raw)
    row: Row = {
        "sequence": str(recorded.global_sequence),
        "stream": recorded.stream,
        "id": id_of(recorded.stream_id),
        "stream_sequence": str(recorded.stream_sequence),
        "type": type_name_of(recorded),
        "recorded_at": time_of(recorded.recorded_at),
        "bytes": size,
    }
    if size > limits.UI_ROW_BYTES_MAX:
        return row | {"fields": [], "metadata": None, "problem": "too large for a list: look at it alone"}
    return row | fields_of(recorded, limits.UI_ROW_FIELD_CHARS_MAX)


def stream_of(one: ops.StreamInfo) -> Row:
    """A stream."""
    return {
        "name": one.name,
        "id": id_of(one.stream_id),
        "length": str(one.length),
        "last_sequence": None if one.last_sequence is None else str(one.last_sequence),
        "last_at": None if one.last_at is None else time_of(one.last_at),
    }


def id_from(text: str) -> StreamId | None:
    """The stream id of ``id_of``; None where it is none."""
    kind, _, rest = text.partition(":")
    try:
        if kind == "str" and rest:
            return rest
        if kind == "int" and rest.isascii() and rest.isdigit():
            return int(rest)
        return UUID(rest) if kind == "uuid" else None
    except ValueError:
        return None

"""What people type: stream ids and points in time."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from enum import StrEnum
from typing import Final

from varve.errors import InvalidInput
from varve.layout.keys import StreamId

__all__ = ["IdKind", "sequence_or_time", "stream_id_of", "when"]


class IdKind(StrEnum):
    """The kinds of stream ids."""

    INT = "int"
    STR = "str"
    UUID = "uuid"


_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def stream_id_of(text: str, kind: IdKind | None) -> StreamId:
    """A stream id as typed. Raises ``InvalidInput`` where it is not of the kind that was said."""
    if kind is None:
        if text.isascii() and text.isdigit() and str(int(text)) == text:  # 007 is a text
            kind = IdKind.INT
        else:
            kind = IdKind.UUID if _UUID.fullmatch(text) else IdKind.STR
    try:
        return text if kind is IdKind.STR else int(text) if kind is IdKind.INT else uuid.UUID(text)
    except ValueError:
        raise InvalidInput(f"the id {text!r} is no {kind.value}") from None


_AGO: Final = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def when(text: str) -> dt.datetime:
    """A point in time as typed: ISO 8601 (UTC where it has no offset), ``now``, or how long ago: ``90s``, ``15m``, ``2h``,
    ``3d``, ``1w``. Raises ``InvalidInput``."""
    now = dt.datetime.now(dt.UTC)
    if text == "now":
        return now
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = dt.datetime.fromisoformat(text)
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text!r} is no point in time: write 2025-01-31, 2025-01-31T12:00:00+01:00, now, or how long ago (90s, 15m, 2h, 3d, "
            "1w)"
        ) from None


def sequence_or_time(text: str) -> int | dt.datetime:
    """A global sequence, or a point in time as ``when`` reads it. Raises ``InvalidInput``."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return when(text)
    except InvalidInput as error:
        raise InvalidInput(str(error).replace("is no point", "is no global sequence, and no point", 1)) from None

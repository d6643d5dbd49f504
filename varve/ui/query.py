"""What a request asks for, checked before anything is read."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from varve import limits
from varve.errors import InvalidInput
from varve.layout.keys import StreamId, encode_stream_id
from varve.ops.typed import sequence_or_time
from varve.ui.shown import id_from

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Query", "sequence_of"]

TEXT_CHARS_MAX = 1_000


def sequence_of(text: str, what: str = "sequence") -> int:
    """A sequence in digits. Raises ``InvalidInput``."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= limits.EVENTS_MAX):
        raise InvalidInput(f"{what} is a sequence from 0 to {limits.EVENTS_MAX}, not {text[:40]!r}")
    return int(text)


class Query:
    """The parameters of a request. Raises ``InvalidInput`` for those that are unknown, given twice, or too long."""

    def __init__(self, request: Request, *known: str) -> None:
        self._given = {name: value for name, value in request.query_params.multi_items() if name != "token"}
        for name, value in self._given.items():
            if name not in known:
                raise InvalidInput(f"there is no parameter {name[:40]!r} here; there are: {', '.join(known) or 'none'}")
            if len(request.query_params.getlist(name)) > 1:
                raise InvalidInput(f"the parameter {name} is given more than once")
            if len(value) > TEXT_CHARS_MAX:
                raise InvalidInput(f"the parameter {name} has more than {TEXT_CHARS_MAX} characters")

    def text(self, name: str) -> str | None:
        """A text; None where it is missing or empty."""
        return self._given.get(name) or None

    def needed(self, name: str) -> str:
        """A text that has to be there."""
        found = self.text(name)
        if found is None:
            raise InvalidInput(f"the parameter {name} is missing")
        return found

    def number(self, name: str, default: int, most: int) -> int:
        """A number of things, from 1 on."""
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
            raise InvalidInput(f"{name} is a number from 1 to {most}, not {text[:40]!r}")
        return int(text)

    def sequence(self, name: str) -> int | None:
        """A sequence."""
        text = self.text(name)
        return None if text is None else sequence_of(text, name)

    def place(self, name: str) -> int | dt.datetime | None:
        """A global sequence or a point in time, as people type them."""
        text = self.text(name)
        if text is None:
            return None
        return sequence_of(text, name) if text.isascii() and text.isdigit() else sequence_or_time(text)

    def stream_id(self, name: str) -> StreamId | None:
        """A stream id with its kind."""
        text = self.text(name)
        if text is None:
            return None
        found = id_from(text)
        if found is None:
            raise InvalidInput(f"{name} is an id with its kind, as int:42, str:abc or uuid:..., not {text[:40]!r}")
        encode_stream_id(found)
        return found

    def is_newest_first(self, default: str) -> bool:
        """The order: ``order=newest`` or ``order=oldest``."""
        order = self.text("order") or default
        if order not in {"newest", "oldest"}:
            raise InvalidInput(f"order is newest or oldest, not {order[:40]!r}")
        return order == "newest"

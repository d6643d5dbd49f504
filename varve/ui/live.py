"""Live views: server-sent events from a tail.

Nobody can read thousands of events a second, and no page should hold them. So events go out in batches with a pause between them,
and a view that falls far behind goes on near the end, after a message that says which sequences it left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
from sse_starlette import ServerSentEvent

from varve import limits
from varve.errors import VarveError
from varve.tailing.start import END
from varve.ui.shown import error_of, row_of

if TYPE_CHECKING:
    from varve.store import Varve
    from varve.tailing.start import TailStart
    from varve.tailing.tail import Tail

__all__ = ["Live"]


class Live:
    """The live views of a store."""

    def __init__(self, db: Varve) -> None:
        self._db = db
        self.views = 0

    async def events(
        self, start: TailStart, stream: str | None, type_: str | None, closing: anyio.Event | None = None
    ) -> AsyncIterator[ServerSentEvent]:
        """What one view gets, until ``closing`` is set: ``from`` (where it begins), ``events``, ``skipped``, and at last
        perhaps ``problem``."""
        self.views += 1
        closed = asyncio.ensure_future((closing or anyio.Event()).wait())
        step = None
        try:
            tail = self._tail(start, stream, type_)
            yield message("from", {"sequence": str(self._db.next_global_sequence if start is END else start)})
            while True:
                step = asyncio.ensure_future(tail.next_batch(limits.UI_TAIL_EVENTS_MAX))
                await asyncio.wait({step, closed}, return_when=asyncio.FIRST_COMPLETED)
                if closed.done():
                    return
                batch = step.result()
                yield message("events", [row_of(one) for one in batch], batch[-1].global_sequence)
                end = self._db.next_global_sequence
                if len(batch) == limits.UI_TAIL_EVENTS_MAX and end - tail.position > limits.UI_TAIL_LAG_MAX:
                    skipped = {"first": str(tail.position), "next": str(end - limits.UI_TAIL_EVENTS_MAX)}
                    tail = self._tail(end - limits.UI_TAIL_EVENTS_MAX, stream, type_)
                    yield message("skipped", skipped, end - limits.UI_TAIL_EVENTS_MAX - 1)
                await asyncio.sleep(limits.UI_TAIL_PAUSE_S)
        except VarveError as error:
            yield message("problem", error_of(error))
        finally:
            self.views -= 1
            closed.cancel()
            if step is not None:
                step.cancel()

    def _tail(self, start: TailStart, stream: str | None, type_: str | None) -> Tail[Any]:
        return self._db.tail(
            start, streams=None if stream is None else [stream], types=None if type_ is None else [type_]
        )


def message(kind: str, content: Any, sequence: int | None = None) -> ServerSentEvent:
    """A message. Its id is what a browser whose connection broke asks to go on behind."""
    return ServerSentEvent(json.dumps(content), event=kind, id=None if sequence is None else str(sequence))

"""Server-sent events from a tail: a browser, or ``curl -N``, sees each event as it is committed, by whichever process.

    pip install 'varve-store[web]'
    python examples/sse.py [STORE] [--port 8000]

    curl -N 'http://127.0.0.1:8000/events?start=0'
    curl -d '{"author": "ada", "text": "hello"}' http://127.0.0.1:8000/messages

``start`` is a global sequence, ``end`` (the default: only what is to come) or an instant with its offset in ISO 8601
(encode the ``+`` as ``%2B``). Each event's id is its global sequence, so a browser whose connection broke
sends the last one that it saw (``Last-Event-ID``) and misses nothing.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import varve

KEEP_ALIVE_S = 15.0
"""After so long without an event a comment goes out: proxies keep the connection, and a dead client is noticed."""


@varve.event
class MessagePosted:
    """Somebody said something."""

    author: str
    text: str


def as_server_sent(recorded: varve.Recorded[Any]) -> str:
    """An event in the form of ``text/event-stream``. JSON has no line breaks of its own, so ``data`` is one line."""
    data = {
        "stream": recorded.stream,
        "stream_id": str(recorded.stream_id),
        "stream_sequence": recorded.stream_sequence,
        "recorded_at": recorded.recorded_at.isoformat(),
        "event": varve.to_dict(recorded.event),
    }
    return f"id: {recorded.global_sequence}\nevent: {recorded.type.__name__}\ndata: {json.dumps(data)}\n\n"


def start_of(request: Request) -> int | datetime | Literal[varve.Start.END]:
    """Where a client wants to begin. Raises ValueError."""
    last_id = request.headers.get("Last-Event-ID")
    if last_id:
        return int(last_id) + 1
    start = request.query_params.get("start", "end")
    if start == "end":
        return varve.END
    return int(start) if start.isdecimal() else datetime.fromisoformat(start)


class Server:
    """The routes over an open store, and how many clients listen."""

    def __init__(self, db: varve.Varve) -> None:
        self.db = db
        self.messages = db.stream("messages", MessagePosted)
        self.clients = 0

    async def events(self, request: Request) -> Response:
        """``GET /events``: the log from a start on, without an end."""
        try:
            tail = self.db.tail(start_of(request))
        except ValueError as error:  # varve.InvalidInput is one
            return PlainTextResponse(f"{error}\n", status_code=400)
        return StreamingResponse(
            self.stream(tail), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def stream(self, tail: varve.Tail[Any]) -> AsyncIterator[str]:
        """What one client gets. When it leaves, this is cancelled; a tail that is dropped leaves nothing behind."""
        self.clients += 1
        batches = tail.batches(100)
        try:
            yield ": welcome\n\n"  # so that headers go out before the first event
            while True:
                try:
                    batch = await asyncio.wait_for(anext(batches), KEEP_ALIVE_S)  # a tail survives being cancelled
                except TimeoutError:
                    yield ": still here\n\n"
                else:
                    yield "".join(map(as_server_sent, batch))
        finally:
            self.clients -= 1
            await tail.aclose()

    async def post(self, request: Request) -> Response:
        """``POST /messages``: append one; requests at the same time share a commit."""
        try:
            message = varve.from_json(MessagePosted, await request.body())
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", status_code=400)
        position = await self.messages.append_async("lobby", message)
        return JSONResponse({"id": position.global_sequence}, status_code=201)

    async def health(self, _request: Request) -> Response:
        """``GET /health``: how many clients listen, and how far the log reaches."""
        return JSONResponse({"clients": self.clients, "next_global_sequence": self.db.next_global_sequence})

    def app(self) -> Starlette:
        """The application; the store stays open for as long as its owner keeps it so."""
        return Starlette(
            routes=[
                Route("/events", self.events),
                Route("/messages", self.post, methods=["POST"]),
                Route("/health", self.health),
            ]
        )


def main() -> int:
    """Serve the store named on the command line, or a temporary one, on the loopback interface."""
    parser = argparse.ArgumentParser(description="Server-sent events from the tail of a store.")
    parser.add_argument("path", type=Path, nargs="?", help="the store (default: a temporary one)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes one that is free (default: %(default)s)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        path = options.path or Path(stack.enter_context(tempfile.TemporaryDirectory()), "store")
        db = stack.enter_context(varve.open(path))
        # Streams have no end of their own: at Ctrl-C they are cancelled after a second.
        config = uvicorn.Config(Server(db).app(), port=options.port, log_level="info", timeout_graceful_shutdown=1)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

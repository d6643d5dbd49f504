"""The routes: the pages, which are files of this package, and the JSON API that they use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import anyio
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from varve import limits
from varve.errors import Archived, InvalidInput, VarveError
from varve.tailing.start import END, Start
from varve.ui import pages, views
from varve.ui.live import Live
from varve.ui.query import Query, sequence_of
from varve.ui.shown import Answer, error_of, problem

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from varve.store import Varve

__all__ = ["application"]

GRACE_S: Final = 1.0
"""How long a live view may take to end."""
ROWS: Final = 50
BUCKETS: Final = 72
BUCKETS_MAX: Final = 500

TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The kinds of files that are pages."""

STATUS: Final[Mapping[str, int]] = {"invalid": 400, "conflict": 409, "retryable": 503, "unavailable": 503}
"""The status of an answer, by the kind of the error; any other is a fault of the store, 500."""


def application(db: Varve) -> Starlette:
    """The explorer of an open store, not yet guarded."""
    api = _Api(db)
    return Starlette(
        routes=[
            Route("/api/store", api.store),
            Route("/api/overview", api.overview),
            Route("/api/names", api.names),
            Route("/api/streams", api.streams),
            Route("/api/stream", api.stream),
            Route("/api/events", api.events),
            Route("/api/events/{sequence}", api.event),
            Route("/api/tail", api.tail),
            Route("/api/consumers", api.consumers),
            Route("/api/search", api.search),
            *static_routes(),
        ],
        exception_handlers={VarveError: _failed, HTTPException: _not_there, Exception: _broken},
    )


def static_routes() -> list[Route]:
    """A route for each file. What is not in the table does not exist: no path is ever made of what a request says."""
    routes = []
    for file in sorted(files("varve.ui").joinpath("static").iterdir(), key=lambda file: file.name):
        kind = TYPES.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/static/{file.name}"
            routes.append(Route(path, _File(file.read_bytes(), kind)))
    return routes


class _File:
    """Answers with a file."""

    def __init__(self, content: bytes, kind: str) -> None:
        self._content = content
        self._kind = kind
        self.__name__ = "file"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Response(self._content, media_type=self._kind)(scope, receive, send)


class _Api:
    """What is asked of a store. Those that are not async run in threads: they read the disk."""

    def __init__(self, db: Varve) -> None:
        self._db = db
        self._live = Live(db)

    def store(self, request: Request) -> Response:
        Query(request)
        return Answer(views.store(self._db))

    def overview(self, request: Request) -> Response:
        query = Query(request, "buckets")
        return Answer(views.overview(self._db, query.number("buckets", BUCKETS, BUCKETS_MAX)))

    def names(self, request: Request) -> Response:
        query = Query(request, "after", "rows")
        return Answer(views.names(self._db, query.text("after"), _rows(query)))

    def streams(self, request: Request) -> Response:
        query = Query(request, "name", "after", "rows")
        return Answer(views.streams(self._db, query.needed("name"), query.stream_id("after"), _rows(query)))

    def stream(self, request: Request) -> Response:
        query = Query(request, "name", "id", "start", "order", "rows")
        name, stream_id = query.needed("name"), query.stream_id("id")
        if stream_id is None:
            raise InvalidInput("the parameter id is missing")
        newest_first = query.is_newest_first("oldest")
        start = query.sequence("start")
        return Answer(pages.stream_page(self._db, name, stream_id, start, newest_first=newest_first, rows=_rows(query)))

    def events(self, request: Request) -> Response:
        query = Query(request, "start", "order", "stream", "type", "rows")
        page = pages.log_page(
            self._db,
            pages.place_of(self._db, query.place("start")),
            newest_first=query.is_newest_first("newest"),
            stream=query.text("stream"),
            type_=query.text("type"),
            rows=_rows(query),
        )
        first, end = self._db.first_global_sequence, self._db.next_global_sequence
        return Answer(page.answer(first_sequence=str(first), next_sequence=str(end)))

    def event(self, request: Request) -> Response:
        query = Query(request, "part")
        sequence = sequence_of(request.path_params["sequence"])
        found = views.event(self._db, sequence, query.sequence("part") or 0)
        if found is None:
            end = self._db.next_global_sequence
            words = "the log holds no events yet" if not end else f"the log ends at {end - 1}: nothing is at {sequence}"
            return Answer({"error": problem("not_found", "invalid", words)}, 404)
        return Answer(found)

    async def tail(self, request: Request) -> Response:
        query = Query(request, "start", "stream", "type")
        last = request.headers.get("last-event-id")
        start: int | Start | None = query.sequence("start") if last is None else sequence_of(last, "Last-Event-ID") + 1
        if self._live.views >= limits.UI_TAILS_MAX:
            words = f"{limits.UI_TAILS_MAX} live views are open: close one"
            return Answer({"error": problem("too_many_views", "retryable", words)}, 503)
        start = END if start is None else start
        closing = anyio.Event()  # set at Ctrl-C: an answer that is broken off would be complained of
        events = self._live.events(start, query.text("stream"), query.text("type"), closing)
        return EventSourceResponse(events, shutdown_event=closing, shutdown_grace_period=GRACE_S)

    def consumers(self, request: Request) -> Response:
        Query(request)
        return Answer(views.consumers(self._db))

    def search(self, request: Request) -> Response:
        return Answer(views.search(self._db, Query(request, "q").needed("q").strip()))


def _rows(query: Query) -> int:
    return query.number("rows", ROWS, limits.UI_PAGE_MAX)


async def _failed(_request: Request, error: Exception) -> Response:
    """An error of the store, or of what was asked."""
    assert isinstance(error, VarveError)
    status = 410 if isinstance(error, Archived) else STATUS.get(error.kind, 500)
    return Answer({"error": error_of(error)}, status)


async def _not_there(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Answer({"error": problem("not_found", "invalid", "there is no such page")}, error.status_code)


async def _broken(_request: Request, error: Exception) -> Response:
    """A fault of our own: its traceback goes to standard error."""
    words = f"an error of Varve's own ({type(error).__name__}); its traceback stands where varve ui was started"
    return Answer({"error": problem("internal", "unknown", words)}, 500)

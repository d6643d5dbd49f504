"""The explorer in the browser, ``varve ui``: a store looked at from the outside, read-only, on the loopback interface.

It needs the extra ``ui`` (starlette, uvicorn, sse-starlette). From the outside in::

    server.py   the socket, the address with its token, the end
    guard.py    who is let in, and the headers of every answer
    app.py      the routes: pages, the JSON API; what becomes of errors
    query.py    what a request asks for, checked
    pages.py    events in bounded pages, also past damage
    views.py    everything else that the API answers
    live.py     server-sent events
    shown.py    events, errors and numbers as JSON that a browser cannot garble
    static/     the pages: HTML, CSS and JavaScript modules, as they are

Nothing here writes: the store is open readonly, every answer is read in short snapshots, and requests that could change anything
do not exist. Text that comes out of the store reaches the page as text nodes only.
"""

from __future__ import annotations

from varve.columns.extras import need

__all__ = ["PACKAGES", "check_extra"]

PACKAGES = ("starlette", "uvicorn", "sse_starlette")
"""What the extra ``ui`` brings."""


def check_extra() -> None:
    """Whether the extra is installed. Raises ``MissingExtra``."""
    for package in PACKAGES:
        need(package, "ui", "varve ui")

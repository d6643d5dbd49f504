"""Who is let in, and the headers of every answer.

What listens on the loopback interface is reached by more than its owner: by other users of the machine, and by every page that
is open in the owner's browser. So each request has to name a host that is this one (a name that was pointed at 127.0.0.1 is not:
DNS rebinding), must not come from another site, and must know a secret. The secret comes in the address once and moves to a
cookie, which scripts cannot read and other sites cannot send.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from varve.ui.shown import Answer, problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Guard"]

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer, refusals included."""

OWN_SITES: Final = frozenset({"same-origin", "none"})
"""What browsers call requests of our own pages, and addresses that were typed or opened from outside."""

METHODS: Final = frozenset({"GET", "HEAD"})

LOCKED: Final = (
    "This is the explorer of a Varve store. It lets in only who has its address with the token.\n\n"
    "Open the whole address that `varve ui` printed where it was started, from http:// to the last character. If it was started "
    "again since, there is a new address.\n"
)


class Guard:
    """The application behind checks. ``hosts``: what requests may call this machine, with the port."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str], cookie: str) -> None:
        self._app = app
        self._tokens = {token}
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)
        self._cookie = cookie
        self._session = secrets.token_urlsafe(32)  # not the token: what is in the address stays out of the cookie
        self._once: set[str] = set()

    def once(self) -> str:
        """A token that opens the explorer a single time: for a browser that is started, since other users see its command
        line."""
        made = secrets.token_urlsafe(32)
        self._once.add(made)
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._answer(scope, Headers(scope=scope))
        await (self._app if answer is None else answer)(scope, receive, guarded)

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """What a request gets instead of what it wants; None where it gets that."""
        path = scope["path"]
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return refused(
                path, 403, "host", "This explorer answers to 127.0.0.1 and localhost at its own port only.\n"
            )
        if scope["method"] not in METHODS:
            answer = refused(path, 405, "method", "The explorer only reads: there is nothing but GET.\n")
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        if not self._is_own(headers):
            words = (
                "Another site led here, which the explorer refuses. Paste its address into the browser's address bar.\n"
            )
            return refused(path, 403, "origin", words)
        return self._let_in(scope, headers)

    def _is_own(self, headers: Headers) -> bool:
        """Whether a request comes from our own pages or from no page at all. Programs and old browsers say nothing of it."""
        origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        return all(origin in self._origins for origin in origins) and all(site in OWN_SITES for site in sites)

    def _let_in(self, scope: Scope, headers: Headers) -> Response | None:
        path = scope["path"]
        given = QueryParams(scope["query_string"]).getlist("token")
        if not given:
            cookies = cookie_parser(headers.get("cookie", ""))
            if same(cookies.get(self._cookie, ""), self._session):
                return None
            return refused(path, 403, "token", LOCKED)
        if not self._is_token(given):
            return refused(path, 403, "token", LOCKED)
        if path != "/":
            return None
        answer = RedirectResponse("/", status_code=303)  # the token leaves the address bar
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
        return answer

    def _is_token(self, given: list[str]) -> bool:
        if len(given) != 1:
            return False
        if any([same(given[0], token) for token in self._tokens]):  # noqa: C419 - every one is compared, whichever fits
            return True
        found = [token for token in self._once if same(given[0], token)]
        self._once.difference_update(found)
        return bool(found)


def same(given: str, secret: str) -> bool:
    """Whether two texts are equal, in a time that does not tell how much of them is."""
    return compare_digest(given.encode("utf-8", "replace"), secret.encode())


def refused(path: str, status: int, code: str, words: str) -> Response:
    """A plain page, or JSON where a program asked."""
    if path.startswith("/api/"):
        return Answer({"error": problem(code, "invalid", words.rsplit("\n\n", maxsplit=1)[-1].strip())}, status)
    return PlainTextResponse(words, status)

"""Who is let in, and what every answer says to the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from explorer import HOST, TOKEN, fill, guarded
from starlette.testclient import TestClient

import varve
from varve.ui.guard import HEADERS

COOKIE = "varve-ui-8765"
PATHS = ["/", "/static/app.js", "/api/store", "/api/tail", "/nowhere", "/static/../app.py"]


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    """Somebody who was not let in yet."""
    fill(tmp_path / "data")
    with varve.open(tmp_path / "data", readonly=True) as db:
        yield TestClient(guarded(db), base_url=f"http://{HOST}", follow_redirects=False)


def let_in(http: TestClient) -> None:
    """By the address that was printed."""
    assert http.get(f"/?token={TOKEN}").status_code == 303


@pytest.mark.parametrize("path", PATHS)
def test_nobody_gets_anything_without_the_token(http: TestClient, path: str) -> None:
    """Pages, scripts and data alike, and what is not there; a plain page says what to do."""
    for query in ("", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?token={TOKEN[:-1]}", f"?Token={TOKEN}"):
        answer = http.get(path + query)
        assert answer.status_code == 403
        assert "varve ui" in answer.text
        assert "set-cookie" not in answer.headers
    http.cookies.set(COOKIE, TOKEN)  # the token is no cookie
    assert http.get(path).status_code == 403
    assert http.get("/?token=caf%C3%A9%ff&x=%00").status_code == 403
    for twice in (f"wrong&token={TOKEN}", f"{TOKEN}&token=wrong"):
        assert http.get(f"/?token={twice}").status_code == 403


def test_the_token_moves_into_a_cookie(http: TestClient) -> None:
    """That no script reads and no other site sends; the address that stays in the browser is free of it."""
    answer = http.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    name, _, rest = answer.headers["set-cookie"].partition("=")
    value, *attributes = rest.split("; ")
    assert name == COOKIE
    assert len(value) > 30
    assert TOKEN not in value
    assert {one.lower() for one in attributes} == {"httponly", "path=/", "samesite=strict"}
    assert http.get("/").status_code == 200
    assert http.get("/api/store").json()["next_sequence"] == "7"
    http.cookies.clear()
    http.cookies.set(COOKIE, value + "x")
    assert http.get("/").status_code == 403


def test_programs_may_give_the_token_each_time(http: TestClient) -> None:
    """Without a cookie."""
    answer = http.get(f"/api/events?rows=1&token={TOKEN}")
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert http.get("/api/events?rows=1").status_code == 403


def test_a_browser_is_started_with_a_token_that_works_once(tmp_path: Path) -> None:
    """Other users of the machine see the command line on which it stands."""
    fill(tmp_path / "data")
    with varve.open(tmp_path / "data", readonly=True) as db:
        app = guarded(db)
        once = app.once()
        for expected in (303, 403):
            assert (
                TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)
                .get("/", params={"token": once})
                .status_code
                == expected
            )


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1",
        "127.0.0.1:8766",
        "127.0.0.1:8765.evil.example",
        "",
        "[::1]:8765",
    ],
)
def test_a_name_that_was_pointed_here_is_refused(http: TestClient, host: str) -> None:
    """DNS rebinding: with the token, too, and before it is looked at."""
    let_in(http)
    answer = http.get(f"/?token={TOKEN}", headers={"Host": host})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert (
        http.get("/", headers={"Host": "localhost:8765", "Cookie": f"{COOKIE}={http.cookies[COOKIE]}"}).status_code
        == 200
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": f"https://{HOST}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_other_sites_are_refused(http: TestClient, path: str, headers: dict[str, str]) -> None:
    """Whatever they ask for, token and cookie notwithstanding."""
    let_in(http)
    assert http.get(path, headers=headers, params={"token": TOKEN}).status_code == 403
    assert http.get("/", headers={"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert http.get("/", headers={"Sec-Fetch-Site": "none"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_nothing_can_be_changed(http: TestClient, method: str) -> None:
    """There is nothing but GET."""
    let_in(http)
    answer = http.request(method, "/api/consumers", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["error"]["code"] == "method"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/",
        "/static/index.html%00.js",
        "/index.html",
        "/etc/passwd",
        "/api/",
        "/api/events/../store",
    ],
)
def test_no_path_leads_out(http: TestClient, path: str) -> None:
    """Files are a table of what the package brings."""
    let_in(http)
    answer = http.get(path)
    assert answer.status_code in {400, 404} or answer.json().keys() >= {"uuid"}  # the client resolved the dots
    assert "import" not in answer.text


def test_every_answer_has_the_headers(http: TestClient) -> None:
    """Pages, scripts, data, redirects, errors and refusals."""
    answers = [http.get("/"), http.get("/api/store"), http.post("/"), http.get("/", headers={"Host": "evil"})]
    answers.append(http.get(f"/?token={TOKEN}"))
    answers += [
        http.get(path) for path in ("/", "/static/app.js", "/static/app.css", "/api/events", "/api/events/99", "/no")
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 405, 403, 303, 200, 200, 200, 200, 404, 404]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert HEADERS["Referrer-Policy"] == "no-referrer"
    assert http.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert http.get("/static/app.js").headers["content-type"] == "text/javascript; charset=utf-8"


def test_pages_need_nothing_from_elsewhere() -> None:
    """No network resources, no inline scripts or styles, and no way to make HTML of text."""
    folder = Path(varve.__file__).parent / "ui" / "static"
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
        ):
            assert word not in text, (file.name, word)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert " style=" not in page
    assert " onclick" not in page
    assert "<script>" not in page


def test_websockets_are_refused(http: TestClient) -> None:
    """There are none."""
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), http.websocket_connect(f"/api/tail?token={TOKEN}"):
        pass

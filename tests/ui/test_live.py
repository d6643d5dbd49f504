"""Live views: what comes over them, at a pace, and how they end. (With a browser and processes: test_browser.py, tests/cli.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from explorer import HTML, Placed, Shipped, client, damage, fill
from sse_starlette import ServerSentEvent

import varve
from varve import limits
from varve.ui.live import Live


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "data"


async def following(events: AsyncIterator[ServerSentEvent], kind: str) -> tuple[Any, str | None]:
    """The next message, which has to be of this kind: its content and its id."""
    found = await anext(events)
    assert found.event == kind
    return json.loads(found.data), found.id


def test_events_come_as_they_are_committed(path: Path) -> None:
    """From the end on, or from a sequence; only those that were asked for; ids lead on behind them."""

    async def main() -> None:
        with varve.open(path) as db:
            stream = db.stream("orders", Placed | Shipped)
            stream.append(1, Placed(0, ""))
            live = Live(db)
            everything = live.events(varve.END, None, None)
            shipped = live.events(0, "orders", "shop.Shipped")
            assert (await following(everything, "from"))[0] == {"sequence": "1"}
            assert (await following(shipped, "from"))[0] == {"sequence": "0"}
            assert live.views == 2
            waiting = asyncio.ensure_future(following(everything, "events"))
            await asyncio.sleep(0)
            stream.append(1, Placed(1, HTML))
            rows, last = await waiting
            assert [row["fields"] for row in rows] == [[["number", "1"], ["text", json.dumps(HTML)]]]
            assert last == "1"
            stream.append_batch(1, [Shipped(2), Placed(3, ""), Shipped(4)])
            assert [row["sequence"] for row in (await following(shipped, "events"))[0]] == ["2", "4"]
            for one in (everything, shipped):
                await one.aclose()  # type: ignore[attr-defined]  # a generator
            assert live.views == 0

    asyncio.run(main())


def test_a_view_that_falls_behind_skips_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it left out is named to the last sequence, and what it shows is at the end again."""
    monkeypatch.setattr(limits, "UI_TAIL_EVENTS_MAX", 10)
    monkeypatch.setattr(limits, "UI_TAIL_LAG_MAX", 50)
    monkeypatch.setattr(limits, "UI_TAIL_PAUSE_S", 0.0)

    async def main() -> None:
        with varve.open(path) as db:
            db.stream("orders", Placed).append_batch(1, [Placed(n, "") for n in range(300)])
            events = Live(db).events(0, None, None)
            await following(events, "from")
            rows, _ = await following(events, "events")
            assert [int(row["sequence"]) for row in rows] == list(range(10))
            skipped, last = await following(events, "skipped")
            assert skipped == {"first": "10", "next": "290"}
            assert last == "289"  # where a browser goes on whose connection broke here
            rows, _ = await following(events, "events")
            assert [int(row["sequence"]) for row in rows] == list(range(290, 300))

    asyncio.run(main())


def test_a_view_that_is_a_little_behind_shows_everything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch after batch."""
    monkeypatch.setattr(limits, "UI_TAIL_EVENTS_MAX", 10)
    monkeypatch.setattr(limits, "UI_TAIL_PAUSE_S", 0.0)

    async def main() -> None:
        with varve.open(path) as db:
            db.stream("orders", Placed).append_batch(1, [Placed(n, "") for n in range(35)])
            events = Live(db).events(0, None, None)
            await following(events, "from")
            found = [int(row["sequence"]) for _ in range(4) for row in (await following(events, "events"))[0]]
            assert found == list(range(35))

    asyncio.run(main())


def test_damage_ends_it_with_a_word(path: Path) -> None:
    """The browser must not try again for ever."""
    with varve.open(path) as db:
        db.stream("orders", Placed).append(1, Placed(1, "DAMAGE-ME"))
    damage(path, b"DAMAGE-ME")

    async def main() -> None:
        with varve.open(path, readonly=True) as db:
            live = Live(db)
            events = live.events(0, None, None)
            await following(events, "from")
            assert (await following(events, "problem"))[0]["code"] == "corrupted_block"
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            assert live.views == 0

    asyncio.run(main())


def test_so_many_views_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a connection."""
    fill(path)
    monkeypatch.setattr(limits, "UI_TAILS_MAX", 0)
    with client(path) as api:
        assert api.refused(503, "tail")["code"] == "too_many_views"


def test_a_bad_place_to_go_on_is_refused(path: Path) -> None:
    """Also where it comes as a header, as browsers send it."""
    fill(path)
    with client(path) as api:
        for last in ("x", "-1", "9" * 30, ""):
            assert api.http.get("/api/tail", headers={"Last-Event-ID": last}).status_code == 400

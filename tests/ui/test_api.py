"""What the API answers: bounded pages, exact numbers, text as text; bad input and damage."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from explorer import HTML, Client, Placed, Shipped, client, damage, fill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import varve
from varve import limits
from varve.testing import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "data"


def sequences(found: Any, key: str = "sequence") -> list[int]:
    """Of the events of a page."""
    return [int(row[key]) for row in found["events"]]


def walk(api: Client, where: str, **parameters: Any) -> Iterator[Any]:
    """Page after page."""
    start = None
    while True:
        found = api.get(where, **parameters, **({} if start is None else {"start": start}))
        yield found
        start = found["next"]
        if start is None:
            return


def test_the_store_and_its_overview(path: Path) -> None:
    """Figures, and what the charts show."""
    clock = ManualClock()
    with varve.open(path, clock=clock) as db:
        stream = db.stream("orders", Placed | Shipped)
        for number in range(10):
            stream.append(number % 3, Placed(number, "x"))
            clock.advance(60)
        stream.append(1, Shipped(1))
    with client(path) as api:
        store = api.get("store")
        assert (store["path"], store["next_sequence"], store["names"]) == (str(path), "11", ["orders"])
        assert store["types"] == ["Placed", "shop.Shipped"]
        found = api.get("overview", buckets=2)
        assert (found["events"], found["streams"], found["names"], found["types"]) == ("11", "3", 1, 2)
        assert found["rate"]["counts"] == [5, 6]
        assert found["rate"]["bucket_s"] == pytest.approx(300)
        assert found["shares"] == {
            "sampled": None,
            "names": [["orders", 11]],
            "types": [["Placed", 10], ["shop.Shipped", 1]],
        }
        assert (
            found["blocks"]["payload_bytes"]
            < found["blocks"]["block_bytes"]
            < found["used_bytes"]
            <= found["file_bytes"]
        )
        assert found["readers"] == {"count": 0, "readers": []}
        assert found["span"]["first_at"] < found["span"]["last_at"]


def test_an_empty_store(path: Path) -> None:
    """Every page has an answer."""
    varve.open(path).close()
    with client(path) as api:
        assert api.get("overview")["events"] == "0"
        assert api.get("overview")["span"] == {"first_at": None, "last_at": None}
        for order in ("newest", "oldest"):
            assert api.get("events", order=order)["events"] == []
        assert api.get("names") == {"names": [], "next": None}
        assert api.get("consumers")["consumers"] == []
        assert api.get("search", q="1")["event"] == {"found": None}
        assert "no events yet" in api.refused(404, "events/0")["message"]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize(
    "filters", [{}, {"stream": "orders"}, {"type": "shop.Shipped"}, {"stream": "x", "type": "Placed"}]
)
def test_pages_of_the_log_are_the_log(path: Path, order: str, filters: dict[str, str]) -> None:
    """In both directions, filtered and not: every event once, in order, however the pages fall."""
    fill(path, 9)
    with varve.open(path) as db:
        db.stream("x", Placed).append_batch("a", [Placed(n, "y") for n in range(5)])
        expected = [
            one.global_sequence
            for one in db.global_reader().iter_from(
                0,
                streams=[filters["stream"]] if "stream" in filters else None,
                types=[filters["type"]] if "type" in filters else None,
            )
        ]
    with client(path) as api:
        for rows in (1, 2, 4, 200):
            pages = list(walk(api, "events", order=order, rows=rows, **filters))
            found = [one for page in pages for one in sequences(page)]
            assert found == (expected[::-1] if order == "newest" else expected)
            assert all(len(page["events"]) <= rows for page in pages)


def test_the_log_from_somewhere(path: Path) -> None:
    """A sequence or a time: on from there, or back."""
    clock = ManualClock()
    with varve.open(path, clock=clock) as db:
        stream = db.stream("orders", Placed)
        for number in range(6):
            stream.append(1, Placed(number, ""))
            clock.advance(1)
        at = next(db.global_reader().iter_from(3)).recorded_at
    with client(path) as api:
        assert sequences(api.get("events", start=3, order="oldest")) == [3, 4, 5]
        assert sequences(api.get("events", start=3)) == [2, 1, 0]
        assert sequences(api.get("events", start=at.isoformat(), order="oldest")) == [3, 4, 5]
        assert sequences(api.get("events", start=at.isoformat())) == [2, 1, 0]
        assert sequences(api.get("events", start=99, order="oldest")) == []
        assert sequences(api.get("events", start=99)) == [5, 4, 3, 2, 1, 0]
        assert sequences(api.get("events", start="1d", order="oldest")) == []


def test_a_long_search_stops_to_say_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a rare type ends after a while, with a cursor that goes on where it stopped."""
    with varve.open(path) as db:
        stream = db.stream("orders", Placed | Shipped)
        stream.append(1, Shipped(1))
        stream.append_batch(1, [Placed(n, "") for n in range(100)])
        stream.append(1, Shipped(2))
    monkeypatch.setattr(limits, "UI_SCAN_EVENTS", 10)
    monkeypatch.setattr(limits, "UI_SCAN_S", 0.0)
    with client(path) as api:
        for order, expected in (("newest", [101, 0]), ("oldest", [0, 101])):
            pages = list(walk(api, "events", type="shop.Shipped", order=order))
            assert [one for page in pages for one in sequences(page)] == expected
            assert [page["paused"] for page in pages] == [True] * (len(pages) - 1) + [False]
            assert len(pages) == 11


def test_a_page_ends_where_its_events_get_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an event that is too large for a list stands there without its fields."""
    monkeypatch.setattr(limits, "UI_PAGE_BYTES", 2_000)
    monkeypatch.setattr(limits, "UI_ROW_BYTES_MAX", 1_500)
    with varve.open(path) as db:
        db.stream("orders", Placed).append_batch(
            1, [Placed(n, "x" * size) for n, size in enumerate((900, 900, 900, 1_600))]
        )
    with client(path) as api:
        pages = list(walk(api, "events", order="oldest"))
        assert [sequences(page) for page in pages] == [[0, 1, 2], [3]]
        large = pages[1]["events"][0]
        assert (large["fields"], large["problem"]) == ([], "too large for a list: look at it alone")
        assert api.get("events/3")["fields"][1] == ["text", json.dumps("x" * 1_600)]


def test_streams_page_in_bounded_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of every kind, page by page, each once; a page reads no more than it shows."""
    some = uuid.UUID(int=7)
    ids: list[Any] = [*range(1_000), 2**64 - 1, "1", "a/b", HTML, some]
    with varve.open(path, durability="bulk") as db:
        db.stream("orders", Placed).append_many([(one, Placed(1, "")) for one in ids])
        db.stream("other", Placed).append(1, Placed(1, ""))
    expected = [f"{type(one).__name__.lower()}:{one}" for one in [*ids[:1_001], *sorted(ids[1_001:-1]), some]]
    with client(path) as api:
        found, after, seen = [], None, []
        looked = varve.ops.streams

        def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
            for one in looked(*arguments, **options):
                seen.append(one)
                yield one

        monkeypatch.setattr(varve.ops, "streams", counted)
        while True:
            seen.clear()
            page = api.get("streams", name="orders", rows=200, **({"after": after} if after else {}))
            assert len(seen) <= 201
            found += page["streams"]
            after = page["next"]
            if after is None:
                break
        assert [one["id"] for one in found] == expected
        assert {one["length"] for one in found} == {"1"}
        assert api.get("names", rows=1) == {"names": ["orders"], "next": "orders"}
        assert api.get("names", rows=1, after="orders") == {"names": ["other"], "next": None}
        assert api.get("streams", name="orders", after="int:998", rows=2)["streams"][0]["id"] == "int:999"


def test_one_stream(path: Path) -> None:
    """By its own sequences, in both directions; ids of other kinds are other streams."""
    with varve.open(path) as db:
        stream = db.stream("orders", Placed)
        for number in range(7):
            stream.append_many([(42, Placed(number, "int")), ("42", Placed(number, "str"))])
    with client(path) as api:
        for order in ("newest", "oldest"):
            pages = list(walk(api, "stream", name="orders", id="str:42", rows=3, order=order))
            found = [one for page in pages for one in sequences(page, "stream_sequence")]
            assert found == (list(range(7)) if order == "oldest" else list(range(6, -1, -1)))
            assert {row["fields"][1][1] for page in pages for row in page["events"]} == {'"str"'}
            assert pages[0]["stream"]["length"] == "7"
        assert "no stream orders/43" in api.refused(400, "stream", name="orders", id="int:43")["message"]
        assert "no stream nothing/43" in api.refused(400, "stream", name="nothing", id="int:43")["message"]


def test_one_event(path: Path) -> None:
    """Its fields, what was recorded beside it, its neighbours, and every byte with a name."""
    fill(path)
    with client(path) as api:
        found = api.get("events/2")  # shipped: order 1's second event
        assert (found["stream"], found["id"], found["stream_sequence"], found["type"]) == (
            "orders",
            "int:1",
            "1",
            "shop.Shipped",
        )
        assert (found["previous"], found["next"], found["previous_in_stream"], found["next_in_stream"]) == (
            "1",
            "3",
            "1",
            None,
        )
        assert found["fields"] == [["number", "1"]]
        parts = found["parts"]["parts"]
        assert bytes.fromhex("".join(part["hex"] for part in parts)) == varve_bytes(path, 2)
        assert [part["offset"] for part in parts] == [sum(p["size"] for p in parts[:at]) for at in range(len(parts))]
        assert any((part["name"], part["value"]) == ("number", "1") for part in parts)
        assert api.get("events/1")["metadata"] == '{"by": "test"}'
        assert api.get("events/0")["previous"] is None
        assert api.get("events/6")["next"] is None
        assert "the log ends at 6" in api.refused(404, "events/7")["message"]


def varve_bytes(path: Path, sequence: int) -> bytes:
    """An event's FlatBuffer, by another handle of the same process: read from a copy of the file."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "store").mkdir()
        shutil.copy(path / "data.mdb", Path(folder) / "store" / "data.mdb")
        with varve.open(Path(folder) / "store") as db:
            found = db.global_reader().get_bytes(sequence)
            assert found is not None
            return bytes(found)


def test_the_bytes_of_a_large_event_come_in_pages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are counted, their bytes cut, fields cut where they are endless; none of it is lost silently."""
    monkeypatch.setattr(limits, "UI_PARTS_MAX", 4)
    with varve.open(path) as db:
        db.stream("orders", Placed).append(1, Placed(1, "y" * 30_000))
        db.stream("orders", Placed).append(1, Placed(1, "y" * (limits.ANNOTATED_BYTES_MAX + 1)))
    with client(path) as api:
        first = api.get("events/0")
        name, text = first["fields"][1]
        assert name == "text"
        assert text.endswith("… (10,002 characters more)")
        total, parts, at = first["parts"]["count"], [], "0"
        while at is not None:
            page = api.get("events/0", part=at)["parts"]
            assert len(page["parts"]) <= 4
            assert page["count"] == total
            parts += page["parts"]
            at = page["next"]
        assert len(parts) == total
        assert sum(part["size"] for part in parts) == first["bytes"]
        assert all(len(part["hex"]) == 2 * min(part["size"], limits.UI_PART_BYTES_MAX) for part in parts)
        huge = api.get("events/1")
        assert huge["parts"]["problem"]["code"] == "too_many_items"
        assert huge["problem"] is None


def test_numbers_keep_their_digits_and_text_stays_text(path: Path) -> None:
    """What JavaScript's numbers and JSON cannot hold; HTML, controls and marks that turn the writing."""

    @varve.event
    class Odd:
        big: varve.u64
        small: int
        ratio: float
        text: str

    with varve.open(path) as db:
        odd = Odd(2**64 - 1, -(2**63), float("inf"), HTML + "\u202e\x1b\u2028")
        db.stream(HTML, Odd).append(HTML, odd, metadata={HTML: 2**70})
    with client(path) as api:
        answer = api.http.get("/api/events")
        assert answer.text.isascii()
        row = answer.json()["events"][0]
        assert row["fields"][:2] == [["big", "18446744073709551615"], ["small", "-9223372036854775808"]]
        assert json.loads(row["fields"][3][1]) == HTML + "\u202e\x1b\u2028"
        assert "\u202e" not in row["fields"][3][1]
        assert str(2**70) in row["metadata"]
        assert (row["stream"], row["id"]) == (HTML, "str:" + HTML)
        assert api.get("stream", name=HTML, id="str:" + HTML)["stream"]["length"] == "1"
        for one in (answer, api.http.get("/api/store")):
            assert one.headers["content-type"] == "application/json"


def test_consumers(path: Path) -> None:
    """Where they stand, how far behind, who runs them."""
    fill(path)
    with varve.open(path) as db:
        db.consumer("billing", start=2, interval_s=0).close()
    with client(path) as api:
        found = api.get("consumers")
        [one] = found["consumers"]
        assert (one["name"], one["position"], one["lag"], one["running"]) == ("billing", "2", "5", False)
        assert [member["member"] for member in one["members"]] == [0]


def test_search(path: Path) -> None:
    """Sequences, times, ids of both kinds, names and types."""
    some = uuid.uuid4()
    with varve.open(path) as db:
        stream = db.stream("orders", Placed)
        for stream_id in (1, "1", "abc", some):
            stream.append(stream_id, Placed(1, ""))
        db.stream("payments", Placed).append(1, Placed(2, ""))
    with client(path) as api:

        def ids(text: str) -> list[tuple[str, str]]:
            return [(one["name"], one["id"]) for one in api.get("search", q=text)["streams"]["found"]]

        assert ids("1") == [("orders", "int:1"), ("orders", "str:1"), ("payments", "int:1")]
        assert ids("orders/abc") == [("orders", "str:abc")]
        assert ids(str(some)) == [("orders", f"uuid:{some}")]
        assert ids("ab") == []
        assert ids("x" * 300) == []
        assert api.get("search", q="#2")["event"]["found"]["sequence"] == "2"
        assert api.get("search", q="5")["event"]["found"] is None
        assert api.get("search", q="1h")["time"]["found"]["sequence"] == "0"
        assert api.get("search", q="2999-01-01")["time"]["found"]["sequence"] is None
        assert api.get("search", q="abc")["time"]["found"] is None
        assert api.get("search", q="PAY")["names"] == ["payments"]
        assert api.get("search", q="placed")["types"] == ["Placed"]


BAD = [
    ("events", {"rows": "0"}),
    ("events", {"rows": "201"}),
    ("events", {"rows": "many"}),
    ("events", {"rows": "٣"}),
    ("events", {"order": "sideways"}),
    ("events", {"start": "-1"}),
    ("events", {"start": "yesterday-ish"}),
    ("events", {"start": "9" * 30}),
    ("events", {"start": "x" * 5_000}),
    ("events", {"limit": "5"}),
    ("events", {"stream": "x" * 300}),
    ("streams", {}),
    ("streams", {"name": "nothing"}),
    ("streams", {"name": "orders", "after": "42"}),
    ("streams", {"name": "orders", "after": "int:-1"}),
    ("streams", {"name": "orders", "after": "int:99999999999999999999"}),
    ("streams", {"name": "orders", "after": "uuid:12"}),
    ("stream", {"name": "orders"}),
    ("stream", {"name": "orders", "id": "float:1.5"}),
    ("stream", {"name": "orders", "id": "str:"}),
    ("stream", {"name": "orders", "id": "int:1", "start": "2h"}),
    ("events/-1", {}),
    ("events/1e3", {}),
    ("events/" + "9" * 40, {}),
    ("events/1", {"part": "x"}),
    ("names", {"after": "nothing"}),
    ("overview", {"buckets": "100000"}),
    ("tail", {"start": "end"}),
    ("search", {}),
    ("search", {"q": ""}),
    ("store", {"x": "1"}),
]


@pytest.mark.parametrize(("where", "parameters"), BAD)
def test_bad_input_is_told(path: Path, where: str, parameters: dict[str, str]) -> None:
    """As a mistake of who asked, in a line."""
    fill(path)
    with client(path) as api:
        error = api.refused(400, where, **parameters)
        assert error["kind"] == "invalid"
        assert len(error["message"]) < 1_000
        assert "\n" not in error["message"]


def test_a_parameter_given_twice_is_none(path: Path) -> None:
    """Whoever sent it meant one of them."""
    fill(path)
    with client(path) as api:
        assert api.http.get("/api/events?rows=1&rows=2").status_code == 400


@given(
    st.sampled_from(["events", "streams", "stream", "events/1", "names", "search", "overview", "consumers", "store"]),
    st.dictionaries(
        st.sampled_from(["rows", "start", "order", "stream", "type", "name", "id", "after", "q", "part", "buckets"]),
        st.text(max_size=30) | st.sampled_from(["orders", "int:1", "1", "newest", "Placed", "2h", "str:\u202e"]),
        max_size=4,
    ),
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_there_is_an_answer(noise: Client, where: str, parameters: dict[str, str]) -> None:
    """Data or a mistake, never a fault."""
    answer = noise.http.get(
        f"/api/{where}", params={name: text.encode("utf-8", "replace") for name, text in parameters.items()}
    )
    assert answer.status_code in {200, 400, 404}
    assert isinstance(answer.json(), dict)


@pytest.fixture
def noise(path: Path) -> Iterator[Client]:
    """A store for whatever is asked."""
    fill(path)
    with client(path) as api:
        yield api


def damaged(path: Path) -> tuple[int, int]:
    """A store with a damaged block in the middle; its sequences."""
    with varve.open(path, durability="bulk") as db:
        stream = db.stream("orders", Placed)
        for number in range(30):  # blocks of about eight events
            text = "DAMAGE-ME " * 10 if number == 15 else "x" * 1_000
            other: Any = "rare" if number % 10 == 5 else 7
            stream.append_many([(number % 2, Placed(number, text)), (other, Placed(number, ""))])
    damage(path, b"DAMAGE-ME ")
    with varve.open(path, readonly=True) as db:
        bad = []
        for sequence in range(60):
            try:
                db.global_reader().get(sequence)
            except varve.CorruptedBlock:
                bad.append(sequence)
    assert 0 < bad[0] < 31 < bad[-1] + 1 < 60 or 30 in bad
    assert bad == list(range(bad[0], bad[-1] + 1))
    return bad[0], bad[-1] + 1


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_damage_is_told_where_it_stands_and_can_be_passed(path: Path, order: str) -> None:
    """Everything on both sides of a damaged block is shown; the error stands between, on one page."""
    low, high = damaged(path)
    sound = [*range(low), *range(high, 60)]
    with client(path) as api:
        for rows in (3, 200):
            pages = list(walk(api, "events", order=order, rows=rows))
            assert [one for page in pages for one in sequences(page)] == (sound if order == "oldest" else sound[::-1])
            problems = [page["problem"] for page in pages if page["problem"]]
            assert [problem["code"] for problem in problems] == ["corrupted_block"]
            assert problems[0]["first_sequence"] == str(low)
        for stream_id in ("int:0", "int:1", "int:7", "str:rare"):
            with_damage = list(walk(api, "stream", name="orders", id=stream_id, order=order, rows=4))
            found = [one for page in with_damage for one in sequences(page)]
            of_stream = [one for one in sequences_of(stream_id) if one in sound]
            assert found == (of_stream if order == "oldest" else of_stream[::-1])
            hit = any(low <= one < high for one in sequences_of(stream_id))
            assert sum(page["problem"] is not None for page in with_damage) == hit


def sequences_of(stream_id: str) -> list[int]:
    """What ``damaged`` appended to a stream."""
    out = []
    for number in range(30):
        if stream_id == f"int:{number % 2}":
            out.append(2 * number)
        if stream_id == ("str:rare" if number % 10 == 5 else "int:7"):
            out.append(2 * number + 1)
    return out


def test_damage_at_the_ends(path: Path) -> None:
    """Nothing but damage: the error, and no way on."""
    with varve.open(path) as db:
        db.stream("orders", Placed).append(1, Placed(1, "DAMAGE-ME"))
    damage(path, b"DAMAGE-ME")
    with client(path) as api:
        for order in ("newest", "oldest"):
            found = api.get("events", order=order)
            assert (found["events"], found["next"], found["problem"]["code"]) == ([], None, "corrupted_block")
        assert api.refused(500, "events/0")["kind"] == "integrity"
        overview = api.get("overview")
        assert overview["events"] == "1"
        for part in ("rate", "shares", "blocks", "span"):
            assert overview[part]["problem"]["code"] == "corrupted_block"
        assert overview["readers"] == {"count": 0, "readers": []}
        assert api.get("search", q="0")["event"]["problem"]["code"] == "corrupted_block"
        assert api.get("store")["names"] == ["orders"]
        assert api.refused(500, "streams", name="orders")["code"] == "corrupted_block"


def test_archives(path: Path, tmp_path: Path) -> None:
    """What was archived is told as such; pages begin behind it."""
    with varve.open(path) as db:
        stream = db.stream("orders", Placed)
        stream.append("old", Placed(0, "x" * 20_000))
        for number in range(20):
            stream.append(1, Placed(number, "x" * 3_000))
        db.archive(12, tmp_path / "archive")
        first = db.first_global_sequence
    assert 0 < first < 21
    with client(path) as api:
        for order in ("newest", "oldest"):
            found = [one for page in walk(api, "events", rows=3, order=order) for one in sequences(page)]
            assert sorted(found) == list(range(first, 21))
            of_one = list(walk(api, "stream", name="orders", id="int:1", rows=3, order=order))
            assert sorted(one for page in of_one for one in sequences(page)) == list(range(first, 21))
            assert of_one[0]["first"] == str(first - 1)
        assert api.refused(410, "events/0")["code"] == "archived"
        assert api.refused(410, "events", start=0, order="oldest")["code"] == "archived"
        assert api.get("stream", name="orders", id="str:old")["events"] == []
        overview = api.get("overview", buckets=3)
        assert (overview["events"], overview["first_sequence"]) == (str(21 - first), str(first))
        assert sum(overview["rate"]["counts"]) == 21 - first
        assert overview["shares"]["names"] == [["orders", 21 - first]]
        assert api.get("streams", name="orders")["streams"][1]["last_at"] is None
        assert api.get(f"events/{first}")["previous"] is None


def test_a_fault_of_our_own_is_no_dead_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser gets JSON without its details, the terminal the traceback."""
    from starlette.testclient import TestClient

    from varve.ui import views

    fill(path)
    with client(path) as api:

        def broken(_: Any) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr(views, "consumers", broken)
        http = TestClient(api.app, base_url=api.http.base_url, raise_server_exceptions=False)
        answer = http.get("/api/consumers?token=the-token")
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal"
        assert "secret" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_what_a_stream_hides_is_not_shown_with_it(path: Path) -> None:
    """The log shows it: hidden is not gone."""
    with varve.open(path) as db:
        stream = db.stream("orders", Placed)
        stream.append_batch(1, [Placed(n, "") for n in range(10)])
        stream.truncate_before(1, 6)
    with client(path) as api:
        for order in ("newest", "oldest"):
            pages = list(walk(api, "stream", name="orders", id="int:1", order=order, rows=3))
            assert sorted(one for page in pages for one in sequences(page, "stream_sequence")) == [6, 7, 8, 9]
            assert len(api.get("events", order=order)["events"]) == 10

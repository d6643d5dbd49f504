"""Looking into a store: stats, streams, log, cat, get; also into one that somebody writes to, and one that wants to be seen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from command_line import Inside, Placed, Shipped, fill, on_a_terminal, process
from test_common import STEERING

import varve
from varve import ops
from varve.ops import make_demo
from varve.testing import ManualClock


@pytest.fixture
def shop(inside: Inside, tmp_path: Path) -> Path:
    """The demo's store."""
    inside.done("demo", "shop")
    return tmp_path / "shop"


def test_demo_makes_a_store_and_says_what_to_try(inside: Inside, tmp_path: Path) -> None:
    """Everything that it proposes works; a folder that holds anything is left alone."""
    told = inside.done("demo", "my shop")
    tried = re.findall(r"^  (varve .*?)  +#", told, re.MULTILINE)
    assert len(tried) >= 5
    for command in tried:
        words = subprocess.run(
            ["sh", "-c", f'set -- {command}; printf "%s\\n" "$@"'], capture_output=True, text=True, check=True
        )
        assert inside.done(*words.stdout.splitlines()[1:])
    assert "is there already and not empty" in inside.refused(3, "demo", "my shop")
    (tmp_path / "file").touch()
    assert "is there already" in inside.refused(3, "demo", "file")
    (tmp_path / "empty").mkdir()
    assert inside.json("demo", "empty", "--json") == {"path": "empty", "events": 700}
    inside.done("demo")
    assert (tmp_path / "varve-demo" / "data.mdb").exists()


def test_the_demo_is_the_same_each_time(tmp_path: Path) -> None:
    """Only the times are those of the day, the last one now."""
    now_ns = 1_700_000_000_000_000_000
    found = []
    for name in ("a", "b"):
        make_demo(tmp_path / name, now_ns=now_ns)
        with varve.open(tmp_path / name, readonly=True) as db:
            found.append([ops.recorded_to_dict(recorded) for recorded in db.global_reader().iter_from()])
            last = db.global_reader().get(699)
            assert last is not None
            assert last.time_ns == now_ns
    assert found[0] == found[1]
    assert ops.verify(tmp_path / "a").sound


def test_a_demo_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder of its own making, nor anything in one that was there."""
    calls = 0

    def struck(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 100 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(varve.Stream, "append", struck)
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with pytest.raises(KeyboardInterrupt):
            make_demo(tmp_path / name)
    assert [*tmp_path.rglob("*")] == [tmp_path / "there"]


def test_init_makes_an_empty_store_once(inside: Inside) -> None:
    """A second time nothing is changed."""
    told = inside.json("init", "new/deep", "--json")
    assert "holds a store already" in inside.refused(3, "init", "new/deep")
    assert inside.json("stats", "new/deep", "--json")["uuid"] == told["uuid"]
    assert inside.done("init", "other").startswith("made an empty store in other (")


def test_stats(inside: Inside, shop: Path) -> None:
    """For people and for programs; a log of few events is counted block by block."""
    found = inside.json("stats", "shop", "--json", "--buckets", "7")
    assert (found["events"], found["streams"], found["names"]) == (700, 297, ["orders", "payments"])
    assert len(found["types"]) == found["type_versions"] == 4
    assert sum(found["rate"]["counts"]) == 700
    assert len(found["rate"]["counts"]) == 7
    assert found["blocks"]["sampled"] is None
    assert 0 < found["blocks"]["payload_share"] < 1
    text = inside.done("stats", "shop", "--buckets", "7")
    assert re.search(r"^events   700$", text, re.MULTILINE)
    assert re.search(r"^[▁-█]{7}$", text, re.MULTILINE)
    with varve.open(shop) as db, db.snapshot():
        pass
    assert inside.json("stats", "shop", "--json", "--exact")["events"] == 700


def test_stats_of_an_empty_store(inside: Inside) -> None:
    """Nothing to divide by."""
    inside.done("init", "new")
    found = inside.json("stats", "new", "--json")
    assert found["events"] == 0
    assert found["rate"] == {"start": None, "bucket_s": 0.0, "counts": []}
    assert inside.done("stats", "new").startswith("events   0\n")
    for command in (["log", "new"], ["streams", "new"], ["schema", "list", "new"], ["consumers", "list", "new"]):
        assert inside.done(*command) == ""


def test_streams(inside: Inside, shop: Path) -> None:
    """In order of the store, sorted, filtered, limited."""
    found = inside.lines("streams", "shop", "--json")
    assert len(found) == 297
    assert [one["id"] for one in found if one["name"] == "orders"] == list(range(1, 241))
    assert sum(one["length"] for one in found) == 700
    longest = inside.lines("streams", "shop", "--json", "--sort", "length", "--limit", "5")
    assert [one["length"] for one in longest] == sorted((one["length"] for one in found), reverse=True)[:5]
    shortest = inside.lines("streams", "shop", "--json", "--sort", "length", "--reverse", "--limit", "3")
    assert [one["length"] for one in shortest] == [1, 1, 1]
    latest = inside.lines("streams", "shop", "--json", "--sort", "last")
    assert [one["last_sequence"] for one in latest] == sorted((one["last_sequence"] for one in found), reverse=True)
    assert latest[0]["last_sequence"] == 699
    by_id = inside.lines("streams", "shop", "--json", "--sort", "id", "--reverse", "--limit", "1")
    assert by_id[0]["name"] == "payments"
    named = inside.lines("streams", "shop", "--json", "--sort", "name", "--name", "payments")
    assert named == [one for one in found if one["name"] == "payments"]
    assert [one["id"] for one in inside.lines("streams", "shop", "--json", "--filter", "23?")] == list(range(230, 240))
    assert {one["id"] for one in inside.lines("streams", "shop", "--json", "--filter", "r-00")} == {
        one["id"] for one in found if str(one["id"]).startswith("customer-00")
    }
    table = inside.done("streams", "shop", "--name", "orders", "--limit", "2").splitlines()
    assert table[0].split() == ["name", "id", "length", "last", "event", "(UTC)"]
    assert [line.split()[:2] for line in table[1:]] == [["orders", "1"], ["orders", "2"]]
    assert "no streams 'order'; it holds 'orders', 'payments'" in inside.refused(
        2, "streams", "shop", "--name", "order"
    )
    assert "goes with --sort" in inside.refused(2, "streams", "shop", "--reverse")


def test_log_is_what_a_program_reads(inside: Inside, shop: Path) -> None:
    """Every event with everything that was recorded beside it, whatever way it is asked for, in pages or not."""
    with varve.open(shop, readonly=True) as db:
        want = [ops.recorded_to_dict(recorded) for recorded in db.global_reader().iter_from()]
        events = [varve.to_dict(recorded.event) for recorded in db.global_reader().iter_from()]
    assert inside.lines("log", "shop", "--json") == want
    assert [one["event"] for one in want] == events
    assert inside.lines("log", "shop", "--json", "--reverse") == want[::-1]
    assert inside.lines("log", "shop", "--json", "--from", "100", "--to", "103") == want[100:103]
    assert inside.lines("log", "shop", "--json", "--from", "9999") == []
    assert inside.lines("log", "shop", "--json", "--limit", "0") == []
    payments = [one for one in want if one["stream"] == "payments"]
    assert inside.lines("log", "shop", "--json", "--stream", "payments") == payments
    assert (
        inside.lines("log", "shop", "--json", "--stream", "payments", "--reverse", "--limit", "2") == payments[:-3:-1]
    )
    kinds = ["--type", "shop.OrderShipped", "--type", "shop.OrderCancelled"]
    chosen = [one for one in want if one["type"] in kinds]
    assert inside.lines("log", "shop", "--json", *kinds) == chosen
    assert inside.lines("log", "shop", "--json", *kinds, "--reverse") == chosen[::-1]
    at = want[400]["recorded_at"]
    assert inside.lines("log", "shop", "--json", "--from", at)[0] == want[400]
    assert inside.lines("log", "shop", "--json", "--to", at)[-1] == want[399]
    assert inside.lines("log", "shop", "--json", "--at", at, "--reverse", "--limit", "1") == [want[400]]
    assert inside.lines("log", "shop", "--json", "--at", "400")[-1] == want[399]
    assert inside.lines("log", "shop", "--json", "--at", "9999-12-31T23:59:59.999999") == want


def test_log_for_people(inside: Inside, shop: Path) -> None:
    """A line for each event below a line of titles; metadata where it is asked for."""
    lines = inside.done("log", "shop", "--from", "100", "--limit", "2").splitlines()
    assert lines[0].split()[0] == "global"
    assert [line.split()[0] for line in lines[1:]] == ["#100", "#101"]
    assert all("correlation" not in line for line in lines)
    assert 'correlation": "order-' in inside.done("log", "shop", "--from", "100", "--limit", "1", "--metadata")
    assert "no streams 'x'" in inside.refused(2, "log", "shop", "--stream", "x")
    assert "no event type 'x'; it holds shop.OrderPlaced" in inside.refused(2, "log", "shop", "--type", "x")
    assert "is no global sequence, and" in inside.refused(2, "log", "shop", "--from", "x")


def test_cat_is_one_stream(inside: Inside, tmp_path: Path) -> None:
    """By an id of any kind, from a position, as it was then; what is not there is said."""
    some = uuid.UUID("12345678-1234-5678-1234-567812345678")
    clock = ManualClock()
    with varve.open(tmp_path / "data", clock=clock) as db:
        orders = db.stream("orders", Placed | Shipped)
        for stream_id in (7, "seven", some, "12", "x"):
            orders.append(stream_id, Placed(1, str(stream_id)))
            clock.advance(10)
        orders.append(7, Shipped(1))
        orders.append_batch("x", [Placed(number, "many") for number in range(600)])

    def cat(*arguments: str) -> list[Any]:
        return inside.lines("cat", "data", "orders", *arguments, "--json")

    assert [one["stream_sequence"] for one in cat("7")] == [0, 1]
    assert [one["type"] for one in cat("7", "--reverse")] == ["shop.Shipped", "Placed"]
    assert [one["type"] for one in cat("7", "--type", "Placed")] == ["Placed"]
    assert [one["id_kind"] for one in cat("seven")] == ["str"]
    assert [(one["id_kind"], one["stream_id"]) for one in cat(str(some))] == [("uuid", str(some))]
    assert [one["event"]["product"] for one in cat("12", "--id-kind", "str")] == ["12"]
    assert [one["stream_sequence"] for one in cat("x", "--from", "2", "--to", "4")] == [2, 3]
    assert [one["stream_sequence"] for one in cat("x")] == list(range(601))
    assert [one["stream_sequence"] for one in cat("x", "--reverse", "--limit", "300")] == list(range(600, 300, -1))
    assert [one["stream_sequence"] for one in cat("x", "--at", "100")] == list(range(95))
    assert [one["stream_sequence"] for one in cat("7", "--at", "1")] == [0]
    assert len(cat("7", "--at", cat("7")[0]["recorded_at"])) == 1
    assert len(cat("7", "--at", "now")) == 2
    assert "there is no stream orders/8" in inside.refused(2, "cat", "data", "orders", "8")
    assert "of the kind str: say --id-kind str" in inside.refused(2, "cat", "data", "orders", "12")
    assert 'orders/"7"; there is one whose id is of the kind int' in inside.refused(
        2, "cat", "data", "orders", "7", "--id-kind", "str"
    )
    assert "orders/x at that time" in inside.refused(2, "cat", "data", "orders", "x", "--at", "2")
    assert "is no uuid" in inside.refused(2, "cat", "data", "orders", "x", "--id-kind", "uuid")
    assert "no streams 'order'" in inside.refused(2, "cat", "data", "order", "7")


def test_get_names_every_byte(inside: Inside, shop: Path) -> None:
    """Where it stands, its fields, its bytes; the parts of the JSON are the event's bytes."""
    with varve.open(shop, readonly=True) as db:
        recorded = db.global_reader().get(5)
        assert recorded is not None
        raw = bytes(recorded.raw)
        want = ops.recorded_to_dict(recorded)
    assert recorded is not None
    found = inside.json("get", "shop", "5", "--json")
    assert bytes.fromhex("".join(part["hex"] for part in found["parts"])) == raw
    assert found["bytes"] == len(raw)
    assert {name: found[name] for name in want} == want
    text = inside.done("get", "shop", "5")
    assert text.startswith("#5  orders/105 [1]  shop.OrderCancelled\n")
    assert re.search(r"^  000018  69 00 00 00 00 00 00 00 +value +order_id = 105$", text, re.MULTILINE)
    assert "the log has 700 events, so none is at 700" in inside.refused(2, "get", "shop", "700")


def test_get_writes_the_bytes_alone(shop: Path) -> None:
    """For other tools."""
    found = subprocess.run(
        [sys.executable, "-m", "varve.cli", "get", str(shop), "5", "--raw"], capture_output=True, check=True
    )
    with varve.open(shop, readonly=True) as db:
        assert found.stdout == db.global_reader().get_bytes(5)


def test_large_events_are_not_spelled_out(inside: Inside, tmp_path: Path) -> None:
    """A part of many bytes is cut, an event of very many not annotated."""
    with varve.open(tmp_path / "data") as db:
        orders = db.stream("orders", Placed)
        orders.append(1, Placed(1, "x" * 100_000))
        orders.append(1, Placed(1, "x" * (varve.limits.ANNOTATED_BYTES_MAX + 1)))
        with pytest.raises(varve.TooManyItems):
            ops.annotate_event(db, 1)
        assert ops.annotate_event(db, 2) is None
    assert "... 99936 more bytes" in inside.done("get", "data", "0")
    assert inside.json("get", "data", "1", "--json")["parts"] is None
    assert "(more than 1.0 MiB: --raw writes them)" in inside.done("get", "data", "1")


def test_events_of_a_newer_varve_are_shown_as_far_as_they_can_be(
    inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be decoded does not hide the others; its bytes are there."""
    from varve import bindings
    from varve.errors import MalformedEvent

    fill(tmp_path / "data", 2)
    original = bindings.event_type_from_schema

    def newer(schema: bytes) -> Any:
        if b"shop.Shipped" in schema:
            raise MalformedEvent("not a valid event schema: unknown format", offset=None)
        return original(schema)

    monkeypatch.setattr(bindings, "event_type_from_schema", newer)
    found = inside.lines("log", "data", "--json")
    assert [one["event"] is None for one in found] == [False, False, True]
    assert found[2]["type"] == "shop.Shipped"
    assert found[2]["error"] == "the schema in the log is a newer Varve's"
    assert found[2]["raw"]
    assert "(the schema in the log is a newer Varve's)" in inside.done("log", "data")
    assert "a newer Varve's" in inside.done("get", "data", "2")


EVIL = "a\x1b]0;owned\x07\x9b31m\r\n\u202eb"


def test_what_is_in_a_store_cannot_steer_the_terminal(inside: Inside, tmp_path: Path) -> None:
    """Names, ids, fields, metadata: none of it reaches a terminal as it is, whatever shows it."""
    with varve.open(tmp_path / "data") as db:
        stream = db.stream(EVIL, Placed)
        stream.append(EVIL, Placed(1, EVIL, EVIL), metadata={EVIL: EVIL})
        db.consumer(EVIL).close()
    for command in (["log", "data", "--metadata"], ["get", "data", "0"]):  # with colours: there rich writes
        code, out = on_a_terminal(tmp_path, *command)
        assert code == 0
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out).replace("\r\n", "")
        assert "owned" in text
        assert not STEERING.search(text)
    for command in (
        ["log", "data", "--metadata"],
        ["log", "data", "--json"],
        ["cat", "data", EVIL, EVIL],
        ["get", "data", "0"],
        ["get", "data", "0", "--json"],
        ["streams", "data"],
        ["streams", "data", "--json"],
        ["stats", "data"],
        ["stats", "data", "--json"],
        ["consumers", "list", "data"],
        ["consumers", "list", "data", "--json"],
        ["consumers", "seek", "data", EVIL, "end", "--yes"],
        ["consumers", "delete", "data", EVIL, "--yes"],
        ["append", "data", EVIL, EVIL, "--type", "Placed", "--json", '{"order_id": 1, "product": "a"}'],
    ):
        text = inside.done(*command)
        assert "owned" in text
        assert not STEERING.search(text.replace("\n", "")), command


WRITER = """
import sys, varve
sys.path.insert(0, {here!r})
from command_line import Placed
with varve.open("data", durability="relaxed") as db:
    orders = db.stream("orders", Placed)
    orders.append(0, Placed(0, "first"))
    print("ready", flush=True)
    while not sys.stdin.closed:
        orders.append_batch(1, [Placed(1, "more")] * 10)
"""


def test_every_look_works_beside_a_writer(inside: Inside, tmp_path: Path) -> None:
    """A process that appends all the while is not disturbed, and what is read is whole."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(here=str(Path(__file__).parent))],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        for command in (
            ["stats", "data", "--exact"],
            ["streams", "data"],
            ["log", "data", "--limit", "300"],
            ["cat", "data", "orders", "1"],
        ):
            assert inside.done(*command)
        found = inside.lines("log", "data", "--json")
        assert [one["global_sequence"] for one in found] == list(range(len(found)))
        code, out, err = process(tmp_path, "verify", "data", "--json")
        assert (code, json.loads(out)["findings"], err) == (0, [], "")
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


def test_a_store_whose_beginning_was_archived(inside: Inside, tmp_path: Path) -> None:
    """What is left is shown, what is gone is told of; nothing is passed over in silence."""
    with varve.open(tmp_path / "data", durability="relaxed") as db:
        orders = db.stream("orders", Placed)
        orders.append("gone", Placed(0, "x"))
        for number in range(40):
            orders.append_batch(number % 4, [Placed(number, "x" * 300) for _ in range(20)])
        db.archive(400, tmp_path / "old")
        first, end = db.first_global_sequence, db.next_global_sequence
        assert 0 < first <= 400
        assert ops.stream_extent(db, "orders", "gone") == (1, 1)
        assert ops.stream_extent(db, "orders", "none") == (0, 0)
        retained, length = ops.stream_extent(db, "orders", 1)
        assert 0 < retained < length == 200
        with pytest.raises(varve.Archived):
            db.global_reader().iter_stream("orders", 1, retained - 1)
        assert len(list(db.global_reader().iter_stream("orders", 1, retained))) == length - retained
        assert ops.block_fill(db).events == end - first
        assert ops.block_fill(db, samples_max=50).events == end - first
        assert sum(ops.event_rate(db, 7).counts) == end - first
    found = inside.run("log", "data", "--json")
    assert (found.code, found.err) == (0, f"events before #{first} were archived\n")
    assert [json.loads(line)["global_sequence"] for line in found.out.splitlines()] == list(range(first, end))
    found = inside.run("cat", "data", "orders", "1", "--json", "--reverse")
    assert (found.code, found.err) == (0, f"events before [{retained}] were archived\n")
    assert found.out.count("\n") == length - retained
    for command in (
        ["log", "data", "--from", "0"],
        ["get", "data", "0"],
        ["cat", "data", "orders", "1", "--from", "0"],
    ):
        assert "was archived" in inside.refused(6, *command)
    assert inside.json("stats", "data", "--json")["first_sequence"] == first
    assert f"those before #{first} archived" in inside.done("stats", "data")
    listed = {one["id"]: one for one in inside.lines("streams", "data", "--json")}
    assert (listed["gone"]["length"], listed["gone"]["last_sequence"], listed["gone"]["last_at"]) == (1, None, None)
    assert listed[3]["last_sequence"] == end - 1
    assert "archived" in inside.done("streams", "data", "--filter", "gone")
    assert inside.lines("streams", "data", "--sort", "last", "--json")[-1]["id"] == "gone"


def test_what_a_stream_hides_is_in_the_log_only(inside: Inside, tmp_path: Path) -> None:
    """``cat`` reads a stream as programs do."""
    with varve.open(tmp_path / "data", durability="relaxed") as db:
        orders = db.stream("orders", Placed)
        orders.append_batch(1, [Placed(number, "x") for number in range(10)])
        orders.truncate_before(1, 7)
        assert [one.stream_sequence for one in db.global_reader().iter_stream("orders", 1)] == [7, 8, 9]
    assert [one["stream_sequence"] for one in inside.lines("cat", "data", "orders", "1", "--json")] == [7, 8, 9]
    assert len(inside.lines("log", "data", "--json")) == 10

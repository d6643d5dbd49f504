"""``varve append``: one event, many events, and everything that is wrong with them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from command_line import Inside, Placed, fill, on_a_terminal

import varve
from varve import ops

EVENT = '{"order_id": 9, "product": "Cup"}'


@pytest.fixture
def data(inside: Inside, tmp_path: Path) -> Path:
    """A store with three events."""
    fill(tmp_path / "data", 2)
    return tmp_path / "data"


def events(path: Path) -> list[dict[str, Any]]:
    """All of them."""
    with varve.open(path, readonly=True) as db:
        return [ops.recorded_to_dict(recorded) for recorded in db.global_reader().iter_from()]


def test_one_event(inside: Inside, data: Path) -> None:
    """By the store's own schema; defaults where fields are left out; the position is printed."""
    metadata = ["--metadata", '{"why": "test"}']
    told = inside.done("append", "data", "orders", "9", "--type", "Placed", "--json", EVENT, *metadata)
    assert told == "#3  orders/9 [0]\n"
    assert events(data)[3] | {"recorded_at": ""} == {
        "global_sequence": 3,
        "stream": "orders",
        "stream_id": 9,
        "id_kind": "int",
        "stream_sequence": 0,
        "type": "Placed",
        "recorded_at": "",
        "metadata": {"why": "test"},
        "event": {"order_id": 9, "product": "Cup", "note": None},
    }
    with varve.open(data) as db:
        assert db.stream("orders", Placed).reader().get(9, 0) == Placed(9, "Cup")
    told = inside.json("append", "data", "orders", "009", "--type", "Placed", "--json", EVENT, "--as-json")
    position = {"stream": "orders", "stream_id": "009", "stream_sequence": 0, "global_sequence": 4}
    assert told == {"replayed": False, "positions": [position]}
    some = str(uuid.uuid4())
    told = inside.done("append", "data", "orders", some, "--type", "Placed", "--json", EVENT)
    assert told == f"#5  orders/{some} [0]\n"


def test_expected_and_idempotency_key(inside: Inside, data: Path) -> None:
    """What is not as expected is not written; what was written is not written again."""
    shipped = ("--type", "shop.Shipped", "--json", '{"order_id": 1}')
    for expected, stream_id in (("no-stream", "1"), ("exists", "5"), ("1", "1"), ("0", "1")):
        told = inside.refused(3, "append", "data", "orders", stream_id, *shipped, "--expected", expected)
        assert "read it again" in told
    assert len(events(data)) == 3
    for number, (expected, stream_id) in enumerate((("no-stream", "5"), ("exists", "5"), ("2", "5"), ("any", "5")), 3):
        told = inside.done("append", "data", "orders", stream_id, *shipped, "--expected", expected)
        assert told == f"#{number}  orders/5 [{number - 3}]\n"
    key = ("--idempotency-key", "once")
    assert inside.done("append", "data", "orders", "6", *shipped, *key) == "#7  orders/6 [0]\n"
    again = inside.done("append", "data", "orders", "6", *shipped, *key)
    assert again == "#7  orders/6 [0] (written before under this key)\n"
    assert "idempotency key" in inside.refused(3, "append", "data", "orders", "7", *shipped, *key)
    assert len(events(data)) == 8


def test_the_first_event_of_a_type_needs_its_class(inside: Inside, tmp_path: Path) -> None:
    """As ``python -m`` finds it; from then on the name is enough."""
    (tmp_path / "shop_events.py").write_text("import varve\n@varve.event\nclass Paid:\n    cents: varve.u64 = 7\n")
    inside.done("init", "new")
    assert "it knows none" in inside.refused(2, "append", "new", "a", "1", "--type", "Paid", "--json", "{}")
    assert inside.done("append", "new", "a", "1", "--class", "shop_events:Paid", "--json", "{}") == "#0  a/1 [0]\n"
    assert inside.done("append", "new", "a", "1", "--type", "Paid", "--json", '{"cents": 8}') == "#1  a/1 [1]\n"
    assert [one["event"] for one in events(tmp_path / "new")] == [{"cents": 7}, {"cents": 8}]
    assert "no event class" in inside.refused(
        2, "append", "new", "a", "1", "--class", "json:JSONDecoder", "--json", "{}"
    )
    (tmp_path / "shop_events2.py").write_text("import varve\n@varve.event(name='Paid')\nclass P:\n    cents: str\n")
    told = inside.refused(3, "append", "new", "a", "1", "--class", "shop_events2:P", "--json", '{"cents": ""}')
    assert "changed in a way that events in the store cannot follow" in told


def test_lines_of_one_type(inside: Inside, data: Path) -> None:
    """A line is an event; all lines are one commit."""
    stdin = "".join(f'{{"order_id": {number}}}\n\n' for number in range(5))
    told = inside.done(
        "append", "data", "orders", "9", "--type", "shop.Shipped", "--expected", "no-stream", stdin=stdin
    )
    assert told == "#3 to #7  5 events\n"
    with varve.open(data, readonly=True) as db:
        assert {recorded.commit_sequence for recorded in db.global_reader().iter_from(3)} == {3}
    assert inside.done("append", "data", "orders", "9", "--type", "shop.Shipped", stdin="") == ""
    told = inside.json("append", "data", "orders", "9", "--type", "shop.Shipped", "--as-json", stdin=stdin)
    assert [one["stream_sequence"] for one in told["positions"]] == [5, 6, 7, 8, 9]


def test_what_log_prints_can_be_appended(inside: Inside, tmp_path: Path) -> None:
    """Another store gets the same events under the same ids with the same metadata, in the same order."""
    with varve.open(tmp_path / "old") as db:
        orders = db.stream("orders", Placed)
        for stream_id in (1, "1", uuid.UUID(int=5)):
            orders.append(stream_id, Placed(1, "x"), metadata={"id": str(stream_id)})
        db.stream("other", Placed).append(1, Placed(2, "y"))
        orders.append(1, Placed(3, "z"))
    lines = inside.done("log", "old", "--json")
    inside.done("init", "new")
    refused = inside.refused(2, "append", "new", stdin=lines)
    assert refused.startswith("varve: line 1: the store knows no event type 'Placed'")
    with varve.open(tmp_path / "new") as db:
        db.stream("orders", Placed).append(0, Placed(0, "so that the type is known"))
    assert (
        inside.done("append", "new", "--every", "2", stdin=lines)
        == "#1 to #2  2 events\n#3 to #4  2 events\n#5  orders/1 [1]\n"
    )
    keys = ("stream", "stream_id", "id_kind", "stream_sequence", "type", "metadata", "event")
    assert [{key: one[key] for key in keys} for one in events(tmp_path / "new")[1:]] == [
        {key: one[key] for key in keys} for one in events(tmp_path / "old")
    ]
    with varve.open(tmp_path / "new", readonly=True) as db:
        commits = [recorded.commit_sequence for recorded in db.global_reader().iter_from(1)]
    assert commits == [1, 1, 3, 3, 5]


def test_lines_to_one_stream_that_say_their_type(inside: Inside, data: Path) -> None:
    """NAME and ID of the command line stand above those of the lines."""
    stdin = (
        '{"type": "shop.Shipped", "event": {"order_id": 1}, "stream": "x"}\n{"type": "Placed", "event": '
        + EVENT
        + "}\n"
    )
    assert inside.done("append", "data", "orders", "9", "--expected", "0", stdin=stdin) == "#3 to #4  2 events\n"
    found = events(data)[3:]
    assert [(one["stream"], one["stream_id"], one["type"]) for one in found] == [
        ("orders", 9, "shop.Shipped"),
        ("orders", 9, "Placed"),
    ]


LINE = {"stream": "orders", "stream_id": 1, "type": "shop.Shipped", "event": {"order_id": 1}}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "it is no JSON"),
        ("[]", "it must be an object"),
        ("\x00", "it is no JSON"),
        (LINE | {"stream": 1}, '"stream" and "stream_id"'),
        (LINE | {"stream_id": True}, '"stream" and "stream_id"'),
        (LINE | {"stream_id": None}, '"stream" and "stream_id"'),
        (LINE | {"stream_id": -1}, "stream id -1 is outside"),
        (LINE | {"stream_id": ""}, "an empty stream id"),
        (LINE | {"stream": ""}, "an empty stream name"),
        (LINE | {"id_kind": "float"}, '"id_kind" is'),
        (LINE | {"id_kind": "uuid"}, "is no uuid"),
        (LINE | {"type": None}, 'it needs "type" and "event"'),
        ({"stream": "orders", "stream_id": 1, "type": "shop.Shipped"}, 'it needs "type" and "event"'),
        (LINE | {"type": "Nope"}, "the store knows no event type 'Nope'"),
        (LINE | {"expected": 3}, "it has 'expected', which means nothing here"),
        (LINE | {"event": None, "raw": "AA=="}, "could not be decoded"),
        (LINE | {"event": []}, "must be an object"),
        (LINE | {"event": {"order_id": -1}}, "order_id"),
        (LINE | {"event": {"order_id": 1, "more": 2}}, "more is no field of shop.Shipped"),
        (LINE | {"metadata": 3}, "metadata"),
    ],
)
def test_a_bad_line_is_told_by_its_number(inside: Inside, data: Path, line: Any, why: str) -> None:
    """Nothing of its transaction is written; what was written before is said, and stays."""
    good = json.dumps(LINE)
    text = line if isinstance(line, str) else json.dumps(line)
    stdin = f"{good}\n{good}\n\n{text}\n{good}\n"
    told = inside.run("append", "data", stdin=stdin)
    assert told.code == 2, told
    assert why in told.err
    assert told.err.endswith("; nothing was written\n")
    assert told.err.count("\n") == 1
    assert told.err.startswith("varve: line 4: ")
    assert len(events(data)) == 3
    told = inside.run("append", "data", "--every", "1", stdin=stdin)
    assert told.code == 2
    assert told.out == "#3  orders/1 [2]\n#4  orders/1 [3]\n"
    assert told.err.endswith("; 2 events in 2 transactions were written before\n")
    assert len(events(data)) == 5


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["orders"], "NAME and ID go together"),
        (["--json", EVENT], "say which stream"),
        (["orders", "1", "--json", EVENT], "say of which type"),
        (["orders", "1", "--type", "Placed", "--class", "a:B", "--json", EVENT], "give one of them"),
        (["orders", "1", "--type", "Placed", "--json", "{"], "--json is no JSON"),
        (["orders", "1", "--type", "Placed", "--json", "3"], "must be an object"),
        (["orders", "1", "--type", "Placed", "--json", EVENT, "--every", "3"], "--every is for lines"),
        (["orders", "1", "--type", "Placed", "--json", EVENT, "--metadata", "x"], "--metadata is no JSON"),
        (["orders", "1", "--type", "Placed", "--json", EVENT, "--metadata", "3"], "metadata"),
        (["orders", "1", "--type", "Placed", "--json", EVENT, "--expected", "some"], "--expected is any"),
        (["orders", "1", "--type", "Placed", "--json", EVENT, "--idempotency-key", ""], "empty idempotency key"),
        (["orders", "x", "--id-kind", "int", "--type", "Placed", "--json", EVENT], "is no int"),
        (["--expected", "3"], "about one stream"),
        (["--every", "3", "--idempotency-key", "k"], "about one transaction"),
        (["orders", "1", "--every", "3", "--expected", "3"], "about one transaction"),
        (["--type", "Placed"], "NAME and ID have to be given"),
    ],
)
def test_what_does_not_go_together(inside: Inside, data: Path, arguments: list[str], why: str) -> None:
    """One line, exit code 2, nothing written."""
    assert why in inside.refused(2, "append", "data", *arguments, stdin="{}\n")
    assert len(events(data)) == 3


def test_on_a_terminal_it_says_what_it_waits_for(data: Path) -> None:
    """Nobody should look at a cursor and wonder."""
    code, out = on_a_terminal(data.parent, "append", "data", answer="\x04", prompt=b"Ctrl-D ends them")
    assert code == 0
    assert "reading lines of JSON" in out

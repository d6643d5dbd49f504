"""Events that every earlier version of a class wrote stay readable: by the newest classes, by older ones, and by none."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evolved_store
import pytest

import varve
from varve import ops

EVENTS = 12
BYTES_DIGEST = "5aeb5e82992822413e50834a08e0e8a5500d338d9cfebf8beb510e62cfe8df1b"
VALUES_DIGEST = "7f0443900d6484cd5a32b3c3edd7ead38ff5d7f516aa17cf014730e4ae4c001e"

# What the first three versions of ``Sold`` say, in the order of the log; the first generation wrote once more at the end.
ORDERS = [1, 2, 1, 3, 1, 4, 1, 2]
NOTES = ["first", "", "second", "plain", "", "", "first", ""]
REBATES = [-1, -1, 5, -1, -1, 0, -1, -1]
SELLERS = [None, None, "ann", None, None, "bob", None, None]
SHADES = [2, 1, 7, 2, 9, 1, 2, 1]
PAID_BY = ["Card", "Cash", "Card", "Cash", "Voucher", "Card", "Card", "Cash"]
LINES = [["a", "b"], [], ["a"], ["b"], ["c"], ["d"], ["a", "b"], []]
PRICES = [[0, 0], [], [250], [0], [0], [7], [0, 0], []]


@pytest.fixture
def path(varve_path: Path) -> Path:
    """A copy of the golden store."""
    varve_path.mkdir()
    packed = Path(__file__).parent / "evolved-v1.mdb.gz"
    (varve_path / "data.mdb").write_bytes(gzip.decompress(packed.read_bytes()))
    return varve_path


@pytest.fixture
def db(path: Path) -> Iterator[varve.Varve]:
    """The golden store, open for writing."""
    with varve.open(path, durability="relaxed") as store:
        yield store


def test_without_classes_each_event_comes_as_it_was_written(path: Path) -> None:
    """Through the schema in the log, version by version; bytes and values are what they always were."""
    with varve.open(path, readonly=True) as db:
        replay = db.global_reader()
        assert db.next_global_sequence == EVENTS
        assert db.stats().types == 6  # three versions of Sold, three types of moves
        assert hashlib.sha256(b"".join(replay.iter_bytes(0))).hexdigest() == BYTES_DIGEST
        found = [(r.type.__varve__.name, json.loads(varve.to_json(r.event))) for r in replay.iter_from()]
        assert hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest() == VALUES_DIGEST
        assert [event["note"] for name, event in found if name == "Sold"] == NOTES
        assert found[2] == ("Moved", {"where": "3,4"})
        assert [sorted(event) for _, event in found[::3]] == [
            ["lines", "note", "order", "paid_by", "shade"],
            ["lines", "note", "order", "paid_by", "rebate", "seller", "shade"],
            ["lines", "note", "order", "paid_by", "rebate", "seller", "shade", "tags"],
            ["lines", "note", "order", "paid_by", "shade"],
        ]


@pytest.mark.parametrize("generation", [evolved_store.first, evolved_store.second, evolved_store.third])
def test_every_generation_reads_every_other(db: varve.Varve, generation: Any) -> None:
    """Newer classes fill in what older events lack; older ones do not see what newer events have."""
    c = generation()
    events = [
        r.event for r in db.stream("shop", c.Sold).reader(unknown="event").iter_all() if isinstance(r.event, c.Sold)
    ]
    assert [event.order for event in events] == ORDERS
    assert [event.note for event in events] == NOTES
    assert [int(event.shade) for event in events] == SHADES
    assert [isinstance(event.shade, c.Shade) for event in events] == [n in list(c.Shade) for n in SHADES]
    assert [[line.sku for line in event.lines] for event in events] == LINES
    for event, member in zip(events, PAID_BY, strict=True):
        if hasattr(c, member):
            assert isinstance(event.paid_by, getattr(c, member))
        else:
            with pytest.raises(varve.MalformedEvent):
                event.paid_by  # noqa: B018 - reading it is the test
    if generation is not evolved_store.first:
        assert [event.rebate for event in events] == REBATES
        assert [event.seller for event in events] == SELLERS
        assert [[line.price for line in event.lines] for event in events] == PRICES
    if generation is evolved_store.third:
        assert [event.tags for event in events] == [(), (), (), (), ("x", "y"), (), (), ()]
        assert [line.cents for line in events[4].lines] == [2**40]


@pytest.mark.parametrize("generation", [evolved_store.first, evolved_store.second, evolved_store.third])
def test_every_generation_writes_its_old_bytes(db: varve.Varve, generation: Any) -> None:
    """A known version is accepted as it was, adds no type, and is packed as ever."""
    c = generation()
    stream, before, types = db.stream("shop", c.Sold), db.next_global_sequence, db.stats().types
    sold = [event for event in evolved_store.written(c) if isinstance(event, c.Sold)]
    stream.append_batch("again", sold)
    replay = db.global_reader()
    stored = [bytes(data) for data in replay.iter_bytes(0, before)]
    assert all(bytes(data) in stored for data in replay.iter_bytes(before))
    assert db.stats().types == types


def test_upcasts_lead_from_the_oldest_type_to_the_newest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two steps, in typed reads and replays; where they came from stays in the bytes."""
    monkeypatch.setattr("varve.upcasts.REGISTRY._steps", {})  # the other tests read without
    one, two, three = evolved_store.first(), evolved_store.second(), evolved_store.third()

    @varve.upcast(one.MovedV1, two.MovedV2)
    def parse(old: Any) -> Any:
        return two.MovedV2(*map(int, old.where.split(",")))

    @varve.upcast(two.MovedV2, three.Moved)
    def lift(old: Any) -> Any:
        return three.Moved(old.x, old.y, 0)

    expected = [three.Moved(3, 4, 0), three.Moved(5, -6, 0), three.Moved(7, 8, 9), three.Moved(3, 4, 0)]
    with varve.open(path, readonly=True) as db:
        reader = db.stream("shop", three.Moved).reader()
        assert [r.event for r in reader.iter_stream("moves")] == expected
        assert [reader.get("moves", n) for n in range(4)] == expected
        assert [r.event for r in db.global_reader().iter_from(types=[three.Moved])] == expected
        older = db.stream("shop", one.MovedV1 | two.MovedV2).reader(unknown="event")
        names = [
            r.event.type_name if isinstance(r.event, varve.UnknownEvent) else r.type for r in older.iter_stream("moves")
        ]
        assert names == [one.MovedV1, two.MovedV2, "Moved.v3", one.MovedV1]


def test_its_index_and_metadata_are_what_its_log_says(path: Path, tmp_path: Path) -> None:
    """It is sound, and rebuilds, versions and all."""
    assert ops.verify(path).sound
    assert ops.repair(path, tmp_path / "rebuilt").events == EVENTS
    with varve.open(tmp_path / "rebuilt", readonly=True) as db:
        assert db.stats().types == 6
        db.stream("shop", evolved_store.third().Sold)

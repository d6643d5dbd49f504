"""Everything after ``close``."""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from store_models import OrderPlaced, placed

import varve


def columns() -> dict[str, list[Any]]:
    """``placed(1)`` as columns."""
    return {name: [value] for name, value in varve.to_dict(placed(1)).items()}


AFTERWARDS = {
    "Varve": {"path", "readonly", "uuid", "close", "unobserve"},
    "Stream": {"name"},
    "StreamReader": {"name"},
    "GlobalReader": set(),
    "Snapshot": {"close"},
    "Transaction": {"positions", "replayed", "rollback"},
}
"""What still works, or belongs to the object alone: each other public member raises ``StoreClosed``."""


def _required(tx: varve.Transaction) -> None:
    """A check is asked by the commit."""
    tx.require_absent("a")
    tx.commit()


USES: dict[str, dict[str, Any]] = {
    "Varve": {
        "next_global_sequence": lambda db: db.next_global_sequence,
        "first_global_sequence": lambda db: db.first_global_sequence,
        "archive": lambda db: db.archive(0, "archive"),
        "backup": lambda db: db.backup("backups"),
        "stats": lambda db: db.stats(),
        "stream": lambda db: db.stream("x", OrderPlaced),
        "global_reader": lambda db: db.global_reader(),
        "snapshot": lambda db: db.snapshot(),
        "sequence_at": lambda db: db.sequence_at(__import__("datetime").datetime.now(__import__("datetime").UTC)),
        "transaction": lambda db: db.transaction(),
        "write": lambda db: db.write(lambda tx: None),
        "sync": lambda db: db.sync(),
        "watcher": lambda db: db.watcher(),
        "tail": lambda db: db.tail(),
        "follow": lambda db: db.follow(),
        "consumer": lambda db: db.consumer("billing"),
        "consumers": lambda db: db.consumers(),
        "delete_consumer": lambda db: db.delete_consumer("billing"),
        "seek_consumer": lambda db: db.seek_consumer("billing", 0),
        "observe": lambda db: db.observe(varve.Observer()),
        "snapshots": lambda db: db.snapshots.latest("a"),
        "state": lambda db: db.state.get_opt("a"),
        "optimistic": lambda db: db.optimistic(lambda tx: tx.state.put("a", 1)),
        "processor": lambda db: db.processor("billing", lambda recorded, tx: None),
        "dead_letters": lambda db: db.dead_letters().list(),
        "projection": lambda db: db.projection(varve.Projection),
        "projections": lambda db: db.projections(),
        "scoped": lambda db: db.scoped(read=["*"]).stream("x", OrderPlaced),
    },
    "Stream": {
        "append": lambda s: s.append(1, placed(1)),
        "append_batch": lambda s: s.append_batch(1, []),
        "append_many": lambda s: s.append_many([(1, placed(1))]),
        "truncate_before": lambda s: s.truncate_before(1, 1),
        "retain": lambda s: s.retain(1, max_count=1),
        "retention": lambda s: s.retention(1),
        "append_columns": lambda s: s.append_columns(1, columns()),
        "reader": lambda s: s.reader(),
        "tail": lambda s: s.tail(),
        "follow": lambda s: s.follow(),
    },
    "StreamReader": {
        "get": lambda r: r.get(1, 0),
        "first_visible": lambda r: r.first_visible(1),
        "get_bytes": lambda r: r.get_bytes(1, 0),
        "get_recorded": lambda r: r.get_recorded(1, 0),
        "length": lambda r: r.length(1),
        "iter_stream": lambda r: r.iter_stream(1),
        "iter_all": lambda r: r.iter_all(),
        "columns": lambda r: r.columns(["order_id"]),
        "to_arrow": lambda r: r.to_arrow(),
        "stream_ids": lambda r: r.stream_ids(),
    },
    "GlobalReader": {
        "get": lambda r: r.get(0),
        "get_bytes": lambda r: r.get_bytes(0),
        "iter_from": lambda r: r.iter_from(0),
        "iter_stream": lambda r: r.iter_stream("x", 1),
        "iter_bytes": lambda r: r.iter_bytes(0),
        "columns": lambda r: r.columns(["order_id"]),
    },
    "Snapshot": {
        "reader": None,  # these are tested below, where the stream is at hand
        "global_reader": None,
        "next_global_sequence": None,
        "state": None,
    },
    "Transaction": {
        "append": lambda tx: tx.commit(),
        "append_batch": lambda tx: tx.commit(),
        "append_many": lambda tx: tx.commit(),
        "append_columns": lambda tx: tx.commit(),
        "commit": lambda tx: tx.commit(),
        "store_position": lambda tx: tx.commit(),
        "state": lambda tx: tx.state.get_opt("a"),
        **dict.fromkeys(("reader", "length"), lambda tx: tx.global_reader()),  # as this one; no stream is at hand
        "global_reader": lambda tx: tx.global_reader(),
        **dict.fromkeys(("require", "require_exists", "require_absent", "require_min", "require_max"), _required),
        **dict.fromkeys(("require_version", "ensure"), _required),
    },
}


@pytest.mark.parametrize("kind", USES)
def test_every_public_member_is_tested(kind: str) -> None:
    """A new method must say here what it does after close; async ones have tests of their own."""
    cls = getattr(varve, kind)
    public = {n for n, value in inspect.getmembers(cls) if not n.startswith("_")}
    public = {n for n in public if not n.endswith("_async")}
    assert public == AFTERWARDS[kind] | USES[kind].keys()


@pytest.mark.parametrize(
    ("kind", "use"), [(kind, use) for kind, uses in USES.items() for use in uses if kind != "Snapshot"]
)
@pytest.mark.parametrize("how", ["close", "with"])
def test_a_closed_store_says_so(varve_path: Path, kind: str, use: str, how: str) -> None:
    """``StoreClosed`` from everything that needs the store."""
    with varve.open(varve_path, durability="relaxed") as db:
        orders = db.stream("orders", OrderPlaced)
        orders.append(1, placed(1))
        tx = db.transaction()
        tx.append(orders, 1, placed(2))
        things = {
            "Varve": db,
            "Stream": orders,
            "StreamReader": orders.reader(),
            "GlobalReader": db.global_reader(),
            "Transaction": tx,
        }
        if how == "close":
            db.close()
    with pytest.raises(varve.StoreClosed):
        USES[kind][use](things[kind])
    assert db.path == str(varve_path)
    assert db.uuid
    assert "StoreClosed" in repr(db)
    db.close()
    with contextlib.suppress(varve.TransactionClosed):
        tx.rollback()


@pytest.mark.parametrize("use", ["reader", "global_reader", "next_global_sequence", "get", "iter_from", "state"])
def test_a_snapshot_of_a_closed_store_says_so(varve_path: Path, use: str) -> None:
    """The store was left while the snapshot was open."""
    with varve.open(varve_path, durability="relaxed") as db:
        orders = db.stream("orders", OrderPlaced)
        orders.append(1, placed(1))
        snap = db.snapshot()
        reader, replay = snap.reader(orders), snap.global_reader()
    uses = {
        "reader": lambda: snap.reader(orders),
        "global_reader": snap.global_reader,
        "next_global_sequence": lambda: snap.next_global_sequence,
        "get": lambda: reader.get(1, 0),
        "iter_from": lambda: replay.iter_from(0),
        "state": lambda: snap.state.get_opt("a"),
    }
    with pytest.raises(varve.StoreClosed):
        uses[use]()
    snap.close()


READS = {
    "iter_stream": lambda db, s: s.reader().iter_stream(1),
    "iter_stream reversed": lambda db, s: s.reader().iter_stream(1, reverse=True),
    "iter_all": lambda db, s: s.reader().iter_all(),
    "iter_from": lambda db, s: db.global_reader().iter_from(0),
    "iter_from filtered": lambda db, s: db.global_reader().iter_from(0, streams=["orders"]),
    "iter_bytes": lambda db, s: db.global_reader().iter_bytes(0),
    "stream_ids": lambda db, s: s.reader().stream_ids(),
}


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("read", READS)
def test_an_iterator_of_a_closed_store_says_so(varve_path: Path, read: str, started: bool) -> None:
    """``close()`` ends running iterators; the next step raises and does not pretend that the log had ended."""
    with varve.open(varve_path, durability="relaxed") as db:
        orders = db.stream("orders", OrderPlaced)
        orders.append_batch(1, [placed(n) for n in range(1_000)])
        orders.append_many([(n, placed(n)) for n in range(600)])
        walk = READS[read](db, orders)
        if started:
            next(walk)
        db.close()
        with pytest.raises(varve.StoreClosed):
            list(walk) if read == "stream_ids" else next(walk)
        with pytest.raises(StopIteration):
            next(walk)


def test_a_closed_store_is_opened_again(varve_path: Path) -> None:
    """The old handle stays closed; the new one goes on."""
    for n in range(3):
        db = varve.open(varve_path, durability="relaxed")
        assert db.stream("orders", OrderPlaced).append(1, placed(n)) == (n, n)
        db.close()
        with pytest.raises(varve.StoreClosed):
            _ = db.next_global_sequence


def test_a_stream_keeps_its_store_open(varve_path: Path) -> None:
    """Whoever holds a stream, a reader or an iterator can go on when the handle itself was dropped; then it is closed."""
    stream = varve.open(varve_path, durability="relaxed").stream("orders", OrderPlaced)
    stream.append(1, placed(1))
    reader = stream.reader()
    del stream
    assert reader.get(1, 0) == placed(1)
    walk = reader.iter_all()
    del reader
    assert next(walk).event == placed(1)
    del walk
    with varve.open(varve_path, durability="relaxed") as db:
        assert db.next_global_sequence == 1

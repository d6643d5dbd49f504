"""Handles that only read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_models import OrderPlaced, placed

import varve

WRITES = {
    "append": lambda db, s: s.append(1, placed(1)),
    "append_batch": lambda db, s: s.append_batch(1, [placed(1)]),
    "append_many": lambda db, s: s.append_many([(1, placed(1))]),
    "write": lambda db, s: db.write(lambda tx: None),
}


@pytest.mark.parametrize("write", [*WRITES, "transaction"])
def test_a_readonly_handle_refuses_writes(varve_path: Path, write: str) -> None:
    """``ReadonlyStore``; reading goes on."""
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("orders", OrderPlaced).append(1, placed(0))
    with varve.open(varve_path, readonly=True) as db:
        assert db.readonly
        stream = db.stream("orders", OrderPlaced)
        with pytest.raises(varve.ReadonlyStore):
            if write == "transaction":
                with db.transaction() as tx:
                    tx.append(stream, 1, placed(1))
            else:
                WRITES[write](db, stream)
        assert stream.reader().get(1, 0) == placed(0)
        assert db.next_global_sequence == 1


@pytest.mark.parametrize("kind", ["missing", "empty folder"])
def test_a_readonly_handle_needs_a_store(tmp_path: Path, kind: str) -> None:
    """``StoreNotFound``, and nothing is created."""
    path = tmp_path / "nothing"
    if kind == "empty folder":
        path.mkdir()
    with pytest.raises(varve.StoreNotFound) as caught:
        varve.open(path, readonly=True)
    assert caught.value.path == str(path)
    assert isinstance(caught.value, FileNotFoundError)
    assert not path.exists() or not list(path.iterdir())


def test_a_reader_beside_a_writer_in_another_process(varve_path: Path) -> None:
    """Each call sees what the writer committed before it: new events, new streams, new types, another tail."""
    root, here = str(Path(varve.__file__).parents[1]), str(Path(__file__).parent)
    script = f"""
import sys; sys.path[:0] = [{root!r}, {here!r}]
import varve
from store_models import OrderPlaced, OrderShipped, placed, shipped
with varve.open({str(varve_path)!r}, durability="relaxed") as db:
    orders = db.stream("orders", OrderPlaced)
    more = db.stream("more", OrderShipped)
    orders.append(1, placed(0)); print("0", flush=True)
    for n, _ in enumerate(sys.stdin, 1):
        orders.append(1, placed(n))
        orders.append_batch("new-%d" % n, [placed(n)] * 700)
        more.append(n, shipped(n)); print(n, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "0\n"
        with varve.open(varve_path, readonly=True) as db:
            reader, replay = db.stream("orders", OrderPlaced).reader(), db.global_reader()
            assert reader.length(1) == 1
            walk = replay.iter_from(0)
            for n in range(1, 6):
                writer.stdin.write("go\n")
                writer.stdin.flush()
                assert writer.stdout.readline() == f"{n}\n"
                assert reader.length(1) == n + 1
                assert reader.get(1, n) == placed(n)
                assert reader.length(f"new-{n}") == 700
                assert list(reader.stream_ids()) == [1, *sorted(f"new-{k}" for k in range(1, n + 1))]
                assert sum(1 for _ in replay.iter_from(0)) == db.next_global_sequence == 1 + 702 * n
                assert replay.get(702 * n).event.carrier == "DHL"
            assert len(list(walk)) == 1
            writer.stdin.close()
            assert writer.wait(timeout=60) == 0


def test_durability_is_no_matter_of_a_readonly_handle(varve_path: Any) -> None:
    """It commits nothing, so the option is refused."""
    with pytest.raises(varve.InvalidInput):
        varve.open(varve_path, readonly=True, durability="relaxed")

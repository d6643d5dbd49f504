"""Whole stores with state in them: verified, repaired, backed up, restored, compacted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from state_models import Moved

import varve
from varve import ops
from varve.layout.ordered import encode_key

STATE = {"a": 1, "b": [2], ("t", 3): {"x": None}, **{number: bytes(50) for number in range(300)}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store with three events and some state."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        moved = db.stream("moved", Moved)
        moved.append_batch(1, [Moved(1), Moved(2), Moved(3)])
        with db.transaction() as tx:
            for key, value in STATE.items():
                tx.state.put(key, value)
    return tmp_path / "store"


def held(path: Path) -> dict[Any, Any]:
    """The state of a store."""
    with varve.open(path, readonly=True) as db:
        return dict(db.state.range())


def damage(path: Path, key: bytes, record: bytes) -> None:
    """Put something else into the table."""
    with varve.open(path, durability="relaxed") as db:
        environment = db._engine.environment
        with environment.env.begin(write=True) as transaction:
            transaction.put(key, record, db=environment.side("state"))


WRONG = pytest.mark.parametrize(
    ("key", "record", "named"), [(encode_key("b"), b"nonsense", "'b'"), (b"\x01\x02", b"x" * 20, "0102")]
)


@WRONG
def test_damage_is_a_finding(path: Path, key: bytes, record: bytes, named: str) -> None:
    """It names the key; a sound store has none."""
    assert ops.verify(path).sound
    damage(path, key, record)
    (finding,) = ops.verify(path).findings
    assert (finding.where, finding.kind, finding.key) == ("state", "record", key)
    assert named in str(finding)


@WRONG
@pytest.mark.parametrize("salvage", [False, True])
def test_repair_keeps_what_can_be_read(
    path: Path, tmp_path: Path, key: bytes, record: bytes, named: str, salvage: bool
) -> None:
    """And says what could not."""
    damage(path, key, record)
    report = ops.repair(path, tmp_path / "new", salvage=salvage)
    assert any(named in note for note in report.notes)
    assert held(tmp_path / "new") == {one: value for one, value in STATE.items() if encode_key(one) != key}
    assert ops.verify(tmp_path / "new").sound


def test_repair_of_damaged_state_alone_makes_no_table(tmp_path: Path) -> None:
    """Where nothing of it is left."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("moved", Moved).append(1, Moved(1))
        db.state.put("a", 1)
    damage(tmp_path / "store", encode_key("a"), b"nonsense")
    ops.repair(tmp_path / "store", tmp_path / "new")
    assert held(tmp_path / "new") == {}


def test_compaction_keeps_it(path: Path, tmp_path: Path) -> None:
    """As it is."""
    ops.compact(path, tmp_path / "new")
    assert held(tmp_path / "new") == STATE


def test_backups_hold_it(path: Path, tmp_path: Path) -> None:
    """Full and incremental; a change of state alone is worth a backup; restored is that of the last backup used."""
    with varve.open(path, durability="relaxed") as db:
        moved = db.stream("moved", Moved)
        db.backup(tmp_path / "set")
        db.state.put("a", "changed")
        db.backup(tmp_path / "set", incremental=True)
        moved.append_batch(1, [Moved(4), Moved(5)])
        db.state.delete("b")
        moved.append(1, Moved(6))
        db.backup(tmp_path / "set", incremental=True)
    assert len(ops.backups(tmp_path / "set")) == 3
    assert ops.verify_backup(tmp_path / "set").sound
    last = {key: value for key, value in STATE.items() if key != "b"} | {"a": "changed"}
    report = ops.restore(tmp_path / "set", tmp_path / "latest", check=True)
    assert (report.next_sequence, report.state_sequence) == (6, 6)
    assert held(tmp_path / "latest") == last
    report = ops.restore(tmp_path / "set", tmp_path / "between", to_sequence=5)
    assert (report.next_sequence, report.state_sequence) == (5, 6)
    assert held(tmp_path / "between") == last


def test_a_store_without_state_restores_without(tmp_path: Path) -> None:
    """There is nothing to say about it."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("moved", Moved).append(1, Moved(1))
        db.backup(tmp_path / "set")
    assert ops.restore(tmp_path / "set", tmp_path / "new").state_sequence is None


def test_damaged_state_is_not_backed_up(path: Path, tmp_path: Path) -> None:
    """Nor restored: it is told, and nothing is kept."""
    damage(path, encode_key("b"), b"nonsense")
    for take in _takes(path, tmp_path / "set"):
        with pytest.raises(varve.CorruptedStore, match="state"):
            take()
    assert not list((tmp_path / "set").glob("0*"))


def _takes(path: Path, target: Path) -> list[Callable[[], object]]:
    return [lambda: ops.backup(path, target), lambda: ops.backup(path, target, incremental=True)]

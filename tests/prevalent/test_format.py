"""What stands in logs stays readable: the record that takes a command back, and where a system's commands are."""

from __future__ import annotations

from pathlib import Path

import pytest
from prevalent_models import Deposit, bank

import varve
from varve.codec import event_type
from varve.prevalent.aborts import REASON_CHARS_MAX, aborted

GOLDEN = (
    "0c000000080014000c00040008000000100000000000000007000000000000000d0000004b65794572726f723a2027782700000000000000"
)


def test_golden_bytes_of_the_record() -> None:
    """docs/format.md shows them."""
    packed = event_type(varve.Aborted).pack(varve.Aborted(7, "KeyError: 'x'"))
    assert packed.hex() == GOLDEN
    assert varve.schema.to_fbs(varve.Aborted).count("stream_sequence:ulong") == 1


def test_reasons_are_short_text() -> None:
    """Whatever was raised."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert aborted(1, Mute()).reason == "Mute"
    assert aborted(1, KeyError()).reason == "KeyError"
    assert aborted(1, ValueError("\ud800")).reason == "ValueError: ?"
    assert len(aborted(1, ValueError("x" * 10_000)).reason) == REASON_CHARS_MAX


def test_where_commands_stand(db: varve.Varve) -> None:
    """The stream's name and id, and the scope and schema of snapshots."""
    with bank(db, version="b") as system:
        system.execute(Deposit("ann", 1))
        system.snapshot()
    recorded = db.global_reader().get(0)
    assert recorded is not None
    assert (recorded.stream, recorded.stream_id, recorded.event) == ("prevalent/bank", 0, Deposit("ann", 1))
    [saved] = db.snapshots.stored()
    assert (saved.scope, saved.position, saved.schema) == (("prevalent/bank", 0), 1, "prevalent 1: b")


@varve.event(name="varve.Aborted")
class Posing:
    stream_sequence: varve.u64
    reason: str


def test_nobody_elses_class_passes_for_the_record(varve_path: Path) -> None:
    """An event of it would take commands back; the class that is made of the log's own schema is as good as Varve's."""
    with varve.open(varve_path) as db:
        with pytest.raises(varve.InvalidInput, match="is Varve's own"):
            db.stream("orders", Posing)
        with pytest.raises(varve.InvalidInput, match="is Varve's own"):
            db.stream("orders", Deposit | Posing)
        db.stream("orders", varve.Aborted).append(1, varve.Aborted(0, "mine"))
    with varve.open(varve_path) as db:
        found = db.global_reader().get(0)
        assert found is not None
        assert found.type is not varve.Aborted
        assert db.stream("orders", found.type).reader().length(1) == 1

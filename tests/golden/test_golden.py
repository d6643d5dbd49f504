"""Stores that earlier versions wrote stay readable, byte for byte and value for value."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from uuid import UUID

import golden_store
import pytest

import varve
from varve import ops

GOLDEN = {
    # Folder: events, SHA-256 of all events' bytes, SHA-256 of everything that is recorded of them.
    "v1": (
        1850,
        "ed1bd75b41e5ebc45d28a597fae3871a22d4aee665f1a90035042b9807ae5186",
        "14ba02cf81682e428a0a63d9a6aa64aa03af27d2ec39856c0db1bdffdb9f1016",
    )
}


@pytest.fixture(params=GOLDEN)
def golden(request: pytest.FixtureRequest, varve_path: Path) -> tuple[Path, str]:
    """A copy of a golden store, and which one it is."""
    varve_path.mkdir()
    packed = Path(__file__).parent / f"{request.param}.mdb.gz"
    (varve_path / "data.mdb").write_bytes(gzip.decompress(packed.read_bytes()))
    return varve_path, request.param


def _described(recorded: varve.Recorded) -> str:
    """Everything that is recorded of an event, as a line of JSON."""
    return json.dumps(
        [
            recorded.global_sequence,
            recorded.stream,
            str(recorded.stream_id),
            recorded.stream_sequence,
            recorded.commit_sequence,
            recorded.time_ns,
            recorded.metadata,
            recorded.type.__name__,
            json.loads(varve.to_json(recorded.event)),
        ],
        sort_keys=True,
    )


def test_every_event_has_its_old_bytes_and_values(golden: tuple[Path, str]) -> None:
    """Replayed without any user class, through the schema in the log, everything is what it was when it was written."""
    path, name = golden
    events, bytes_digest, recorded_digest = GOLDEN[name]
    with varve.open(path, readonly=True) as db:
        replay = db.global_reader()
        assert db.next_global_sequence == events
        assert hashlib.sha256(b"".join(replay.iter_bytes(0))).hexdigest() == bytes_digest
        lines = "\n".join(_described(recorded) for recorded in replay.iter_from(0))
        assert hashlib.sha256(lines.encode()).hexdigest() == recorded_digest


def test_typed_reads_give_equal_events(golden: tuple[Path, str]) -> None:
    """Events of every field type equal those that today's code would write."""
    path, _ = golden
    with varve.open(path, readonly=True) as db:
        things = db.stream("things", golden_store.Everything | golden_store.Ticked).reader()
        assert [things.get(number, 0) for number in range(5)] == [
            golden_store.everything(number) for number in range(5)
        ]
        assert things.get("with a blob", 0) == golden_store.everything(5)
        assert things.get(UUID(int=99), 0) == golden_store.everything(6)
        assert list(things.stream_ids()) == [0, 1, 2, 3, 4, "large", "with a blob", UUID(int=99)]
        ticks = db.stream("ticks", golden_store.Ticked).reader()
        assert [recorded.event.number for recorded in ticks.iter_stream("bulk")] == [*range(1_500), 1, 2]
        assert ticks.length("tail") == 40


def test_it_can_be_written_to_and_retried(golden: tuple[Path, str]) -> None:
    """An old store goes on: its tail is extended, its idempotency keys still hold, today's packer writes the old bytes."""
    path, name = golden
    events = GOLDEN[name][0]
    with varve.open(path) as db:
        ticks = db.stream("ticks", golden_store.Ticked)
        again = ticks.append_many(
            [(number % 7, golden_store.Ticked(number)) for number in range(300)], idempotency_key=UUID(int=5)
        )
        assert again.replayed
        assert again[0].global_sequence == 5 + 1_500
        things = db.stream("things", golden_store.Everything | golden_store.Ticked)
        position = things.append(0, golden_store.everything(0))
        assert position == (1, events)
        old, new = things.reader().get_bytes(0, 0), things.reader().get_bytes(0, 1)
        assert old is not None
        assert old == new
        del old, new


def test_it_rebuilds_from_its_log(golden: tuple[Path, str], tmp_path: Path) -> None:
    """Index and metadata of an old store are what today's code makes of its log."""
    path, name = golden
    assert ops.verify(path).sound
    assert ops.repair(path, tmp_path / "rebuilt").events == GOLDEN[name][0]

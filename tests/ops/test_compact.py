"""``ops.compact``: full blocks, no free pages, gaps where rules hid something."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

import varve
from varve import limits, ops
from varve.engine.instant import contents


@varve.event(name="compact.Number")
class Number:
    value: varve.u64


@varve.event(name="compact.Text")
class Text:
    value: str


def fill(db: varve.Varve, chance: random.Random, rounds: int) -> None:
    numbers, texts = db.stream("numbers", Number), db.stream("texts", Text | Number)
    for n in range(rounds):
        key: Any = chance.choice([None, None, uuid.UUID(int=chance.getrandbits(100))])
        metadata = chance.choice([None, None, {"user": chance.randrange(4)}])
        match chance.randrange(4):
            case 0:
                numbers.append(chance.randrange(3), Number(n), idempotency_key=key, metadata=metadata)
            case 1:
                batch = [Number(i) for i in range(chance.randrange(1, 40))]
                numbers.append_batch(chance.randrange(3), batch, idempotency_key=key, metadata=metadata)
            case 2:
                texts.append_many([(chance.randrange(5), Text("x" * chance.randrange(90))) for _ in range(9)])
            case _:
                with db.transaction(idempotency_key=key) as tx:
                    tx.append(numbers, 1, Number(5), metadata=metadata)
                    tx.append(texts, f"late {n}", Text("t" * chance.choice([1, 3, 5_000])))


def told(recorded: varve.Recorded[Any]) -> tuple[Any, ...]:
    return (
        recorded.global_sequence,
        recorded.commit_sequence,
        recorded.stream,
        recorded.stream_id,
        recorded.stream_sequence,
        recorded.time_ns,
        recorded.metadata,
        bytes(recorded.raw),
    )


def everything(path: Path) -> list[tuple[Any, ...]]:
    with varve.open(path, readonly=True) as db:
        return [told(one) for one in db.global_reader().iter_from(db.first_global_sequence)]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_but_the_blocks_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Where nothing is hidden: the same events, commits, metadata and keys, the same digest, the same index and metadata."""
    chance = random.Random(seed)
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", chance.choice([800, 4_000, 32_752]))
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", chance.choice([400, 800]))
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, chance, 120)
    progress: list[tuple[int, int]] = []
    report = ops.compact(tmp_path / "store", tmp_path / "new", progress=lambda *both: progress.append(both))
    assert progress == sorted(progress)
    assert progress[-1] == (2 * report.events, 2 * report.events)
    assert report.dropped == 0
    assert report.blocks <= report.blocks_before
    assert everything(tmp_path / "new") == everything(tmp_path / "store")
    assert ops.digest(tmp_path / "new") == ops.digest(tmp_path / "store")
    old, new = contents(str(tmp_path / "store")), contents(str(tmp_path / "new"))
    assert new["index"] == old["index"]
    assert new["meta"] == old["meta"]
    assert len(new["log"]) == report.blocks
    assert ops.verify(tmp_path / "new").sound
    with varve.open(tmp_path / "new") as db:
        fill(db, random.Random(99), 5)
    ops.compact(tmp_path / "new", tmp_path / "again")
    assert everything(tmp_path / "again") == everything(tmp_path / "new")


def test_single_appends_become_full_blocks(tmp_path: Path) -> None:
    """That is what it is for."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        numbers = db.stream("numbers", Number)
        for n in range(3_000):
            numbers.append(1, Number(n))
    report = ops.compact(tmp_path / "store", tmp_path / "new")
    assert report.blocks < report.blocks_before / 3
    assert report.bytes < report.bytes_before
    frames = sorted(map(len, contents(str(tmp_path / "new"))["log"].values()))
    assert limits.BLOCK_BYTES_MAX - 200 < frames[-1] <= limits.BLOCK_BYTES_MAX


@pytest.mark.parametrize("seed", range(4))
def test_what_is_hidden_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Each position stays; replays report counted gaps, both ways and from anywhere; readers of streams see what they saw."""
    chance = random.Random(seed)
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 2_000)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 800)
    store, new = tmp_path / "store", tmp_path / "new"
    with varve.open(store, durability="relaxed") as db:
        fill(db, chance, 150)
        numbers, texts = db.stream("numbers", Number), db.stream("texts", Text | Number)
        numbers.truncate_before(1, chance.randrange(numbers.reader().length(1)))
        numbers.retain(2, max_count=chance.randrange(20))
        texts.retain(max_count=chance.choice([0, 1, 7]))
        before = [told(one) for one in db.global_reader().iter_from()]
        kept = {}
        for stream in (numbers, texts):
            for stream_id in stream.reader().stream_ids():
                kept[stream.name, stream_id] = stream.reader().first_visible(stream_id)
    hidden = {one[0] for one in before if one[4] < kept[one[2], one[3]]}
    report = ops.compact(store, new)
    assert report.dropped == len(hidden) > 0
    assert ops.verify(new).sound
    with varve.open(new) as db:
        numbers, texts = db.stream("numbers", Number), db.stream("texts", Text | Number)
        replay = db.global_reader()
        found: set[int] = set()
        for one in replay.iter_from():
            if isinstance(one.event, varve.Gap):
                assert one.type is varve.Gap
                found |= set(range(one.global_sequence, one.global_sequence + one.event.events))
                assert told(one)[:6] == before[one.global_sequence][:6]
                assert one.metadata is None
            else:
                assert told(one) == before[one.global_sequence]
        assert found == hidden
        positions: list[int] = []
        for one in replay.iter_from(reverse=True):
            size = one.event.events if isinstance(one.event, varve.Gap) else 1
            positions += range(one.global_sequence, one.global_sequence + size)[::-1]
        assert positions == list(range(len(before)))[::-1]
        for start in range(0, len(before), 37):
            some = [
                (one.global_sequence, getattr(one.event, "events", 1)) for one in replay.iter_from(start, start + 20)
            ]
            assert sum(size for _, size in some) == min(20, len(before) - start)
            assert some[0][0] == start
        for sequence in sorted(hidden)[:5]:
            recorded = replay.get(sequence)
            assert recorded is not None
            assert recorded.event == varve.Gap(1)
        gone = {one[0] for one in before if one[2] == "texts"} & hidden
        assert {
            one.global_sequence for one in replay.iter_from(streams=["texts"]) if isinstance(one.event, varve.Gap)
        } <= gone
        values = replay.columns(["value", "$global_sequence"], types=[Number])
        assert not set(values["$global_sequence"].tolist()) & hidden
        assert not set(replay.columns(["$global_sequence"])["$global_sequence"].tolist()) & hidden
        assert not [one for one in replay.iter_from(types=[Text, Number]) if isinstance(one.event, varve.Gap)]
        tailed = [one.event.events for one in db.follow(timeout_s=0) if isinstance(one.event, varve.Gap)]
        assert sum(tailed) == len(hidden)
        assert len(tailed) < len(hidden)
        for stream in (numbers, texts):
            reader = stream.reader()
            assert not [one for one in reader.iter_all() if isinstance(one.event, varve.Gap)]
            for (name, stream_id), first in kept.items():
                if name == stream.name:
                    of_it = [one for one in before if one[2:4] == (name, stream_id)]
                    assert reader.length(stream_id) == len(of_it)
                    assert [told(one) for one in reader.iter_stream(stream_id)] == of_it[first:]
        numbers.truncate_before(1, 0)  # what is gone does not come back
        reader = numbers.reader()
        assert [reader.get(1, n) is None for n in range(kept["numbers", 1] + 1)] == [True] * kept["numbers", 1] + [
            kept["numbers", 1] == reader.length(1)
        ]
        for way in (reader.get, reader.get_bytes, reader.get_recorded):
            assert (way(1, 0) is None) == bool(kept["numbers", 1])
        assert [told(one) for one in reader.iter_stream(1)] == [
            one for one in before if one[2:4] == ("numbers", 1) and one[4] >= kept["numbers", 1]
        ]
        fill(db, random.Random(5), 10)
    report = ops.compact(new, tmp_path / "again")
    assert ops.verify(tmp_path / "again").sound
    with varve.open(tmp_path / "again") as db:
        gaps = [one.event.events for one in db.global_reader().iter_from() if isinstance(one.event, varve.Gap)]
        assert sum(gaps) >= len(hidden)


def test_what_stands_beside_the_log_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers, rules, identity, idempotency keys, what was archived; a compacted store stands in a row with its archives."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_000)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 600)
    monkeypatch.setattr("varve.archive.examine", lambda path: None)

    async def read(db: varve.Varve) -> None:
        async with db.consumer("billing", interval_s=0) as consumer:
            async for one in consumer:
                if one.global_sequence >= 50:
                    return

    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, random.Random(1), 100)
        numbers = db.stream("numbers", Number)
        asyncio.run(read(db))
        db.archive(db.consumers()[0].position, tmp_path / "archive")
        numbers.append(1, Number(7), idempotency_key="once")
        numbers.truncate_before(1, numbers.reader().length(1) - 1)
        identity, consumers = db.uuid, db.consumers()
        first = db.first_global_sequence
        before = [told(one) for one in db.global_reader().iter_from(first)]
    report = ops.compact(tmp_path / "store", tmp_path / "new")
    assert report.dropped > 0
    with varve.open(tmp_path / "new") as db:
        assert db.uuid == identity
        assert [(one.name, one.position) for one in db.consumers()] == [(one.name, one.position) for one in consumers]
        assert db.first_global_sequence == first
        numbers = db.stream("numbers", Number)
        assert numbers.retention(1).truncate_before == numbers.reader().length(1) - 1
        assert numbers.append(1, Number(7), idempotency_key="once").replayed
        assert len(before) + first == db.next_global_sequence
    with varve.open([tmp_path / "archive", tmp_path / "new"]) as series:
        gaps = [one.event.events for one in series.global_reader().iter_from() if isinstance(one.event, varve.Gap)]
        assert sum(gaps) == report.dropped


def test_an_empty_store(tmp_path: Path) -> None:
    """Is an empty store again."""
    with varve.open(tmp_path / "store") as db:
        identity = db.uuid
    assert ops.compact(tmp_path / "store", tmp_path / "new").events == 0
    with varve.open(tmp_path / "new") as db:
        assert db.uuid == identity
        db.stream("numbers", Number).append(1, Number(1))
    assert ops.verify(tmp_path / "new").sound


def test_beside_a_writer(tmp_path: Path) -> None:
    """What is committed while it works is not in it; everything before is."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, random.Random(2), 60)
    script = "import sys, varve\n@varve.event(name='compact.Number')\nclass Number:\n    value: varve.u64\n"
    script += "with varve.open(sys.argv[1]) as db: db.stream('numbers', Number).append(1, Number(77))\n"
    before = everything(tmp_path / "store")
    is_first = [True]

    def meanwhile(done: int, total: int) -> None:
        if is_first.pop() if is_first else False:
            subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")], check=True)

    ops.compact(tmp_path / "store", tmp_path / "new", progress=meanwhile)
    assert everything(tmp_path / "new") == before
    assert len(everything(tmp_path / "store")) == len(before) + 1


def test_beside_a_consumer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on while the rules are worked out does not stand beyond the end of what is made."""
    module = sys.modules["varve.ops.compact"]
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, random.Random(2), 20)
    script = "import sys, varve\n@varve.event(name='compact.Number')\nclass Number:\n    value: varve.u64\n"
    script += "with varve.open(sys.argv[1]) as db:\n"
    script += "    db.stream('numbers', Number).append(1, Number(77))\n"
    script += "    db.consumer('ahead', start=varve.END).close()\n"
    floors = vars(module)["floors"]

    def slow(snapshot: Any) -> dict[int, int]:
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")], check=True)
        return floors(snapshot)

    monkeypatch.setattr(module, "floors", slow)
    ops.compact(tmp_path / "store", tmp_path / "new")
    assert ops.verify(tmp_path / "new").sound


def test_bad_input(tmp_path: Path) -> None:
    """Refused, and nothing is left of an attempt."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, random.Random(2), 10)
        with pytest.raises(varve.StoreAlreadyOpen):
            ops.compact(tmp_path / "store", tmp_path / "new")
    (tmp_path / "there").mkdir()
    for target in (tmp_path / "there", tmp_path / "store", tmp_path / "store" / "in", ""):
        with pytest.raises(varve.InvalidInput):
            ops.compact(tmp_path / "store", target)
    with pytest.raises(varve.StoreNotFound):
        ops.compact(tmp_path / "nowhere", tmp_path / "new")
    shutil.copytree(tmp_path / "store", tmp_path / "rotten")
    data = bytearray((tmp_path / "rotten" / "data.mdb").read_bytes())
    frame = next(iter(contents(str(tmp_path / "store"))["log"].values()))
    at = bytes(data).rindex(frame[100:200])
    data[at] ^= 1
    (tmp_path / "rotten" / "data.mdb").write_bytes(bytes(data))
    with pytest.raises(varve.CorruptedBlock):
        ops.compact(tmp_path / "rotten", tmp_path / "new")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rotten", "store", "there"]


def test_nobody_writes_gaps(tmp_path: Path) -> None:
    """The name is Varve's own."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, random.Random(3), 30)
        db.stream("numbers", Number).retain(max_count=0)
    ops.compact(tmp_path / "store", tmp_path / "new")
    for name in ("store", "new"):  # which knows the type
        with varve.open(tmp_path / name) as db, pytest.raises(varve.InvalidInput, match="nobody appends one"):
            db.stream("numbers", Number | varve.Gap)


def test_gaps_as_json(tmp_path: Path) -> None:
    """They are events like any other for whoever shows them."""
    assert json.loads(varve.to_json(varve.Gap(3))) == {"events": 3}

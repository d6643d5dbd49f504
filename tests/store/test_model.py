"""A random user against a plain-Python model of the store.

Longer runs: ``VARVE_MODEL_EXAMPLES=2000 pytest tests/store/test_model.py``. What it was seen to find when the code was
broken on purpose is listed in ``test_the_machine_notices_a_broken_store``, which keeps it able to fail.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from store_models import OrderPlaced, OrderShipped, placed, shipped

import varve
from varve import ops
from varve.engine.snapshot import Snapshot as EngineSnapshot
from varve.layout.runs import decode_runs, encode_runs
from varve.testing import ManualClock

EXAMPLES = int(os.environ.get("VARVE_MODEL_EXAMPLES", "50"))
STEPS = 40 if EXAMPLES <= 100 else 80

NAMES = ("orders", "payments", "Bücher")
IDS: tuple[Any, ...] = (0, 1, 2**64 - 1, "1", "a", "ä" * 127, uuid.UUID(int=1))
SOME_NAME = st.sampled_from(NAMES)
SOME_ID = st.sampled_from(IDS)
METADATA = st.none() | st.sampled_from([{"user": "eve"}, {"deep": {"list": [1, None, {"x": 2.5}]}}, {}])
BATCH = st.sampled_from([1, 2, 3, 7, 8, 9, 40, 300, 1100])
TEXT_BYTES = st.sampled_from([0, 5, 40, 40, 500, 5_000, 40_000])


@dataclass
class Entry:
    """One event as the model knows it."""

    name: str
    stream_id: Any
    stream_sequence: int
    event: Any
    metadata: Any
    commit: int
    time_ns: int


@dataclass
class Model:
    """What the store should hold: a list, and what follows from it."""

    log: list[Entry] = field(default_factory=list)
    keys: dict[Any, tuple[list[tuple[str, Any, Any, Any]], int]] = field(default_factory=dict)

    def stream(self, name: str, stream_id: Any, at: int | None = None) -> list[int]:
        """Global sequences of a stream; ids of different kinds are different ids."""
        log = self.log if at is None else self.log[:at]
        return [
            g
            for g, e in enumerate(log)
            if e.name == name and e.stream_id == stream_id and same_kind(e.stream_id, stream_id)
        ]

    def append(self, items: list[tuple[str, Any, Any, Any]], time_ns: int) -> list[tuple[int, int]]:
        """One commit of ``(name, id, event, metadata)``; the positions it should get."""
        commit, positions = len(self.log), []
        lengths: dict[Any, int] = {}
        last = max(time_ns, self.log[-1].time_ns if self.log else 0)
        for name, stream_id, event, metadata in items:
            key = (name, type(stream_id), stream_id)
            if key not in lengths:
                lengths[key] = len(self.stream(name, stream_id))
            positions.append((lengths[key], len(self.log)))
            self.log.append(Entry(name, stream_id, lengths[key], event, metadata, commit, last))
            lengths[key] += 1
        return positions


def same_kind(a: Any, b: Any) -> bool:
    return type(a) is type(b)


class StoreMachine(RuleBasedStateMachine):
    """Every public way to write, read and reopen a store, checked against the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="varve-model-"))
        self.generation = 0
        self.clock = ManualClock()
        self.model = Model()
        self.number = 0
        self.open()

    # -- plumbing ------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        return self.folder / f"store-{self.generation}"

    def open(self, durability: Any = "bulk") -> None:
        self.db = varve.open(self.path, durability=durability, clock=self.clock, map_bytes=2**32)
        self.streams = {name: self.db.stream(name, OrderPlaced | OrderShipped) for name in NAMES}

    def events(self, count: int, size: int) -> list[Any]:
        """Fresh events, every third of the other type; only the first one is large."""
        made: list[Any] = []
        for index in range(count):
            self.number += 1
            text = "x" * size if index == 0 else "x" * min(size, 60)
            made.append(shipped(self.number, text) if self.number % 3 == 0 else placed(self.number, text))
        return made

    def check(self, recorded: varve.Recorded[Any], sequence: int) -> None:
        entry = self.model.log[sequence]
        assert recorded.global_sequence == sequence
        assert (recorded.stream, recorded.stream_id, recorded.stream_sequence) == (
            entry.name,
            entry.stream_id,
            entry.stream_sequence,
        )
        assert same_kind(recorded.stream_id, entry.stream_id)
        assert recorded.event == entry.event
        assert recorded.type is type(entry.event)
        assert recorded.metadata == entry.metadata
        assert recorded.commit_sequence == entry.commit
        assert recorded.time_ns == entry.time_ns

    def check_all(self, found: Any, sequences: list[int]) -> None:
        """What an iterator gave is exactly these events of the model, in this order."""
        count = 0
        for recorded in found:
            assert count < len(sequences), f"more than {len(sequences)} events"
            self.check(recorded, sequences[count])
            count += 1
        assert count == len(sequences)

    # -- writing -------------------------------------------------------------------------------------------------------

    @rule(name=SOME_NAME, stream_id=SOME_ID, size=TEXT_BYTES, metadata=METADATA, exact=st.booleans())
    def append(self, name: str, stream_id: Any, size: int, metadata: Any, exact: bool) -> None:
        [event] = self.events(1, size)
        expected = len(self.model.stream(name, stream_id)) if exact else varve.ANY
        position = self.streams[name].append(stream_id, event, metadata=metadata, expected=expected)
        [wanted] = self.model.append([(name, stream_id, event, metadata)], self.clock.now_ns)
        assert position == wanted
        assert not position.replayed

    @rule(name=SOME_NAME, stream_id=SOME_ID, times=st.integers(2, 30))
    def append_singly(self, name: str, stream_id: Any, times: int) -> None:
        """Runs of small commits, which extend the tail block."""
        for event in self.events(times, 5):
            assert (
                self.streams[name].append(stream_id, event)
                == self.model.append([(name, stream_id, event, None)], self.clock.now_ns)[0]
            )

    @rule(name=SOME_NAME, stream_id=SOME_ID, count=BATCH, size=TEXT_BYTES, metadata=METADATA)
    def append_batch(self, name: str, stream_id: Any, count: int, size: int, metadata: Any) -> None:
        events = self.events(count, size)
        span = self.streams[name].append_batch(stream_id, iter(events), metadata=metadata)
        wanted = self.model.append([(name, stream_id, event, metadata) for event in events], self.clock.now_ns)
        assert list(span) == wanted

    @rule(
        name=SOME_NAME,
        ids=st.lists(SOME_ID, min_size=1, max_size=6),
        rounds=st.sampled_from([1, 2, 60]),
        metadata=METADATA,
    )
    def append_many(self, name: str, ids: list[Any], rounds: int, metadata: Any) -> None:
        items = list(zip(ids * rounds, self.events(len(ids) * rounds, 20), strict=True))
        span = self.streams[name].append_many(items, metadata=metadata)
        wanted = self.model.append([(name, i, event, metadata) for i, event in items], self.clock.now_ns)
        assert list(span) == wanted

    @rule(
        calls=st.lists(
            st.tuples(SOME_NAME, SOME_ID, st.sampled_from([1, 1, 1, 3]), st.sampled_from([0, 0, 0, 1])),
            min_size=2,
            max_size=12,
        )
    )
    def awaited_together(self, calls: list[tuple[str, Any, int, int]]) -> None:
        """Appends of many tasks share write transactions; some expect what is not so. All in the order of their calls."""
        awaits: list[Any] = []
        wanted: list[Any] = []
        for name, stream_id, count, off in calls:
            events = self.events(count, 30)
            stream, length = self.streams[name], len(self.model.stream(name, stream_id))
            if count == 1:
                awaits.append(stream.append_async(stream_id, events[0], expected=length + off))
            else:
                awaits.append(stream.append_batch_async(stream_id, events, expected=length + off))
            items = [(name, stream_id, event, None) for event in events]
            wanted.append(length if off else self.model.append(items, self.clock.now_ns))

        async def gather() -> list[Any]:
            return await asyncio.gather(*awaits, return_exceptions=True)

        for found, right in zip(asyncio.run(gather()), wanted, strict=True):
            if isinstance(right, int):
                assert isinstance(found, varve.WrongExpectedVersion)
                assert found.actual == right
            else:
                assert ([found] if isinstance(found, varve.Position) else list(found)) == right

    @rule(data=st.data(), calls=st.lists(st.tuples(SOME_NAME, SOME_ID, st.integers(0, 12)), min_size=1, max_size=5))
    def transaction(self, data: st.DataObject, calls: list[tuple[str, Any, int]]) -> None:
        """Several streams in one commit, expectations counting what came earlier in it; sometimes through db.write."""
        metadata = data.draw(METADATA)
        pending: list[tuple[str, Any, Any, Any]] = []
        counts: list[int] = []

        def fill(tx: Any) -> None:
            for name, stream_id, count in calls:
                events = self.events(count, 30)
                ahead = sum(1 for n, i, _, _ in pending if n == name and i == stream_id and same_kind(i, stream_id))
                length = len(self.model.stream(name, stream_id)) + ahead
                if count == 1:
                    tx.append(self.streams[name], stream_id, events[0], expected=length)
                else:
                    tx.append_batch(self.streams[name], stream_id, events, expected=length)
                pending.extend((name, stream_id, event, metadata) for event in events)
                counts.append(count)

        if data.draw(st.booleans(), label="through db.write"):
            tx = self.db.write(lambda tx: [fill(tx), tx][1], metadata=metadata)
        else:
            with self.db.transaction(metadata=metadata) as tx:
                fill(tx)
        wanted = self.model.append(pending, self.clock.now_ns)
        for count, positions in zip(counts, tx.positions, strict=True):
            got = [positions] if count == 1 else list(positions)
            assert got == wanted[:count]
            wanted = wanted[count:]

    @rule(name=SOME_NAME, stream_id=SOME_ID, off=st.sampled_from([-1, 1, 5]), whole=st.booleans())
    def conflict(self, name: str, stream_id: Any, off: int, whole: bool) -> None:
        """A wrong expectation writes nothing, also of what stood before it in the transaction."""
        length = len(self.model.stream(name, stream_id))
        wrong = length + off if length + off >= 0 else length + 1
        with pytest.raises(varve.WrongExpectedVersion) as caught:
            if whole:
                with self.db.transaction() as tx:
                    tx.append(self.streams["payments"], "new", placed(1))
                    tx.append(self.streams[name], stream_id, placed(2), expected=wrong)
            else:
                self.streams[name].append(stream_id, placed(3), expected=wrong)
        assert caught.value.actual == length
        assert caught.value.expected == wrong
        assert self.db.next_global_sequence == len(self.model.log)

    @rule(
        key=st.sampled_from([b"k", "k", "k2", uuid.UUID(int=7)]),
        name=SOME_NAME,
        stream_id=SOME_ID,
        count=st.sampled_from([1, 3, 700]),
    )
    def append_under_key(self, key: Any, name: str, stream_id: Any, count: int) -> None:
        """First use writes; a retry gives the original positions; other content is a conflict."""
        known = self.model.keys.get((type(key), key))
        if known is None:
            items = [(name, stream_id, event, None) for event in self.events(count, 30)]
            span = self.streams[name].append_batch(stream_id, [e for _, _, e, _ in items], idempotency_key=key)
            assert list(span) == self.model.append(items, self.clock.now_ns)
            assert not span.replayed
            self.model.keys[type(key), key] = (items, span[0].global_sequence)
            return
        items, first = known
        name, stream_id = items[0][:2]
        events = [e for _, _, e, _ in items]
        again = self.streams[name].append_batch(stream_id, events, idempotency_key=key, expected=10**6)
        assert again.replayed
        assert list(again) == [(self.model.log[g].stream_sequence, g) for g in range(first, first + len(items))]
        with pytest.raises(varve.IdempotencyConflict) as caught:
            self.streams[name].append_batch(stream_id, [*events, placed(0)], idempotency_key=key)
        assert caught.value.global_sequence == first
        assert self.db.next_global_sequence == len(self.model.log)

    # -- reading -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.log)
    @rule(data=st.data(), reverse=st.booleans())
    def read_log(self, data: st.DataObject, reverse: bool) -> None:
        """Any range of the log, of some names and of some types, forwards and backwards."""
        end = len(self.model.log)
        start, stop = data.draw(st.integers(0, end + 2)), data.draw(st.none() | st.integers(0, end + 2))
        names = data.draw(st.none() | st.lists(st.sampled_from([*NAMES, "never written"]), max_size=3))
        kinds = data.draw(st.none() | st.lists(st.sampled_from([OrderPlaced, "OrderShipped"]), max_size=2))
        type_names = None if kinds is None else {k if isinstance(k, str) else k.__name__ for k in kinds}
        wanted = [
            g
            for g in range(end)[start:stop]
            if (names is None or self.model.log[g].name in names)
            and (type_names is None or type(self.model.log[g].event).__name__ in type_names)
        ]
        found = self.db.global_reader().iter_from(start, stop, reverse=reverse, streams=names, types=kinds)
        self.check_all(found, wanted[::-1] if reverse else wanted)

    @rule(data=st.data(), name=SOME_NAME, stream_id=SOME_ID, reverse=st.booleans())
    def read_stream(self, data: st.DataObject, name: str, stream_id: Any, reverse: bool) -> None:
        """A stream: length, single events, any range."""
        sequences = self.model.stream(name, stream_id)
        reader = self.streams[name].reader()
        assert reader.length(stream_id) == len(sequences)
        assert reader.get(stream_id, len(sequences)) is None
        if sequences:
            at = data.draw(st.integers(0, len(sequences) - 1))
            assert reader.get(stream_id, at) == self.model.log[sequences[at]].event
            self.check(reader.get_recorded(stream_id, at), sequences[at])
        start = data.draw(st.integers(0, len(sequences) + 2))
        stop = data.draw(st.none() | st.integers(0, len(sequences) + 2))
        wanted = sequences[start:stop]
        self.check_all(reader.iter_stream(stream_id, start, stop, reverse=reverse), wanted[::-1] if reverse else wanted)

    @rule(data=st.data(), name=SOME_NAME, reverse=st.booleans())
    def read_name(self, data: st.DataObject, name: str, reverse: bool) -> None:
        """Every stream of a name, by global range, and its ids."""
        end = len(self.model.log)
        start, stop = data.draw(st.integers(0, end + 2)), data.draw(st.none() | st.integers(0, end + 2))
        reader = self.streams[name].reader()
        wanted = [g for g in range(end)[start:stop] if self.model.log[g].name == name]
        self.check_all(reader.iter_all(start, stop, reverse=reverse), wanted[::-1] if reverse else wanted)
        self.check_ids(reader, name, end)

    def check_ids(self, reader: varve.StreamReader[Any], name: str, at: int) -> None:
        ids = {(type(e.stream_id).__name__, e.stream_id) for e in self.model.log[:at] if e.name == name}
        order = {"int": 0, "str": 1, "UUID": 2}
        wanted = sorted(ids, key=lambda one: (order[one[0]], one[1].encode() if one[0] == "str" else one[1]))
        assert [(type(i).__name__, i) for i in reader.stream_ids()] == wanted

    @rule(data=st.data(), name=SOME_NAME, stream_id=SOME_ID)
    def snapshot(self, data: st.DataObject, name: str, stream_id: Any) -> None:
        """A snapshot of now or of an earlier sequence is that prefix, also while others append."""
        end = len(self.model.log)
        at = data.draw(st.none() | st.integers(0, end))
        with self.db.snapshot(at) as snap:
            self.append(name, stream_id, 5, None, exact=False)
            prefix = end if at is None else at
            assert snap.next_global_sequence == prefix
            reader = snap.reader(self.streams[name])
            sequences = self.model.stream(name, stream_id, prefix)
            assert reader.length(stream_id) == len(sequences)
            self.check_all(reader.iter_stream(stream_id), sequences)
            self.check_all(reader.iter_stream(stream_id, reverse=True), sequences[::-1])
            self.check_all(reader.iter_all(), [g for g in range(prefix) if self.model.log[g].name == name])
            self.check_ids(reader, name, prefix)
            low = max(0, prefix - 50)
            self.check_all(snap.global_reader().iter_from(low), list(range(low, prefix)))
            assert snap.global_reader().get(prefix) is None

    @precondition(lambda self: self.model.log)
    @rule(data=st.data())
    def find_time(self, data: st.DataObject) -> None:
        """``sequence_at`` is the first event at or after an instant."""
        entry = self.model.log[data.draw(st.integers(0, len(self.model.log) - 1))]
        off_us = data.draw(st.sampled_from([-1, 0, 1]))
        recorded = next(self.db.global_reader().iter_from(len(self.model.log) - 1))
        when = recorded.recorded_at + (entry.time_ns // 1000 - recorded.time_ns // 1000 + off_us) * US
        wanted_ns = (entry.time_ns // 1000 + off_us) * 1000
        first = next((g for g, e in enumerate(self.model.log) if e.time_ns >= wanted_ns), len(self.model.log))
        assert self.db.sequence_at(when) == first

    # -- life ----------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0000005, 0.001, 60.0, -30.0]))
    def clock_moves(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(durability=st.sampled_from(["bulk", "relaxed"]))
    def reopen(self, durability: str) -> None:
        self.db.close()
        self.open(durability)

    @rule()
    def rebuild(self) -> None:
        """Go on with the store that ``varve.ops.rebuild`` makes from the log alone."""
        self.db.close()
        old = self.path
        self.generation += 1
        report = ops.repair(old, self.path)
        assert report.events == len(self.model.log)
        shutil.rmtree(old)
        self.open()

    @invariant()
    def ends_agree(self) -> None:
        """After every step the store ends where the model does, with the same last event."""
        end = len(self.model.log)
        assert self.db.next_global_sequence == end
        if end:
            self.check(self.db.global_reader().get(end - 1), end - 1)

    def teardown(self) -> None:
        try:
            self.check_all(self.db.global_reader().iter_from(0), list(range(len(self.model.log))))
            raws = self.db.global_reader().iter_bytes(0)
            assert sum(1 for _ in raws) == len(self.model.log)
            del raws
            self.db.close()
            report = ops.verify(self.path)
            assert report.sound, report.findings
        finally:
            self.db.__exit__()
            shutil.rmtree(self.folder)


US = timedelta(microseconds=1)

SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_the_store_behaves_as_the_model() -> None:
    """Whatever a user does, the store reads as a plain list of events would."""
    run_state_machine_as_test(StoreMachine, settings=SETTINGS)


def broken_merge(runs: list[tuple[int, int]], gained: Any) -> None:
    """Merges runs that are not adjacent."""
    for first, count in gained:
        if runs and runs[-1][0] + runs[-1][1] <= first <= runs[-1][0] + runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], runs[-1][1] + count)
        else:
            runs.append((first, count))


def broken_append_one(position: int, entry: bytes, sequence: int, _next_position: int) -> tuple[int, bytes]:
    """The same mistake on the short way of single appends."""
    runs = decode_runs(entry)
    broken_merge(runs, ((sequence, 1),))
    return position, b"".join(encode_runs([run]) for run in runs)


@pytest.mark.parametrize("broken", ["runs merge wrongly", "a past snapshot shows one event more"])
def test_the_machine_notices_a_broken_store(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine can fail: with the code broken on purpose it finds an example within its budget."""
    if broken == "runs merge wrongly":
        for place in ("commit", "put"):
            monkeypatch.setattr(f"varve.engine.{place}.append_runs", broken_merge)
        monkeypatch.setattr("varve.engine.single.append_one", broken_append_one)
    else:
        whole = EngineSnapshot.next_sequence.fget
        shown = property(lambda self: whole(self) + (self.limit is not None and self.limit < self.record.next_sequence))
        monkeypatch.setattr(EngineSnapshot, "next_sequence", shown)
    budget = settings(SETTINGS, max_examples=60, phases=[Phase.generate], print_blob=False)
    with pytest.raises((AssertionError, varve.VarveError, hypothesis.errors.Flaky, ExceptionGroup)):
        run_state_machine_as_test(StoreMachine, settings=budget)

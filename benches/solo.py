"""Varve's calls by themselves, without a rival: for pytest-benchmark (``python -m pytest benches``) and for the tests.

pytest-benchmark cannot take turns between two sides, so nothing here is a ratio; it is for watching one machine over time
(``--benchmark-autosave``, ``--benchmark-compare``). Every call has a checksum that is worked out from the events themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import varve
from benches.append.matrix import BATCHES, DURABILITIES, copy_store, prepared, round_events
from benches.codec.shapes import FLAT, NESTED, OPTIONALS, Shape
from benches.codec.shapes import checksum as values_checksum
from benches.events import checksum, encoded, kinds, orders
from benches.pairs import Side
from benches.replay.logs import count_of, read_amounts, reading
from benches.tail.cases import amounts_of_tail
from benches.workspace import BATCH_EVENTS, Workspace
from varve.codec import event_type


@dataclass(frozen=True, slots=True)
class Solo:
    """A call to time: its group, its name, and what makes it ready."""

    group: str
    name: str
    durability: str
    prepare: Callable[[Workspace], tuple[Side, object, int]]
    """The side, the checksum that it must give, and how many events a round handles."""

    @property
    def identity(self) -> str:
        """A name for a list of tests, with the durability in it."""
        return f"{self.group}-{self.name}-{self.durability}".replace(" ", "-").replace(",", "")


def _append(kind_name: str, batch: int, durability: varve.Durability, work: Workspace) -> tuple[Side, object, int]:
    kind = kinds()[kind_name]
    count = round_events(work, kind, batch)
    events, payloads = prepared(kind, count)

    @contextlib.contextmanager
    def setup() -> Iterator[Any]:
        with work.fresh() as path, varve.open(path, durability=durability) as db:
            yield db, db.stream("events", kind.types)

    def run(state: Any) -> None:
        stream = state[1]
        for start in range(0, count, batch):
            if batch == 1:
                stream.append(0, events[start])
            else:
                stream.append_batch(0, events[start : start + batch])

    side = Side("append", run, lambda state, _: checksum(state[0].global_reader().iter_bytes()), setup)
    return side, checksum(payloads), count


def _append_streams(work: Workspace, *, many: bool) -> tuple[Side, object, int]:
    """Batches of 1,000 for 1,000 interleaved streams, or for a store with many more."""
    count = max(work.size.events // 10, 1)
    streams = work.size.many_streams if many else work.streams
    events = orders(work.size.events)[:count]
    items = [(number * 7_919 % streams, event) for number, event in enumerate(events)]

    @contextlib.contextmanager
    def setup() -> Iterator[Any]:
        with work.fresh() as path:
            if many:
                copy_store(work.many_streams(), path)
            with varve.open(path) as db:
                yield db, db.stream("orders", type(events[0]))

    def run(state: Any) -> int:
        for start in range(0, count, BATCH_EVENTS):
            state[1].append_many(items[start : start + BATCH_EVENTS])
        return count

    def written(state: Any, done: int) -> object:
        db = state[0]
        return checksum(db.global_reader().iter_bytes(db.next_global_sequence - done))

    return Side("append_many", run, written, setup), checksum(encoded(work.size.events)[:count]), count


def _kept(path: Callable[[], Path]) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return lambda: reading(path())


def _amounts(work: Workspace) -> tuple[int, int]:
    events = orders(work.size.events)
    return len(events), sum(event.amount for event in events)


def _replay(work: Workspace, *, tail: bool = False) -> tuple[Side, object, int]:
    def run(state: Any) -> tuple[int, int]:
        if tail:
            return asyncio.run(amounts_of_tail(state[0].tail(), work.size.events))
        return read_amounts(state[0].global_reader().iter_from())

    return Side("replay", run, lambda _, found: found, _kept(work.batched)), _amounts(work), work.size.events


def _replay_raw(work: Workspace) -> tuple[Side, object, int]:
    side = Side(
        "iter_bytes",
        lambda state: count_of(state[0].global_reader().iter_bytes()),
        lambda state, _: checksum(state[0].global_reader().iter_bytes()),
        _kept(work.batched),
    )
    return side, checksum(encoded(work.size.events)), work.size.events


def _streams(work: Workspace) -> tuple[Side, object, int]:
    """Every stream of the store whose streams lie interleaved, one after the other."""

    def run(state: Any) -> tuple[int, int]:
        reader = state[1].reader()
        parts = [read_amounts(reader.iter_stream(number)) for number in range(work.streams)]
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    return (
        Side("iter_stream", run, lambda _, found: found, _kept(work.single_streams)),
        _amounts(work),
        work.size.events,
    )


def _get(work: Workspace) -> tuple[Side, object, int]:
    share = work.size.events // work.streams
    count = share * work.streams
    numbers = [number * 7_919 % count for number in range(work.size.gets)]
    places = [divmod(number, share) for number in numbers]

    def run(state: Any) -> list[Any]:
        find = state[1].reader().get
        return [find(*place) for place in places]

    events = orders(work.size.events)
    side = Side("get", run, lambda _, found: sum(event.amount for event in found), _kept(work.batched_streams))
    return side, sum(events[number].amount for number in numbers), len(numbers)


def _open(work: Workspace) -> tuple[Side, object, int]:
    count = work.size.stores[-1]

    @contextlib.contextmanager
    def setup() -> Iterator[Path]:
        yield work.of_size(count)

    def run(path: Path) -> int:
        with varve.open(path) as db:
            return db.next_global_sequence

    return Side("open", run, lambda _, head: head, setup), count, 1


def _encode(shape: Shape, work: Workspace) -> tuple[Side, object, int]:
    events, compiled = shape.events(max(work.size.events // 50, 200)), event_type(shape.cls)

    def decoded(_: Any, buffers: list[Any]) -> object:
        return values_checksum(shape.values(compiled.view(bytes(buffer))) for buffer in buffers)

    side = Side("pack_all", lambda _: compiled.pack_all(events), decoded)
    return side, values_checksum(map(shape.values, events)), len(events)


def _read(shape: Shape, work: Workspace) -> tuple[Side, object, int]:
    events, compiled = shape.events(max(work.size.events // 50, 200)), event_type(shape.cls)
    buffers = compiled.pack_all(events)
    side = Side(
        "view",
        lambda _: [shape.values(compiled.view(buffer)) for buffer in buffers],
        lambda _, all_: values_checksum(all_),
    )
    return side, values_checksum(map(shape.values, events)), len(events)


SOLOS: tuple[Solo, ...] = (
    *(
        Solo("append", f"{kind}, batches of {batch:,}", durability, partial(_append, kind, batch, durability))
        for kind in ("24 bytes", "240 bytes", "1,000 bytes", "flights")
        for batch in BATCHES
        for durability in DURABILITIES
    ),
    Solo("append", "1,000 interleaved streams", "full", partial(_append_streams, many=False)),
    Solo("append", "1,000,000 streams", "full", partial(_append_streams, many=True)),
    Solo("read", "random gets", "none", _get),
    Solo("read", "interleaved streams", "none", _streams),
    Solo("replay", "typed, one field", "none", _replay),
    Solo("replay", "raw", "none", _replay_raw),
    Solo("tail", "catch up", "none", partial(_replay, tail=True)),
    Solo("open", "the largest store", "full", _open),
    *(Solo("codec", f"encode {shape.name}", "none", partial(_encode, shape)) for shape in (FLAT, NESTED, OPTIONALS)),
    *(Solo("codec", f"read {shape.name}", "none", partial(_read, shape)) for shape in (FLAT, NESTED, OPTIONALS)),
)
"""Everything that is timed by itself."""

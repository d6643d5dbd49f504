"""Whatever a store holds, ``columns`` says of it what the iterators say."""

from __future__ import annotations

import tempfile
from functools import reduce
from operator import or_
from typing import Any

import pytest
from column_models import BESIDE, as_arrow, by_batches, by_columns, by_iterator, families, sliced
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import varve
from varve.columns import frames, read, walk
from varve.columns.chunks import Bound

IDS = (1, 2, "one", 3)


def union_of(classes: list[Any]) -> Any:
    return reduce(or_, classes)


def write(draw: st.DrawFn, stream: Any, events: st.SearchStrategy[Any]) -> None:
    """Some appends of every sort."""
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["single", "batch", "many", "metadata"])):
            case "single":
                stream.append(draw(st.sampled_from(IDS)), draw(events))
            case "batch":
                stream.append_batch(draw(st.sampled_from(IDS)), draw(st.lists(events, max_size=12)))
            case "many":
                stream.append_many(draw(st.lists(st.tuples(st.sampled_from(IDS), events), max_size=12)))
            case _:
                stream.append(1, draw(events), metadata={"a": 1})


def fit_for_arrow(reader: Any, names: list[str]) -> list[str]:
    """The columns that Arrow has a type for: no unions, and ids of one kind."""
    refused = {}
    for name in names:
        try:
            reader.to_arrow([name])
        except varve.ColumnConflict as error:
            refused[name] = str(error)
    assert all(name == "$stream_id" or "union" in why for name, why in refused.items())
    return [name for name in names if name not in refused]


def compared(reader: Any, paths: list[str], length: int) -> None:
    """Every slice of everything, and of every stream."""
    names = [*paths, *BESIDE]
    fitting = fit_for_arrow(reader, names)
    for start, stop in sliced(length):
        assert by_columns(reader.columns(names, start=start, stop=stop)) == by_iterator(
            reader.iter_all(start, stop), names
        )
        few = [*paths, "$global_sequence", "$stream_sequence"]  # without commits, what is noted of blocks is used
        for _ in range(2):
            assert by_columns(reader.columns(few, start=start, stop=stop)) == by_iterator(
                reader.iter_all(start, stop), few
            )
        batches = reader.to_arrow(fitting, start=start, stop=stop, batch_size=5)
        assert by_batches(batches, fitting) == as_arrow(reader.iter_all(start, stop), fitting)
        for stream_id in (*IDS, "nobody"):
            assert by_columns(reader.columns(names, stream_id, start, stop)) == by_iterator(
                reader.iter_stream(stream_id, start, stop), names
            )


@given(st.data(), st.sampled_from([read.CHUNK, Bound(7, 256), Bound(1, 1 << 20)]), st.sampled_from([480, 1_200, 0]))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_classes_versions_and_histories(data: st.DataObject, bound: Bound, block_bytes: int) -> None:
    """Classes of every kind of field, older versions of them, several in a stream, streams interleaved, every slice."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(read, "CHUNK", bound)
        patch.setattr(read, "FIRST_ROWS", 3)  # arrays grow, and are cut
        if block_bytes:  # short blocks, and whole ones taken together wherever that can be
            patch.setattr(walk, "FRAMES_EVENTS_MIN", 1)
            patch.setattr(frames, "SAME_MIN", 1)
            patch.setattr(frames, "NOTED_MIN", 1)
            patch.setattr(varve.limits, "BLOCK_BYTES_MAX", block_bytes)
            patch.setattr(varve.limits, "TAIL_BLOCK_BYTES_MAX", block_bytes)
        family = data.draw(families())
        with varve.open(f"{folder}/store", durability="relaxed") as db:
            stream = db.stream("orders", union_of([one.old for one in family]))
            write(data.draw, stream, st.one_of(*(one.old_events for one in family)))
        with varve.open(f"{folder}/store", durability="relaxed") as db:
            stream = db.stream("orders", union_of([one.new for one in family]))
            other = db.stream("others", family[0].new)
            for _ in range(data.draw(st.integers(1, 3))):
                write(data.draw, stream, st.one_of(*(one.new_events for one in family)))
                write(data.draw, other, family[0].new_events)
            paths = sorted({path for one in family for path in one.paths})
            length = db.next_global_sequence
            compared(stream.reader(), paths, length)
            with db.snapshot() as now, db.snapshot(at=length // 2) as then:
                write(data.draw, stream, st.one_of(*(one.new_events for one in family)))
                compared(now.reader(stream), paths, length)
                compared(then.reader(stream), paths, length)

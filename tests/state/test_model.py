"""State, checks and optimistic transactions against dicts: any mixture comes to what a dict would."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from state_models import Moved

import varve
from varve import ops

KEYS = st.one_of(st.sampled_from(["a", "ab", "b"]), st.integers(-1, 1), st.tuples(st.just("t"), st.integers(0, 2)))
VALUES = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.just(bytes(200)))
STREAMS = st.integers(1, 2)


def order(key: Any) -> tuple[int, Any]:
    """Ints, strs, tuples."""
    return (int, str, tuple).index(type(key)), key


class Machine(RuleBasedStateMachine):
    """A store, a dict, and one transaction that is open while others commit."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="varve-state-"))
        self.db = varve.open(self.path / "store", durability="relaxed")
        self.moved = self.db.stream("moved", Moved)
        self.state: dict[Any, Any] = {}
        self.lengths = {1: 0, 2: 0}
        self.tx: varve.Transaction | None = None

    def teardown(self) -> None:
        if self.tx is not None:
            self.tx.rollback()
        self.db.close()
        assert ops.verify(self.path / "store").sound
        shutil.rmtree(self.path)

    # -- by themselves -------------------------------------------------------------------------

    @rule(key=KEYS, value=VALUES)
    def put(self, key: Any, value: Any) -> None:
        self.db.state.put(key, value)
        self.state[key] = value

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        assert self.db.state.delete(key) == (key in self.state)
        self.state.pop(key, None)

    @rule(key=KEYS, n=st.integers(-9, 9), clamp=st.booleans())
    def add(self, key: Any, n: int, clamp: bool) -> None:
        before = self.state.get(key, 0)
        try:
            after = self.db.state.add(key, n, min=-5, max=5, clamp=clamp)
        except varve.StateTypeMismatch:
            assert type(before) is not int
        except varve.NumberOutOfRange:
            assert not clamp
            assert not -5 <= before + n <= 5
        else:
            assert after == max(-5, min(5, before + n))
            self.state[key] = after

    @rule(stream=STREAMS)
    def append(self, stream: int) -> None:
        self.moved.append(stream, Moved(1))
        self.lengths[stream] += 1

    # -- in one go -----------------------------------------------------------------------------

    @rule(data=st.data(), way=st.sampled_from(["transaction", "write", "optimistic"]), fails=st.booleans())
    def several(self, data: st.DataObject, way: str, fails: bool) -> None:
        """Changes, reads and checks in a transaction of whichever kind; nobody comes between."""
        steps = data.draw(
            st.lists(
                st.tuples(st.sampled_from(["put", "delete", "add", "get", "scan", "append"]), KEYS, STREAMS), max_size=6
            )
        )
        version = data.draw(STREAMS)
        model, lengths = dict(self.state), dict(self.lengths)

        def fn(tx: varve.Transaction) -> None:
            model.clear()
            model.update(self.state)
            lengths.update(self.lengths)
            tx.require_version(self.moved, version, self.lengths[version] + fails)
            for step, key, stream in steps:
                self.step(tx, step, key, stream, model, lengths)
            tx.ensure(lambda state: dict(state.range()) == model)

        try:
            if way == "transaction":
                with self.db.transaction() as tx:
                    fn(tx)
            elif way == "write":
                self.db.write(fn)
            else:
                self.db.optimistic(fn)
        except varve.CheckFailed:
            assert fails
        else:
            assert not fails
            self.state, self.lengths = model, lengths

    def step(
        self, tx: varve.Transaction, step: str, key: Any, stream: int, model: dict[Any, Any], lengths: dict[int, int]
    ) -> None:
        if step == "put":
            tx.state.put(key, stream)
            model[key] = stream
        elif step == "delete":
            tx.state.delete(key)
            model.pop(key, None)
        elif step == "add":
            if type(model.get(key, 0)) is int:
                tx.state.add(key, stream)
                model[key] = model.get(key, 0) + stream
        elif step == "get":
            assert tx.state.get_opt(key) == model.get(key)
        elif step == "scan":
            assert dict(tx.state.range()) == model
        else:
            tx.append(self.moved, stream, Moved(1))
            lengths[stream] += 1
            assert tx.length(self.moved, stream) == lengths[stream]

    # -- while others commit -------------------------------------------------------------------

    @precondition(lambda self: self.tx is None)
    @rule()
    def begin(self) -> None:
        self.tx = self.db.transaction()
        self.reads: dict[Any, Any] = {}
        self.ranges: list[tuple[bool, list[Any]]] = []
        self.stream_reads: dict[int, int] = {}
        self.instant: tuple[dict[Any, Any], dict[int, int]] | None = None

    def at(self) -> tuple[dict[Any, Any], dict[int, int]]:
        """What the transaction sees: as it was at its first read."""
        if self.instant is None:
            self.instant = dict(self.state), dict(self.lengths)
        return self.instant

    @precondition(lambda self: self.tx is not None)
    @rule(key=KEYS)
    def read_key(self, key: Any) -> None:
        assert self.tx is not None
        value = self.at()[0].get(key)
        assert self.tx.state.get_opt(key) == value
        self.reads[key] = value

    @precondition(lambda self: self.tx is not None)
    @rule(reverse=st.booleans(), count=st.integers(0, 4))
    def read_range(self, reverse: bool, count: int) -> None:
        assert self.tx is not None
        items = sorted(self.at()[0].items(), key=lambda item: order(item[0]), reverse=reverse)
        assert list(self.tx.state.range(reverse=reverse, limit=count)) == items[:count]
        self.ranges.append((reverse, items[:count]))

    @precondition(lambda self: self.tx is not None)
    @rule(stream=STREAMS)
    def read_stream(self, stream: int) -> None:
        assert self.tx is not None
        self.stream_reads[stream] = self.at()[1][stream]
        assert self.tx.length(self.moved, stream) == self.stream_reads[stream]

    @precondition(lambda self: self.tx is not None)
    @rule(key=KEYS, value=VALUES)
    def commit(self, key: Any, value: Any) -> None:
        """It commits exactly if what it has read is as it was."""
        assert self.tx is not None
        tx, self.tx = self.tx, None
        holds = (
            all(
                self.state.get(one) == read and (read is not None) == (one in self.state)
                for one, read in self.reads.items()
            )
            and all(self.lengths[stream] == length for stream, length in self.stream_reads.items())
            and all(
                sorted(self.state.items(), key=lambda item: order(item[0]), reverse=reverse)[: len(items)] == items
                for reverse, items in self.ranges
            )
        )
        tx.state.put(key, value)
        tx.append(self.moved, 1, Moved(1))
        try:
            tx.commit()
        except varve.TransactionConflict:
            # A range that was read may reach one key further than what was taken of it.
            assert not holds or self.ranges
        else:
            assert holds
            self.state[key] = value
            self.lengths[1] += 1

    # -- always --------------------------------------------------------------------------------

    @rule()
    def open_again(self) -> None:
        if self.tx is not None:
            self.tx.rollback()
            self.tx = None
        self.db.close()
        self.db = varve.open(self.path / "store", durability="relaxed")
        self.moved = self.db.stream("moved", Moved)

    @invariant()
    def everything_is_there(self) -> None:
        items = sorted(self.state.items(), key=lambda item: order(item[0]))
        assert list(self.db.state.range()) == items
        assert list(self.db.state.range(reverse=True)) == items[::-1]
        assert list(self.db.state.scan_prefix("a")) == [
            item for item in items if isinstance(item[0], str) and item[0].startswith("a")
        ]
        assert list(self.db.state.scan_prefix(("t",))) == [item for item in items if isinstance(item[0], tuple)]
        reader = self.moved.reader()
        assert {stream: reader.length(stream) for stream in self.lengths} == self.lengths


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

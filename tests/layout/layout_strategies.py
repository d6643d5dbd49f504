"""What the layout tests draw: blocks as a plan of steps, built by the draft under test."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from varve.layout.draft import BlockDraft

events = st.lists(
    st.integers(1, 5).flatmap(lambda words: st.binary(min_size=8 * words, max_size=8 * words)), min_size=1, max_size=4
)


class Add(NamedTuple):
    stream: int
    type: int
    bufs: list[bytes]
    metadata: bytes | None


class Commit(NamedTuple):
    time_ns: int
    key: tuple[bytes, bytes] | None
    adds: list[Add]


adds = st.builds(Add, st.integers(0, 3), st.integers(0, 2), events, st.none() | st.sampled_from((b"{}", b'{"a":1}')))
commits = st.builds(
    Commit,
    st.integers(0, 2**62),
    st.none() | st.tuples(st.binary(min_size=2, max_size=20), st.binary(min_size=16, max_size=16)),
    st.lists(adds, min_size=1, max_size=4),
)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


class Plan(NamedTuple):
    first: int
    commits: list[Commit]
    names: list[str]
    types: list[tuple[str, bytes]]
    streams: list[bytes]
    store: tuple[bytes, int] | None

    def draft(self) -> BlockDraft:
        """The block, filled step by step; its size bound is checked at each."""
        draft = BlockDraft(self.first, self.first)
        lengths: dict[int, int] = {}
        for index, commit in enumerate(self.commits):
            draft.begin_commit(commit.time_ns)
            if index == 0:
                self._declare(draft)
            if commit.key is not None:
                draft.add_key(*commit.key)
            for add in commit.adds:
                if add.metadata is not None:
                    draft.add_metadata(len(add.bufs), add.metadata)
                draft.add(add.stream, add.type, lengths.get(add.stream, 0), add.bufs)
                lengths[add.stream] = lengths.get(add.stream, 0) + len(add.bufs)
        return draft

    def _declare(self, draft: BlockDraft) -> None:
        if self.store is not None:
            draft.declare_store(*self.store)
        for number, name in enumerate(self.names):
            draft.declare_name(number, name)
        for number, (name, schema) in enumerate(self.types):
            draft.declare_type(number, name, schema)
        for number, id_key in enumerate(self.streams):
            draft.declare_stream(number, 0, id_key)

    def flat(self) -> list[dict[str, Any]]:
        """What each event of the block must come back as."""
        found, lengths, sequence = [], {}, self.first
        for commit in self.commits:
            begun = sequence
            for add in commit.adds:
                for buffer in add.bufs:
                    at = lengths.get(add.stream, 0)
                    found.append(
                        {
                            "raw": buffer,
                            "stream": add.stream,
                            "type": add.type,
                            "at": at,
                            "commit": begun,
                            "time_ns": commit.time_ns,
                            "metadata": add.metadata,
                        }
                    )
                    lengths[add.stream] = at + 1
                    sequence += 1
        return found


hot_plans = st.builds(
    Plan,
    st.integers(0, 2**40),
    st.lists(
        commits.map(lambda c: Commit(c.time_ns, None, [add._replace(metadata=None) for add in c.adds])),
        min_size=1,
        max_size=4,
    ),
    st.just([]),
    st.just([]),
    st.just([]),
    st.none(),
)
full_plans = st.builds(
    Plan,
    st.integers(0, 2**40),
    st.lists(commits, min_size=1, max_size=4),
    st.lists(texts, max_size=3),
    st.lists(st.tuples(texts, st.binary(min_size=1, max_size=50)), max_size=3),
    st.lists(st.binary(min_size=1, max_size=30), max_size=4),
    st.none() | st.tuples(st.binary(min_size=16, max_size=16), st.integers(1, 2**62)),
)
plans = hot_plans | full_plans

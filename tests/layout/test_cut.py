"""Parts of blocks, and digests that do not depend on how the log was laid into blocks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.layout import keys
from varve.layout.block import Block
from varve.layout.content import ContentDigest
from varve.layout.cut import cut
from varve.layout.derive import Derivation
from varve.layout.draft import BlockDraft

UUID = bytes(range(16))


class Event(NamedTuple):
    stream: int
    type: int
    size: int
    metadata: bytes | None


Commit = tuple[list[Event], bool]
"""Events, and whether it has an idempotency key."""

EVENTS = st.builds(
    Event, st.integers(0, 4), st.integers(0, 2), st.integers(1, 3), st.sampled_from((None, b'{"a":1}', b'{"b":2}'))
)
HISTORIES = st.lists(st.tuples(st.lists(EVENTS, min_size=1, max_size=5), st.booleans()), min_size=1, max_size=6)


def laid(history: Sequence[Commit], cuts: set[int]) -> list[bytes]:
    """A history as frames; a new block begins at each of the sequences ``cuts``. Streams and types get numbers at first use."""
    frames: list[bytes] = []
    streams: dict[int, int] = {}
    types: dict[int, int] = {}
    names: dict[int, int] = {}
    lengths: dict[int, int] = {}
    draft: BlockDraft | None = None
    sequence = 0
    for number, (events, has_key) in enumerate(history):
        first = sequence
        for index, one in enumerate(events):
            if draft is None or sequence in cuts:
                if draft is not None:
                    frames.append(draft.encode())
                draft = BlockDraft(sequence, first)
                if not sequence:
                    draft.declare_store(UUID, 5)
                draft.begin_commit(1_000 + number)
            elif not index:
                draft.begin_commit(1_000 + number)
            if not index and has_key:
                draft.add_key(b"\x01key%d" % number, bytes([number]) * 16)
            if one.stream not in streams:
                name = one.stream % 2
                if name not in names:
                    names[name] = len(names)
                    draft.declare_name(names[name], f"name{name}")
                streams[one.stream] = len(streams)
                draft.declare_stream(streams[one.stream], names[name], keys.encode_stream_id(one.stream))
            if one.type not in types:
                types[one.type] = len(types)
                draft.declare_type(types[one.type], f"type{one.type}", b"{}")
            if one.metadata is not None:
                draft.add_metadata(1, one.metadata)
            at = lengths.get(one.stream, 0)
            draft.add(streams[one.stream], types[one.type], at, [bytes([sequence % 251]) * 8 * one.size])
            lengths[one.stream] = at + 1
            sequence += 1
    assert draft is not None
    return [*frames, draft.encode()]


def blocks(frames: Sequence[bytes]) -> list[Block]:
    found = [Block(memoryview(frame)) for frame in frames]
    for block in found:
        block.check()
    return found


def digest(found: Sequence[Block], first: int = 0) -> str:
    content = ContentDigest(first)
    for block in found:
        content.feed(block)
    return content.hexdigest()


def derived(found: Sequence[Block]) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    derivation = Derivation()
    for block in found:
        derivation.feed(block)
    return list(derivation.index_pairs()), derivation.meta_pairs()


@given(HISTORIES, st.data())
def test_a_digest_does_not_depend_on_blocks(history: list[Commit], data: st.DataObject) -> None:
    """However the same commits lie in blocks, also across their boundaries."""
    count = sum(len(events) for events, _ in history)
    one, other = (data.draw(st.sets(st.integers(1, count - 1))) if count > 1 else set() for _ in range(2))
    assert digest(blocks(laid(history, one))) == digest(blocks(laid(history, other)))


@given(HISTORIES, st.data())
def test_parts_together_are_the_whole(history: list[Commit], data: st.DataObject) -> None:
    """One block cut anywhere, in three: same events, commits, metadata, keys, declarations, in an order that a log can have."""
    (whole,) = blocks(laid(history, set()))
    stops = sorted(data.draw(st.sets(st.integers(1, whole.count), max_size=2)) | {whole.count})
    starts = [0, *stops[:-1]]
    parts = blocks([cut(whole, start, stop) for start, stop in zip(starts, stops, strict=True)])
    assert [part.first for part in parts] == starts
    assert digest(parts) == digest([whole])
    assert derived(parts) == derived([whole])


@given(HISTORIES, st.data())
def test_a_part_is_what_would_have_been_written(history: list[Commit], data: st.DataObject) -> None:
    """What comes up to the end of a commit, byte for byte, as if nothing had ever come behind it; and what comes behind it."""
    (whole,) = blocks(laid(history, set()))
    commits = data.draw(st.integers(1, len(history)))
    stop = sum(len(events) for events, _ in history[:commits])
    assert [cut(whole, 0, stop)] == laid(history[:commits], set())
    if stop < whole.count:
        assert [cut(whole, 0, stop), cut(whole, stop, whole.count)] == laid(history, {stop})


EXAMPLE: list[Commit] = [
    ([Event(0, 0, 1, b"{}"), Event(0, 0, 2, b"{}"), Event(1, 1, 1, None)], True),
    ([Event(1, 0, 1, None)], False),
]


@pytest.mark.parametrize(
    "other",
    [
        [([Event(0, 0, 1, b"{}"), Event(0, 0, 2, b"{}"), Event(1, 1, 1, None), Event(1, 0, 1, None)], True)],
        [EXAMPLE[0], ([Event(1, 0, 2, None)], False)],
        [EXAMPLE[0], ([Event(0, 0, 1, None)], False)],
        [EXAMPLE[0], ([Event(1, 1, 1, None)], False)],
        [EXAMPLE[0], ([Event(1, 0, 1, b"{}")], False)],
        [EXAMPLE[0], ([Event(1, 0, 1, None)], True)],
        [(EXAMPLE[0][0], False), EXAMPLE[1]],
        EXAMPLE[:1],
        [([Event(0, 0, 2, b"{}"), Event(0, 0, 1, b"{}"), Event(1, 1, 1, None)], True), EXAMPLE[1]],
        [([Event(0, 0, 1, b"{}"), Event(0, 0, 2, b'{"b":2}'), Event(1, 1, 1, None)], True), EXAMPLE[1]],
        [([Event(2, 0, 1, b"{}"), Event(2, 0, 2, b"{}"), Event(1, 1, 1, None)], True), EXAMPLE[1]],
        [([Event(0, 2, 1, b"{}"), Event(0, 2, 2, b"{}"), Event(1, 1, 1, None)], True), EXAMPLE[1]],
    ],
)
def test_whatever_differs_has_another_digest(other: list[Commit]) -> None:
    """Boundaries of commits, lengths, streams, types, metadata, keys, ids, the end."""
    assert digest(blocks(laid(EXAMPLE, set()))) != digest(blocks(laid(other, set())))


def test_a_digest_is_of_its_stretch() -> None:
    """The same events elsewhere in a log are others; nothing at all has a digest, too."""
    assert ContentDigest(3).hexdigest() != ContentDigest().hexdigest()
    content = ContentDigest()
    for block in blocks(laid(EXAMPLE, {1, 2})):
        content.feed(block)
        assert content.hexdigest() == content.hexdigest()
    assert content.next_sequence == 4


def test_a_plain_block_is_cut_as_well() -> None:
    """One of events alone has no declarations to be shared out."""
    draft = BlockDraft(10, 8)
    draft.begin_commit(1)
    draft.add(0, 0, 3, [bytes(8), bytes(16)])
    draft.begin_commit(2)
    draft.add(1, 0, 0, [bytes(8)])
    block = Block(memoryview(draft.encode()))
    parts = [Block(memoryview(cut(block, start, start + 1))) for start in range(3)]
    assert [(part.first, part.commit_sequence, part.runs[0].first_stream_sequence) for part in parts] == [
        (10, 8, 3),
        (11, 8, 4),
        (12, 12, 0),
    ]
    assert digest(parts, 10) == digest([block], 10)


def test_numbers_are_found_under_their_keys() -> None:
    """As in the metadata, without making all of it."""
    derivation = Derivation()
    for block in blocks(laid(EXAMPLE, set())):
        derivation.feed(block)
    meta = dict(derivation.meta_pairs())
    for number in range(3):
        for key in (keys.name_key(number), keys.type_key(number), keys.stream_key(number)):
            assert derivation.find_numbered(key) == meta.get(key)


def test_random_histories_survive_a_cut_at_every_commit() -> None:
    """A longer one than hypothesis draws, all its commits; the seed is told."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    history = [
        (
            [
                Event(rng.randrange(40), rng.randrange(9), 1, rng.choice((None, b"{}")))
                for _ in range(rng.randint(1, 9))
            ],
            rng.random() < 0.3,
        )
        for _ in range(60)
    ]
    (whole,) = blocks(laid(history, set()))
    for stop in whole.commit_firsts()[1:]:
        parts = blocks([cut(whole, 0, stop), cut(whole, stop, whole.count)])
        assert derived(parts) == derived([whole]), f"seed {seed}"
        assert digest(parts) == digest([whole]), f"seed {seed}"

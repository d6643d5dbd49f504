"""Index runs, keys and records: pure functions, their order, their limits and their bytes."""

from __future__ import annotations

import enum
import random
import uuid
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_strategies import Add, Commit, Plan

import varve
from varve import limits
from varve.layout import keys, records
from varve.layout.block import Block
from varve.layout.derive import Derivation
from varve.layout.frame import MalformedBlock
from varve.layout.records import IdempotencyRecord, StoreRecord, TypeRecord
from varve.layout.runs import (
    RUN_EVENTS_MAX,
    Run,
    append_one,
    append_runs,
    decode_runs,
    encode_runs,
    find_in_runs,
    split_entries,
)

some = settings(max_examples=80, deadline=None)

# -- runs -------------------------------------------------------------------------------------------------------------

gaps_and_counts = st.lists(st.tuples(st.sampled_from((0, 0, 1, 5)), st.integers(1, 9)), max_size=150)


def as_runs(gaps: list[tuple[int, int]]) -> list[Run]:
    at, found = 0, []
    for gap, count in gaps:
        found.append((at + gap, count))
        at += gap + count
    return found


@some
@given(gaps_and_counts, st.randoms(use_true_random=False))
def test_runs_do_not_depend_on_how_they_were_cut(gaps: list[tuple[int, int]], rng: random.Random) -> None:
    """Appending runs whole, one event at a time or cut anywhere gives the same runs: neighbours merged, nothing
    else."""
    whole = as_runs(gaps)
    at_once: list[Run] = []
    append_runs(at_once, whole)
    by_one: list[Run] = []
    for first, count in whole:
        for at in range(first, first + count):
            append_runs(by_one, [(at, 1)])
    cut: list[Run] = []
    for first, count in whole:
        middle = rng.randrange(count + 1)
        append_runs(cut, [run for run in ((first, middle), (first + middle, count - middle)) if run[1]])
    assert at_once == by_one == cut
    assert all(a + n < b for (a, n), (b, _) in pairwise(at_once))
    assert sum(count for _, count in at_once) == sum(count for _, count in whole)


@some
@given(gaps_and_counts, st.randoms(use_true_random=False))
def test_entries_do_not_depend_on_when_they_were_written(gaps: list[tuple[int, int]], rng: random.Random) -> None:
    """Going on from the last entry alone, as a commit does, gives the entries of all runs at once: entry k holds runs
    32k .. 32k+31."""
    whole: list[Run] = []
    append_runs(whole, as_runs(gaps))
    entries: list[list[Run]] = []
    todo = as_runs(gaps)
    while todo:
        size = rng.randrange(1, 40)
        gained, todo = todo[:size], todo[size:]
        last = entries.pop() if entries else []
        append_runs(last, gained)
        entries += split_entries(last)
    assert entries == list(split_entries(whole))
    assert all(len(entry) == limits.RUNS_PER_INDEX_ENTRY_MAX for entry in entries[:-1])
    assert all(decode_runs(encode_runs(entry)) == entry for entry in entries)


def test_a_run_is_filled_up_to_its_limit() -> None:
    """A run holds at most RUN_EVENTS_MAX events, wherever the events that reach over it were cut."""
    wanted = [(10, RUN_EVENTS_MAX), (10 + RUN_EVENTS_MAX, 7)]
    for cuts in ([RUN_EVENTS_MAX + 7], [RUN_EVENTS_MAX, 7], [5, RUN_EVENTS_MAX + 2], [RUN_EVENTS_MAX - 1, 8]):
        runs: list[Run] = []
        at = 10
        for count in cuts:
            append_runs(runs, [(at, count)])
            at += count
        assert runs == wanted
        assert decode_runs(encode_runs(runs)) == wanted


@some
@given(gaps_and_counts)
def test_an_entry_finds_each_of_its_events(gaps: list[tuple[int, int]]) -> None:
    """Event by event, and nothing behind the last one."""
    runs = as_runs(gaps)[: limits.RUNS_PER_INDEX_ENTRY_MAX]
    value = encode_runs(runs)
    events = [sequence for first, count in runs for sequence in range(first, first + count)]
    assert [find_in_runs(value, index) for index in range(len(events))] == events
    assert find_in_runs(value, len(events)) is None
    assert find_in_runs(memoryview(value), len(events) + 1) is None


@some
@given(gaps_and_counts)
def test_events_appended_one_by_one_make_the_same_entries(gaps: list[tuple[int, int]]) -> None:
    """``append_one`` is ``append_runs`` for an event: the same runs, in entries that begin where the last one was full."""
    runs = as_runs(gaps)
    entries: dict[int, bytes] = {}
    position, entry, length = 0, b"", 0
    for first, count in runs:
        for sequence in range(first, first + count):
            position, entry = append_one(position, entry, sequence, length)
            entries[position] = entry
            length += 1
    merged: list[Run] = []
    append_runs(merged, runs)
    wanted, at = {}, 0
    for one in split_entries(merged):
        wanted[at] = encode_runs(one)
        at += sum(count for _, count in one)
    assert entries == wanted


def test_an_entry_that_is_full_is_followed_by_another() -> None:
    """Also where events come one by one: entry k holds runs 32k .. 32k+31."""
    size = limits.RUNS_PER_INDEX_ENTRY_MAX
    position, entry, entries = 0, b"", {}
    for index in range(2 * size + 1):
        position, entry = append_one(position, entry, 10 * index, index)
        entries[position] = decode_runs(entry)
    assert {at: len(runs) for at, runs in entries.items()} == {0: size, size: size, 2 * size: 1}
    assert entries[size][0] == (10 * size, 1)


def test_an_event_appended_to_a_full_run_opens_another() -> None:
    """A run of RUN_EVENTS_MAX is not made longer, as its count has 32 bits."""
    nearly = encode_runs([(10, RUN_EVENTS_MAX - 1)])
    position, full = append_one(3, nearly, 9 + RUN_EVENTS_MAX, 99)
    assert (position, decode_runs(full)) == (3, [(10, RUN_EVENTS_MAX)])
    position, entry = append_one(3, full, 10 + RUN_EVENTS_MAX, 99)
    assert (position, decode_runs(entry)) == (3, [(10, RUN_EVENTS_MAX), (10 + RUN_EVENTS_MAX, 1)])


# -- keys --------------------------------------------------------------------------------------------------------------

ids = st.integers(0, 2**64 - 1) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=60) | st.uuids()


@some
@given(st.lists(ids, min_size=1, max_size=8))
def test_stream_ids_round_trip_in_order(values: list[keys.StreamId]) -> None:
    """Every id comes back as itself; ids of different kinds never collide, and within a kind the keys sort as the
    values do."""
    encoded = [keys.encode_stream_id(value) for value in values]
    assert [keys.decode_stream_id(one) for one in encoded] == values
    assert [keys.decode_stream_id(memoryview(one)) for one in encoded] == values
    assert len(set(encoded)) == len({(type(value), value) for value in values})

    def order(value: keys.StreamId) -> tuple[int, object]:
        if isinstance(value, int):
            return 1, value
        return (2, value.encode()) if isinstance(value, str) else (3, value.bytes)

    assert sorted(encoded) == [keys.encode_stream_id(value) for value in sorted(values, key=order)]


class Number(enum.IntEnum):
    TWO = 2


class Name(str, enum.Enum):  # noqa: UP042 - its str() is not its text, which is the point
    RED = "red"


def test_ids_of_derived_classes_are_their_values() -> None:
    """A member of an enum, or of a subclass of int, str or UUID, means the plain value."""

    class Id(uuid.UUID):
        pass

    assert keys.encode_stream_id(Number.TWO) == keys.encode_stream_id(2)
    assert keys.encode_stream_id(Name.RED) == keys.encode_stream_id("red")
    assert keys.encode_stream_id(Id(int=5)) == keys.encode_stream_id(uuid.UUID(int=5))
    assert keys.encode_idempotency_key(Name.RED) == keys.encode_idempotency_key("red")
    assert keys.check_name(Name.RED) == "red"
    assert type(keys.check_name(Name.RED)) is str


@pytest.mark.parametrize("value", [-1, 2**64, True, False, "", "é" * 128, "x" * 256, "\ud800", 1.0, None, b"x", (1,)])
def test_refused_stream_ids(value: object) -> None:
    """Out of range, empty, too long, not UTF-8 and of other types: InvalidStreamId, a ValueError."""
    with pytest.raises(varve.InvalidStreamId) as refused:
        keys.encode_stream_id(value)  # type: ignore[arg-type]
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("value", ["", "é" * 128, "x" * 256, "\ud800", 1, None, b"x"])
def test_refused_names(value: object) -> None:
    """Empty, too long, not UTF-8, no str: InvalidName."""
    with pytest.raises(varve.InvalidName):
        keys.check_name(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", b"", "x" * 256, b"x" * 256, "\ud800", 1, None, True, []])
def test_refused_idempotency_keys(value: object) -> None:
    """Empty, too long, not UTF-8, of other types: InvalidIdempotencyKey."""
    with pytest.raises(varve.InvalidIdempotencyKey):
        keys.encode_idempotency_key(value)  # type: ignore[arg-type]


def test_the_longest_of_everything_fits_lmdb() -> None:
    """The longest name, id and key make keys that LMDB takes (511 bytes), and are accepted."""
    longest = "é" * 127 + "x"
    assert keys.check_name(longest) == longest
    assert keys.decode_stream_id(keys.encode_stream_id(longest)) == longest
    assert len(keys.stream_lookup_key(limits.NAMES_MAX, keys.encode_stream_id(longest))) <= 511
    assert len(keys.name_lookup_key(longest)) <= 511
    for token in (longest, bytes(255), uuid.UUID(int=1)):
        assert len(keys.idempotency_key(keys.encode_idempotency_key(token))) <= 511


def test_idempotency_keys_of_different_kinds_differ() -> None:
    """A str, the same bytes and the same UUID are three keys."""
    value = uuid.UUID(int=0x6162636465666768696A6B6C6D6E6F70)
    assert len({keys.encode_idempotency_key(one) for one in (value, value.bytes, value.bytes.decode())}) == 3
    assert keys.encode_idempotency_key(bytearray(b"k")) == keys.encode_idempotency_key(b"k")


@pytest.mark.parametrize("raw", [b"\x01short", b"\x03" + bytes(15), b"\x09unknown", b"\x02\xff", b"\x09" + bytes(16)])
def test_an_unknown_id_key_is_a_value_error(raw: bytes) -> None:
    """What no encoder of ours wrote raises ValueError."""
    with pytest.raises(ValueError):
        keys.decode_stream_id(raw)


@some
@given(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)),
)
def test_index_keys_sort_by_number_and_position(one: tuple[int, int], other: tuple[int, int]) -> None:
    """LMDB's byte order is the numeric order, of streams before names; the position is read back."""
    assert (keys.stream_entry_key(*one) < keys.stream_entry_key(*other)) == (one < other)
    names = (one[0] % 2**16, one[1]), (other[0] % 2**16, other[1])
    assert (keys.name_entry_key(*names[0]) < keys.name_entry_key(*names[1])) == (names[0] < names[1])
    assert keys.stream_entry_key(*one) < keys.name_entry_key(*names[1])
    assert keys.entry_position(keys.stream_entry_key(*one)) == one[1]
    assert keys.entry_position(memoryview(keys.name_entry_key(*names[0]))) == one[1]
    assert (keys.log_key(one[1]) < keys.log_key(other[1])) == (one[1] < other[1])
    assert keys.log_sequence(keys.log_key(one[1])) == one[1]


def test_an_index_key_tells_its_position_to_its_stream_only() -> None:
    """None for another stream's entry, and for an entry of a name, whatever its bytes say."""
    assert keys.stream_entry_position(keys.stream_entry_key(7, 258), 7) == 258
    assert keys.stream_entry_position(memoryview(keys.stream_entry_key(7, 0)), 7) == 0
    assert keys.stream_entry_position(keys.stream_entry_key(7, 258), 8) is None
    assert keys.stream_entry_position(keys.name_entry_key(7, 258), 7) is None
    assert keys.stream_entry_position(b"\2" + keys.stream_entry_key(7, 258)[1:], 7) is None
    assert keys.stream_entry_position(keys.stream_entry_key(7, 258) + b"\0", 7) is None


# -- records -------------------------------------------------------------------------------------------------------------

u16, u32, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@some
@given(st.tuples(st.binary(min_size=16, max_size=16), st.integers(-(2**63), 2**63 - 1), u64, u64, u32, u16, u16))
def test_store_records_round_trip(values: tuple[object, ...]) -> None:
    """The store's record comes back as it was, and nothing shorter or longer, of another version or magic is taken for
    one."""
    record = StoreRecord(*values)  # type: ignore[arg-type]
    raw = record.encode()
    assert records.decode_store_record(raw) == records.decode_store_record(memoryview(raw)) == record
    assert records.unpack_store_record(raw) == record
    assert records.decode_store_record(raw[:-1]) is None
    assert records.decode_store_record(raw + b"\0") is None
    assert records.decode_store_record(b"") is None
    assert records.decode_store_record(b"XXXX" + raw[4:]) is None
    assert records.decode_store_record(raw[:4] + b"\2\0\0\0" + raw[8:] + b"and more") == 2
    assert records.decode_store_record(raw[:4] + b"\2\0\0\0") == 2
    assert records.decode_store_record(raw[:7]) is None


@some
@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    st.binary(max_size=90),
    st.lists(u16, max_size=9),
    u16,
    u32,
    u64,
)
def test_other_records_round_trip(
    name: str, blob: bytes, numbers: list[int], small: int, number: int, count: int
) -> None:
    """Types, numbers, streams and idempotency records come back as they were."""
    assert records.decode_type(memoryview(TypeRecord(name, blob).encode())) == TypeRecord(name, blob)
    assert records.decode_numbers(records.encode_numbers(numbers)) == numbers
    assert records.decode_name_number(records.encode_name_number(small)) == small
    assert records.decode_stream_number(records.encode_stream_number(number)) == number
    assert records.decode_stream(memoryview(records.encode_stream(small, blob))) == (small, blob)
    written = IdempotencyRecord(count, number, bytes(16))
    assert records.decode_idempotency(memoryview(written.encode())) == written


def test_golden_pairs() -> None:
    """The bytes of keys and records, for ever."""
    one = uuid.UUID(int=0x0123456789ABCDEF0123456789ABCDEF)
    record = StoreRecord(one.bytes, 1_700_000_000_000_000_000, 0, 258, 3, 2, 1)
    assert {
        "log": keys.log_key(258).hex(),
        "stream entry": keys.stream_entry_key(1, 258).hex(),
        "name entry": keys.name_entry_key(2, 258).hex(),
        "runs": encode_runs([(0, 5), (258, 1)]).hex(),
        "store key": keys.STORE_RECORD_KEY.hex(),
        "store": record.encode().hex(),
        "name": keys.name_key(2).hex(),
        "name lookup": keys.name_lookup_key("né").hex(),
        "name number": records.encode_name_number(258).hex(),
        "type": keys.type_key(1).hex(),
        "type lookup": keys.type_lookup_key("Note").hex(),
        "type record": TypeRecord("Note", b"{}").encode().hex(),
        "type numbers": records.encode_numbers([0, 258]).hex(),
        "stream lookup": keys.stream_lookup_key(2, keys.encode_stream_id(258)).hex(),
        "stream": keys.stream_key(258).hex(),
        "stream number": records.encode_stream_number(258).hex(),
        "stream record": records.encode_stream(2, keys.encode_stream_id("a")).hex(),
        "uuid id": keys.encode_stream_id(one).hex(),
        "key": keys.idempotency_key(keys.encode_idempotency_key("k")).hex(),
        "bytes key": keys.encode_idempotency_key(b"k").hex(),
        "uuid key": keys.encode_idempotency_key(one).hex(),
        "key record": IdempotencyRecord(258, 3, one.bytes).encode().hex(),
    } == {
        "log": "0000000000000102",
        "stream entry": "01000000010000000000000102",
        "name entry": "0200020000000000000102",
        "runs": "000000000000000005000000020100000000000001000000",
        "store key": "00",
        "store": "56525631010000000123456789abcdef0123456789abcdef00002a36fe9c9717"
        "000000000000000002010000000000000300000002000100",
        "name": "010002",
        "name lookup": "026ec3a9",
        "name number": "0201",
        "type": "030001",
        "type lookup": "044e6f7465",
        "type record": "04004e6f74657b7d",
        "type numbers": "00000201",
        "stream lookup": "050002010000000000000102",
        "stream": "0600000102",
        "stream number": "02010000",
        "stream record": "02000261",
        "uuid id": "030123456789abcdef0123456789abcdef",
        "key": "07026b",
        "bytes key": "016b",
        "uuid key": "030123456789abcdef0123456789abcdef",
        "key record": "020100000000000003000000000000000123456789abcdef0123456789abcdef",
    }


# -- derivation ------------------------------------------------------------------------------------------------------------


def block(first: int = 0, **changes: object) -> Block:
    """A first block of one stream, or one that follows it, with something changed."""
    events = [Commit(5, None, [Add(0, 0, [bytes(8), bytes(8)], None)])]
    declared = first == 0
    plan = Plan(
        first, events, ["notes"] if declared else [], [("Note", b"{}")] if declared else [], [b"\2a"] if declared else [],
        (bytes(range(16)), 5) if declared else None,
    )  # fmt: skip
    draft = plan.draft()
    if not declared:
        draft.run_firsts[0] = first
    for name, value in changes.items():
        if isinstance(value, tuple):
            getattr(draft, name)(*value)
        elif isinstance(getattr(draft, name), int):
            setattr(draft, name, value)
        else:
            getattr(draft, name)[0] = value
    return Block(memoryview(draft.encode()))


def test_blocks_that_follow_each_other_are_derived() -> None:
    """Two blocks of one stream give its runs, names, type, stream and record."""
    derivation = Derivation()
    derivation.feed(block())
    derivation.feed(block(2))
    assert list(derivation.index_pairs()) == [
        (keys.stream_entry_key(0, 0), encode_runs([(0, 4)])),
        (keys.name_entry_key(0, 0), encode_runs([(0, 4)])),
    ]
    assert derivation.record == StoreRecord(bytes(range(16)), 5, 0, 4, 1, 1, 1)
    pairs = dict(derivation.meta_pairs())
    assert list(pairs) == sorted(pairs)
    assert pairs[keys.stream_key(0)] == records.encode_stream(0, b"\2a")
    assert pairs[keys.type_lookup_key("Note")] == records.encode_numbers([0])


def test_an_empty_log_derives_nothing() -> None:
    """No store was declared, so there is no record to write either."""
    derivation = Derivation()
    assert derivation.record is None
    assert derivation.meta_pairs() == []
    assert list(derivation.index_pairs()) == []


@pytest.mark.parametrize(("blocks", "reason"), [
    (lambda: [block(2)], "begins at 2"),
    (lambda: [block(), block(4)], "begins at 4"),
    (lambda: [block(), block(2), block(2)], "begins at 2"),
    (lambda: [block(), block(2, run_firsts=1)], "goes on at 1"),
    (lambda: [block(), block(2, run_streams=5)], "stream number 5"),
    (lambda: [block(), block(2, run_types=5)], "type number 5"),
    (lambda: [block(), block(2, commit_sequence=1)], "continues a commit"),
    (lambda: [block(), block(2, declare_name=(3, "gap"))], "name number 3"),
    (lambda: [block(), block(2, declare_type=(0, "again", b"{}"))], "type number 0"),
    (lambda: [block(), block(2, declare_stream=(7, 0, b"\2b"))], "stream number 7"),
    (lambda: [block(), block(2, declare_stream=(1, 9, b"\2b"))], "undeclared name number 9"),
    (lambda: [block(), block(2, declare_store=(bytes(16), 1))], "by the first block"),
])  # fmt: skip
def test_blocks_that_contradict_each_other_are_refused(blocks: object, reason: str) -> None:
    """Gaps, repeats, numbers that were never declared or declared twice, and commits that do not continue raise
    MalformedBlock."""
    derivation = Derivation()
    *good, bad = blocks()  # type: ignore[operator]
    for one in good:
        derivation.feed(one)
    with pytest.raises(MalformedBlock, match=reason):
        derivation.feed(bad)


def test_a_first_block_must_declare_the_store() -> None:
    """A log that does not begin with the store's declaration is refused."""
    plain = Plan(0, [Commit(5, None, [Add(0, 0, [bytes(8)], None)])], [], [], [], None)
    named = plain._replace(names=["notes"])
    for plan in (plain, named):
        with pytest.raises(MalformedBlock, match="declare"):
            Derivation().feed(Block(memoryview(plan.draft().encode())))


def test_what_is_declared_twice_is_refused() -> None:
    """The same name under two numbers, the same id under two stream numbers, a key used twice: the lookup could only
    hold one."""
    for changes, reason in (
        ({"declare_name": (1, "notes")}, "name"),
        ({"declare_stream": (1, 0, b"\2a")}, "stream"),
        ({"add_key": (b"\2k", bytes(16))}, "key"),
    ):
        derivation = Derivation()
        derivation.feed(block(add_key=(b"\2k", bytes(16))))
        with pytest.raises(MalformedBlock, match=reason):
            derivation.feed(block(2, **changes))


def test_a_keyed_commit_over_several_blocks_is_counted_whole() -> None:
    """Its record has the events of all its blocks; the next commit without a key adds nothing to it, and index entries follow
    each other where the last one was full."""
    derivation = Derivation()
    derivation.feed(block(add_key=(b"\2k", bytes(range(16)))))
    derivation.feed(block(2, commit_sequence=0))
    derivation.feed(block(4, commit_sequence=0))
    derivation.feed(block(6))
    derivation.feed(block(8, commit_sequence=6))
    pairs = dict(derivation.meta_pairs())
    assert pairs[keys.idempotency_key(b"\2k")] == IdempotencyRecord(0, 6, bytes(range(16))).encode()
    assert pairs[keys.STORE_RECORD_KEY] == StoreRecord(bytes(range(16)), 5, 0, 10, 1, 1, 1).encode()
    assert len(pairs) == 8
    with pytest.raises(MalformedBlock, match="it continues a commit of 0; the last one began at 6"):
        derivation.feed(block(10, commit_sequence=0))


def test_long_streams_have_entries_one_behind_the_other() -> None:
    """A stream of many runs: positions of entries are counted on, and runs stand at their global sequences."""
    derivation = Derivation()
    turns = 2 * limits.RUNS_PER_INDEX_ENTRY_MAX + 3
    declared = (["notes"], [("Note", b"{}")], [b"\2a", b"\2b"], (bytes(16), 5))
    adds = [Add(turn % 2, 0, [bytes(8)] * 3, None) for turn in range(2 * turns)]
    derivation.feed(Block(memoryview(Plan(0, [Commit(5, None, adds)], *declared).draft().encode())))
    size = limits.RUNS_PER_INDEX_ENTRY_MAX
    for number in (0, 1):
        runs = [(6 * turn + 3 * number, 3) for turn in range(turns)]
        for entry in range(3):
            key = keys.stream_entry_key(number, 3 * size * entry)
            assert dict(derivation.index_pairs())[key] == encode_runs(runs[size * entry : size * (entry + 1)])

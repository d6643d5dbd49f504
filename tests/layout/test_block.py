"""Blocks: round trips, size bounds, other writers' shapes, garbage, golden bytes."""

from __future__ import annotations

import random
import struct
import zlib

import flatbuffers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_strategies import Plan, full_plans, hot_plans, plans

from varve.layout.block import UNREAD, Block, lone_event
from varve.layout.draft import BlockDraft, Single, block_bytes_max, cold_bytes_max
from varve.layout.frame import COLD_COLUMNS, COLUMNS, FORMAT, MalformedBlock, crc_holds, frame_crc

few = settings(max_examples=60, deadline=None)


def assert_tells(block: Block, plan: Plan) -> None:
    """A block answers everything as the plan that it was made from."""
    wanted = plan.flat()
    assert (block.first, block.count, block.end) == (plan.first, len(wanted), plan.first + len(wanted))
    block.check()
    places = block.places()
    assert (places.count, places.frame_bytes) == (len(wanted), len(block.data))
    assert places.type == (wanted[0]["type"] if len({event["type"] for event in wanted}) == 1 else None)
    for index, event in enumerate(wanted):
        start, end = block.span(index)
        assert bytes(block.data[start:end]) == event["raw"]
        assert places.locate(block.data, index) == (*block.stream_of(index), event["type"], start, end)
        run, run_at = block.run_of(index)
        assert (run.stream, run.type, run.first_stream_sequence + index - run_at) == (
            event["stream"],
            event["type"],
            event["at"],
        )
        assert block.commit_of(index) == (event["commit"], event["time_ns"])
        assert block.metadata_of(index) == event["metadata"]
    assert bytes(block.payload()) == b"".join(event["raw"] for event in wanted)
    assert block.commit_times().tolist() == [commit.time_ns for commit in plan.commits]
    assert block.last_time_ns == plan.commits[-1].time_ns
    assert block.declared_names() == list(enumerate(plan.names))
    assert block.declared_types() == [(number, *declared) for number, declared in enumerate(plan.types)]
    assert block.declared_streams() == [(number, 0, id_key) for number, id_key in enumerate(plan.streams)]
    assert block.commit_keys() == [
        (index, *commit.key) for index, commit in enumerate(plan.commits) if commit.key is not None
    ]
    assert block.store() == plan.store


@few
@given(plans)
def test_a_block_comes_back_as_it_was_filled(plan: Plan) -> None:
    """Every event with its run, commit, time and metadata, and every declaration, is read from the encoded frame;
    events lie at multiples of 8."""
    frame = plan.draft().encode()
    assert len(frame) % 8 == 0
    assert crc_holds(frame)
    assert frame_crc(frame) == zlib.crc32(frame[4:])
    block = Block(memoryview(frame))
    assert_tells(block, plan)
    assert block.payload_at % 8 == 0


@few
@given(plans)
def test_a_continued_block_encodes_to_the_same_frame(plan: Plan) -> None:
    """A draft made from a block encodes to the block's own bytes, with the same size bound or a closer one."""
    draft = plan.draft()
    frame = draft.encode()
    again = BlockDraft.of(Block(memoryview(frame)))
    assert again.count == draft.count == len(plan.flat())
    assert again.encode() == frame
    assert again.encode() == frame
    assert again.bytes_max == draft.bytes_max


@few
@given(plans, hot_plans)
def test_a_block_extended_after_reading_is_one_filled_at_once(before: Plan, after: Plan) -> None:
    """It makes no difference whether a commit was added before a block was stored or after it was read back."""
    at_once, reread = before.draft(), BlockDraft.of(Block(memoryview(before.draft().encode())))
    for draft in (at_once, reread):
        for commit in after.commits:
            draft.begin_commit(commit.time_ns)
            for add in commit.adds:
                draft.add(add.stream + 10, add.type, 0, add.bufs)
    assert at_once.encode() == reread.encode()


@few
@given(plans)
def test_the_size_bound_holds_and_is_close(plan: Plan) -> None:
    """bytes_max is never below the frame, and above it by no more than alignment and the room for absent columns."""
    draft = plan.draft()
    size = len(draft.encode())
    assert size <= draft.bytes_max
    assert draft.bytes_max - size <= (300 if draft.columns else 40)


@few
@given(hot_plans, hot_plans)
def test_the_bound_of_a_commit_holds(before: Plan, after: Plan) -> None:
    """block_bytes_max bounds what a commit adds to a draft, so that the writer can tell beforehand whether it fits."""
    draft = before.draft()
    size = draft.bytes_max
    for commit in after.commits:
        bufs = [buffer for add in commit.adds for buffer in add.bufs]
        bound = block_bytes_max(len(bufs), len(commit.adds), sum(map(len, bufs)))
        draft.begin_commit(commit.time_ns)
        for number, add in enumerate(commit.adds):
            draft.add(100 + number, add.type, 0, add.bufs)
        assert draft.bytes_max <= size + bound
        size = draft.bytes_max
        assert len(draft.encode()) <= size
    assert cold_bytes_max(draft) > 0


# -- other writers ----------------------------------------------------------------------------------------------------------


def foreign_frame(plan: Plan, order: random.Random, *, unknown: bool) -> bytes:
    """The same block by the official Builder: vectors and fields in any order, and a field that we do not know yet."""
    block = Block(memoryview(plan.draft().encode()))
    builder = flatbuffers.Builder(1024)
    columns = [*COLUMNS, *COLD_COLUMNS]
    order.shuffle(columns)
    offsets = {}
    for name, width in columns:
        column = block.column(name)
        hot = name in dict(COLUMNS)
        if not len(column) and not hot:
            continue
        raw = column.cast("B").tobytes()
        builder.StartVector(width, len(column), 8 if name == "payload" else width)
        builder.head -= len(raw)
        builder.Bytes[builder.Head() : builder.Head() + len(raw)] = raw
        offsets[name] = builder.EndVector()
    slots = {name: 2 + index for index, (name, _) in enumerate(COLUMNS)}
    created = 2 + len(COLUMNS)
    slots |= {name: created + 1 + index for index, (name, _) in enumerate(COLD_COLUMNS)}
    last = created + 1 + len(COLD_COLUMNS)
    builder.StartObject(last + 1)
    steps = [(slots[name], "offset", offset) for name, offset in offsets.items()]
    steps += [(0, "u64", block.first), (1, "u64", block.commit_sequence)]
    if plan.store is not None:
        steps.append((created, "i64", plan.store[1]))
    if unknown:
        steps.append((last, "u64", 77))
    order.shuffle(steps)
    for slot, kind, value in steps:
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "u64":
            builder.PrependUint64Slot(slot, value, 0)
        else:
            builder.PrependInt64Slot(slot, value, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"VRV1")
    body = struct.pack("<I", FORMAT) + bytes(builder.Output())
    return struct.pack("<I", zlib.crc32(body)) + body


@few
@given(plans)
def test_a_block_of_another_writer_reads_alike(plan: Plan) -> None:
    """Any valid FlatBuffer of the schema is a block: other field order, another vtable, absent columns, a later
    version's column."""
    seed = zlib.crc32(repr(plan).encode())
    frame = foreign_frame(plan, random.Random(seed), unknown=bool(seed % 2))
    assert frame != plan.draft().encode()
    block = Block(memoryview(frame))
    assert_tells(block, plan)
    assert BlockDraft.of(block).encode() == plan.draft().encode()


# -- garbage -----------------------------------------------------------------------------------------------------------------


def read_everything(frame: bytes) -> None:
    block = Block(memoryview(frame))
    block.check()
    for index in range(min(block.count, 50)):
        start, end = block.span(index)
        bytes(block.data[start:end])
        block.run_of(index)
        block.commit_of(index)
        block.metadata_of(index)
    _ = block.last_time_ns, block.store(), block.runs, block.commit_firsts(), block.is_plain
    BlockDraft.of(block)


@pytest.mark.parametrize("shape", ["hot", "full", "foreign", "noise"])
def test_no_bytes_raise_anything_but_malformed_block(shape: str) -> None:
    """Mutated, cut and random frames are refused with MalformedBlock by reading or by ``check``, or are harmless."""
    seed = 7_001
    print("seed", seed)  # noqa: T201 - shown with a failure
    rng = random.Random(seed)
    samples = [plan_of(rng, full=shape != "hot") for _ in range(10)]
    frames = [
        foreign_frame(plan, rng, unknown=True) if shape == "foreign" else plan.draft().encode() for plan in samples
    ]
    refused = 0
    for turn in range(3_000):
        frame = bytearray(rng.choice(frames))
        if shape == "noise":
            frame = bytearray(rng.randbytes(rng.randrange(400)))
            frame[12:16] = b"VRV1"
        kind = rng.randrange(4)
        if kind == 0:
            del frame[rng.randrange(len(frame) + 1) :]
        elif kind == 1:
            for _ in range(rng.randrange(1, 4)):
                frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            at = rng.randrange(0, max(1, len(frame) - 4))
            frame[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 7, 8, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(frame))))
        else:
            at, to = (rng.randrange(len(frame)) for _ in range(2))
            frame[at : at + 8] = frame[to : to + 8]
        try:
            read_everything(bytes(frame))
        except MalformedBlock:
            refused += 1
        except Exception as exc:
            raise AssertionError(f"turn {turn}: {exc!r} from {bytes(frame).hex()}") from exc
    assert refused > 1_000


def plan_of(rng: random.Random, *, full: bool) -> Plan:
    from layout_strategies import Add, Commit

    def bufs() -> list[bytes]:
        return [rng.randbytes(8 * rng.randrange(1, 4)) for _ in range(rng.randrange(1, 4))]

    def adds() -> list[Add]:
        metadata = rng.choice((None, b'{"a":1}')) if full else None
        return [Add(rng.randrange(3), rng.randrange(2), bufs(), metadata) for _ in range(rng.randrange(1, 4))]

    commits = [
        Commit(rng.randrange(2**60), (b"\2key%d" % n, bytes(16)) if full else None, adds())
        for n in range(rng.randrange(1, 4))
    ]
    declared = (["notes"], [("Note", b"{}")], [b"\2one"], (bytes(range(16)), 5)) if full else ([], [], [], None)
    return Plan(rng.randrange(1000), commits, *declared)


def test_a_frame_of_another_format_is_refused() -> None:
    """Other format flags and another identifier are no block of ours."""
    frame = bytearray(plan_of(random.Random(1), full=False).draft().encode())
    for at, value in ((4, 2), (12, ord("X"))):
        changed = bytearray(frame)
        changed[at] = value
        with pytest.raises(MalformedBlock, match="not a block of format"):
            Block(memoryview(changed))


def test_a_checksum_covers_every_byte() -> None:
    """No flipped bit of a frame leaves its checksum right, and nothing shorter than a block has one."""
    frame = plan_of(random.Random(2), full=True).draft().encode()
    assert crc_holds(frame)
    for at in range(len(frame)):
        changed = bytearray(frame)
        changed[at] ^= 1 << (at % 8)
        assert not crc_holds(changed)
    for size in range(100):
        assert not crc_holds(bytes(size))
    assert not crc_holds(b"")


def test_check_finds_columns_that_disagree() -> None:
    """``check`` names what does not fit together in a block whose bytes are otherwise readable."""

    def broken(change: object) -> str:
        draft = BlockDraft(10, 10)
        draft.begin_commit(5)
        draft.add(0, 0, 0, [bytes(8), bytes(16)])
        change(draft)  # type: ignore[operator]
        with pytest.raises(MalformedBlock) as told:
            Block(memoryview(draft.encode())).check()
        return str(told.value)

    assert "run_counts" in broken(lambda draft: draft.run_counts.__setitem__(0, 3))
    assert "commit_counts" in broken(lambda draft: draft.commit_counts.__setitem__(0, 1))
    assert "ends" in broken(lambda draft: draft.ends.__setitem__(0, 7))
    assert "ends" in broken(lambda draft: draft.ends.__setitem__(1, 32))
    assert "ends" in broken(lambda draft: draft.ends.__setitem__(0, 24))
    assert "differ in length" in broken(lambda draft: draft.run_types.append(1))
    assert "differ in length" in broken(lambda draft: draft.commit_times.append(1))
    assert "begins behind" in broken(lambda draft: setattr(draft, "commit_sequence", 11))
    assert "metadata" in broken(
        lambda draft: (draft.add_metadata(1, b"{}"), draft.columns["metadata_counts"].append(1))
    )
    assert "digest" in broken(lambda draft: draft.add_key(b"\2k", bytes(15)))
    assert "declarations" in broken(lambda draft: (draft.declare_name(0, "a"), draft.columns["name_numbers"].append(1)))


# -- golden bytes ------------------------------------------------------------------------------------------------------------

HOT = (
    "ec080c130100000020000000565256311800340008001000040018001c002000240028002c0030001800000070000000e803"
    "000000000000e6030000000000001c000000240000002c000000680000002c00000034000000740000000200000002000000"
    "0200000002000000030000000400000002000000010000000200000003000000010000000400000008000000180000002000"
    "0000280000000200000000002a36fe9c971701002a36fe9c9717000000000200000029000000000000000000000000000000"
    "000000002800000065696768746973687369787465656e206279746573206f6b616e64206d6f7265616e6f7468657221"
)

FULL = (
    "e9bc8eaa0100000050000000565256314400940008001000040018001c002000240028002c00300038004000440048004c00"
    "5000540058005c006000640068006c007000740078007c008000840088008c0090000000000048000000a001000000000000"
    "00000000000000000000000060010000640100006801000090010000680100006c010000940100000000000000368ffafd9c"
    "971754000000580000005c00000060000000700000007400000078000000800000009000000094000000980000009c000000"
    "a8000000ac000000b0000000b8000000bc000000c0000000c4000000c8000000d40000000100000000000000010000000100"
    "0000010000000e0000000e0000007b2275736572223a226b696d227d00000100000000000000010000000800000008000000"
    "026f726465722d31100000006465666768696a6b6c6d6e6f7071727301000000000000000100000000000000010000000900"
    "00000900000001000000000000000700000001000000000000000100000005000000050000006e6f74657300000001000000"
    "000000000100000004000000040000004e6f7465010000000c0000000c0000007b22666f726d6174223a317d100000000001"
    "02030405060708090a0b0c0d0e0f010000000100000001000000000000000100000000000000010000000100000001000000"
    "08000000000000000100000000002a36fe9c9717000000000100000000000000000000000000000008000000656967687469"
    "7368"
)


def hot_draft() -> BlockDraft:
    draft = BlockDraft(1_000, 998)
    draft.begin_commit(1_700_000_000_000_000_000)
    draft.add(3, 1, 41, [b"eightish", b"sixteen bytes ok"])
    draft.begin_commit(1_700_000_000_000_000_001)
    draft.add(3, 1, 43, [b"and more"])
    draft.add(4, 0, 0, [b"another!"])
    return draft


def full_draft() -> BlockDraft:
    draft = BlockDraft(0, 0)
    draft.begin_commit(1_700_000_000_000_000_000)
    draft.declare_store(bytes(range(16)), 1_699_999_999_000_000_000)
    draft.declare_name(0, "notes")
    draft.declare_type(0, "Note", b'{"format":1}')
    draft.add_key(b"\2order-1", bytes(range(100, 116)))
    draft.declare_stream(0, 0, b"\1" + (7).to_bytes(8, "big"))
    draft.add_metadata(1, b'{"user":"kim"}')
    draft.add(0, 0, 0, [b"eightish"])
    return draft


def test_golden_frames() -> None:
    """The bytes of a plain and of a full frame, for ever."""
    assert hot_draft().encode().hex() == HOT
    assert full_draft().encode().hex() == FULL


@given(full_plans)
@settings(max_examples=5, deadline=None)
def test_the_first_event_may_continue_an_earlier_commit(plan: Plan) -> None:
    """A block whose first commit began before it gives that commit's sequence for its events, its own for the
    others."""
    draft = plan.draft()
    draft.commit_sequence = max(0, plan.first - 5)
    block = Block(memoryview(draft.encode()))
    for index, event in enumerate(plan.flat()):
        wanted = draft.commit_sequence if event["commit"] == plan.first else event["commit"]
        assert block.commit_of(index)[0] == wanted
    assert block.commit_firsts()[0] == draft.commit_sequence


def test_an_event_outside_its_frame_is_malformed() -> None:
    """Ends that fall, that lie behind the frame, or that are not in it: MalformedBlock, from a block and from its places."""
    frame = bytearray(plan_of(random.Random(3), full=False).draft().encode())
    block = Block(memoryview(frame))
    assert block.count > 2
    first_end, second_end = struct.unpack_from("<II", frame, block.ends_at)
    places = block.places()
    for ends in (
        (second_end + 8, second_end),
        (first_end, len(frame)),
        (first_end, first_end - 8),
        (first_end, 2**32 - 8),
    ):
        struct.pack_into("<II", frame, block.ends_at, *ends)
        for found in (lambda: block.span(1), lambda: places.locate(block.data, 1)):
            with pytest.raises(MalformedBlock, match="an event lies outside"):
                found()
    struct.pack_into("<II", frame, block.ends_at, len(frame) - block.payload_at, len(frame) - block.payload_at)
    assert block.span(0) == places.locate(block.data, 0)[3:] == (block.payload_at, len(frame))
    assert block.span(1) == places.locate(block.data, 1)[3:] == (len(frame), len(frame))
    struct.pack_into("<I", frame, block.ends_at, len(frame) - block.payload_at + 8)
    for found in (lambda: block.span(0), lambda: places.locate(block.data, 0)):
        with pytest.raises(MalformedBlock, match="an event lies outside"):
            found()
    cut = memoryview(frame)[: block.ends_at]
    for found in (
        lambda: block.span(len(frame)),
        lambda: places.locate(block.data, len(frame)),
        lambda: places.locate(cut, 0),
        lambda: places.locate(memoryview(frame)[: block.ends_at + 4], 1),
    ):
        with pytest.raises(MalformedBlock, match=r"its (ends|columns) reach beyond its end"):
            found()


def test_a_run_outside_its_frame_is_malformed() -> None:
    """Which stream an event belongs to is told by the frame or not at all: a frame that is cut off raises MalformedBlock."""
    frame = memoryview(plan_of(random.Random(3), full=False).draft().encode())
    block = Block(frame)
    places = block.places()
    for name in ("run_streams", "run_firsts", "ends"):
        column = bytes(block.column(name).cast("B"))
        cut = frame[: bytes(frame).index(column)]
        with pytest.raises(MalformedBlock, match="its columns reach beyond its end"):
            places.locate(cut, 0)


def test_places_of_runs_that_do_not_add_up_are_malformed() -> None:
    """Columns of another length than the rest of the runs, and counts that are not the block's."""
    draft = BlockDraft(0, 0)
    draft.begin_commit(1)
    for stream in range(4):
        draft.add(stream, 1, 0, [bytes(8)] * 2)
    for name, at, value, match in (
        ("run_streams", 0, 3, "differ in length"),
        ("run_firsts", 0, 3, "differ in length"),
        ("run_counts", 0, 3, "differ in length"),
        ("run_counts", 4, 1, "not of all its events"),
    ):
        frame = bytearray(draft.encode())
        block = Block(memoryview(frame))
        place = block._columns[[column for column, _ in COLUMNS].index(name)]
        assert struct.unpack_from("<I", frame, place) == (4,)
        struct.pack_into("<I", frame, place + at, value)
        with pytest.raises(MalformedBlock, match=match):
            block.places()


def test_runs_of_one_event_that_are_not_all_events_are_malformed() -> None:
    draft = BlockDraft(0, 0)
    draft.begin_commit(1)
    for stream in range(4):
        draft.add(stream, 1, 0, [bytes(8)])
    frame = bytearray(draft.encode())
    struct.pack_into("<I", frame, Block(memoryview(frame)).ends_at - 4, 5)
    with pytest.raises(MalformedBlock, match="not of all its events"):
        Block(memoryview(frame)).places()


def test_runs_outside_a_frame_are_malformed() -> None:
    """Wherever the frame ends inside of them."""
    for runs in (1, 3):
        draft = BlockDraft(0, 0)
        draft.begin_commit(1)
        for stream in range(runs):
            draft.add(stream, 1, 0, [bytes(8)])
        frame = memoryview(draft.encode())
        block = Block(frame)
        places = [block._columns[[column for column, _ in COLUMNS].index(name)] for name in (
            "run_streams", "run_types", "run_firsts", "run_counts")]  # fmt: skip
        for place in places:
            for read in (block.places, block.run_lists):
                block.data = frame[: place + 2]
                with pytest.raises(MalformedBlock, match="outside"):
                    read()
        block.data = frame[: max(places) + 5]
        with pytest.raises(MalformedBlock, match="reach beyond its end"):
            block.run_lists()
        endless = bytearray(frame)
        for place in places:
            struct.pack_into("<I", endless, place, 1 << 20)
        block.data = memoryview(endless)
        for read in (block.places, block.run_lists):
            with pytest.raises(MalformedBlock, match="reach beyond its end"):
                read()


def test_events_are_found_wherever_the_columns_stand() -> None:
    """Another writer may put the streams of the runs behind the ends of the events."""
    draft = BlockDraft(0, 0)
    draft.begin_commit(1)
    for stream in range(4):
        draft.add(stream + 5, 1, stream, [bytes(8)])
    frame = bytearray(draft.encode())
    place = Block(memoryview(frame))._columns[[column for column, _ in COLUMNS].index("run_streams")]
    column = bytes(frame[place : place + 20])
    field = next(at for at in range(8, place, 4) if struct.unpack_from("<I", frame, at)[0] + at == place)
    struct.pack_into("<I", frame, field, len(frame) - field)
    for found in (memoryview(bytes(frame) + column), memoryview(draft.encode())):
        block = Block(found)
        places = block.places()
        for index in range(4):
            assert places.locate(found, index) == (index + 5, index, 1, *block.span(index))


def test_an_event_is_given_from_its_own_frame_only() -> None:
    """And if it is the one that was asked for, and as small as that."""
    for seed in range(10):
        frame = plan_of(random.Random(seed), full=bool(seed % 2)).draft().encode()
        data = memoryview(frame)
        block = Block(data)
        places = block.places()
        changed = bytearray(frame)
        changed[0] ^= 1
        for index in range(block.count):
            stream, at, number, start, end = places.locate(data, index)
            size = end - start
            assert places.event(data, index, stream, at, size) == (number, frame[start:end])
            for other in (
                places.event(data, index, stream, at, size - 1),
                places.event(data, index, stream + 1, at, size),
                places.event(data, index, stream, at + 1, size),
                places.event(memoryview(changed), index, stream, at, size),
                places.event(data[:-8], index, stream, at, size),
                places.event(memoryview(b""), index, stream, at, size),
            ):
                assert other is None
        assert places.event(data, len(frame), 0, 0, 1 << 20) is None


def test_a_block_is_made_from_its_places() -> None:
    """As if it had been read again, whatever its shape and whether its runs are of one event or of many."""
    for seed in range(20):
        frame = memoryview(plan_of(random.Random(seed), full=bool(seed % 2)).draft().encode())
        read = Block(frame)
        made = read.places().block(frame)
        made.check()
        for attribute in ("first", "count", "end", "commit_sequence", "payload_at", "runs", "is_plain"):
            assert getattr(made, attribute) == getattr(read, attribute)
        assert made.data is frame
        for name, _ in (*COLUMNS, *COLD_COLUMNS):
            assert made.column(name) == read.column(name)


def test_places_are_of_one_frame() -> None:
    """A tail that was extended since, or another store's block, is another frame."""
    draft = plan_of(random.Random(3), full=False).draft()
    before = memoryview(draft.encode())
    places = Block(before).places()
    draft.begin_commit(1)
    draft.add(1, 1, 0, [bytes(8)])
    assert places.is_of(before)
    assert not places.is_of(memoryview(draft.encode()))
    changed = bytearray(before)
    changed[0] ^= 1
    assert not places.is_of(memoryview(changed))


singles = st.lists(
    st.tuples(
        st.integers(0, 2**62),
        st.integers(0, 5),
        st.integers(1, 2),
        st.integers(0, 2**40),
        st.integers(1, 6).map(lambda n: n.to_bytes(8, "little") * n),
    ),
    min_size=1,
    max_size=12,
)


@few
@given(singles, singles, st.booleans())
def test_singles_are_commits_one_after_the_other(before: list[Single], after: list[Single], numbered: bool) -> None:
    """Of different streams, and of one stream in a row, whose events are one run."""
    if numbered:  # as a store numbers them, so that runs go on
        lengths: dict[int, int] = {}
        for some in (before, after):
            for index, (time_ns, stream, type_number, _, event) in enumerate(some):
                lengths[stream] = lengths.get(stream, -1) + 1
                some[index] = (time_ns, stream, type_number, lengths[stream], event)
    one, other = BlockDraft(3, 3), BlockDraft(3, 3)
    for time_ns, stream, type_number, first, event in (*before, *after):
        one.begin_commit(time_ns)
        one.add(stream, type_number, first, [event])
    other.add_singles(before)
    other.add_singles(after)
    assert other.bytes_max == one.bytes_max
    assert other.encode() == one.encode()


@few
@given(plans, st.data())
def test_a_lone_event_is_where_the_table_of_its_block_has_it(plan: Plan, data: st.DataObject) -> None:
    """Or it is not said at all: in a block with cold columns, or where an event's run is not its own."""
    frame = memoryview(plan.draft().encode())
    block = Block(frame)
    places = block.places()
    for sequence in range(block.first, block.end):
        lone = lone_event(frame, block.first, sequence)
        assert (lone is not None) == (block.is_plain and places.run_ends is None)
        if lone is not None:
            assert lone[:4] == places.locate(frame, sequence - block.first)[:4]
            assert lone[4] == block.count
    assert lone_event(frame, block.first, block.end) is None
    assert lone_event(frame, block.first, block.first - 1) is None
    assert lone_event(frame, block.first + 1, block.first + 1) is None
    cut = data.draw(st.integers(0, len(frame)))
    lone_event(frame[:cut], block.first, block.first)


def test_a_lone_event_of_a_block_that_is_not_as_it_should_be_is_not_said() -> None:
    """Whatever is wrong with it: the table of the block has the words for that."""
    draft = BlockDraft(7, 7)
    for stream in range(3):
        draft.begin_commit(1)
        draft.add(stream, 1, stream, [bytes(8 * (stream + 1))])
    frame = draft.encode()
    block = Block(memoryview(frame))
    assert lone_event(memoryview(frame), 7, 9) == (2, 2, 1, block.payload_at + 24, 3)
    names = [column for column, _ in COLUMNS]
    for name, element, value in (
        ("run_streams", 0, 2),
        ("run_types", 0, 4),
        ("run_firsts", 0, 2),
        ("run_counts", 0, 4),
        ("run_counts", 3, 0),
        ("ends", 0, 2),
        ("ends", 2, 2**31),
        ("ends", 3, 8),
        ("ends", 3, 2**31),
    ):
        wrong = bytearray(frame)
        struct.pack_into("<I", wrong, block._columns[names.index(name)] + 4 * element, value)
        assert lone_event(memoryview(wrong), 7, 9) is None, (name, element, value)
    for at in (4, 8, 12, 20, 40):  # format, root, identifier, vtable, what leads to it
        wrong = bytearray(frame)
        wrong[at] ^= 0x10
        assert lone_event(memoryview(wrong), 7, 9) is None, at


def test_a_block_of_which_one_event_was_read_can_be_had() -> None:
    draft = BlockDraft(7, 7)
    draft.begin_commit(1)
    draft.add(2, 1, 3, [bytes(8)])
    assert UNREAD.block(memoryview(draft.encode())).runs == [(2, 1, 3, 1)]

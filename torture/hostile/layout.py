"""Blocks, what is worked out of them, and the records beside them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

from torture import stores
from torture.hostile.change import framed, mutated
from torture.hostile.target import Attempt, insist
from varve.errors import CorruptedStore
from varve.layout import consumers, keys, records, runs
from varve.layout.block import Block
from varve.layout.derive import Derivation
from varve.layout.draft import BlockDraft
from varve.layout.frame import COLD_COLUMNS, COLUMNS, MalformedBlock, crc_holds

_HEADER_BYTES = 320
"""Where the header, vtable and table of a block are."""

Hole = tuple[str, AbstractContextManager[object], int]


def logs(seed: int, folder: Path, sizes: tuple[int, ...] = (6, 14, 30)) -> list[list[bytes]]:
    """The frames of a few real stores, in order."""
    found = []
    for number, steps in enumerate(sizes):
        path = folder / f"store-{number}"
        stores.fill(path, seed + number, steps)
        found.append([frame for _, frame in sorted(stores.pairs(path)["log"].items())])
    return found


def redrafted(frame: bytes, chance: random.Random) -> bytes:
    """A well-formed block that says something else: some numbers of its columns changed, added or left out."""
    draft = BlockDraft.of(Block(memoryview(frame)))
    hot = ("commit_times", "commit_counts", "run_streams", "run_types", "run_firsts", "run_counts", "ends")
    for _ in range(chance.randint(1, 3)):
        name = chance.choice((*hot, *draft.columns, "first", "commit_sequence"))
        if name in {"first", "commit_sequence"}:
            setattr(draft, name, max(0, getattr(draft, name) + chance.choice((-8, -1, 1, 2**40))))
            continue
        column = draft.columns[name] if name in draft.columns else getattr(draft, name)
        if not column:
            continue
        at = chance.randrange(len(column))
        most = 2 ** (8 * column.itemsize - (column.typecode == "q")) - 1
        match chance.randrange(4):
            case 0:
                column[at] = chance.choice((0, 1, most, most // 2, min(most, column[at] + 1), max(0, column[at] - 1)))
            case 1:
                column.insert(at, column[chance.randrange(len(column))])
            case 2:
                del column[at]
            case _:
                other = chance.randrange(len(column))
                column[at], column[other] = column[other], column[at]
    return draft.encode()


def hostile_frame(frame: bytes, chance: random.Random) -> bytes:
    """A changed frame whose checksum is right, now and then with one that is wrong."""
    if chance.randrange(3) == 0:
        return redrafted(frame, chance)
    broken = mutated(frame, chance, _HEADER_BYTES if chance.randrange(2) else None)
    return framed(broken) if chance.randrange(16) else broken


def use_block(block: Block, chance: random.Random) -> None:
    """All that the engine asks of a block."""
    insist(sum(run.count for run in block.runs) == block.count, "the runs of a block do not add up")
    insist(len(block.ends()) == block.count, "a block has more ends than events")
    insist(block.end == block.first + block.count, "its end is not behind its events")
    places = block.places()
    payload = len(block.payload())
    for index in {0, block.count - 1, *(chance.randrange(block.count) for _ in range(6))}:
        start, end = block.span(index)
        insist(block.payload_at <= start < end <= block.payload_at + payload, "an event outside of the payload")
        run, first = block.run_of(index)
        insist(first <= index < first + run.count, "a run that does not hold its event")
        told = (run.stream, run.first_stream_sequence + index - first, run.type, start, end)
        insist(places.locate(block.data, index) == told, "two answers where an event is")
        commit, _ = block.commit_of(index)
        insist(commit <= block.first + index, "an event before its commit")
        block.metadata_of(index)
    insist(len(block.commit_firsts()) == len(block.commit_times()), "commits without a time")
    _ = block.last_time_ns, block.is_plain, block.store(), block.commit_keys()
    _ = block.declared_names(), block.declared_types(), block.declared_streams()
    for name, _ in (*COLUMNS, *COLD_COLUMNS):
        block.column(name)
    again = BlockDraft.of(block).encode()
    insist(crc_holds(again), "a block that is written again has a wrong checksum")
    other = Block(memoryview(again))
    other.check()
    insist(bytes(other.payload()) == bytes(block.payload()), "a block that is written again holds other events")


class BlockTarget:
    """One frame: a checksum says nothing about who made it."""

    name = "block"
    share = 240

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Frames of real stores."""
        frames = [frame for log in logs(seed, folder) for frame in log]

        def attempt(chance: random.Random) -> bool:
            data = hostile_frame(chance.choice(frames), chance)
            if not crc_holds(data):
                return False
            try:
                block = Block(memoryview(data))
                block.check()
            except MalformedBlock:
                return False
            use_block(block, chance)
            return True

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Columns that need not agree."""
        yield "a block's columns need not agree", mock.patch.object(Block, "check", lambda _: None), 2_000
        yield (
            "metadata, keys and declarations need not fit",
            mock.patch.object(Block, "_cold_problems", lambda _: iter(())),
            6_000,
        )


class LogTarget:
    """A log with a hostile block in it: what is worked out of all blocks together."""

    name = "log"
    share = 60

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """The logs of real stores."""
        found = logs(seed, folder, (4, 9))

        def attempt(chance: random.Random) -> bool:
            frames = list(chance.choice(found))
            at = chance.randrange(len(frames))
            match chance.randrange(8):
                case 0:
                    other = chance.randrange(len(frames))
                    frames[at], frames[other] = frames[other], frames[at]
                case 1:
                    frames.insert(at, frames[chance.randrange(len(frames))])
                case 2:
                    del frames[at]
                case _:
                    frames[at] = hostile_frame(frames[at], chance)
            derivation = Derivation()
            try:
                for frame in frames:
                    if not crc_holds(frame):
                        return False
                    block = Block(memoryview(frame))
                    block.check()
                    derivation.feed(block)
            except MalformedBlock:
                return False
            use_derivation(derivation)
            return True

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Ids that nobody could read."""
        yield ("ids need not be ids", mock.patch("varve.layout.derive._check_id", lambda *_: None), 6_000)


def use_derivation(derivation: Derivation) -> None:
    """Every pair is one that a reader can read."""
    index = list(derivation.index_pairs())
    insist(sorted(dict(index).items()) == index, "the index is not in order")
    for key, value in index:
        insist(keys.entry_position(key) < 2**64 and runs.decode_runs(value), "an entry of the index holds nothing")
    meta = derivation.meta_pairs()
    pairs = dict(meta)
    insist(len(pairs) == len(meta), "two records have one key")
    record = derivation.record
    if record is None:
        insist(not (index or meta), "an empty log gives pairs")
        return
    for tag, width, count in ((1, 2, record.next_name), (3, 2, record.next_type), (6, 4, record.next_stream)):
        numbers = [int.from_bytes(key[1:], "big") for key in pairs if key[0] == tag]
        insist(sorted(numbers) == list(range(count)), "numbers that do not follow each other")
        insist(count < 2 ** (8 * width), "more numbers than there are")
    for key, value in meta:
        match key[0]:
            case 0:
                insist(isinstance(records.decode_store_record(value), records.StoreRecord), "no store record")
            case 1:
                insist(keys.check_name(value.decode()), "no name")
            case 2:
                insist(pairs[keys.name_key(records.decode_name_number(value))] == key[1:], "a name's number")
            case 3:
                insist(keys.check_name(records.decode_type(value).name), "no type")
            case 4:
                for number in records.decode_numbers(value):
                    insist(
                        records.decode_type(pairs[keys.type_key(number)]).name.encode() == key[1:], "a type's number"
                    )
            case 5:
                insist(keys.encode_stream_id(keys.decode_stream_id(key[3:])) == key[3:], "another stream id")
            case 6:
                number, id_key = records.decode_stream(value)
                insist(keys.stream_lookup_key(number, id_key) in pairs, "a stream that cannot be found")
            case 7:
                insist(records.decode_idempotency(value).count, "a key of no events")
            case _:
                insist(False, "an unknown record")


Decoder = tuple[str, Callable[[bytes], Any], list[bytes], Callable[[Any, bytes], None]]


class RecordsTarget:
    """Values of metadata, index and consumers, and ids: LMDB's pages have no checksums."""

    name = "records"
    share = 250

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Values of a real store."""
        path = folder / "store"
        stores.fill(path, seed, 40)
        found = stores.pairs(path)
        decoders = [decoder for decoder in _decoders(found) if decoder[2]]

        def attempt(chance: random.Random) -> bool:
            _, decode, values, use = chance.choice(decoders)
            data = mutated(chance.choice(values), chance)
            if decode is _decode_consumer and chance.randrange(4):
                data = framed(data)
            try:
                out = decode(data)
            except CorruptedStore:
                return False
            if out is None or isinstance(out, int):
                return False
            use(out, data)
            return True

        return attempt

    def holes(self) -> Iterator[Hole]:
        """Runs of partitions that need not cover all of them."""

        def careless(value: bytes, _: bytes) -> Any:
            _, version, members, updated_at_ns = consumers._HEAD.unpack_from(value)  # noqa: SLF001
            rest = value[consumers._HEAD.size :]  # noqa: SLF001
            found = tuple(consumers.Run(*fields) for fields in consumers._RUN.iter_unpack(rest))  # noqa: SLF001
            return consumers.ConsumerRecord(members, updated_at_ns, found) if version == 1 else version

        yield (
            "a consumer's record is taken as it is",
            mock.patch.object(consumers, "decode_consumer", careless),
            20_000,
        )


def _decode_consumer(value: bytes) -> Any:
    return consumers.decode_consumer(value, b"")  # looked up each time: controls patch it


def _decoders(found: dict[str, dict[bytes, bytes]]) -> list[Decoder]:
    meta = found["meta"]

    def of(tag: int) -> list[bytes]:
        return [value for key, value in meta.items() if key[0] == tag]

    def same(encode: Callable[[Any], bytes]) -> Callable[[Any, bytes], None]:
        return lambda out, data: insist(encode(out) == data, "what was read is not what was written")

    def consumer(out: Any, data: bytes) -> None:
        insist(out.encode(b"") == data, "what was read is not what was written")
        insist(0 <= out.position < 2**64, "a position")
        for member in range(out.members):
            partitions = consumers.partitions_of(member, out.members)
            insist(sum(run.partitions for run in out.within(partitions)) == len(partitions), "partitions are missing")
            whole = range(consumers.PARTITIONS)
            insist(
                sum(r.partitions for r in out.replaced(partitions, out.within(partitions), 0).within(whole)) == 256, ""
            )

    ids = [key[3:] for key in meta if key[0] == 5]
    return [
        ("store record", records.decode_store_record, of(0), same(records.StoreRecord.encode)),
        ("name", records.decode_name, of(1), same(str.encode)),
        ("name number", lambda v: (records.decode_name_number(v),), of(2), lambda *_: None),
        ("type", records.decode_type, of(3), same(records.TypeRecord.encode)),
        ("type numbers", records.decode_numbers, of(4), same(records.encode_numbers)),
        ("stream number", lambda v: (records.decode_stream_number(v),), of(5), lambda *_: None),
        ("stream", records.decode_stream, of(6), same(lambda out: records.encode_stream(*out))),
        ("idempotency", records.decode_idempotency, of(7), same(records.IdempotencyRecord.encode)),
        (
            "stream id",
            lambda v: (keys.decode_stream_id(v),),
            ids,
            lambda o, d: insist(keys.encode_stream_id(*o) == d, ""),
        ),
        ("runs", runs.decode_runs, list(found["index"].values()), same(runs.encode_runs)),
        ("event in runs", lambda v: (runs.find_in_runs(v, 3),), list(found["index"].values()), lambda *_: None),
        ("position", lambda k: (keys.stream_entry_position(k, 1),), list(found["index"]), lambda *_: None),
        ("consumer", _decode_consumer, [framed(value) for value in found["consumers"].values()], consumer),
        ("token", lambda v: (consumers.decode_token(v),), list(found["consumers"].values()), lambda *_: None),
        ("consumer name", consumers.consumer_name, list(found["consumers"]), lambda *_: None),
    ]

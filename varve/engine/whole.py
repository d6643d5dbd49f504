"""Work on a whole store below its handle: rebuild index and metadata from the log, compare them with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import NamedTuple

import lmdb
from lmdb.verify import VerifyError, verify

from varve import limits
from varve.engine import files
from varve.engine.environment import Environment
from varve.engine.snapshot import corrupted
from varve.errors import CorruptedBlock, CorruptedStore, InvalidInput
from varve.layout import consumers, keys
from varve.layout.block import Block, MalformedBlock, crc_holds
from varve.layout.derive import Derivation, Pair
from varve.layout.records import decode_store_record

Progress = Callable[[int], None]

_BATCH = 256


class Rebuilt(NamedTuple):
    """What a rebuild carried over."""

    events: int
    blocks: int


def _environment(path: str, *, readonly: bool) -> Environment:
    return Environment(
        os.path.abspath(path),
        readonly=readonly,
        durability="full" if readonly else "bulk",
        map_bytes=limits.MAP_BYTES,
        allow_network=True,
    )


def _log(
    environment: Environment, transaction: lmdb.Transaction[memoryview]
) -> Iterator[tuple[bytes, memoryview, Block]]:
    """Key, frame and block of every entry of the log, checked. Raises ``CorruptedBlock``."""
    path = environment.path
    with transaction.cursor(environment.log) as cursor:
        more = _step(environment, cursor.first)
        while more:
            key, frame = cursor.item()
            first = keys.log_sequence(key) if len(key) == 8 else -1
            if not crc_holds(frame):
                raise corrupted(path, first, "its checksum is wrong")
            try:
                block = Block(frame)
                block.check()
            except MalformedBlock as exc:
                raise corrupted(path, first, str(exc)) from None
            if block.first != first:
                raise corrupted(path, first, f"it says that it begins at {block.first}")
            yield bytes(key), frame, block
            more = _step(environment, cursor.next)


def _step(environment: Environment, move: Callable[[], bool]) -> bool:
    try:
        return move()
    except lmdb.Error as exc:
        raise environment.read_error(exc) from exc


def rebuild(source: str, target: str, progress: Progress | None = None) -> Rebuilt:
    """A new store at ``target`` with the log of ``source`` and index and metadata made from it. What does not follow from
    the log, positions of consumers, is copied as it is.

    It is written under a temporary name beside ``target`` and renamed when it is on disk. Raises ``InvalidInput`` where
    ``target`` exists,
    ``CorruptedBlock`` where the log itself is damaged; ``source`` is never changed.
    """
    target = os.path.abspath(target)
    if os.path.exists(target):
        raise InvalidInput(f"{target} exists already; a rebuild makes a new store and never works in place")
    unfinished = f"{target}.unfinished"
    if os.path.exists(unfinished):
        raise InvalidInput(
            f"{unfinished} exists, left by a rebuild that was cut off or is still running; remove it first"
        )
    old = _environment(source, readonly=True)
    try:
        new = _environment(unfinished, readonly=False)
        try:
            rebuilt = _copy(old, new, progress)
        except BaseException:
            new.release()
            shutil.rmtree(unfinished)
            raise
        new.release()
        os.rename(unfinished, target)
        files.sync_folder(os.path.dirname(target))
        return rebuilt
    finally:
        old.release()


def _copy(old: Environment, new: Environment, progress: Progress | None) -> Rebuilt:
    derivation = Derivation()
    blocks = 0
    frames: list[tuple[bytes, memoryview]] = []
    side = {name: found for name in files.SIDE_TABLES if (found := old.side(name)) is not None}
    transaction = old.begin()
    for key, frame, block in _log(old, transaction):
        try:
            derivation.feed(block)
        except MalformedBlock as exc:
            raise corrupted(old.path, block.first, str(exc)) from None
        frames.append((key, frame))
        blocks += 1
        if len(frames) == _BATCH:
            _put(new, new.log, frames)
            frames = []
            if progress is not None:
                progress(derivation.next_sequence)
    _put(new, new.log, frames)
    index: list[Pair] = []
    for pair in derivation.index_pairs():
        index.append(pair)
        if len(index) == _BATCH * 16:
            _put(new, new.index, index)
            index = []
    _put(new, new.index, index)
    meta = derivation.meta_pairs()
    if derivation.record is None:  # an empty log: nothing but the old record knows who the store is
        stored = transaction.get(keys.STORE_RECORD_KEY, db=old.meta)
        record = None if stored is None else decode_store_record(stored)
        if record is None or isinstance(record, int) or record.next_sequence:
            raise CorruptedStore(f"{old.path}: the log is empty and the store's record does not say so", path=old.path)
        meta = [(keys.STORE_RECORD_KEY, record.encode())]
    _put(new, new.meta, meta)
    for name, database in side.items():
        new.make_side(name)
        made = new.opened_side(name)
        assert made is not None
        _put(new, made, _pairs(old, transaction, database))
    if progress is not None:
        progress(derivation.next_sequence)
    return Rebuilt(derivation.next_sequence, blocks)


def _pairs(environment: Environment, transaction: lmdb.Transaction[memoryview], database: lmdb._Database) -> list[Pair]:
    """Every pair of a small sub-database. Raises ``CorruptedStore``."""
    pairs = []
    with transaction.cursor(database) as cursor:
        more = _step(environment, cursor.first)
        while more:
            key, value = cursor.item()
            pairs.append((bytes(key), bytes(value)))
            more = _step(environment, cursor.next)
    return pairs


def _put(
    environment: Environment, database: lmdb._Database, pairs: list[tuple[bytes, memoryview]] | list[Pair]
) -> None:
    if pairs:
        with environment.env.begin(write=True) as transaction, transaction.cursor(database) as cursor:
            cursor.putmulti(pairs, append=True)


def contents(path: str) -> dict[str, dict[bytes, bytes]]:
    """Every pair of the three sub-databases, for comparisons of small stores."""
    environment = _environment(path, readonly=True)
    try:
        transaction = environment.begin()
        found = {}
        for name in ("log", "index", "meta"):
            with transaction.cursor(getattr(environment, name)) as cursor:
                found[name] = {bytes(key): bytes(value) for key, value in cursor}
        del transaction, cursor
        return found
    finally:
        environment.release()


def findings(path: str) -> list[str]:
    """What is wrong with a store that is not open here: LMDB's structure, then every block, then index and metadata
    against the log. Nothing is written; empty means sound."""
    path = os.path.abspath(path)
    try:
        structure = verify(os.path.join(path, files.DATA), subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as exc:
        return [f"structure: {exc}"]
    if structure:
        return [f"structure: {problem}" for problem in structure]
    environment = _environment(path, readonly=True)
    try:
        return _logical_findings(environment)
    finally:
        environment.release()


def _logical_findings(environment: Environment) -> list[str]:
    derivation = Derivation()
    positions = environment.side(consumers.TABLE)
    transaction = environment.begin()
    last_ns = 0
    try:
        for _, _, block in _log(environment, transaction):
            derivation.feed(block)
            for time_ns in block.commit_times():
                if time_ns < last_ns:
                    return [f"log: time goes backwards in the block at {block.first}"]
                last_ns = time_ns
    except (CorruptedBlock, MalformedBlock) as exc:
        return [f"log: {exc}"]
    problems = []
    stored = transaction.get(keys.STORE_RECORD_KEY, db=environment.meta)
    meta = derivation.meta_pairs()
    if derivation.record is None:
        record = None if stored is None else decode_store_record(stored)
        if record is None or isinstance(record, int) or record.next_sequence:
            problems.append("meta: an empty log, and a store record that does not say so")
        meta = [(keys.STORE_RECORD_KEY, bytes(stored or b""))]
    for name, expected in (("index", derivation.index_pairs()), ("meta", iter(meta))):
        with transaction.cursor(getattr(environment, name)) as cursor:
            for found, wanted in zip_longest(((bytes(k), bytes(v)) for k, v in cursor), expected):
                if found != wanted:
                    problems.append(f"{name}: found {_spelled(found)}, the log says {_spelled(wanted)}")
                    break
    if positions is not None:
        problems += _consumer_findings(_pairs(environment, transaction, positions), derivation.next_sequence)
    return problems


def _consumer_findings(pairs: list[Pair], end: int) -> list[str]:
    """What is wrong with the positions of consumers in a log that ends at ``end``."""
    problems = []
    last_token = consumers.decode_token(dict(pairs).get(consumers.TOKEN_KEY))
    for key, value in pairs:
        if key == consumers.TOKEN_KEY:
            continue
        name = consumers.consumer_name(key)
        record = None if name is None else consumers.decode_consumer(value)
        if record is None or isinstance(record, int):
            problems.append(f"consumers: the record {_spelled((key, value))} is damaged")
            continue
        for run in record.runs:
            if run.position > end:
                problems.append(f"consumers: {name!r} stands at {run.position}, the log ends at {end}")
            if run.token > last_token:
                problems.append(f"consumers: {name!r} has token {run.token}, the last that was given is {last_token}")
    return problems


def _spelled(pair: Pair | None) -> str:
    return "nothing" if pair is None else f"{pair[0].hex()} -> {pair[1][:64].hex()}"

"""Index and metadata as functions of the log: what a commit writes beside its blocks, worked out from the blocks
alone."""

from __future__ import annotations

from collections.abc import Iterator

from varve import limits
from varve.layout import keys, records
from varve.layout.base import Base
from varve.layout.block import Block
from varve.layout.frame import MalformedBlock
from varve.layout.records import IdempotencyRecord, StoreRecord, TypeRecord
from varve.layout.runs import Run, append_runs, encode_runs, split_entries

Pair = tuple[bytes, bytes]


class Derivation:
    """Feed it every block in order, then ask for the pairs. Memory grows with the number of streams and with index
    entries.

    ``base``: what the archived beginning of the log has left; blocks follow from its horizon on. Raises ``MalformedBlock`` where
    a block does not continue the ones before it, and where the base contradicts itself.
    """

    def __init__(self, base: Base | None = None) -> None:
        self._runs: dict[int, list[Run]] = {}
        self._name_runs: dict[int, list[Run]] = {}
        self._lengths: dict[int, int] = {}
        self._streams: dict[int, tuple[int, bytes]] = {}
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._names: dict[int, str] = {}
        self._name_numbers: dict[str, int] = {}
        self._types: dict[int, TypeRecord] = {}
        self._keys: dict[bytes, IdempotencyRecord] = {}
        self._open_key: bytes | None = None
        self._store: tuple[bytes, int] | None = None
        self._commit = 0
        self._last_time_ns = 0
        self._positions: dict[int, int] = {}
        """Where the runs of a stream begin, of those whose beginning is archived."""
        self._archived_until_ns = 0
        self.first_sequence = 0
        self.next_sequence = 0
        if base is not None:
            self._begin(base)

    def _begin(self, base: Base) -> None:
        self._store = (base.uuid, base.created_at_ns)
        self._names = dict(enumerate(base.names))
        self._name_numbers = {name: number for number, name in self._names.items()}
        self._name_runs = {number: list(runs) for number, runs in enumerate(base.name_runs)}  # they will grow
        self._types = dict(enumerate(base.types))
        for number, (name_number, id_key, position, runs) in enumerate(base.streams):
            self._declare_stream(number, name_number, id_key)
            self._runs[number] = list(runs)
            self._positions[number] = position
            self._lengths[number] = position + sum(count for _, count in runs)
        self._keys = dict(base.keys)
        if base.open_key and base.open_key not in self._keys:
            raise MalformedBlock("what was archived ends in a commit whose idempotency key it does not know")
        if len(self._name_numbers) != len(base.names):
            raise MalformedBlock("what was archived declares a name twice")
        self._open_key = base.open_key or None
        self._commit = base.commit
        self._last_time_ns = self._archived_until_ns = base.last_time_ns
        self.first_sequence = self.next_sequence = base.horizon

    def base(self) -> Base | None:
        """What is left when everything so far is archived; None where there is nothing. Raises ``MalformedBlock`` where something
        was declared in a block that has no event of it."""
        if self._store is None:
            return None
        out = Base(*self._store, self.next_sequence, self._last_time_ns, self._commit, self._open_key or b"")
        out.names = [self._names[number] for number in range(len(self._names))]
        out.types = [self._types[number] for number in range(len(self._types))]
        for number, name in self._names.items():
            if number not in self._name_runs:
                raise MalformedBlock(f"the name {name!r} is declared before its first event")
            out.name_runs.append(_last_entry(self._name_runs[number], 0)[1])
        for number, (name_number, id_key) in self._streams.items():
            if number not in self._runs:
                raise MalformedBlock(f"stream number {number} is declared before its first event")
            position, runs = _last_entry(self._runs[number], self._positions.get(number, 0))
            out.streams.append((name_number, id_key, position, runs))
        out.keys = dict(self._keys)
        return out

    def feed(self, block: Block) -> None:
        """The next block."""
        if block.first != self.next_sequence:
            raise MalformedBlock(f"it begins at {block.first}, the log so far ends at {self.next_sequence}")
        self._declare(block)
        self._feed_keys(block)
        at = block.first
        for stream, type_number, first_stream_sequence, count in block.run_columns():
            if stream not in self._streams:
                raise MalformedBlock(f"stream number {stream} was not declared before its first event at {at}")
            if type_number not in self._types:
                raise MalformedBlock(f"type number {type_number} was not declared before its first event at {at}")
            if self._lengths.get(stream, 0) != first_stream_sequence:
                raise MalformedBlock(
                    f"stream number {stream} goes on at {first_stream_sequence} "
                    f"where it holds {self._lengths.get(stream, 0)} events"
                )
            self._lengths[stream] = first_stream_sequence + count
            append_runs(self._runs.setdefault(stream, []), ((at, count),))
            append_runs(self._name_runs.setdefault(self._streams[stream][0], []), ((at, count),))
            at += count
        self._last_time_ns = block.last_time_ns
        self.next_sequence = block.end

    def _declare(self, block: Block) -> None:
        if block.is_plain:
            if block.first == 0:
                raise MalformedBlock("the first block does not declare the store")
            return
        store = block.store()
        if (store is not None) != (block.first == 0):
            raise MalformedBlock("the store is declared by the first block, and by no other")
        self._store = store or self._store
        for number, name in block.declared_names():
            _next(number, len(self._names), "name")
            _fits(name.encode(), limits.NAME_BYTES_MAX, "name")
            if self._name_numbers.setdefault(name, number) != number:
                raise MalformedBlock(f"the name {name!r} is declared twice")
            self._names[number] = name
        for number, name, schema in block.declared_types():
            _next(number, len(self._types), "type")
            _fits(name.encode(), limits.TYPE_NAME_BYTES_MAX, "type name")
            self._types[number] = TypeRecord(name, schema)
        for number, name_number, id_key in block.declared_streams():
            _next(number, len(self._streams), "stream")
            self._declare_stream(number, name_number, id_key)

    def _declare_stream(self, number: int, name_number: int, id_key: bytes) -> None:
        if name_number not in self._names:
            raise MalformedBlock(f"stream number {number} has the undeclared name number {name_number}")
        _check_id(number, id_key)
        if (name_number, id_key) in self._numbers:
            raise MalformedBlock(
                f"stream number {number} has the name and id of stream number {self._numbers[name_number, id_key]}"
            )
        self._streams[number] = (name_number, id_key)
        self._numbers[name_number, id_key] = number

    def _feed_keys(self, block: Block) -> None:
        """Idempotency records: their commits' events are counted over all blocks that hold some."""
        begun = {commit: (token, digest) for commit, token, digest in block.commit_keys()} if not block.is_plain else {}
        firsts = block.commit_firsts()
        for index, (first, count) in enumerate(zip(firsts, block.column("commit_counts"), strict=True)):
            if index == 0 and first < block.first:
                if first != self._commit:
                    raise MalformedBlock(f"it continues a commit of {first}; the last one began at {self._commit}")
                if self._open_key is not None:
                    known = self._keys[self._open_key]
                    self._keys[self._open_key] = known._replace(count=known.count + count)
                continue
            self._commit = first
            self._open_key = None
            if index in begun:
                token, digest = begun[index]
                _fits(token, 1 + limits.IDEMPOTENCY_KEY_BYTES_MAX, "key token")
                if token in self._keys:
                    raise MalformedBlock(f"the idempotency key {token!r} is used twice")
                self._open_key = token
                self._keys[token] = IdempotencyRecord(first, count, digest)

    @property
    def record(self) -> StoreRecord | None:
        """The store's record; None for an empty log."""
        if self._store is None:
            return None
        return StoreRecord(
            *self._store,
            self.first_sequence,
            self.next_sequence,
            len(self._streams),
            len(self._names),
            len(self._types),
        )

    def find_numbered(self, key: bytes) -> bytes | None:
        """The metadata of a name, a type or a stream under the key of its number; None where it was not declared."""
        number = int.from_bytes(key[1:], "big")
        if key == keys.name_key(number & 0xFFFF):
            name = self._names.get(number)
            return None if name is None else name.encode()
        if key == keys.type_key(number & 0xFFFF):
            declared = self._types.get(number)
            return None if declared is None else declared.encode()
        stream = self._streams.get(number)
        return None if stream is None else records.encode_stream(*stream)

    def index_pairs(self) -> Iterator[Pair]:
        """Every pair of the index, in key order."""
        for number, runs in sorted(self._runs.items()):
            position = self._positions.get(number, 0)
            for entry in split_entries(runs):
                yield keys.stream_entry_key(number, position), encode_runs(entry)
                position += sum(count for _, count in entry)
        for number, runs in sorted(self._name_runs.items()):
            for entry in split_entries(runs):
                yield keys.name_entry_key(number, entry[0][0]), encode_runs(entry)

    def meta_pairs(self) -> list[Pair]:
        """Every pair of the metadata, in key order; without the store's record where the log is empty."""
        pairs: list[Pair] = []
        record = self.record
        if record is not None:
            pairs.append((keys.STORE_RECORD_KEY, record.encode()))
            if record.first_sequence:
                pairs.append((keys.HORIZON_KEY, records.encode_horizon(self._archived_until_ns)))
        for number, name in self._names.items():
            pairs.append((keys.name_key(number), name.encode()))
            pairs.append((keys.name_lookup_key(name), records.encode_name_number(number)))
        versions: dict[str, list[int]] = {}
        for number, declared in self._types.items():
            pairs.append((keys.type_key(number), declared.encode()))
            versions.setdefault(declared.name, []).append(number)
        pairs += [(keys.type_lookup_key(name), records.encode_numbers(numbers)) for name, numbers in versions.items()]
        for number, (name_number, id_key) in self._streams.items():
            pairs.append((keys.stream_lookup_key(name_number, id_key), records.encode_stream_number(number)))
            pairs.append((keys.stream_key(number), records.encode_stream(name_number, id_key)))
        pairs += [(keys.idempotency_key(token), record.encode()) for token, record in self._keys.items()]
        return sorted(pairs)


def _last_entry(runs: list[Run], position: int) -> tuple[int, list[Run]]:
    """The last index entry of runs that begin at a position: its own position and runs."""
    size = limits.RUNS_PER_INDEX_ENTRY_MAX
    start = (len(runs) - 1) // size * size
    return position + sum(count for _, count in runs[:start]), runs[start:]


def _check_id(stream: int, id_key: bytes) -> None:
    try:
        keys.decode_stream_id(id_key)
    except records.MalformedRecord as exc:
        raise MalformedBlock(f"stream number {stream} has an id that is none: {id_key[:40]!r}") from exc


def _fits(raw: bytes, bytes_max: int, what: str) -> None:
    """Metadata's keys are made of these, and LMDB's keys are short."""
    if not 0 < len(raw) <= bytes_max:
        raise MalformedBlock(f"it declares a {what} of {len(raw)} bytes; 1 .. {bytes_max} are allowed")


def _next(number: int, expected: int, what: str) -> None:
    if number != expected:
        raise MalformedBlock(f"{what} number {number} is declared where {expected} comes next")

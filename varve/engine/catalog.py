"""Names, event types and streams by number, remembered in the process.

Numbers are given in a write transaction and never change once committed, so what a snapshot showed may be kept: no
invalidation, only bounds. Every handle has one catalog, shared by its readers and its writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from varve import limits
from varve.errors import CorruptedStore
from varve.layout import keys, records
from varve.layout.keys import StreamId
from varve.layout.records import StoreRecord, TypeRecord

if TYPE_CHECKING:
    from varve.engine.request import TypeDeclaration


class MetaReader(Protocol):
    """What a catalog reads from: a snapshot or a write transaction."""

    @property
    def record(self) -> StoreRecord:
        """The store's own record."""
        ...

    def find_meta(self, key: bytes) -> memoryview | bytes | None:
        """A metadata value, or None."""
        ...

    def meta(self, key: bytes) -> memoryview | bytes:
        """A metadata value that must be there."""
        ...


class StreamIdentity(NamedTuple):
    """Which stream a number means."""

    name: str
    stream_id: StreamId


class Catalog:
    """Bounded memory of what numbers mean. Its misses read the snapshot that is asking."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._types: dict[int, TypeRecord] = {}
        self._name_numbers: dict[str, int] = {}
        self._type_numbers: dict[tuple[str, bytes], int] = {}
        self.streams: dict[int, StreamIdentity] = {}
        self.stream_numbers: dict[tuple[str, bytes], int] = {}

    def refresh(self, snapshot: MetaReader, record: StoreRecord) -> None:
        """Learn the names and types that were declared since."""
        for number in range(len(self._names), record.next_name):
            name = records.decode_name(snapshot.meta(keys.name_key(number)))
            _check_agree(
                snapshot.find_meta(keys.name_lookup_key(name)), records.encode_name_number(number), "name", name
            )
            self._names[number] = name
            self._name_numbers[name] = number
        for number in range(len(self._types), record.next_type):
            declared = records.decode_type(snapshot.meta(keys.type_key(number)))
            if number not in records.decode_numbers(snapshot.find_meta(keys.type_lookup_key(declared.name)) or b""):
                _check_agree(None, b"", "event type", declared.name)
            self._types[number] = declared
            self._type_numbers[declared.name, fingerprint(declared.schema)] = number

    def name_number(self, snapshot: MetaReader, name: str) -> int | None:
        """The number of a stream name, or None where nothing was appended under it."""
        number = self._name_numbers.get(name)
        if number is None:
            found = snapshot.find_meta(keys.name_lookup_key(name))
            if found is not None:
                number = records.decode_name_number(found)
                _check_agree(snapshot.find_meta(keys.name_key(number)), name.encode(), "name", name)
                self._name_numbers[name] = number
        return number

    def name(self, snapshot: MetaReader, number: int) -> str:
        """The stream name of a number that the snapshot holds."""
        if number not in self._names:
            self.refresh(snapshot, snapshot.record)
            _check_declared(number, self._names, "name")
        return self._names[number]

    def type(self, snapshot: MetaReader, number: int) -> TypeRecord:
        """The event type of a number that the snapshot holds."""
        if number not in self._types:
            self.refresh(snapshot, snapshot.record)
            _check_declared(number, self._types, "type")
        return self._types[number]

    def type_number(self, snapshot: MetaReader, declaration: TypeDeclaration) -> int | None:
        """The number of exactly this version of an event type, or None where it was never appended."""
        number = self._type_numbers.get((declaration.name, declaration.fingerprint))
        if number is None and len(self._types) < snapshot.record.next_type:
            self.refresh(snapshot, snapshot.record)
            number = self._type_numbers.get((declaration.name, declaration.fingerprint))
        return number

    def type_versions(self, snapshot: MetaReader, name: str) -> list[TypeRecord]:
        """Every version of an event type that was appended, oldest first."""
        found = snapshot.find_meta(keys.type_lookup_key(name))
        return [] if found is None else [self.type(snapshot, number) for number in records.decode_numbers(found)]

    def stream_number(self, snapshot: MetaReader, name: str, id_key: bytes) -> int | None:
        """The number of a stream, or None where nothing was appended to it."""
        numbers = self.stream_numbers
        number = numbers.get((name, id_key))
        if number is None:
            name_number = self.name_number(snapshot, name)
            if name_number is None:
                return None
            found = snapshot.find_meta(keys.stream_lookup_key(name_number, id_key))
            if found is None:
                return None
            if len(numbers) >= limits.CACHED_STREAMS_MAX:
                numbers.clear()
            number = records.decode_stream_number(found)
            identity = records.encode_stream(name_number, id_key)
            _check_agree(snapshot.find_meta(keys.stream_key(number)), identity, "stream", id_key)
            numbers[name, id_key] = number
        return number

    def stream(self, snapshot: MetaReader, number: int) -> StreamIdentity:
        """The stream of a number that the snapshot holds."""
        known = self.streams.get(number)
        if known is None:
            name_number, id_key = records.decode_stream(snapshot.meta(keys.stream_key(number)))
            known = StreamIdentity(self.name(snapshot, name_number), keys.decode_stream_id(id_key))
            lookup = snapshot.find_meta(keys.stream_lookup_key(name_number, id_key))
            _check_agree(lookup, records.encode_stream_number(number), "stream", id_key)
            if len(self.streams) >= limits.CACHED_STREAMS_MAX:
                self.streams.clear()
            self.streams[number] = known
        return known


def _check_declared(number: int, known: Mapping[int, object], what: str) -> None:
    if number not in known:
        raise CorruptedStore(
            f"the metadata knows no {what} number {number}, which the log uses; repair it with varve.ops", path=""
        )


def _check_agree(found: memoryview | bytes | None, expected: bytes, what: str, name: str | bytes) -> None:
    """What is looked up by number and by name is stored twice; pages of LMDB have no checksums, so each is held against the
    other once. Raises ``CorruptedStore``."""
    if found != expected:
        raise CorruptedStore(
            f"the metadata's two records of the {what} {name!r} contradict each other; repair it with varve.ops",
            path="",
        )


def fingerprint(schema: bytes) -> bytes:
    """Digest of a schema: BLAKE2b, 16 bytes."""
    return hashlib.blake2b(schema, digest_size=16).digest()

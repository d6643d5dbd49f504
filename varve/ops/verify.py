"""Verify a store: LMDB's structure, every block, every event, index and metadata against the log, consumers."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from varve import limits
from varve.codec import EventType, event_type_from_schema
from varve.engine import files
from varve.engine.instant import Instant
from varve.engine.pages import DamagedPage, PageFile, Tree
from varve.engine.seal import Seal, read_seal
from varve.errors import CorruptedStore, MalformedEvent, NotAVarveStore, SchemaError, VarveError
from varve.layout import base as bases
from varve.layout import consumers, keys, retention, state
from varve.layout.base import Base, decode_base
from varve.layout.block import Block
from varve.layout.content import ContentDigest
from varve.layout.derive import Derivation, Pair
from varve.layout.frame import MalformedBlock, crc_holds
from varve.layout.ordered import decode_key
from varve.layout.records import StoreRecord, TypeRecord, decode_store_record, decode_type, unsupported
from varve.ops.findings import Finding, FindingKind, Where

Progress = Callable[[int, int], None]
"""Called now and then, on the thread that works, with what is done and what there is to do, counted in events: one for each pass
over an event. (``verify`` and ``repair`` make one; salvage makes three: it looks for what is left, writes it, and verifies what
it wrote.) Neither number ever falls. The first call says that nothing is done and comes before LMDB's verifier begins, which says
nothing while it works. What the callback raises ends the work."""


class Told:
    """A progress that never goes back, whatever is told it: nothing known at first, a store that changed and is read anew."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self._total = 0

    def __call__(self, done: int, total: int) -> None:
        """So many of so many."""
        if self._progress is not None:
            self._done = max(self._done, done)
            self._total = max(self._total, total, self._done)
            self._progress(self._done, self._total)

    def end(self) -> None:
        """All of it is done, also where there was less to do than it seemed."""
        self(self._total, self._total)


LOG, INDEX, META = files.DATABASES
CONSUMERS, BASE, RETENTION = map(files.side_name, (consumers.TABLE, bases.TABLE, retention.TABLE))
STATE = files.side_name(state.TABLE)

UNREADABLE = (ValueError, IndexError, struct.error)  # MalformedBlock and MalformedRecord are ValueErrors
"""What reading a block raises whose columns contradict each other in a way that ``Block.check`` does not look for."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification came to."""

    findings: tuple[Finding, ...]
    """Everything that is wrong, in the order of the store's parts and of their keys; at most ``limits.FINDINGS_MAX``."""
    suppressed: int
    """Findings beyond that."""
    not_checked: tuple[str, ...]
    """What could not be judged, a line each: because of what was found, or because a newer Varve wrote it."""
    events: int
    """Events that were read and found to be valid."""
    blocks: int
    """Blocks that were read and found to be whole."""
    unknown_tables: tuple[str, ...] = ()
    """The part of ``not_checked`` that names sub-databases which this Varve does not know."""

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(
    path: str | os.PathLike[str], *, progress: Progress | None = None, scratch: str | os.PathLike[str] | None = None
) -> VerifyReport:
    """Read the whole of a store that this process does not hold open, and say everything that is wrong with it.

    Structure (LMDB's own verifier), every block's checksum and shape, every event as a FlatBuffer of its type, sequences without
    gaps, times that never go back, index and metadata equal to what the log says pair by pair, positions of consumers within the
    log, retention rules. Nothing is written to the store. Its pages are read, not mapped: damage is a finding, not a crash.

    Other processes may write meanwhile: what is verified is one instant, held like a snapshot. LMDB's verifier then works on a
    copy of the file, in the folder ``scratch`` (the system's folder for temporary files), which needs as much room.
    ``progress`` is called with events done and events in all, first with none done; neither ever falls. Memory grows with the
    number of streams and of index entries.

    Raises ``InvalidInput``, ``StoreNotFound``, ``StoreAccessDenied``, ``StoreAlreadyOpen``, ``StoreInUse`` (bulk loading),
    ``NotAVarveStore`` where the folder holds another program's file, ``UnsupportedFormat``, ``DiskFull``.
    """
    folder = files.folder(path)
    copies = None if scratch is None else files.folder(scratch, "scratch")
    told = Told(progress)
    while True:
        verification = _Verification(told)
        if _looked(verification, folder, copies):
            return verification.report()


def _looked(verification: _Verification, folder: str, scratch: str | None) -> bool:
    """Whether all of it was looked at; False where somebody opened the store meanwhile and wrote to it."""
    try:
        with Instant(folder) as instant:
            for damage in (instant.damage, instant.misnumbered):
                if damage is not None:
                    verification.find("structure", "page", f"{damage} (a meta page)")
            verification.begin(instant.file)
            verification.read_seal(folder)
            verification.structure(instant, scratch)
            verification.contents(instant.file, folder)
            return not instant.changed()
    except CorruptedStore as exc:  # no meta page can be used
        verification.find("structure", "page", str(exc))
        verification.not_checked.append("everything else: no meta page says where it is")
        return True


def examined(path: str) -> dict[str, Any]:
    """A verification as JSON, for ``varve.open(trust=False)``: its findings, or the error that it met."""
    try:
        report = verify(path)
        # A name that a flipped bit made of one of ours, perhaps: what stands there would be missed in silence.
        return {"findings": [*map(str, report.findings), *report.unknown_tables]}
    except VarveError as exc:
        facts = {name: value for name, value in vars(exc).items() if isinstance(value, str | int) and name != "message"}
        return {"error": {"class": type(exc).__name__, "message": str(exc), "facts": facts}}


class _Verification:
    """Findings, collected part by part."""

    def __init__(self, progress: Told) -> None:
        self._progress = progress
        self._findings: list[Finding] = []
        self._suppressed = 0
        self.not_checked: list[str] = []
        self._unreadable: set[int] = set()
        self._unknown_tables: list[str] = []
        self._events = 0
        self._blocks = 0
        self._seal: Seal | None = None
        self._content: ContentDigest | None = None

    def report(self) -> VerifyReport:
        """What it came to."""
        return VerifyReport(
            tuple(self._findings),
            self._suppressed,
            tuple(self.not_checked),
            self._events,
            self._blocks,
            tuple(self._unknown_tables),
        )

    @property
    def _found(self) -> int:
        return len(self._findings) + self._suppressed

    def find(
        self, where: Where, kind: FindingKind, message: str, sequence: int | None = None, key: bytes | None = None
    ) -> None:
        """Something is wrong."""
        if len(self._findings) < limits.FINDINGS_MAX:
            self._findings.append(Finding(where, kind, message, sequence, key))
        else:
            self._suppressed += 1

    def begin(self, file: PageFile) -> None:
        """Tell how much there is to do."""
        record = stored_record(file)
        self._progress(0, 0 if record is None else record.next_sequence)

    def read_seal(self, path: str) -> None:
        """What a sealed store held when it was sealed."""
        try:
            self._seal = read_seal(path)
        except CorruptedStore as exc:
            self.find("seal", "record", str(exc))
        self._content = None if self._seal is None else ContentDigest(self._seal.first_sequence)

    def structure(self, instant: Instant, scratch: str | None) -> None:
        """LMDB's pages, as its own verifier sees them."""
        for problem in instant.structure(scratch):
            self.find("structure", "page", problem)

    def contents(self, file: PageFile, path: str) -> None:
        """What stands in the pages."""
        trees = dict(file.readable_tables(self._damage("structure")))
        if trees and trees.keys().isdisjoint(files.DATABASES):
            raise NotAVarveStore(f"{path} is an LMDB file of another program; choose another path", path=path)
        if not trees and not self._findings:
            return  # its creation was cut off before it had anything; the next open finishes it
        for name in files.DATABASES:
            if name not in trees:
                self.find("structure", "table", f"there is no sub-database {name.decode()}")
        meta = self._pairs(file, trees.get(META), "meta")
        by_key = dict(meta or ())
        check_format(path, by_key.get(keys.STORE_RECORD_KEY))
        index = self._pairs(file, trees.get(INDEX), "index")
        begun = self._base(file, trees.get(BASE), by_key)
        derivation = self._log(file, trees.get(LOG), by_key, *begun)
        if derivation is None:
            self.not_checked.append("index and metadata against the log: the log is damaged")
        else:
            self._compare("index", index, derivation.index_pairs())
            self._compare("meta", meta, _meta_pairs(derivation, by_key))
        self._compare_seal(derivation, by_key)
        if CONSUMERS in trees:
            self._consumers(self._pairs(file, trees[CONSUMERS], "consumers"), derivation)
        if RETENTION in trees:
            for key, value in self._pairs(file, trees[RETENTION], "retention") or ():
                if not is_rule(key, value):
                    self.find("retention", "record", f"the rule {_spelled(key, value)} is damaged", key=key)
        for key, value in self._pairs(file, trees.get(STATE), "state") or ():
            if not is_state(key, value):
                self.find("state", "record", f"the record of state under {spelled_key(key)} is damaged", key=key)
        known = {*files.DATABASES, *map(files.side_name, files.SIDE_TABLES)}
        self._unknown_tables = [
            f"the sub-database {name!r}, which this Varve does not know" for name in sorted(trees.keys() - known)
        ]
        self.not_checked += self._unknown_tables

    def _damage(self, where: Where) -> Callable[[DamagedPage], None]:
        def tell(damage: DamagedPage) -> None:
            if not any(finding.kind == "page" for finding in self._findings) or where != "structure":
                self.find(where, "page", str(damage))

        return tell

    def _pairs(self, file: PageFile, tree: Tree | None, where: Where) -> list[Pair] | None:
        """Every pair of a sub-database in key order; None where some cannot be read."""
        if tree is None:
            return None
        before = self._found
        pairs = sorted(file.readable(tree, self._damage(where)))
        return pairs if self._found == before else None

    # -- the log -----------------------------------------------------------------------------------

    def _base(self, file: PageFile, tree: Tree | None, meta: dict[bytes, bytes]) -> tuple[Base | None, Derivation]:
        """What archives have left, and what follows from it. Where it cannot be read, that is found, and nothing follows."""
        before = self._found
        pairs = self._pairs(file, tree, "base") or []
        record = decode_store_record(meta.get(keys.STORE_RECORD_KEY, b""))
        first = record.first_sequence if isinstance(record, StoreRecord) else 0
        if pairs:
            try:
                base = decode_base(pairs)
                return base, Derivation(base)
            except UNREADABLE as exc:
                self.find("base", "record", f"what was archived has left something that cannot be read: {exc}")
        elif first and self._found == before:
            self.find("base", "missing", f"the log begins at {first}, and nothing tells what was archived before that")
        derivation = Derivation()
        derivation.next_sequence = first
        return None, derivation

    def _log(
        self, file: PageFile, tree: Tree | None, meta: dict[bytes, bytes], base: Base | None, derivation: Derivation
    ) -> Derivation | None:
        """What follows from the log, behind what was archived; None where it is damaged."""
        if tree is None:
            return None
        before = self._found
        is_sound = not any(finding.where == "base" for finding in self._findings)
        types = _Types(meta)
        for number, declared in enumerate([] if base is None else base.types):
            self._declare(types, number, declared)
        stored = decode_store_record(meta.get(keys.STORE_RECORD_KEY, b""))
        total = stored.next_sequence if stored is not None and not isinstance(stored, int) else 0
        next_sequence = derivation.next_sequence
        last_ns = 0 if base is None else base.last_time_ns
        for key, frame in file.readable(tree, self._damage("log")):
            block = self._block(key, frame)
            if block is None:
                continue
            if block.first != next_sequence:
                self._gap(next_sequence, block.first)
            next_sequence = max(next_sequence, block.end)
            try:
                last_ns = self._times(block, last_ns)
                if is_sound and self._found == before:
                    derivation.feed(block)
                    if self._content is not None:
                        self._content.feed(block)
                self._check_events(block, types)
            except UNREADABLE as exc:
                self.find("log", "block", f"the block at {block.first}: {exc}", block.first, key)
            self._blocks += 1
            self._progress(next_sequence, total)
        if total > next_sequence and self._found > before:
            self._gap(next_sequence, total)
        return derivation if is_sound and self._found == before else None

    def _block(self, key: bytes, frame: bytes) -> Block | None:
        """A block that is whole in itself."""
        if len(key) != 8:
            self.find("log", "key", f"the key {key[:40].hex()} is no sequence", key=key)
            return None
        first = keys.log_sequence(key)
        if not crc_holds(frame):
            self._unreadable.add(first)
            self.find("log", "checksum", f"the checksum of the block at {first} is wrong", first, key)
            return None
        try:
            block = Block(memoryview(frame))
            block.check()
            if block.first != first:
                raise MalformedBlock(f"it says that it begins at {block.first}")
            for _, _, id_key in block.declared_streams():
                keys.decode_stream_id(id_key)
        except UNREADABLE as exc:
            self._unreadable.add(first)
            self.find("log", "block", f"the block at {first}: {exc}", first, key)
            return None
        return block

    def _gap(self, expected: int, found: int) -> None:
        if found > expected:
            if expected not in self._unreadable:  # the block there was told already
                self.find("log", "gap", f"the sequences {expected} to {found - 1} are missing", expected)
        else:
            self.find("log", "block", f"the block at {found} begins before the last one ends, at {expected}", found)

    def _times(self, block: Block, last_ns: int) -> int:
        for time_ns in block.commit_times():
            if time_ns < last_ns:
                self.find("log", "time", f"time goes backwards in the block at {block.first}", block.first)
            last_ns = max(last_ns, time_ns)
        return last_ns

    def _check_events(self, block: Block, types: _Types) -> None:
        """Every event as a FlatBuffer of its type, and the metadata beside them."""
        if not block.is_plain:
            for number, name, schema in block.declared_types():
                self._declare(types, number, TypeRecord(name, schema))
            self._check_metadata(block)
        index = 0
        payload = block.payload()
        start = 0
        ends = block.ends()
        for run in block.runs:
            compiled = types.get(run.type)
            for _ in range(run.count):
                end = ends[index]
                if compiled is not None:
                    try:
                        compiled.verify(payload[start:end])
                        self._events += 1
                    except MalformedEvent as exc:
                        self.find("log", "event", f"the event at {block.first + index}: {exc}", block.first + index)
                start = end
                index += 1
            if compiled is None and not types.is_declared(run.type):
                at = block.first + index - run.count
                self.find("log", "schema", f"the type number {run.type} of the event at {at} is unknown", at)

    def _declare(self, types: _Types, number: int, declared: TypeRecord) -> None:
        problem = types.declare(number, declared)
        if problem is not None:  # its checksum is right, so that is how it was written
            self.not_checked.append(
                f"events of the type {declared.name!r}, whose schema this Varve cannot read: {problem}"
            )

    def _check_metadata(self, block: Block) -> None:
        for first in block.column("metadata_firsts"):
            raw = block.metadata_of(first) or b""
            try:
                sound = isinstance(json.loads(raw), dict)
            except (ValueError, RecursionError):
                sound = False
            if not sound:
                at = block.first + first
                self.find("log", "metadata", f"the metadata of the event at {at} is no JSON object", at)

    # -- what follows from it ----------------------------------------------------------------------

    def _compare(self, where: Where, found: list[Pair] | None, expected: Iterable[Pair]) -> None:
        if found is None:
            self.not_checked.append(f"{where} against the log: a part of it cannot be read")
            return
        for key, has, should in _merged(found, expected):
            if has is None:
                self.find(where, "missing", f"found nothing, the log says {_spelled(key, should)}", key=key)
            elif should is None:
                self.find(where, "extra", f"found {_spelled(key, has)}, the log says nothing", key=key)
            elif has != should:
                message = f"found {_spelled(key, has)}, the log says {_spelled(key, should)}"
                self.find(where, "different", message, key=key)

    def _compare_seal(self, derivation: Derivation | None, meta: dict[bytes, bytes]) -> None:
        seal, content = self._seal, self._content
        if seal is None or content is None:
            return
        if derivation is None:
            self.not_checked.append("the log against the seal: the log is damaged")
            return
        record = decode_store_record(meta.get(keys.STORE_RECORD_KEY, b""))
        if isinstance(record, StoreRecord) and record.uuid != seal.uuid:
            self.find("seal", "different", "the seal is another store's")
        elif content.next_sequence != seal.next_sequence:
            message = f"the store was sealed at {seal.next_sequence}, the log ends at {content.next_sequence}"
            self.find("seal", "different", message, min(seal.next_sequence, content.next_sequence))
        elif content.hexdigest() != seal.content_digest:
            self.find("seal", "different", "the events are not those that were sealed")

    def _consumers(self, pairs: list[Pair] | None, derivation: Derivation | None) -> None:
        if pairs is None:
            return
        last_token = consumers.decode_token(dict(pairs).get(consumers.TOKEN_KEY))
        if last_token > consumers.TOKEN_MAX:
            message = f"so many tokens as {last_token} were never given"
            self.find("consumers", "token", message, key=consumers.TOKEN_KEY)
        for key, value in pairs:
            if key == consumers.TOKEN_KEY:
                continue
            name = consumers.consumer_name(key)
            named = name and consumers.consumer_key(name) == key  # else it is no text, and nobody can ask for it
            record = consumers.decode_consumer(value, key) if named else None
            if record is None or isinstance(record, int):
                self.find("consumers", "record", f"the record {_spelled(key, value)} is damaged", key=key)
                continue
            for run in record.runs:
                if derivation is not None and run.position > derivation.next_sequence:
                    message = f"{name!r} stands at {run.position}, the log ends at {derivation.next_sequence}"
                    self.find("consumers", "position", message, run.position, key)
                if run.token > last_token:
                    message = f"{name!r} has token {run.token}, the last that was given is {last_token}"
                    self.find("consumers", "token", message, key=key)


class _Types:
    """The event types of a log, from its declarations, or from the metadata where those are lost."""

    def __init__(self, meta: dict[bytes, bytes]) -> None:
        self._meta = meta
        self._known: dict[int, EventType | None] = {}
        self._declared: set[int] = set()

    def declare(self, number: int, declared: TypeRecord) -> str | None:
        """What is wrong with a declaration, if anything."""
        self._declared.add(number)
        try:
            self._known[number] = event_type_from_schema(declared.schema)
        except (SchemaError, MalformedEvent, ValueError, TypeError) as exc:
            self._known[number] = None
            return str(exc)
        return None

    def is_declared(self, number: int) -> bool:
        """Whether the log has declared a type of this number, readable or not."""
        return number in self._declared

    def get(self, number: int) -> EventType | None:
        """The event type of a number."""
        if number not in self._known:
            self._known[number] = None
            stored = self._meta.get(keys.type_key(number)) if number <= limits.TYPES_MAX else None
            if stored is not None:
                try:
                    self.declare(number, decode_type(stored))
                except UNREADABLE:
                    return None
        return self._known[number]


def stored_record(file: PageFile) -> StoreRecord | None:
    """The store's record, where it can be read and is of this format: nothing else is."""
    for name, tree in file.readable_tables(_ignore):
        if name == META:
            found = next((value for key, value in file.readable(tree, _ignore) if key == keys.STORE_RECORD_KEY), b"")
            record = decode_store_record(found)
            return None if isinstance(record, int) else record
    return None


def _ignore(damage: DamagedPage) -> None:
    """Told elsewhere."""


def check_format(path: str, stored: bytes | None) -> None:
    """Raise ``UnsupportedFormat`` where a store's record says that a newer Varve wrote it."""
    record = None if stored is None else decode_store_record(stored)
    if isinstance(record, int):
        raise unsupported(path, record)


def _meta_pairs(derivation: Derivation, found: dict[bytes, bytes]) -> list[Pair]:
    """The metadata that follows from the log. Of an empty log nothing follows but that the store's record says so."""
    if derivation.record is not None:
        return derivation.meta_pairs()
    if not found:
        return []  # its creation was cut off before it had a name; the next open finishes it
    stored = found.get(keys.STORE_RECORD_KEY)
    record = None if stored is None else decode_store_record(stored)
    if stored is None or record is None or isinstance(record, int) or record.next_sequence:
        return [(keys.STORE_RECORD_KEY, b"the record of an empty store")]
    return [(keys.STORE_RECORD_KEY, stored)]


def is_rule(key: bytes, value: bytes) -> bool:
    """Whether a pair of the table of retention rules is one."""
    try:
        name, id_key = retention.decode_key(key)
        keys.check_name(name)
        if id_key is not None:
            keys.decode_stream_id(id_key)
        retention.decode_retention(key, value)
    except UNREADABLE:
        return False
    return True


def is_state(key: bytes, value: bytes) -> bool:
    """Whether a pair of the table of state is a key and its value."""
    try:
        state.decode_pair(key, value)
    except UNREADABLE:
        return False
    return True


def spelled_key(key: bytes) -> str:
    """A key of state for people: as it was given, its bytes where these are damaged."""
    try:
        return f"{decode_key(key)!r:.80}"
    except UNREADABLE:
        return key[:40].hex()


def _merged(found: Iterable[Pair], expected: Iterable[Pair]) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Key, value found and value expected, over two sequences in key order."""
    left, right = iter(found), iter(expected)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            yield a[0], a[1], None
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield b[0], None, b[1]
            b = next(right, None)
        else:
            yield a[0], a[1], b[1]
            a, b = next(left, None), next(right, None)


def _spelled(key: bytes, value: bytes | None) -> str:
    return f"{key.hex()} -> {(value or b'')[:64].hex()}"

"""Dead letters as users see them: listed, looked at, dropped, asked to be tried again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from varve.derived.processors.letters import Request, read_letter
from varve.engine.request import CommitRequest
from varve.errors import Archived, InvalidInput
from varve.gaps import Gap
from varve.layout.dead_letters import TABLE, LetterRecord, decode_key, letter_key, letters_prefix
from varve.record import Recorded, to_datetime
from varve.replay import recorded_at

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.layout.keys import StreamId
    from varve.replay import ViewClass

LetterState = Literal["dead", "parked"]
_Pairs = list[tuple[bytes, bytes]]
_Found = list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
    """An event that a processor could not handle, or that waits behind one. Made by ``DeadLetters``."""

    processor: str
    """The name of the processor."""
    global_sequence: int
    """Where the event stands in the log."""
    stream: str
    """Name of its stream."""
    stream_id: StreamId
    stream_sequence: int
    type_name: str
    """Its event type."""
    state: LetterState
    """``"dead"``: its handler failed. ``"parked"``: it waits behind a dead one of its stream, and was not handled."""
    blocks: bool
    """Whether later events of its stream wait behind it."""
    retry_requested: bool
    """Whether the processor shall try it again at its next step."""
    attempts: int
    """Calls of the handler that failed."""
    first_failed_at: dt.datetime | None
    """When it failed first (UTC); None of a parked one."""
    last_failed_at: dt.datetime | None
    error_type: str
    """The class of the last error, with its module; empty of a parked one."""
    message: str
    """What the last error said."""
    traceback: str
    """Where it was raised, as Python prints it."""


class DeadLetters:
    """The dead letters of a processor, or of all. Made by ``db.dead_letters(name)`` and ``processor.dead_letters``.

    Each call sees the newest instant. Iterating gives them in the order of processors' names and of the log.
    """

    def __init__(
        self, engine: Engine, name: str | None, any_view: ViewClass, changed: Callable[[], None] | None = None
    ) -> None:
        self._engine = engine
        self._name = name
        self._view = any_view
        self._changed = changed

    def __iter__(self) -> Iterator[DeadLetterInfo]:
        return iter(self.list())

    def __len__(self) -> int:
        return len(self._pairs())

    def list(self, state: LetterState | None = None) -> list[DeadLetterInfo]:
        """All of them, or those of a state. Raises ``CorruptedStore`` where one cannot be read."""
        if state not in {None, "dead", "parked"}:
            raise InvalidInput(f"state is 'dead' or 'parked', or None for both, not {state!r}")
        found = [self._info(key, value) for key, value in self._pairs()]
        return [info for info in found if state is None or info.state == state]

    def get(self, global_sequence: int, processor: str | None = None) -> DeadLetterInfo | None:
        """The letter of an event; None where there is none. Raises ``CorruptedStore``."""
        key = self._key(global_sequence, processor)
        with self._engine.side_snapshot(TABLE) as snapshot:
            value = snapshot.side_value(TABLE, key)
        return None if value is None else self._info(key, value)

    def event(self, global_sequence: int) -> Recorded[Any] | None:
        """The event of a letter, as ``db.global_reader().get`` gives it; None where it is gone from the log: archived, or dropped
        by compaction."""
        _check_sequence(global_sequence)
        try:
            with self._engine.snapshot() as snapshot:
                recorded = recorded_at(snapshot, global_sequence, self._view)
        except Archived:
            return None
        return None if recorded is None or isinstance(recorded.event, Gap) else recorded

    def retry(self, global_sequence: int, processor: str | None = None) -> bool:
        """Ask for another try of a dead letter; whether there is one. Its processor does it at its next step, wherever and
        whenever it runs, however often the letter has failed. Raises ``InvalidInput`` for a parked one, which comes by itself
        when what it waits for is gone."""
        info = self.get(global_sequence, processor)
        if info is not None and info.state == "parked":
            raise InvalidInput(
                f"the event at {global_sequence} waits behind a dead letter of its stream {info.stream!r} {info.stream_id!r}: "
                "retry or drop that one, and it is handled next"
            )
        return bool(self._ask([self._key(global_sequence, processor)], drop=False))

    def retry_all(self) -> int:
        """Ask for another try of all that are dead; how many."""
        keys = [letter_key(info.processor, info.global_sequence) for info in self.list("dead")]
        return len(self._ask(keys, drop=False))

    def drop(self, global_sequence: int, processor: str | None = None) -> bool:
        """Give an event up; whether there was a letter of it. What waits behind a dropped letter is handled next. Damaged letters
        can be dropped, too."""
        return bool(self._ask([self._key(global_sequence, processor)], drop=True))

    def drop_all(self) -> int:
        """Give all of them up, parked ones included; how many."""
        return len(self._ask([key for key, _ in self._pairs()], drop=True))

    def _ask(self, keys: Sequence[bytes], *, drop: bool) -> _Found:
        if self._engine.environment.readonly:
            raise self._engine.environment.not_writable()
        if not keys or (len(keys) == 1 and not self._holds(keys[0])):
            return []
        request = Request(keys, drop=drop)
        self._engine.commit(CommitRequest([], effects=(request,)))
        if self._changed is not None:
            self._changed()
        return request.found

    def _holds(self, key: bytes) -> bool:
        with self._engine.side_snapshot(TABLE) as snapshot:
            return snapshot.side_value(TABLE, key) is not None

    def _pairs(self) -> _Pairs:
        with self._engine.side_snapshot(TABLE) as snapshot:
            return snapshot.side_items(TABLE, letters_prefix(self._name))

    def _key(self, global_sequence: int, processor: str | None) -> bytes:
        name = self._name if processor is None else processor
        if name is None:
            raise InvalidInput("say whose letter it is: db.dead_letters(name), or processor=")
        return letter_key(name, _check_sequence(global_sequence))

    def _info(self, key: bytes, value: bytes) -> DeadLetterInfo:
        record = read_letter(self._engine.path, key, value)
        name, sequence = decode_key(key)
        assert sequence is not None
        return _info(name, sequence, record)

    def __repr__(self) -> str:
        whose = "all processors" if self._name is None else repr(self._name)
        return f"<DeadLetters of {whose} in {self._engine.path}>"


def _info(name: str, sequence: int, record: LetterRecord) -> DeadLetterInfo:
    return DeadLetterInfo(
        name,
        sequence,
        record.stream,
        record.stream_id,
        record.stream_sequence,
        record.type_name,
        "dead" if record.is_dead else "parked",
        record.blocks,
        record.retry,
        record.attempts,
        to_datetime(record.first_failed_ns) if record.is_dead else None,
        to_datetime(record.last_failed_ns) if record.is_dead else None,
        record.error_type,
        record.message,
        record.traceback,
    )


def _check_sequence(sequence: int) -> int:
    if not isinstance(sequence, int) or isinstance(sequence, bool) or not 0 <= sequence < 2**64:
        raise InvalidInput(f"a letter is named by its event's global sequence, an int from 0 on, not {sequence!r}")
    return sequence

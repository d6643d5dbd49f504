"""Dead letters as they are stored: what changes them inside a commit, and what a processor knows of its own.

A letter stands for its event: while it is there, the event is not handled anew, wherever the processor's position goes. Only a
letter's processor adds letters and takes them out as handled; anybody may drop one or ask for another try, and raises a counter
so that the processor looks.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from varve import limits
from varve.codec import event_type
from varve.errors import Conflict, CorruptedStore
from varve.layout.consumers import partition_of
from varve.layout.dead_letters import (
    TABLE,
    LetterRecord,
    decode_key,
    decode_letter,
    decode_requests,
    encode_requests,
    letter_key,
    letters_prefix,
    requests_key,
)
from varve.layout.keys import StreamId, encode_stream_id
from varve.layout.records import MalformedRecord
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.side import Table
    from varve.record import Recorded

_HERE: Final = Path(__file__).parent
_MASK: Final = 2**64 - 1


class LetterGone(Conflict):
    """Somebody else dropped the letter meanwhile; what was done for it is not written."""

    code = "letter_gone"


class _LetterEffect:
    """A change of one letter, riding on a transaction."""

    table = TABLE

    def __init__(self, name: str, sequence: int) -> None:
        self.key = letter_key(name, sequence)

    def __call__(self, table: Table) -> None:
        raise NotImplementedError

    def arrived(self) -> None:
        """It is committed: nobody here has to know."""


class Put(_LetterEffect):
    """A new letter."""

    def __init__(self, name: str, sequence: int, record: LetterRecord) -> None:
        super().__init__(name, sequence)
        self._value = record.encode(self.key)

    def __call__(self, table: Table) -> None:
        """Store it."""
        table.put(self.key, self._value)


class Take(_LetterEffect):
    """A letter is done with. Raises ``LetterGone``, which refuses the commit: whoever does its work does it once."""

    def __call__(self, table: Table) -> None:
        """Look, and remove it."""
        if table.get(self.key) is None:
            raise LetterGone("the dead letter was dropped meanwhile, or handled by somebody else")
        table.delete(self.key)


class Replace(Put):
    """A letter as it is after another try, where it is still there. Raises ``LetterGone``."""

    def __call__(self, table: Table) -> None:
        """Look, and store it."""
        if table.get(self.key) is None:
            raise LetterGone("the dead letter was dropped meanwhile")
        super().__call__(table)


class Request:
    """Somebody wants letters dropped, or tried again; those that are gone already are passed over. ``found``: the others."""

    table = TABLE

    def __init__(self, keys: Iterable[bytes], *, drop: bool) -> None:
        self._keys = list(keys)
        self._drop = drop
        self.found: list[tuple[str, int]] = []

    def __call__(self, table: Table) -> None:
        """Change what is there, and let the processors know."""
        self.found = []
        for key in self._keys:
            value = table.get(key)
            if value is None:
                continue
            name, sequence = decode_key(key)
            assert sequence is not None
            if self._drop:
                table.delete(key)
            else:
                table.put(key, decode_letter(key, value)._replace(retry=True).encode(key))
            self.found.append((name, sequence))
        for name in {name for name, _ in self.found}:
            counter = requests_key(name)
            table.put(counter, encode_requests((decode_requests(table.get(counter)) + 1) & _MASK))


def read_letter(path: str, key: bytes, value: bytes) -> LetterRecord:
    """A stored letter. Raises ``CorruptedStore``."""
    try:
        return decode_letter(key, value)
    except MalformedRecord as exc:
        raise damaged(path, key, exc) from None


def damaged(path: str, key: bytes, reason: Exception) -> CorruptedStore:
    """What is said of a letter that cannot be read."""
    try:
        name, sequence = decode_key(key)
        what = f"dead letter {sequence} of processor {name!r} is damaged: db.dead_letters({name!r}).drop({sequence}) forgets it"
    except MalformedRecord:
        what = "a dead letter is damaged; repair the store with varve.ops"
    return CorruptedStore(f"{path}: {what} ({reason})", path=path)


# -- what a processor knows --------------------------------------------------------------------------


class Slip(NamedTuple):
    """What has to be known of a letter without reading it."""

    is_dead: bool
    blocks: bool
    retry: bool
    stream: tuple[str, StreamId]
    attempts: int
    last_failed_ns: int


def slip_of(record: LetterRecord) -> Slip:
    """What has to be known of a letter."""
    stream = (record.stream, record.stream_id)
    return Slip(record.is_dead, record.blocks, record.retry, stream, record.attempts, record.last_failed_ns)


class Book:
    """The letters of a processor as it knows them: those that are there, and some that others have dropped since it looked."""

    def __init__(self, engine: Engine, name: str, partitions: range) -> None:
        self._engine = engine
        self._name = name
        self._partitions = partitions
        self._requests = 0
        self._slips: dict[int, Slip] = {}
        self._blocking: Counter[tuple[str, StreamId]] = Counter()

    def __len__(self) -> int:
        return len(self._slips)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._slips

    def get(self, sequence: int) -> Slip | None:
        """What is known of a letter."""
        return self._slips.get(sequence)

    def in_order(self) -> list[int]:
        """The sequences of all letters."""
        return sorted(self._slips)

    def blocks(self, recorded: Recorded[Any]) -> bool:
        """Whether an event has to wait behind a letter of its stream."""
        return bool(self._blocking) and (recorded.stream, recorded.stream_id) in self._blocking

    def load(self) -> None:
        """Look at all of them. Raises ``CorruptedStore``."""
        with self._engine.side_snapshot(TABLE) as snapshot:
            self._requests = decode_requests(snapshot.side_value(TABLE, requests_key(self._name)))
            pairs = snapshot.side_items(TABLE, letters_prefix(self._name))
        self._slips.clear()
        self._blocking.clear()
        for key, value in pairs:
            _, sequence = decode_key(key)
            record = read_letter(self._engine.path, key, value)
            if sequence is not None and self._is_mine(record):
                self.put(sequence, record)

    def has_requests(self) -> bool:
        """Whether somebody else has changed some since."""
        with self._engine.side_snapshot(TABLE) as snapshot:
            return decode_requests(snapshot.side_value(TABLE, requests_key(self._name))) != self._requests

    def read(self, sequence: int) -> LetterRecord | None:
        """A letter as it is stored now."""
        key = letter_key(self._name, sequence)
        with self._engine.side_snapshot(TABLE) as snapshot:
            value = snapshot.side_value(TABLE, key)
        return None if value is None else read_letter(self._engine.path, key, value)

    def _is_mine(self, record: LetterRecord) -> bool:
        """Whether this member of a group handles its stream."""
        return partition_of(record.stream, encode_stream_id(record.stream_id)) in self._partitions

    def put(self, sequence: int, record: LetterRecord) -> None:
        """There is a letter now, or it has changed."""
        self.remove(sequence)
        slip = self._slips[sequence] = slip_of(record)
        if slip.blocks:
            self._blocking[slip.stream] += 1

    def remove(self, sequence: int) -> None:
        """A letter is gone."""
        slip = self._slips.pop(sequence, None)
        if slip is not None and slip.blocks:
            self._blocking[slip.stream] -= 1
            if not self._blocking[slip.stream]:
                del self._blocking[slip.stream]

    def __iter__(self) -> Iterator[Slip]:
        return iter(self._slips.values())


# -- records -----------------------------------------------------------------------------------------


def parked_letter(recorded: Recorded[Any]) -> LetterRecord:
    """The letter of an event that waits behind another."""
    return LetterRecord(
        is_dead=False,
        blocks=True,
        retry=False,
        stream=recorded.stream,
        stream_id=recorded.stream_id,
        stream_sequence=recorded.stream_sequence,
        type_name=type_name_of(recorded),
    )


def failed_again(
    letter: LetterRecord, error: BaseException, attempts: int, first_ns: int, last_ns: int
) -> LetterRecord:
    """A letter after its event has failed ``attempts`` times more, between two instants."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return letter._replace(
        is_dead=True,
        retry=False,
        attempts=letter.attempts + attempts,
        first_failed_ns=letter.first_failed_ns or first_ns,
        last_failed_ns=last_ns,
        error_type=_clean(name)[: limits.DEAD_LETTER_MESSAGE_CHARS_MAX],
        message=_safely(lambda: str(error))[: limits.DEAD_LETTER_MESSAGE_CHARS_MAX],
        traceback=_safely(lambda: _traceback_of(error))[-limits.DEAD_LETTER_TRACEBACK_CHARS_MAX :],
    )


def type_name_of(recorded: Recorded[Any]) -> str:
    """The name of an event's type in this store."""
    kind = recorded.type
    return str(recorded.event.type_name) if kind is UnknownEvent else event_type(kind).name


def _traceback_of(error: BaseException) -> str:
    """The traceback from the handler on: how it came to be called is always the same."""
    frames = error.__traceback__
    while (
        frames is not None and frames.tb_next is not None and Path(frames.tb_frame.f_code.co_filename).parent == _HERE
    ):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _safely(make: Callable[[], str]) -> str:
    """An error's text; its own methods may fail."""
    try:
        return _clean(make())
    except Exception as exc:  # noqa: BLE001 - whatever it is, the event has to be kept
        return f"(it cannot be shown: {type(exc).__name__})"


def shown(error: BaseException) -> str:
    """An error in a line of another."""
    return _safely(lambda: repr(error))[:200]


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()

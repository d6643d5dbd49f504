"""Readers of a transaction: they read its instant, and note what its outcome depends on.

Events never change. So a read that finds an event by its place depends on nothing; one that finds none, or goes to the end of
a stream, depends on the stream's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from varve.layout.keys import StreamId, encode_stream_id
from varve.reader import GlobalReader, StreamReader
from varve.typing_support import E

if TYPE_CHECKING:
    import pyarrow as pa

    from varve.bindings import Bindings, UnknownAnywhere, UnknownTyped
    from varve.codec import EventType
    from varve.columns.read import Array
    from varve.record import Recorded
    from varve.replay import Source
    from varve.state.reads import Reads


class NotedReader(StreamReader[E]):
    """Typed reads of the streams of one name, at a transaction's instant."""

    __slots__ = ("_reads",)

    def __init__(
        self, source: Source, name: str, types: dict[str, EventType], unknown: UnknownTyped, reads: Reads
    ) -> None:
        super().__init__(source, name, types, unknown)
        self._reads = reads

    def _note(self, stream_id: StreamId) -> None:
        self._reads.note_stream(self.name, encode_stream_id(stream_id))

    def get(self, stream_id: StreamId, stream_sequence: int) -> E | None:
        """As ``StreamReader.get``."""
        event = super().get(stream_id, stream_sequence)
        if event is None:
            self._note(stream_id)
        return event

    def get_bytes(self, stream_id: StreamId, stream_sequence: int) -> memoryview | None:
        """As ``StreamReader.get_bytes``."""
        raw = super().get_bytes(stream_id, stream_sequence)
        if raw is None:
            self._note(stream_id)
        return raw

    def get_recorded(self, stream_id: StreamId, stream_sequence: int) -> Recorded[E] | None:
        """As ``StreamReader.get_recorded``."""
        recorded = super().get_recorded(stream_id, stream_sequence)
        if recorded is None:
            self._note(stream_id)
        return recorded

    def length(self, stream_id: StreamId) -> int:
        """As ``StreamReader.length``."""
        self._note(stream_id)
        return super().length(stream_id)

    def first_visible(self, stream_id: StreamId) -> int:
        """As ``StreamReader.first_visible``."""
        self._note(stream_id)
        return super().first_visible(stream_id)

    def iter_stream(
        self, stream_id: StreamId, start: int = 0, stop: int | None = None, *, reverse: bool = False
    ) -> Iterator[Recorded[E]]:
        """As ``StreamReader.iter_stream``."""
        self._note(stream_id)
        return super().iter_stream(stream_id, start, stop, reverse=reverse)

    def iter_all(self, start: int = 0, stop: int | None = None, *, reverse: bool = False) -> Iterator[Recorded[E]]:
        """As ``StreamReader.iter_all``."""
        self._reads.note_name(self.name)
        return super().iter_all(start, stop, reverse=reverse)

    def columns(
        self, columns: Iterable[str], stream_id: StreamId | None = None, start: int = 0, stop: int | None = None
    ) -> dict[str, Array]:
        """As ``StreamReader.columns``."""
        self._note_columns(stream_id)
        return super().columns(columns, stream_id, start, stop)

    def to_arrow(
        self,
        columns: Iterable[str] | None = None,
        stream_id: StreamId | None = None,
        start: int = 0,
        stop: int | None = None,
        batch_size: int = 65_536,
    ) -> pa.RecordBatchReader:
        """As ``StreamReader.to_arrow``."""
        self._note_columns(stream_id)
        return super().to_arrow(columns, stream_id, start, stop, batch_size)

    def _note_columns(self, stream_id: StreamId | None) -> None:
        if stream_id is None:
            self._reads.note_name(self.name)
        else:
            self._note(stream_id)

    def stream_ids(self) -> Iterator[StreamId]:
        """As ``StreamReader.stream_ids``."""
        self._reads.note_name(self.name)
        return super().stream_ids()


def noted_global_reader(source: Source, bindings: Bindings, unknown: UnknownAnywhere, reads: Reads) -> GlobalReader:
    """A reader of the whole log: what is read depends on its end."""
    reads.note_log()
    return GlobalReader(source, bindings, unknown)

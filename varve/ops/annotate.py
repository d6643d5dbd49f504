"""What each byte of a recorded event is."""

from __future__ import annotations

from varve import limits
from varve.codec import event_type_from_schema
from varve.codec.annotate import BytePart, BytePartKind, annotate
from varve.errors import TooManyItems
from varve.replay import bounds
from varve.store import Varve

__all__ = ["BytePart", "BytePartKind", "annotate_event"]


def annotate_event(db: Varve, global_sequence: int) -> list[BytePart] | None:
    """Every byte of an event of an open store, in order and each once, by the schema in the log; None past the end.

    Raises ``TooManyItems`` for an event above ``limits.ANNOTATED_BYTES_MAX``, ``MalformedEvent`` where it is none of its type, or
    where a newer Varve wrote the schema.
    """
    sequence, _ = bounds(global_sequence, None)
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot() as snapshot:
        if sequence >= snapshot.next_sequence:
            return None
        block = snapshot.block(sequence)
        start, end = block.span(sequence - block.first)
        if end - start > limits.ANNOTATED_BYTES_MAX:
            raise TooManyItems(
                f"the event at {sequence} has {end - start} bytes; the limit is ANNOTATED_BYTES_MAX = "
                f"{limits.ANNOTATED_BYTES_MAX}",
                limit_name="ANNOTATED_BYTES_MAX",
                limit=limits.ANNOTATED_BYTES_MAX,
            )
        run, _ = block.run_of(sequence - block.first)
        schema = engine.catalog.type(snapshot, run.type).schema
        return annotate(event_type_from_schema(schema), block.data[start:end])

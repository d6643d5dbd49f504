"""Event classes, and a store to archive from."""

from __future__ import annotations

import random
import uuid
from typing import Any

import varve


@varve.event(name="archive.Number")
class Number:
    """A number."""

    value: varve.u64


@varve.event(name="archive.Text")
class Text:
    """A text."""

    value: str


def fill(db: varve.Varve, chance: random.Random, rounds: int) -> None:
    """A history of all kinds of appends."""
    numbers, texts = db.stream("numbers", Number), db.stream("texts", Text | Number)
    ids: list[Any] = [1, 2, "a", uuid.UUID(int=7)]
    for _ in range(rounds):
        key = chance.choice([None, None, uuid.UUID(int=chance.getrandbits(64))])
        metadata = chance.choice([None, None, {"user": chance.randrange(9)}])
        match chance.randrange(5):
            case 0:
                numbers.append(chance.choice(ids), Number(chance.randrange(99)), idempotency_key=key, metadata=metadata)
            case 1:
                batch = [Number(i) for i in range(chance.randrange(1, 30))]
                numbers.append_batch(chance.choice(ids), batch, idempotency_key=key, metadata=metadata)
            case 2:
                texts.append(chance.randrange(40), Text("x" * chance.randrange(60)), idempotency_key=key)
            case 3:
                many = [(chance.randrange(6), Text(str(i))) for i in range(chance.randrange(1, 20))]
                texts.append_many(many, metadata=metadata)
            case _:
                with db.transaction(idempotency_key=key) as tx:
                    tx.append(numbers, chance.choice(ids), Number(5))
                    tx.append(texts, f"late {chance.randrange(200)}", Text("t"))


def told(recorded: varve.Recorded[Any]) -> tuple[Any, ...]:
    """Everything that is recorded of an event."""
    return (
        recorded.global_sequence,
        recorded.commit_sequence,
        recorded.stream,
        recorded.stream_id,
        recorded.stream_sequence,
        recorded.time_ns,
        recorded.metadata,
        varve.to_dict(recorded.event),
        bytes(recorded.raw),
    )

"""Names and ids: kinds that never collide, and their limits."""

from __future__ import annotations

import enum
import uuid
from typing import Any

import pytest
from store_models import OrderPlaced, placed

import varve

ONE = uuid.UUID(int=1)
IDS = [
    0, 1, 255, 256, 2**32, 2**63, 2**64 - 1, "0", "1", "\0", "a", "A", "ä", "日本語", "🙂", "x" * 255, "ü" * 127, "🙂" * 63,
    str(ONE), ONE, uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), ONE.bytes.decode("latin-1"), " ", "a/b",
]  # fmt: skip


def test_ids_never_collide(db: varve.Varve, orders: Any) -> None:
    """Every id, of whatever kind, is a stream of its own and comes back as it was given."""
    orders.append_many([(stream_id, placed(n)) for n, stream_id in enumerate(IDS)])
    for n, stream_id in enumerate(IDS):
        assert orders.append(stream_id, placed(1000 + n)).stream_sequence == 1
        assert [r.event.order_id for r in orders.reader().iter_stream(stream_id)] == [n, 1000 + n]
    assert db.stats().streams == len(IDS)
    found = [r.stream_id for r in db.global_reader().iter_from(0, len(IDS))]
    assert found == IDS
    assert [type(i) for i in found] == [type(i) for i in IDS]
    assert sorted(map(repr, orders.reader().stream_ids())) == sorted(map(repr, IDS))


@pytest.mark.parametrize("name", ["a", "\0", "ä", "日本語", "x" * 255, "🙂" * 63, " ", "orders.eu/1"])
def test_names_are_any_text(db: varve.Varve, name: str) -> None:
    """1 to 255 UTF-8 bytes."""
    stream = db.stream(name, OrderPlaced)
    stream.append(1, placed(1))
    assert db.global_reader().get(0).stream == name
    assert [r.stream for r in db.global_reader().iter_from(0, streams=[name])] == [name]


class Number(enum.IntEnum):
    SEVEN = 7


class Text(str, enum.Enum):  # noqa: UP042 - the older way, whose str() is not its value
    RED = "red"


class Newer(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(("given", "stored"), [(Number.SEVEN, 7), (Text.RED, "red"), (Newer.RED, "red")])
def test_enum_members_count_as_their_values(db: varve.Varve, orders: Any, given: Any, stored: Any) -> None:
    """An id, and a name, is the value of an enum member, not its repr."""
    orders.append(given, placed(1))
    orders.append_many([(given, placed(2))])
    assert orders.reader().length(stored) == 2
    assert list(orders.reader().stream_ids()) == [stored]
    if isinstance(stored, str):
        db.stream(given, OrderPlaced).append(1, placed(3))
        assert db.global_reader().get(2).stream == stored
        orders.append(1, placed(4), idempotency_key=given)
        assert orders.append(1, placed(4), idempotency_key=stored).replayed

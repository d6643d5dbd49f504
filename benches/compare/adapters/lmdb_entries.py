"""Raw py-lmdb, an entry per event and one in an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.baselines import Bare
from benches.codec.official import encode_flat, read_amount
from benches.compare.peers import Store
from benches.events import OrderPlaced, amount_total
from varve.codec import event_type


class Entries(Store):
    """Encoded before; read with the view of Varve's codec, which is the fastest there is here."""

    def __init__(self, path: Path) -> None:
        self._bare = Bare(path)

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        return list(map(event_type(OrderPlaced).pack, events))

    def append(self, prepared: Sequence[Any]) -> None:
        self._bare.put_loop(0, prepared)

    def amounts(self) -> tuple[int, int]:
        return amount_total(self._bare.payloads())

    def durable(self) -> bool:
        flags = self._bare.env.flags()
        return bool(flags["sync"] and flags["metasync"])

    def close(self) -> None:
        self._bare.close()


class BuilderEntries(Entries):
    """Encoded by the official Builder, read by the official accessors: what one gets from flatc and LMDB."""

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        return events

    def append(self, prepared: Sequence[Any]) -> None:
        self._bare.put_loop(0, map(encode_flat, prepared))

    def amounts(self) -> tuple[int, int]:
        count = total = 0
        for payload in self._bare.payloads():
            count += 1
            total += read_amount(payload)
        return count, total

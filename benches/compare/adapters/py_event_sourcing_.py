"""py-event-sourcing: asyncio over SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from py_event_sourcing import CandidateEvent, sqlite_stream_factory

from benches.compare.peers import Store
from benches.events import OrderPlaced
from varve.codec import event_type


class Stream(Store):
    """One stream; candidate events are made before. Its notifier looks at the database while the loop runs, as shipped."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._run(self._open(str(path / "events.db")))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    async def _open(self, path: str) -> None:
        open_stream = await self._stack.enter_async_context(sqlite_stream_factory(path))
        self._stream = await self._stack.enter_async_context(open_stream("orders"))
        self._all = await self._stack.enter_async_context(open_stream("@all"))

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        pack = event_type(OrderPlaced).pack
        return [CandidateEvent(type="OrderPlaced", data=pack(event)) for event in events]

    def append(self, prepared: Sequence[Any]) -> None:
        self._run(self._stream.write(list(prepared)))

    def amounts(self) -> tuple[int, int]:
        async def read() -> tuple[int, int]:
            view, count, total = event_type(OrderPlaced).view, 0, 0
            async for stored in self._all.read():
                count += 1
                total += view(stored.data).amount
            return count, total

        found: tuple[int, int] = self._run(read())
        return found

    def durable(self) -> bool:
        async def synchronous() -> int:
            cursor = await self._stream.storage_handle.write_conn.execute("PRAGMA synchronous")
            row = await cursor.fetchone()
            return int(row[0])

        return bool(self._run(synchronous()) == 2)

    def close(self) -> None:
        self._run(self._stack.aclose())
        self._runner.close()

"""Consumers from outside: which there are, where they stand, who runs them; moving and removing one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from varve.engine.request import CommitRequest
from varve.layout.consumers import TABLE, consumer_name, partitions_of
from varve.record import to_datetime
from varve.tailing.consumer import resolve_start
from varve.tailing.ownership import OwnerLock, lock_path
from varve.tailing.positions import Delete, Seek, read

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.start import TailStart


@dataclass(frozen=True, slots=True)
class ConsumerMember:
    """Who runs a consumer, or a share of it."""

    member: int
    """Its number, from 0."""
    running: bool
    """Whether its owner lives and has not closed it."""
    pid: int | None
    """The process that took it last; None where nobody has since the number of members changed."""
    taken_at: dt.datetime
    """When it was taken last (UTC)."""
    token: int
    """Rises at every takeover."""
    position: int
    """The next global sequence: everything before it is done, as far as its share goes."""


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer as it is stored. Made by ``db.consumers()``."""

    name: str
    """Its name."""
    position: int
    """The lowest of its members' stored positions: where a new process would continue."""
    lag: int
    """Events of the log from there to its end, whether they are for this consumer or not."""
    updated_at: dt.datetime
    """When its record changed last (UTC)."""
    members: tuple[ConsumerMember, ...]
    """One, or as many as share it."""

    @property
    def running(self) -> bool:
        """Whether anybody runs it, or a share of it."""
        return any(member.running for member in self.members)


def list_consumers(engine: Engine) -> list[ConsumerInfo]:
    """Every consumer of a store, by name."""
    found = []
    with engine.side_snapshot(TABLE) as snapshot:
        items = snapshot.side_items(TABLE)
        end = snapshot.next_sequence
    for key, value in items:
        name = consumer_name(key)
        record = None if name is None else read(engine.path, name, value)
        if name is None or record is None:
            continue
        members = []
        for number in range(record.members):
            runs = list(record.within(partitions_of(number, record.members)))
            newest = max(runs, key=lambda run: run.token)
            members.append(
                ConsumerMember(
                    number,
                    not OwnerLock(lock_path(engine.path, name, number, record.members)).is_free(),
                    newest.pid or None,
                    to_datetime(newest.taken_at_ns),
                    newest.token,
                    min(run.position for run in runs),
                )
            )
        position = record.position
        found.append(
            ConsumerInfo(name, position, max(0, end - position), to_datetime(record.updated_at_ns), tuple(members))
        )
    return found


def seek_consumer(engine: Engine, name: str, start: TailStart, *, force: bool) -> int | None:
    """Store another position for a consumer and all its members; the position, None where there is no such consumer. Raises
    ``ConsumerBusy``, ``InvalidInput`` for a sequence beyond the end of the log."""
    position = resolve_start(engine, start)
    seek = Seek(engine, name, position, force=force)
    engine.commit(CommitRequest([], effects=(seek,)))
    return position if seek.found else None


def delete_consumer(engine: Engine, name: str, *, force: bool) -> bool:
    """Forget a consumer; whether there was one. Raises ``ConsumerBusy``."""
    delete = Delete(engine, name, force=force)
    engine.commit(CommitRequest([], effects=(delete,)))
    return delete.found

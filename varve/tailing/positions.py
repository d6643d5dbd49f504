"""What changes the stored position of a consumer: effects, which run inside a write transaction.

Each that stores something checks the *token* first, a number that rises at every takeover: whoever was taken over meets
a newer one and is refused with ``ConsumerFenced``, whatever he still believes to own. LMDB's writer lock puts all of
this into one order across processes, the change of the lock files included.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from varve.engine.request import CommitRequest
from varve.errors import ConsumerBusy, ConsumerFenced, CorruptedStore, UnsupportedFormat
from varve.layout.consumers import (
    PARTITIONS,
    TABLE,
    TOKEN_KEY,
    TOKEN_MAX,
    VERSION,
    ConsumerRecord,
    Run,
    consumer_key,
    decode_consumer,
    decode_token,
    encode_token,
    merged,
    partitions_of,
)
from varve.logs import DEBUG, WARNING, say
from varve.tailing.hub import hub_of
from varve.tailing.ownership import OwnerLock, lock_path

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.side import Table


class Claim:
    """The right of one member to store positions: a lock that says so to newcomers, a token that proves it.

    ``is_fenced``: somebody else has it now.
    """

    def __init__(self, engine: Engine, name: str, member: int, members: int) -> None:
        self.engine = engine
        self.name = name
        self.member = member
        self.members = members
        self.partitions = partitions_of(member, members)
        self.lock = OwnerLock(lock_path(engine.path, name, member, members))
        self.token = 0
        self.is_fenced = False

    def take(self, start: int, *, force: bool) -> list[Run]:
        """Take it: the positions of its partitions, ``start`` at the first use. Raises ``ConsumerBusy`` and a commit's
        errors."""
        if not self.lock.take() and not force:
            raise self.busy(load(self.engine, self.name), self.partitions)
        taking = Take(self, start, force=force)
        try:
            self.engine.commit(CommitRequest([], effects=(taking,)))
            hub_of(self.engine).keep(self)
        except BaseException:
            self.release()
            raise
        self.token = taking.token
        if force:
            say(WARNING, "%s: consumer %r (member %d of %d) was taken by force", *self._named)
        else:
            say(DEBUG, "%s: consumer %r (member %d of %d) was taken", *self._named)
        return taking.runs

    @property
    def _named(self) -> tuple[str, str, int, int]:
        return self.engine.path, self.name, self.member, self.members

    def check(self) -> None:
        """Look at what is stored. Raises ``ConsumerFenced`` where somebody else has it now."""
        self.check_token(load(self.engine, self.name), self.token)

    def check_token(self, record: ConsumerRecord | None, token: int) -> list[Run]:
        """The runs of its partitions, if they still are its own."""
        own = [] if record is None else list(record.within(self.partitions))
        if not own or any(run.token != token for run in own):
            if token == self.token:  # not that of a commit that was given up before a seek
                if not self.is_fenced:
                    say(WARNING, "%s: consumer %r (member %d of %d) was fenced: somebody else has it now", *self._named)
                self.is_fenced = True
            raise self.fenced()
        return own

    def fenced(self) -> ConsumerFenced:
        """What a member that was taken over is told."""
        return ConsumerFenced(
            f"consumer {self.name!r} of {self.engine.path} was taken over, moved or deleted by somebody else: this one stores "
            "nothing any more and must stop",
            name=self.name,
        )

    def busy(self, record: ConsumerRecord | None, partitions: range) -> ConsumerBusy:
        """What a newcomer is told."""
        pids = {run.pid for run in (() if record is None else record.within(partitions)) if run.pid}
        pid = pids.pop() if len(pids) == 1 else None
        member = f" (member {self.member} of {self.members})" if self.members > 1 else ""
        layout = "" if record is None or record.members == self.members else f", which has {record.members} members now"
        who = "somebody" if pid is None else f"process {pid}"
        what_now = "wait until that ends, or pass force=True if it hangs"
        if pid == os.getpid():
            who, what_now = "this process already", "close the other one first, or pass force=True to take over from it"
        return ConsumerBusy(
            f"consumer {self.name!r}{member} of {self.engine.path}{layout} is run by {who}: {what_now}",
            name=self.name,
            pid=pid,
        )

    def release(self) -> None:
        """Let others have it."""
        self.lock.release()


class Take:
    """A newcomer takes his partitions; the old positions stay."""

    table = TABLE

    def __init__(self, claim: Claim, start: int, *, force: bool) -> None:
        self._claim = claim
        self._start = start
        self._force = force
        self.token = 0
        self.runs: list[Run] = []

    def __call__(self, table: Table) -> None:
        """Secure the lock, raise the token, store both."""
        claim = self._claim
        now_ns = claim.engine.clock()
        record = read(claim.engine.path, claim.name, table.get(consumer_key(claim.name)))
        self._secure(record)
        self.token = _next_token(claim.engine.path, table, record)
        if record is None:
            record = ConsumerRecord(claim.members, now_ns, (Run(0, PARTITIONS, 0, self._start, self.token, now_ns),))
        elif record.members != claim.members:  # members of another number are out, every one of them
            runs = tuple(run._replace(pid=0, token=self.token) for run in record.runs)
            record = record._replace(members=claim.members, runs=runs)
        self.runs = [
            run._replace(pid=os.getpid(), token=self.token, taken_at_ns=now_ns)
            for run in record.within(claim.partitions)
        ]
        key = consumer_key(claim.name)
        table.put(key, record.replaced(claim.partitions, self.runs, now_ns).encode(key))

    def _secure(self, record: ConsumerRecord | None) -> None:
        """Hold the lock for certain: nobody changes lock files outside of a write transaction, except by hand."""
        claim = self._claim
        if not self._force and record is not None and record.members != claim.members:
            for member in range(record.members):
                if not _is_free(claim.engine, claim.name, member, record.members):
                    raise claim.busy(record, partitions_of(member, record.members))
        if not claim.lock.take():
            if not self._force:
                raise claim.busy(record, claim.partitions)
            claim.lock.replace()


class Advance:
    """The owner is done with everything before a position. Partitions that stand behind it already stay there."""

    table = TABLE

    def __init__(self, claim: Claim, position: int) -> None:
        self._claim = claim
        self._token = claim.token
        self.position = position

    def __call__(self, table: Table) -> None:
        """Check the token, store the position."""
        claim = self._claim
        key = consumer_key(claim.name)
        record = read(claim.engine.path, claim.name, table.get(key))
        own = claim.check_token(record, self._token)
        if record is not None and any(run.position < self.position for run in own):
            runs = [run._replace(position=max(run.position, self.position)) for run in own]
            table.put(key, record.replaced(claim.partitions, runs, claim.engine.clock()).encode(key))


class Move:
    """The owner goes elsewhere, backwards too. The token rises: what of his is still under way comes too late."""

    table = TABLE

    def __init__(self, claim: Claim, position: int) -> None:
        self._claim = claim
        self._position = position
        self.token = 0
        self.runs: list[Run] = []

    def __call__(self, table: Table) -> None:
        """Check the token, store position and new token."""
        claim = self._claim
        key = consumer_key(claim.name)
        record = read(claim.engine.path, claim.name, table.get(key))
        own = claim.check_token(record, claim.token)
        assert record is not None
        self.token = _next_token(claim.engine.path, table, record)
        self.runs = [run._replace(position=self._position, token=self.token) for run in own]
        table.put(key, record.replaced(claim.partitions, self.runs, claim.engine.clock()).encode(key))


class Seek:
    """Move a consumer from outside, every member of it. The token rises: whoever runs it all the same is out."""

    table = TABLE

    def __init__(self, engine: Engine, name: str, position: int, *, force: bool) -> None:
        self._engine = engine
        self._name = name
        self._position = position
        self._force = force
        self.found = False

    def __call__(self, table: Table) -> None:
        """Refuse while it is owned; store position and new token."""
        engine, name = self._engine, self._name
        key = consumer_key(name)
        record = read(engine.path, name, table.get(key))
        self.found = record is not None
        if record is None:
            return
        if not self._force:
            check_idle(engine, name, record)
        token = _next_token(engine.path, table, record)
        runs = merged(run._replace(position=self._position, token=token) for run in record.runs)
        table.put(key, record._replace(updated_at_ns=engine.clock(), runs=runs).encode(key))


class Delete:
    """Forget a consumer, and its lock files with it."""

    table = TABLE

    def __init__(self, engine: Engine, name: str, *, force: bool) -> None:
        self._engine = engine
        self._name = name
        self._force = force
        self.found = False

    def __call__(self, table: Table) -> None:
        """Refuse while it is owned; remove it."""
        engine, name = self._engine, self._name
        stored = table.get(consumer_key(name))
        self.found = stored is not None
        if stored is None:
            return
        record = None if self._force else read(engine.path, name, stored)
        if record is not None:
            check_idle(engine, name, record)
        table.delete(consumer_key(name))
        path = lock_path(engine.path, name, 0, 1)
        for file in path.parent.glob(f"{path.name.partition('.')[0]}.*"):
            file.unlink(missing_ok=True)


def load(engine: Engine, name: str) -> ConsumerRecord | None:
    """A consumer as it is stored now."""
    with engine.side_snapshot(TABLE) as snapshot:
        return read(engine.path, name, snapshot.side_value(TABLE, consumer_key(name)))


def read(path: str, name: str, value: bytes | None) -> ConsumerRecord | None:
    """A consumer's record, None where there is none. Raises ``CorruptedStore``, ``UnsupportedFormat``."""
    record = None if value is None else decode_consumer(value, consumer_key(name))
    if isinstance(record, int):
        raise UnsupportedFormat(
            f"{path}: consumer {name!r} was written by a newer Varve (version {record}; this one reads {VERSION}). Upgrade "
            "varve-store",
            path=path,
            found=record,
            supported=VERSION,
        )
    if record is None and value is not None:
        raise CorruptedStore(
            f"{path}: the stored position of consumer {name!r} is damaged. Note where it may have been, remove it with "
            "db.delete_consumer(name, force=True) and begin again from there",
            path=path,
        )
    return record


def check_idle(engine: Engine, name: str, record: ConsumerRecord) -> None:
    """Raises ``ConsumerBusy`` where somebody runs it, or a share of it."""
    for member in range(record.members):
        if not _is_free(engine, name, member, record.members):
            claim = Claim(engine, name, member, record.members)
            raise claim.busy(record, claim.partitions)


def _is_free(engine: Engine, name: str, member: int, members: int) -> bool:
    return OwnerLock(lock_path(engine.path, name, member, members)).is_free()


def _next_token(path: str, table: Table, record: ConsumerRecord | None) -> int:
    """A token above every one that was given. (The record is asked as well, should the counter be damaged.) Raises
    ``CorruptedStore``."""
    known = 0 if record is None else max(run.token for run in record.runs)
    token = max(decode_token(table.get(TOKEN_KEY)), known) + 1
    if token > TOKEN_MAX:
        raise CorruptedStore(
            f"{path}: the last token that was given to a consumer is damaged ({token - 1}); repair it with varve.ops.repair",
            path=path,
        )
    table.put(TOKEN_KEY, encode_token(token))
    return token

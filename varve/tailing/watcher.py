"""The watcher: how far the log reaches, and waiting for it to reach further."""

from __future__ import annotations

from typing import TYPE_CHECKING

from varve.errors import InvalidInput, WaitTimeout
from varve.tailing.hub import hub_of

if TYPE_CHECKING:
    from varve.engine.core import Engine


class Watcher:
    """Tells of commits of every process. Made by ``db.watcher()``; cheap, thread-safe, any number of them.

    Coroutines of several loops and blocked threads may wait at once. What it says is committed: a snapshot, or a commit of
    this process, has shown it.
    """

    __slots__ = ("_engine", "_hub")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hub = hub_of(engine)

    @property
    def next_global_sequence(self) -> int:
        """Number of events in the log, which is the next global sequence, as of now."""
        with self._engine.snapshot() as snapshot:
            next_sequence = snapshot.next_sequence
        self._hub.watermark.rise(next_sequence)
        return next_sequence

    async def wait_for_global_seq(self, sequence: int) -> int:
        """Wait until the event with this global sequence is committed; the next global sequence then.

        Cancelling it leaves nothing behind. Raises ``InvalidInput``, and ``StoreClosed`` when the store closes meanwhile.
        """
        check_sequence(sequence)
        if self._hub.watermark.value <= sequence:
            self.next_global_sequence  # noqa: B018 - a look of our own: another process may have been faster
        self._engine.check_usable()
        return await self._hub.watermark.wait(sequence + 1)

    def wait(self, sequence: int, timeout_s: float | None = None) -> int:
        """The same for a thread, which it blocks; for at most ``timeout_s`` seconds (None: for ever).

        Raises ``WaitTimeout`` besides.
        """
        check_sequence(sequence)
        check_timeout(timeout_s)
        watermark = self._hub.watermark
        if watermark.value <= sequence:
            self.next_global_sequence  # noqa: B018 - as above
        self._engine.check_usable()
        if not watermark.wait_blocking(sequence + 1, timeout_s):
            assert timeout_s is not None
            raise WaitTimeout(
                f"{self._engine.path}: global sequence {sequence} was not committed within {timeout_s} s; the log ends at "
                f"{watermark.value}",
                global_sequence=sequence,
                timeout_s=timeout_s,
            )
        return watermark.value

    def __repr__(self) -> str:
        return f"<Watcher of {self._engine.path}>"


def check_sequence(sequence: int) -> int:
    """A global sequence, checked. Raises ``InvalidInput``."""
    if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 0:
        raise InvalidInput(f"a global sequence is an int from 0 on, not {sequence!r}")
    return sequence


def check_timeout(timeout_s: float | None) -> float | None:
    """A timeout, checked. Raises ``InvalidInput``."""
    if timeout_s is not None and (
        not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or not timeout_s >= 0
    ):
        raise InvalidInput(f"timeout_s is a number of seconds from 0 on, or None for no limit, not {timeout_s!r}")
    return timeout_s

"""What every open LMDB environment of ours can do, whatever is in it: be read, refuse, say what went wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import lmdb

from varve import limits
from varve.errors import CorruptedStore, StoreFailed, StoreFull, TooManyReaders, VarveError
from varve.logs import ERROR, INFO, say


class Opened:
    """An environment that is open, or was.

    ``refusal`` makes the error that every use meets once it is closed, forked or failed; None while it is usable.
    """

    path: str
    env: lmdb.Environment
    refusal: Callable[[], VarveError] | None

    def begin(self) -> lmdb.Transaction[memoryview]:
        """A read transaction whose values are memoryviews. Raises what ``refusal`` says, ``TooManyReaders``."""
        if self.refusal is not None:
            raise self.refusal()
        try:
            return self.env.begin(buffers=True)
        except lmdb.ReadersFullError:
            self.reap()
            with contextlib.suppress(lmdb.ReadersFullError):
                return self.env.begin(buffers=True)
            raise TooManyReaders(
                f"{self.path}: all {limits.READERS_MAX} reader slots are taken; drop views and close snapshots",
                path=self.path,
                limit=limits.READERS_MAX,
            ) from None
        except lmdb.MapResizedError:
            raise StoreFull(
                f"{self.path}: another process opened it with a larger map_bytes and wrote beyond this handle's; open it again",
                path=self.path,
            ) from None
        except lmdb.Error as exc:
            raise self.read_error(exc) from exc

    def reap(self) -> None:
        """Free the reader slots of processes that died: pages that they could still read are not used again."""
        with contextlib.suppress(lmdb.Error):  # nobody's commit or read hangs on it
            dead = self.env.reader_check()
            if dead:
                say(INFO, "%s: freed %d reader slots of processes that died", self.path, dead)

    def fail(self, what: str, reason: str) -> StoreFailed:
        """Refuse everything from now on: the disk failed."""
        message = f"{self.path}: {what}. Look at the disk, then open it again"
        say(ERROR, "%s", message)
        path = self.path
        self.refusal = lambda: StoreFailed(message, path=path, reason=reason)
        return StoreFailed(message, path=path, reason=reason)

    def read_error(self, exc: lmdb.Error) -> VarveError:
        """What LMDB says of a page that is not what it should be, or of a read that the system refuses."""
        if isinstance(exc, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.BadTxnError):
            return CorruptedStore(
                f"{self.path}: LMDB finds a damaged page ({exc}); look at it with varve.ops.verify, restore a backup",
                path=self.path,
            )
        return StoreFailed(f"{self.path}: cannot read: {exc}", path=self.path, reason=str(exc))

    def check_usable(self) -> None:
        """Raise what ``refusal`` says."""
        if self.refusal is not None:
            raise self.refusal()

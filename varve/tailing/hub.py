"""What all watchers and tails of one open store share: the watermark, the poller, the newest block."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Final

from varve.tailing.poller import Poller
from varve.tailing.watermark import Watermark

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.positions import Claim
    from varve.tailing.scan import CopiedBlock

_JOIN_S: Final = 1.0
_making = threading.RLock()
_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


class Hub:
    """Made at the first use, kept by the engine as its listener; holds the engine weakly.

    ``newest`` is the last block of the log as somebody copied it last: a thousand tails that wake for one commit read one
    copy.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = weakref.ref(engine)
        self._poller = Poller(engine.path, self._look, lambda: self.watermark.waiting)
        self.watermark = Watermark(self._poller.start)
        self.newest: CopiedBlock | None = None
        self._claims: weakref.WeakSet[Claim] = weakref.WeakSet()
        _hubs.add(self)

    def committed(self, next_sequence: int) -> None:
        """A commit of this handle: see ``Listener``."""
        self.watermark.rise(next_sequence)

    def closed(self) -> None:
        """The handle was closed: see ``Listener``."""
        engine = self._engine()
        refusal = engine.environment.refusal if engine is not None else None
        if refusal is not None:
            self.watermark.fail(refusal)
        self.newest = None
        self._poller.stop()
        with _making:
            for claim in list(self._claims):
                claim.release()

    def keep(self, claim: Claim) -> None:
        """A consumer of this handle, which is free once it is closed."""
        with _making:
            self._claims.add(claim)

    def closing(self) -> None:
        """See ``Listener``: from here on nobody of ours is inside the store."""
        self._poller.stop()
        self._poller.join(_JOIN_S)

    def open_after_all(self) -> None:
        """See ``Listener``."""
        self._poller.resume()

    def forget(self) -> None:
        """In the child of a fork: every waiter is the parent's, and whoever begins to wait is refused."""
        engine = self._engine()
        if engine is not None:
            self.watermark.forget(engine.environment.refusal)
        self._poller.forget()

    def _look(self, seen: int) -> int | None:
        """Look at the store for commits: the number of the instant that was seen; None where there is nothing to look at
        any more."""
        engine = self._engine()
        if engine is None:
            return None
        try:
            found = engine.look(seen)
        except Exception:  # noqa: BLE001 - no memory, say: who waits depends on this thread, which goes on
            refusal = engine.environment.refusal
            if refusal is None:
                return seen  # no reader slot just now: the next look may have one
            self.watermark.fail(refusal)
            return None
        if found is None:
            return seen
        self.watermark.rise(found[1])
        return found[0]


def hub_of(engine: Engine) -> Hub:
    """The hub of an open store. Raises what its handle refuses with."""
    engine.check_usable()
    hub = engine.listener
    if hub is None:
        with _making:
            hub = engine.listener
            if hub is None:
                hub = engine.listener = Hub(engine)
        if engine.environment.refusal is not None:  # closed meanwhile, which did not see it
            hub.closed()
    assert isinstance(hub, Hub)
    return hub


def _after_fork_in_child() -> None:
    global _making  # noqa: PLW0603 - a thread that is gone in the child may have held it
    _making = threading.RLock()
    for hub in list(_hubs):
        hub.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)

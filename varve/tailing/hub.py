"""What all watchers and tails of one open store share: the watermark, the poller, the newest block."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from varve.errors import VarveError
from varve.tailing.poller import Poller
from varve.tailing.watermark import Watermark

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.positions import Claim
    from varve.tailing.scan import CopiedBlock

_making = threading.RLock()


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

    def _look(self, seen: int) -> int | None:
        """Look at the store for commits: the number of the instant that was seen; None where there is nothing to look at
        any more."""
        engine = self._engine()
        if engine is None:
            return None
        try:
            found = engine.look(seen)
        except VarveError:
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

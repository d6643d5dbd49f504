"""Which calls can fail how: every call of a workload, every error that fits it, once and from then on."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from torture.preload.fail import FOR_EVER, KINDS, Action

Lasting = Literal["once", "kind", "all"]
"""Only that call; it and every later one of its kind; it and every later one of any kind that can fail so."""

_ERRORS: Final[dict[str, tuple[int, ...]]] = {
    "open": (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EMFILE),
    "read": (errno.EIO, errno.EINTR),
    "write": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "sync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "truncate": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "map": (errno.EIO, errno.ENOMEM),
    "rename": (errno.EIO, errno.ENOSPC),
    "mkdir": (errno.EIO, errno.ENOSPC),
    "unlink": (errno.EIO,),
    "flock": (errno.EIO, errno.ENOLCK, errno.EINTR),
    "fcntl": (errno.EIO, errno.ENOLCK, errno.EINTR),
    "seek": (errno.EIO, errno.EINTR),
    "bind": (errno.EIO, errno.ENOSPC),
    "connect": (errno.EIO, errno.EINTR),
    "send": (errno.EIO, errno.ENOBUFS, errno.EINTR),
}
_SHORT: Final = ("write",)
_LATE: Final = ("write", "sync", "truncate", "rename")
_INTERRUPTED_TIMES: Final = 100
"""LMDB calls again for as long as a call says EINTR: what says so without end is no kernel."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to spoil one call of a workload."""

    workload: str
    kind: str
    nth: int
    """Among the calls of its kind, from 1."""
    file: str
    """The file that it was about when the calls were counted."""
    action: str
    error: int
    lasting: Lasting

    def __str__(self) -> str:
        how = self.action.lower()
        if self.action in {"ERROR", "LATE_ERROR"}:
            how = f"{how} {errno.errorcode[self.error]}"
        return f"{self.workload}: {self.kind} {self.nth} ({self.file}) {how}, {self.lasting}"

    @property
    def how(self) -> Action:
        """What becomes of the call."""
        return Action[self.action]

    @property
    def times(self) -> int:
        """How many calls are spoiled at most."""
        if self.lasting == "once":
            return 1
        return _INTERRUPTED_TIMES if self.how is Action.ERROR and self.error == errno.EINTR else FOR_EVER

    @property
    def later(self) -> tuple[str, ...]:
        """The kinds that are spoiled after it."""
        if self.lasting == "once":
            return ()
        if self.lasting == "kind":
            return (self.kind,)
        return tuple(kind for kind in KINDS if self.error in _ERRORS[kind])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def faults(workload: str, calls: list[tuple[str, str]]) -> Iterator[Fault]:
    """Every fault of a workload that makes these calls (kind, file)."""
    numbers: Counter[str] = Counter()
    for kind, file in calls:
        numbers[kind] += 1
        for action, error, lasting in _ways(kind):
            yield Fault(workload, kind, numbers[kind], file, action.name, error, lasting)


def _ways(kind: str) -> Iterator[tuple[Action, int, Lasting]]:
    lastings: tuple[Lasting, ...] = ("once", "kind", "all")
    for error in _ERRORS[kind]:
        for lasting in lastings[: 2 if error == errno.EINTR else 3]:
            yield Action.ERROR, error, lasting
    for action, kinds in ((Action.SHORT, _SHORT), (Action.LATE_ERROR, _LATE)):
        if kind in kinds:
            for lasting in lastings[:2]:
                yield action, errno.EIO, lasting

"""``varve.open``: a store, or archives and a store in a row."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast, overload

from varve import limits
from varve.engine.environment import Durability
from varve.errors import InvalidInput
from varve.series import Series
from varve.store import Varve


@overload
def open(  # noqa: A001
    path: str | os.PathLike[str],
    *,
    readonly: bool = False,
    durability: Durability = "full",
    map_bytes: int = limits.MAP_BYTES,
    allow_network: bool = False,
    linger_s: float = 0.0,
    trust: bool = True,
    clock: Callable[[], int] = time.time_ns,
) -> Varve: ...
@overload
def open(  # noqa: A001
    path: list[str | os.PathLike[str]] | list[str] | list[Path] | tuple[str | os.PathLike[str], ...],
    *,
    readonly: bool = True,
    map_bytes: int = limits.MAP_BYTES,
    allow_network: bool = False,
    trust: bool = True,
) -> Series: ...
def open(  # noqa: A001 - the field's word, used as varve.open
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    readonly: bool | None = None,
    durability: Durability = "full",
    map_bytes: int = limits.MAP_BYTES,
    allow_network: bool = False,
    linger_s: float = 0.0,
    trust: bool = True,
    clock: Callable[[], int] = time.time_ns,
) -> Varve | Series:
    """Open the store in the folder ``path``, creating it (and its parents) where there is none.

    A list of paths are archives (``Varve.archive``) and the store that they were taken from, oldest first: they are opened
    readonly, and read as one log (``Series``).

    ``readonly``: never write; the store must exist. ``durability``: ``"full"`` returns from an append after fsync;
    ``"relaxed"`` keeps the store whole but may lose the last commits at a power cut; ``"bulk"`` writes nothing through
    until ``db.sync()`` and can corrupt the store at a power cut: for rebuilding, and it needs the store alone.
    ``map_bytes``: address space to reserve, the most that the store can grow to (sparse; halved until the machine
    agrees). ``allow_network``: use a network file system all the same. ``linger_s``: seconds that a commit waits for
    company, so that fewer, larger commits are made where many append at once; 0 never waits, and still takes along
    whatever is waiting already.
    ``trust``: False for a file that may be damaged or comes from elsewhere: all of it is verified first, in a process of its
    own, and ``CorruptedStore`` says what is wrong with it. Whatever the file holds, this process lives; and nothing is served
    from it that verification would not let pass. (By default only the cheap checks are made: length, meta pages, format; blocks
    are checked when they are read. LMDB can abort the process on a damaged page.) The folder must not be
    writable for whoever is not trusted.
    ``clock``: nanoseconds since 1970, for tests.

    Raises ``StoreNotFound``, ``StoreAccessDenied``, ``StoreAlreadyOpen``, ``StoreInUse``, ``NotAVarveStore``,
    ``UnsupportedFormat``,
    ``CorruptedStore``, ``UnsupportedFileSystem``, ``InvalidInput``.
    """
    if isinstance(path, list | tuple):
        if not path or readonly is False or durability != "full" or linger_s or clock is not time.time_ns:
            raise InvalidInput(
                "as a path, a list names one store at least, and is opened for reading: archives cannot be written to, and a "
                "store is written to by itself"
            )
        return _series(path, map_bytes=map_bytes, allow_network=allow_network, trust=trust)
    return Varve(
        cast("str | os.PathLike[str]", path),  # any other sequence is refused there
        readonly=bool(readonly),
        durability=durability,
        map_bytes=map_bytes,
        allow_network=allow_network,
        linger_s=linger_s,
        trust=trust,
        clock=clock,
    )


def _series(paths: Sequence[str | os.PathLike[str]], *, map_bytes: int, allow_network: bool, trust: bool) -> Series:
    with contextlib.ExitStack() as ends:
        stores = [
            ends.enter_context(
                Varve(path, readonly=True, map_bytes=map_bytes, allow_network=allow_network, trust=trust)
            )
            for path in paths
        ]
        series = Series(stores)
        ends.pop_all()
        return series

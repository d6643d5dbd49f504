"""A copy of one instant of an open store, compacted, while writers go on: LMDB's own hot copy.

It walks the trees in a read transaction of its own and writes their pages one after the other, so the copy has no free pages,
and readers of it meet the log in order. LMDB does not come back before it is done; so it works on a thread of its own and writes
into a socket, whose other end counts, sums and stores, and can stop it by closing: Ctrl-C and a full disk end it at once. (A pipe
would do, but a child that another thread forks meanwhile inherits both ends, and its end would never come.)
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

import lmdb

from varve.engine.environment import Environment

_PIECE_BYTES: Final = 1 << 20


def copy_out(environment: Environment, write: Callable[[bytes], object]) -> None:
    """Hand the bytes of the copy to ``write``, on this thread; what that raises ends it.

    The copy is of an instant at or behind the call, and is a ``data.mdb`` by itself. Takes a reader slot while it lasts, and
    keeps LMDB from using pages again, as any snapshot. Raises what the handle refuses with, ``CorruptedStore``, ``StoreFailed``,
    ``TooManyReaders``.
    """
    mark = object()
    environment.active.add(id(mark))  # closing leaves the map to us from here on
    try:
        environment.begin().abort()  # raises what there is to say
        ours, theirs = socket.socketpair()
    except BaseException:
        environment.active.discard(id(mark))
        raise
    failed: list[lmdb.Error] = []
    # What it holds is its own: an error that is kept keeps this frame, and must not keep the map.
    worker = threading.Thread(
        target=_work, args=(environment, environment.env, theirs, mark, failed), name="varve-copy"
    )
    try:
        with ours, theirs:
            worker.start()
            try:
                while piece := ours.recv(_PIECE_BYTES):
                    write(piece)
            finally:
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
                worker.join()
    except BaseException:
        if not worker.is_alive():  # else it says so itself, when it is out
            environment.active.discard(id(mark))
        raise
    if failed:
        raise environment.read_error(failed[0])


def _work(
    environment: Environment, env: lmdb.Environment, into: socket.socket, mark: object, failed: list[lmdb.Error]
) -> None:
    try:
        env.copyfd(into.fileno(), compact=True)
    except lmdb.Error as exc:
        failed.append(exc)
    finally:
        environment.active.discard(id(mark))
        with contextlib.suppress(OSError):  # the other end is closed already
            into.shutdown(socket.SHUT_WR)

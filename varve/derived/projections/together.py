"""Several projections at once, each in a thread and a file of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from varve.errors import InvalidInput

if TYPE_CHECKING:
    from varve.derived.projections.handle import ProjectionHandle
    from varve.derived.projections.reports import ProjectionProgress
    from varve.derived.projections.writer import Told


def run_projections(
    projections: Iterable[ProjectionHandle],
    *,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    progress: Told | None = None,
) -> list[ProjectionProgress]:
    """Let several projections follow the log, each in a thread of its own, until nothing was committed for ``timeout_s`` seconds
    (0: catch up with the end of the log, and return; None: for ever), or the event ``stop`` is set; how far each came, in their
    order.

    Where one fails the others stop behind the transaction that they are at, and its error is raised; where several fail, an
    ``ExceptionGroup`` of theirs. ``progress`` is called from all of the threads. (Coroutines: a ``run()`` of each in an
    ``asyncio.TaskGroup``.)
    """
    handles = list(projections)
    if len({handle.folder for handle in handles}) < len(handles):
        raise InvalidInput("the same projection stands there twice: it has one writer")
    ending = threading.Event() if stop is None else stop
    done: dict[int, ProjectionProgress] = {}
    failed: list[Exception] = []

    def follow(number: int, handle: ProjectionHandle) -> None:
        try:
            done[number] = handle.follow(timeout_s, progress=progress, stop=ending)
        except Exception as exc:  # noqa: BLE001 - raised below
            failed.append(exc)
            ending.set()

    threads = [
        threading.Thread(target=follow, args=(number, handle), name=f"varve projection {handle.name}", daemon=True)
        for number, handle in enumerate(handles)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C: they end before the caller goes on
        ending.set()
        for thread in threads:
            thread.join()
        raise
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise ExceptionGroup("several projections failed", failed)
    return [done[number] for number in range(len(handles))]

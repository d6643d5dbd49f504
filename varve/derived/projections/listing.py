"""Which projections there are in a store's folder, and where they stand."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from varve.derived.projections import database
from varve.derived.projections.place import FOLDER, Place
from varve.derived.projections.readers import Readers
from varve.derived.projections.reports import ProjectionInfo
from varve.errors import ProjectionNotBuilt, VarveError
from varve.record import to_datetime

if TYPE_CHECKING:
    from varve.engine.core import Engine


def list_projections(engine: Engine) -> list[ProjectionInfo]:
    """The projections in a store's own folder, by name. Writes nothing."""
    folder = Path(engine.path, FOLDER)
    with engine.snapshot() as snapshot:
        end = snapshot.next_sequence
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        return [described(Place(folder.absolute() / name), name, end)[0] for name in names]
    return []


def described(place: Place, name: str, end: int) -> tuple[ProjectionInfo, database.Record | None]:
    """What a projection's folder tells, and the record of its current generation, where that can be read."""
    record = generation = problem = path = None
    readers = Readers(place, name)
    try:
        generation = place.current()
        path = None if generation is None else str(place.database(generation))
        record = readers.record()
    except ProjectionNotBuilt:
        pass
    except VarveError as exc:
        problem = str(exc)
    finally:
        readers.close()
    running, pid = place.holder("writer")
    rebuilding, _ = place.holder("rebuild")
    position = None if record is None else record.position
    info = ProjectionInfo(
        name=name,
        path=path,
        generation=generation,
        version=None if record is None else record.version,
        position=position,
        lag=None if position is None else max(0, end - position),
        built_at=None if record is None else to_datetime(record.built_at_ns),
        size_bytes=_size(place.folder),
        generations=len(place.generations()),
        running=running,
        pid=pid,
        rebuilding=rebuilding,
        problem=problem,
    )
    return info, record


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, of which some may go meanwhile."""
    size = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat().st_size
    return size

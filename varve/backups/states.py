"""Saved states on their way to another place: those that are whole, and of a history that ends where that place does."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from varve import limits
from varve.engine import files
from varve.engine.instant import Instant
from varve.errors import CorruptedStore, IntegrityError
from varve.layout.snapshots import HEAD_BYTES_MAX, decode_head
from varve.logs import WARNING, say

if TYPE_CHECKING:
    from varve.backups.pairs import Pair
    from varve.engine.core import Engine
    from varve.engine.pages import DamagedPage

PART: Final = "states"
"""What a manifest calls them, of the environment ``snapshots``."""


def is_whole(key: bytes, value: bytes) -> bool:
    """Whether a saved state is as it was written."""
    try:
        head = decode_head(key, value[:HEAD_BYTES_MAX], len(value))
    except CorruptedStore:
        return False
    return zlib.crc32(memoryview(value)[head.state_at :]) == head.state_crc


def whole(pairs: Iterable[Pair], store_uuid: bytes | None = None, end: int | None = None) -> Iterator[Pair]:
    """Those that are as they were written, of that store, and were saved when its log reached no further than ``end``."""
    for key, value in pairs:
        if is_whole(key, value):
            head = decode_head(key, value[:HEAD_BYTES_MAX], len(value))
            if store_uuid in (None, head.store_uuid) and (end is None or head.log_end <= end):
                yield key, value


def of_engine(engine: Engine) -> Iterator[Pair]:
    """Those of an open store, one by one; nothing is held between them. Where they cannot be read there are none: they are
    derived from the log."""
    key = b"\0"
    while True:
        try:
            with engine.snapshots.reading() as pairs:
                found = None if pairs is None else pairs.from_(key)
                if found is None:
                    return
                item = found[0], found[1].part()
        except IntegrityError as exc:
            say(WARNING, "%s: no saved state can be read: %s", engine.path, exc.message)
            return
        yield item
        key = item[0] + b"\0"


def of_folder(path: str, damage: Callable[[DamagedPage], None]) -> Iterator[Pair]:
    """Those of a store that this process does not hold open, page by page: damage cannot crash the caller. Raises as
    ``Instant``."""
    folder = os.path.join(path, files.SNAPSHOTS)
    if not files.has_data(folder):
        return
    table = files.side_name(files.SNAPSHOTS)
    with Instant(folder) as instant:
        instant.file.value_bytes_max = HEAD_BYTES_MAX + limits.SAVED_STATE_BYTES_MAX
        if instant.damage is not None:
            damage(instant.damage)
        for name, tree in instant.file.readable_tables(damage):
            if name == table:
                yield from instant.file.readable(tree, damage)

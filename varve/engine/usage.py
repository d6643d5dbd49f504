"""What a store takes up: pages by sub-database, readers, the map. Cheap: LMDB keeps the counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from varve import limits
from varve.engine import files
from varve.engine.pages import tree_pages

if TYPE_CHECKING:
    import lmdb

    from varve.engine.environment import Environment

_META_PAGES = 2


class Usage(NamedTuple):
    """Sizes in bytes, but for ``blocks`` (entries of the log), ``readers``, ``readers_max`` (slots), ``reader_lag``
    (transactions) and ``last_page``."""

    blocks: int
    log_bytes: int
    index_bytes: int
    meta_bytes: int
    side_bytes: int
    free_bytes: int
    used_bytes: int
    file_bytes: int
    map_bytes: int
    last_page: int
    readers: int
    readers_max: int
    reader_lag: int


def usage(environment: Environment, transaction: lmdb.Transaction[memoryview]) -> Usage:
    """What a store takes up at the instant of a read transaction, which is not counted among the readers. Raises
    ``lmdb.Error``.

    Side tables are not opened for this, which could wait for a commit: their records in LMDB's main database say it.
    """
    log, index, meta = (
        transaction.stat(database) for database in (environment.log, environment.index, environment.meta)
    )
    info = environment.env.info()
    last_page = info["last_pgno"]
    slots = list(environment.readers())
    oldest = min((snapshot_id for _, snapshot_id in slots if snapshot_id is not None), default=transaction.id())
    log_pages, index_pages, meta_pages = map(_pages, (log, index, meta))
    side_pages = sum(tree_pages(transaction.get(files.side_name(name), b"")) for name in files.SIDE_TABLES)
    free_pages = last_page + 1 - _META_PAGES - log_pages - index_pages - meta_pages - side_pages
    return Usage(
        blocks=log["entries"],
        log_bytes=log_pages * limits.PAGE_BYTES,
        index_bytes=index_pages * limits.PAGE_BYTES,
        meta_bytes=meta_pages * limits.PAGE_BYTES,
        side_bytes=side_pages * limits.PAGE_BYTES,
        free_bytes=max(0, free_pages) * limits.PAGE_BYTES,  # a commit may come between the two
        used_bytes=(last_page + 1) * limits.PAGE_BYTES,
        file_bytes=environment.file_bytes(),
        map_bytes=info["map_size"],
        last_page=last_page,
        readers=max(0, len(slots) - 1),  # of a sealed store nobody keeps a table
        readers_max=info["max_readers"],
        reader_lag=max(0, info["last_txnid"] - oldest),
    )


def _pages(stat: Mapping[str, Any]) -> int:
    pages: int = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return pages

"""What a failed write or commit means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lmdb

from varve import limits
from varve.engine import files
from varve.errors import CommitOutcomeUnknown, DiskFull, StoreFull, TooManyItems, VarveError
from varve.logs import ERROR, say

if TYPE_CHECKING:
    from varve.engine.opened import Opened


def failed(environment: Opened, exc: lmdb.Error, payload_bytes: int) -> VarveError:
    """What a failed write or commit means. Truth comes from beginning a write transaction: LMDB refuses it (panic)
    exactly when the meta page's write failed, and then nobody knows; otherwise nothing was committed."""
    path = environment.path
    try:
        environment.env.begin(write=True).abort()
    except lmdb.Error:
        return outcome_unknown(environment)
    if isinstance(exc, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.BadTxnError):
        return environment.read_error(exc)
    if isinstance(exc, lmdb.MapFullError):
        return StoreFull(
            f"{path}: the reserved map is full; nothing was written. Close the store everywhere and open it with a larger "
            "map_bytes",
            path=path,
        )
    if isinstance(exc, lmdb.TxnFullError):
        return TooManyItems(
            f"{path}: the transaction changes too many pages; nothing was written. Append in smaller batches",
            limit_name="TRANSACTION_BYTES_MAX",
            limit=limits.TRANSACTION_BYTES_MAX,
        )
    if (
        isinstance(exc, lmdb.DiskError)
        or exc.code in files.SPACE_ERRORS
        or files.free_bytes(path) < 2 * payload_bytes + 2**20
    ):
        return DiskFull(
            f"{path}: no room on the file system ({exc}); nothing was written. Free some and retry", path=path
        )
    return environment.fail(f"the disk failed during a commit ({exc}); nothing of it was written", str(exc))


def outcome_unknown(environment: Opened) -> VarveError:
    """The error of a commit that nobody can tell of; the handle refuses everything from here on."""
    path = environment.path
    message = (
        f"{path}: the last step of a commit failed; whether it was written shows when the store is opened again. This handle "
        "refuses everything until then. A retry under the same idempotency key is safe"
    )
    say(ERROR, "%s", message)
    environment.refusal = lambda: CommitOutcomeUnknown(message, path=path)
    return CommitOutcomeUnknown(message, path=path)

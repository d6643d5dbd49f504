"""A creation that was cut off: what it left is made anew, as long as nothing can ever have been in it.

LMDB begins a file by writing both of its meta pages at once. Where there is room for one page only, or the process is
killed in between, the file ends behind the first, and LMDB refuses it from then on.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from typing import Final

from varve import limits
from varve.engine import files
from varve.errors import NotAVarveStore, StoreInUse

_HEAD: Final = struct.Struct("<16x II QQ 96x QQ")
"""The first meta page: magic, version, address, map size; last page, transaction. See ``engine.files``."""
_MAGIC: Final = 0xBEEFC0DE
_LAST_OF_NEW: Final = 1
_TRIES: Final = 50
_PAUSE_S: Final = 0.002


def clear_unfinished(path: str, *, readonly: bool) -> None:
    """Empty a data file that ends before a creation can have been complete. Anything else stays as it is.

    Raises ``NotAVarveStore`` where ``readonly`` forbids it.
    """
    data = os.path.join(path, files.DATA)
    for _ in range(_TRIES):
        if not _is_unfinished(data):
            return
        if readonly:
            raise NotAVarveStore(f"{path} was never finished being created; open it once without readonly", path=path)
        try:
            fd = files.lock_handle(path, exclusive=True, readonly=False)
        except StoreInUse:  # somebody is writing those pages just now
            time.sleep(_PAUSE_S)
            continue
        try:
            if _is_unfinished(data):
                with contextlib.suppress(OSError):  # whoever opens it next says what is wrong
                    os.truncate(data, 0)
            return
        finally:
            os.close(fd)


def _is_unfinished(data: str) -> bool:
    """Whether a file ends before its second meta page, and its first one is that of a store without a commit.

    The commits that finish a creation write both, so a store that ever held anything and was truncated is told from it.
    """
    try:
        if not 0 < os.stat(data).st_size < 2 * limits.PAGE_BYTES:
            return False
        with open(data, "rb") as file:
            head = file.read(_HEAD.size)
    except OSError:
        return False
    if len(head) < _HEAD.size:
        return False
    magic, _, _, _, last_page, transaction = _HEAD.unpack(head)
    return (magic, last_page, transaction) == (_MAGIC, _LAST_OF_NEW, 0)

"""The first bytes of a store: LMDB's file, made so that no creation that is cut off leaves half of it under its name.

LMDB begins a file by writing both meta pages into it, unsynced, under the name that counts. A power cut may leave that name
with zeros, or with one page of two behind it: what no one can tell from a damaged store. So the two pages are made
under another name, forced to disk, and linked to ``data.mdb`` then: that name appears with everything or not at all, and
of several processes that create a store at once, one wins.

Where there are no links LMDB makes the file itself. What such a creation leaves that is cut off, for want of room or by a
kill, is made anew, as long as nothing can ever have been in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from typing import Final

import lmdb

from varve import limits
from varve.engine import files
from varve.engine.pages import DamagedPage, parse_meta
from varve.errors import NotAVarveStore, StoreInUse

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL, errno.EXDEV)
"""What file systems without hard links say (FAT, some shares and layers over others; of two names in one folder it can mean
nothing else): there LMDB makes the file itself, as it always did."""

_SUFFIX: Final = ".new"
_LAST_PAGE_OF_NEW: Final = 1
_TRIES: Final = 50
_PAUSE_S: Final = 0.002


def make_data_file(path: str) -> None:
    """Put LMDB's file into the folder of a new store, unless another process does. Raises ``lmdb.Error``, ``OSError``."""
    data = os.path.join(path, files.DATA)
    unfinished = f"{data}.{secrets.token_hex(8)}{_SUFFIX}"
    try:
        # Address space is reserved by whoever opens it; LMDB notes the larger size with its next commit.
        lmdb.Environment(
            unfinished, subdir=False, lock=False, map_size=limits.MAP_BYTES_MIN, mode=0o600, lib_version=0
        ).close()
        _sync_file(unfinished)
        os.link(unfinished, data)
    except FileExistsError:
        pass  # another process was faster; or an empty file stands there, which LMDB fills
    except (FileNotFoundError, lmdb.Error):
        if not os.path.exists(data):  # else another process was faster, and has tidied up under our hands
            raise
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        _remove_older(path)


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_older(path: str) -> None:
    """Remove what others who were cut off have left. One who is at it just now finds ``data.mdb``, which is all he wanted."""
    if not os.path.exists(os.path.join(path, files.DATA)):
        return
    for name in os.listdir(path):
        if name.startswith(f"{files.DATA}.") and name.endswith(_SUFFIX):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(path, name))


# -- where there are no links ----------------------------------------------------------------------


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

    LMDB writes both at once, and the commits that finish a creation write each of them again: a store that ever held anything
    and was truncated is told from it.
    """
    try:
        if not 0 < os.stat(data).st_size < 2 * limits.PAGE_BYTES:
            return False
        with open(data, "rb") as file:
            first = parse_meta(file.read(limits.PAGE_BYTES), 0)
    except (OSError, DamagedPage):
        return False
    return first.last_page == _LAST_PAGE_OF_NEW and not first.transaction

"""What is checked and made on the file system before LMDB sees a store.

A store is a folder (0700)::

    data.mdb      LMDB's file (0600)
    lock.mdb      LMDB's reader table. No code of ours ever opens it: closing it once would drop LMDB's fcntl locks
    varve.lock    ours: flock shared by every handle, exclusive for bulk loading

The layout of the meta pages and of a leaf page follows LMDB 0.9 (mdb.c: ``MDB_page``, ``MDB_meta``, ``MDB_node``).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from varve import limits
from varve.errors import (
    CorruptedStore,
    DiskFull,
    NotAVarveStore,
    StoreAccessDenied,
    StoreInUse,
    StoreNotFound,
    StoreUnavailable,
    UnsupportedFileSystem,
)

DATA = "data.mdb"
LMDB_LOCK = "lock.mdb"
LOCK = "varve.lock"
DATABASES = (b"varve.log", b"varve.index", b"varve.meta")
SIDE_TABLES = ("consumers",)
"""What stands beside the log in sub-databases of its own, made at first use."""

SPACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
# page: u64 number, u16 pad, u16 flags, u16 lower, u16 upper | meta: u32 magic, u32 version, u64 address, u64 map size,
# two tree records of 48 bytes, u64 last page, u64 transaction. A tree: u32 pad (page size in the first), u16 flags, u16
# depth, u64 branch, leaf, overflow pages, entries, root.
_META = struct.Struct("<QHHHH II QQ IHH5Q IHH5Q QQ")
_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_META_FLAG = 0x08
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_READER_BYTES = 64
_MAGIC_AT = 16
_TREE_ROOT_AT = 40
_NO_PAGE = 2**64 - 1
_LARGE_VALUE = 0x01
_SUB_DATABASE = 0x02
_BRANCH_FLAG = 0x01
_LEAF_FLAG = 0x02
_NETWORK_FILE_SYSTEMS = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "fuse.sshfs",
        "fuse.glusterfs",
    )
)


class _Meta(NamedTuple):
    """The newer of the two meta pages."""

    transaction: int
    last_page: int
    entries: int
    root: int
    free_root: int


def prepare(path: str, *, readonly: bool, allow_network: bool) -> bool:
    """Check (or make) the folder of a store; True where the store does not exist yet.

    Raises ``StoreNotFound``, ``StoreAccessDenied``, ``NotAVarveStore``, ``CorruptedStore``, ``UnsupportedFileSystem``.
    """
    try:
        data = os.path.join(path, DATA)
        if os.path.exists(path) and not os.path.isdir(path):
            raise NotAVarveStore(f"{path} is a file; a store is a folder. Choose another path", path=path)
        exists = _size(data) > 0
        if not exists:
            if readonly:
                raise StoreNotFound(
                    f"there is no store at {path}; open it once without readonly to create it", path=path
                )
            _create_folder(path)
        if not allow_network:
            _refuse_network(path)
        if exists:
            if not os.access(data, os.R_OK if readonly else os.R_OK | os.W_OK):
                raise StoreAccessDenied(f"no permission to {'read' if readonly else 'write'} {data}", path=path)
            check_data_file(path)
        elif not os.access(path, os.W_OK | os.X_OK):
            raise StoreAccessDenied(f"no permission to create a store in {path}", path=path)
        return not exists
    except OSError as exc:
        if isinstance(exc, StoreUnavailable):
            raise
        raise unavailable(path, exc) from exc


def _size(data: str) -> int:
    """Bytes of a file, 0 where there is none. (``os.path.exists`` calls a file that may not be seen missing.)"""
    try:
        return os.stat(data).st_size
    except FileNotFoundError:
        return 0


def unavailable(path: str, exc: OSError) -> StoreUnavailable:
    """An error of the operating system, as ours."""
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreAccessDenied(f"cannot use {path}: {exc.strerror}", path=path)
    if exc.errno == errno.ENOENT:
        return StoreNotFound(f"cannot use {path}: {exc.strerror}", path=path)
    return StoreUnavailable(f"cannot use {path}: {exc.strerror or exc}", path=path)


def _create_folder(path: str) -> None:
    """The folder and its parents, their entries on disk."""
    missing = []
    at = path
    while not os.path.isdir(at):
        missing.append(at)
        at = os.path.dirname(at)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        sync_folder(os.path.dirname(folder))


def sync_folder(path: str) -> None:
    """Fsync a folder, so that new names in it survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refuse_network(path: str) -> None:
    """LMDB's locks and map are only safe on a local file system."""
    kind = file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise UnsupportedFileSystem(
            f"{path} is on {kind}, a network file system, where LMDB's locks and memory map are not safe. Use a local disk, or "
            "pass allow_network=True if this mount is used by one host only and you know that it keeps mmap coherent",
            path=path,
            file_system=kind,
        )


def file_system(path: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """The type of the file system that holds ``path``, as the kernel names it; empty where it cannot be told."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        lines = Path(mountinfo).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, tail = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not tail:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, tail.split(" ")[0]
    return kind


# -- LMDB's file -----------------------------------------------------------------------------------


def check_data_file(path: str) -> None:
    """The cheap checks before a file is mapped: that it is LMDB 0.9's and ours, and as long as its meta page says.

    A file shorter than that would raise SIGBUS at the first touch of a missing page.
    """
    data = os.path.join(path, DATA)
    fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(8):
            meta = _read_meta(fd, path)
            size = os.fstat(fd).st_size
            names = _names(fd, meta)
            if _read_meta(fd, path).transaction == meta.transaction:
                break  # no writer was at work while we looked
        else:
            return  # a busy store: its writers have it open and right
    finally:
        os.close(fd)
    if names is not None and names.isdisjoint(DATABASES):
        raise NotAVarveStore(f"{data} is an LMDB file of another program; choose another path", path=path)
    if size < (meta.last_page + 1) * limits.PAGE_BYTES:
        _check_short_file(data, path, size, meta)


def _read_meta(fd: int, path: str) -> _Meta:
    """The newer sane meta page. Raises ``NotAVarveStore`` and ``CorruptedStore``."""
    head = os.pread(fd, 2 * limits.PAGE_BYTES, 0)
    metas = []
    magic = len(head) >= _MAGIC_AT + 4 and _U32.unpack_from(head, _MAGIC_AT)[0] == _MAGIC
    for at in (0, limits.PAGE_BYTES):
        if len(head) < at + _META.size:
            continue
        (_, _, flags, _, _, found, version, _, _, page_bytes, *rest) = _META.unpack_from(head, at)
        if found != _MAGIC or not flags & _META_FLAG:
            continue
        if version != _DATA_VERSION or page_bytes != limits.PAGE_BYTES:
            raise NotAVarveStore(
                f"{path} holds an LMDB file of data version {version} with pages of {page_bytes} bytes; "
                f"Varve uses version {_DATA_VERSION} and {limits.PAGE_BYTES}",
                path=path,
            )
        free_root, entries, root, last_page, transaction = rest[6], rest[13], rest[14], rest[15], rest[16]
        metas.append(_Meta(transaction, last_page, entries, root, free_root))
    if len(metas) == 2:
        return max(metas)
    if not magic:
        raise NotAVarveStore(f"{os.path.join(path, DATA)} is not an LMDB file; choose another path", path=path)
    raise CorruptedStore(
        f"{os.path.join(path, DATA)} has a damaged meta page or is cut off after {len(head)} bytes; restore a backup",
        path=path,
    )


def _names(fd: int, meta: _Meta) -> set[bytes] | None:
    """Names of the sub-databases; None where the file is new or they cannot be told from one page."""
    if not meta.entries:
        return None
    page = os.pread(fd, limits.PAGE_BYTES, meta.root * limits.PAGE_BYTES)
    if len(page) < limits.PAGE_BYTES:
        return None
    _, _, flags, lower, _ = _PAGE.unpack_from(page)
    if flags & _BRANCH_FLAG:
        return set()  # our few names fit into one page: these are somebody else's
    if not flags & _LEAF_FLAG:
        return None
    if not _PAGE.size <= lower <= len(page) or lower % 2:
        return None
    names = set()
    for (at,) in struct.iter_unpack("<H", page[_PAGE.size : lower]):
        if at + _NODE.size > len(page):
            return None
        key_bytes = _NODE.unpack_from(page, at)[3]
        names.add(page[at + _NODE.size : at + _NODE.size + key_bytes])
    return names


def _check_short_file(data: str, path: str, size: int, meta: _Meta) -> None:
    """A file shorter than its meta page says is sound only where all that is missing are free pages at its end."""
    from lmdb.verify import VerifyError, verify  # rare, and 1,000 lines

    try:
        problems = verify(data, subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as exc:
        problems = [str(exc)]
    if not problems:
        # It looks at the first page of a large value only: the rest may be what is missing.
        with open(data, "rb") as file:
            if (_last_page_in_use(file, meta) + 1) * limits.PAGE_BYTES > size:
                problems = ["the end of a large value is missing"]
    if problems:
        raise CorruptedStore(
            f"{data} is truncated: {size} bytes of {(meta.last_page + 1) * limits.PAGE_BYTES} ({problems[0]}); restore a backup",
            path=path,
        )


def _last_page_in_use(file: BinaryIO, meta: _Meta) -> int:
    """The highest page that any tree of a file reaches. The file's structure was verified before."""
    last = 0
    todo = [root for root in (meta.root, meta.free_root) if root != _NO_PAGE]
    while todo:
        number = todo.pop()
        last = max(last, number)
        file.seek(number * limits.PAGE_BYTES)
        page = file.read(limits.PAGE_BYTES)
        _, _, page_flags, lower, _ = _PAGE.unpack_from(page)
        for (at,) in struct.iter_unpack("<H", page[_PAGE.size : lower]):
            low, high, flags, key_bytes = _NODE.unpack_from(page, at)
            value = at + _NODE.size + key_bytes
            if page_flags & _BRANCH_FLAG:
                todo.append(low | high << 16 | flags << 32)
            elif flags & _LARGE_VALUE:
                pages = (_PAGE.size - 1 + (low | high << 16)) // limits.PAGE_BYTES + 1
                last = max(last, _U64.unpack_from(page, value)[0] + pages - 1)
            elif flags & _SUB_DATABASE:
                root = _U64.unpack_from(page, value + _TREE_ROOT_AT)[0]
                if root != _NO_PAGE:
                    todo.append(root)
    return last


# -- the handle lock -------------------------------------------------------------------------------


def lock_handle(path: str, *, exclusive: bool, readonly: bool) -> int:
    """Take our flock on a store; a file descriptor that holds it, or -1 where the file system is read-only.

    Raises ``StoreInUse``.
    """
    flags = os.O_RDONLY if readonly else os.O_RDWR | os.O_CREAT
    try:
        fd = os.open(os.path.join(path, LOCK), flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)  # it may be a pipe
    except OSError as exc:
        if readonly and exc.errno in (errno.ENOENT, errno.EROFS, errno.EACCES):
            return -1
        raise unavailable(path, exc) from exc
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if exc.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            whose = "another handle has it open" if exclusive else "it is open for bulk loading"
            raise StoreInUse(
                f"{path}: {whose}; durability='bulk' needs the store alone. Retry later", path=path
            ) from None
        raise unavailable(path, exc) from exc
    return fd


def check_room_for_readers(path: str, slots: int) -> None:
    """LMDB maps its sparse lock file: touching a page of it that the file system has no room for would kill the process.

    Raises ``DiskFull``. (The file is looked at, not opened.)
    """
    try:
        allocated = os.stat(os.path.join(path, LMDB_LOCK)).st_blocks * 512
    except FileNotFoundError:
        allocated = 0
    missing = (slots + 4) * _READER_BYTES - allocated
    if missing > 0 and free_bytes(path) < missing + 16 * limits.PAGE_BYTES:
        raise DiskFull(f"{path}: no room on the file system for LMDB's reader table; free some and retry", path=path)


def free_bytes(path: str) -> int:
    """By how much the data file may still grow: room left for us on its file system, and under this process's limit."""
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return free if limit == resource.RLIM_INFINITY else min(free, max(0, limit - _size(os.path.join(path, DATA))))

"""What is checked and made on the file system before LMDB sees a store.

A store is a folder (0700)::

    data.mdb      LMDB's file (0600)
    lock.mdb      LMDB's reader table. No code of ours ever opens it: closing it once would drop LMDB's fcntl locks
    varve.lock    ours: flock shared by every handle, exclusive for bulk loading and sealing
    varve.seal    of a sealed store: what it held (varve.engine.seal)
    watch/        sockets of processes that watch (varve.engine.hints)
    snapshots/    saved state: an environment of its own (varve.engine.keyvalues)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import resource
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from varve import limits
from varve.engine.pages import DATA_VERSION, MAGIC, MAGIC_AT, DamagedPage, Meta, PageFile, parse_meta
from varve.errors import (
    CorruptedStore,
    DiskFull,
    InvalidInput,
    NotAVarveStore,
    SealedStore,
    StoreAccessDenied,
    StoreInUse,
    StoreNotFound,
    StoreUnavailable,
    UnsupportedFileSystem,
)

DATA = "data.mdb"
LMDB_LOCK = "lock.mdb"
LOCK = "varve.lock"
SEAL = "varve.seal"
DATABASES = (b"varve.log", b"varve.index", b"varve.meta")
SNAPSHOTS = "snapshots"
"""The folder of the environment that holds saved state."""
SIDE_TABLES = ("base", "consumers", "dead_letters", "retention", "state")
"""What stands beside the log in sub-databases of its own, made at first use."""

SPACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_READER_BYTES = 64
_HEAD = struct.Struct("<II16xI")  # of a meta page, behind its page header: magic, version, page size
_OTHER_PAGE_BYTES = {1 << power for power in range(8, 17)} - {limits.PAGE_BYTES}
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


def side_name(name: str) -> bytes:
    """The sub-database of a side table."""
    return f"varve.{name}".encode()


def folder(path: str | os.PathLike[str], what: str = "a store's path") -> str:
    """A path as text. An empty one would mean the folder that the program happens to be in. Raises ``InvalidInput``."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if isinstance(text, str) and text and "\0" not in text:
        with contextlib.suppress(UnicodeEncodeError):
            os.fsencode(text)
            return text
    raise InvalidInput(f"{what} is a non-empty str or Path that can name a file, not {text!r}")


def holds(outer: str, inner: str) -> bool:
    """Whether a path lies in a folder, whichever links lead there, or is that folder."""
    outer, inner = os.path.realpath(outer), os.path.realpath(inner)
    return os.path.commonpath((outer, inner)) == outer


def prepare(path: str, *, readonly: bool, allow_network: bool) -> bool:
    """Check (or make) the folder of a store; True where the store does not exist yet.

    Raises ``StoreNotFound``, ``StoreAccessDenied``, ``NotAVarveStore``, ``CorruptedStore``, ``UnsupportedFileSystem``.
    """
    try:
        data = os.path.join(path, DATA)
        if os.path.exists(path) and not os.path.isdir(path):
            raise NotAVarveStore(f"{path} is a file; a store is a folder. Choose another path", path=path)
        exists = has_data(path)  # what is no regular file is refused below
        if not exists:
            if readonly:
                raise StoreNotFound(
                    f"there is no store at {path}; open it once without readonly to create it", path=path
                )
            make_folder(path)
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


def has_data(path: str) -> bool:
    """Whether there is something in a folder under the name of LMDB's file."""
    return _size(os.path.join(path, DATA)) != 0


def identity(path: str) -> tuple[int, int] | None:
    """Which file lies in a folder under the name of LMDB's; None where there is none."""
    try:
        status = os.stat(os.path.join(path, DATA))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _size(data: str) -> int:
    """Bytes of a file, 0 where there is none. (``os.path.exists`` calls a file that may not be seen missing.)"""
    try:
        status = os.stat(data)
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def unavailable(path: str, exc: OSError) -> StoreUnavailable:
    """An error of the operating system, as ours."""
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreAccessDenied(f"cannot use {path}: {exc.strerror}", path=path)
    if exc.errno == errno.ENOENT:
        return StoreNotFound(f"cannot use {path}: {exc.strerror}", path=path)
    return StoreUnavailable(f"cannot use {path}: {exc.strerror or exc}", path=path)


def make_folder(path: str) -> None:
    """The folder and its parents, their entries on disk."""
    missing = []
    at = path
    while not os.path.isdir(at):
        missing.append(at)
        at = os.path.dirname(at)
    # Whoever made the last one that is there may have been killed before he synced its name. Where it is older than the
    # store, this is none of our business: it may lie in a folder that we cannot open.
    with contextlib.suppress(OSError):
        sync_folder(os.path.dirname(at))
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


def write_new(path: str, data: bytes, *, replace: bool = False) -> None:
    """A small file (0600), on disk when this returns; its name is, once the folder is synced. Raises ``OSError``, and
    ``FileExistsError`` unless a file that is there may be replaced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if replace else os.O_EXCL)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def open_file(path: str, *, buffering: int = -1) -> BinaryIO:
    """A regular file, to be read; what else has its name is not waited for. Raises ``OSError``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return os.fdopen(fd, "rb", buffering=buffering)


def is_sealed(path: str) -> bool:
    """Whether a store is read-only for good."""
    return os.path.lexists(os.path.join(path, SEAL))


def sealed(path: str) -> SealedStore:
    """The error for whoever would write to a sealed store."""
    return SealedStore(
        f"{path} is sealed: it is read-only for good. Open it with readonly=True; a copy that can be written to is made with "
        "varve.ops.repair(path, new), or of a backup with varve.ops.restore",
        path=path,
    )


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


def check_data_file(path: str, databases: Iterable[bytes] = DATABASES) -> None:
    """The cheap checks before a file is mapped: that it is LMDB 0.9's and ours (it has one of the ``databases``), that both its
    meta pages are sane, and that it is as long as they say.

    A file shorter than that would raise SIGBUS at the first touch of a missing page.
    """
    data = os.path.join(path, DATA)
    fd = open_data(path)
    try:
        for _ in range(8):
            meta = newest_meta(fd, path)
            size = os.fstat(fd).st_size
            names = _names(PageFile(fd, meta, size))
            if newest_meta(fd, path).transaction == meta.transaction:
                break  # no writer was at work while we looked
        else:
            return  # a busy store: its writers have it open and right
        if names is not None and names.isdisjoint(databases):
            raise NotAVarveStore(f"{data} is an LMDB file of another program; choose another path", path=path)
        if size < (meta.last_page + 1) * limits.PAGE_BYTES:
            _check_short_file(data, path, PageFile(fd, meta, size))
    finally:
        os.close(fd)


def open_data(path: str) -> int:
    """The data file, open for reading with ``pread``. Raises ``OSError``, ``NotAVarveStore`` where it is no file."""
    data = os.path.join(path, DATA)
    fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe of that name must not make us wait
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAVarveStore(f"{data} is no regular file; choose another path", path=path)
    return fd


def metas(fd: int) -> list[Meta | DamagedPage]:
    """Both meta pages, or what is wrong with them.

    Where the write of a meta page fails, LMDB puts the old number and the old end of the file back, but not the old trees
    (``mdb_env_write_meta``): the page is again the older of both, which nobody reads, and its trees may lead anywhere. That is no
    damage, and the page is given without trees.
    """
    found: list[Meta | DamagedPage] = []
    for number in (0, 1):
        try:
            found.append(parse_meta(os.pread(fd, limits.PAGE_BYTES, number * limits.PAGE_BYTES), number))
        except DamagedPage as exc:
            found.append(exc)
        except OSError as exc:
            found.append(DamagedPage(number, f"it cannot be read: {exc.strerror}"))
    for number, page in enumerate(found):
        other = found[1 - number]
        rest = page.rest if isinstance(page, DamagedPage) else None
        if rest is not None and isinstance(other, Meta) and rest.transaction == max(other.transaction - 1, 0):
            found[number] = rest
    return found


def newest_meta(fd: int, path: str) -> Meta:
    """The newer of two sane meta pages. Raises ``NotAVarveStore`` and ``CorruptedStore``."""
    tries = 8  # a writer may be in the middle of one
    while True:
        found = metas(fd)
        sane = [meta for meta in found if isinstance(meta, Meta)]
        if len(sane) == 2:
            return max(sane)
        tries -= 1
        if not tries:
            break
    head = os.pread(fd, _HEAD.size, MAGIC_AT)
    data = os.path.join(path, DATA)
    if not sane and (len(head) < _HEAD.size or _HEAD.unpack(head)[0] != MAGIC):
        raise NotAVarveStore(f"{data} is not an LMDB file; choose another path", path=path)
    _, version, page_bytes = _HEAD.unpack(head)
    if not sane and (version != DATA_VERSION or page_bytes in _OTHER_PAGE_BYTES):
        raise NotAVarveStore(
            f"{path} holds an LMDB file of data version {version} with pages of {page_bytes} bytes; "
            f"Varve uses version {DATA_VERSION} and {limits.PAGE_BYTES}",
            path=path,
        )
    size = os.fstat(fd).st_size
    damage = next(meta for meta in found if isinstance(meta, DamagedPage))
    raise CorruptedStore(
        f"{data} has a damaged meta page or is cut off after {size} bytes ({damage}); restore a backup, or salvage it with "
        "varve.ops.repair",
        path=path,
    )


def misnumbered(fd: int) -> tuple[DamagedPage, Meta] | None:
    """A meta page whose number is not that of its commit, and the newest of both when they are numbered right; None where nothing
    is wrong with them.

    With it LMDB takes the older one for the newer: a commit is gone, and nothing else looks wrong. Each commit writes the page
    that the one before it did not, so the right number is one more or one less than the other page's. Nothing is said of a page
    that may be what LMDB leaves of a commit whose last write failed (see ``metas``): two less than its number, and a file that
    ends no later than the other page says.
    """
    found = metas(fd)
    sane = [meta for meta in found if isinstance(meta, Meta)]
    if len(sane) < 2:
        return None
    size = os.fstat(fd).st_size
    freed = [PageFile(fd, meta, size).freed_last() for meta in sane]
    if repr(metas(fd)) != repr(found):
        return None  # a busy store: what was read may be of two commits
    for number, (meta, right) in enumerate(zip(sane, freed, strict=True)):
        other = sane[1 - number]
        undone = right == meta.transaction + 2 == other.transaction + 1 and meta.last_page <= other.last_page
        if right is not None and right != meta.transaction and abs(right - other.transaction) == 1 and not undone:
            damage = DamagedPage(number, f"it says that it is of commit {meta.transaction}, and is of {right}")
            return damage, max(meta._replace(transaction=right), sane[1 - number])
    return None


def _names(file: PageFile) -> set[bytes] | None:
    """Names of the sub-databases; None where the file is new or they cannot be told."""
    if not file.meta.main.entries:
        return None
    if file.meta.main.depth > 1:
        return set()  # our few names fit into one page: these are somebody else's
    damage: list[DamagedPage] = []
    names = {name for name, _ in file.readable(file.meta.main, damage.append)}
    return None if damage else names


def _check_short_file(data: str, path: str, file: PageFile) -> None:
    """A file shorter than its meta page says is sound only where all that is missing are free pages at its end."""
    from lmdb.verify import VerifyError, verify  # rare, and 1,000 lines

    try:
        problems = verify(data, subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as exc:
        problems = [str(exc)]
    if not problems:
        # It looks at the first page of a large value only: the rest may be what is missing.
        damage: list[DamagedPage] = []
        file.reached(damage.append)
        problems = [str(one) for one in damage]
    if problems:
        raise CorruptedStore(
            f"{data} is truncated: {file.size} bytes of {(file.meta.last_page + 1) * limits.PAGE_BYTES} ({problems[0]}); "
            "restore a backup, or salvage it with varve.ops.repair",
            path=path,
        )


# -- the handle lock -------------------------------------------------------------------------------


def lock_handle(path: str, *, exclusive: bool, readonly: bool, purpose: str = "durability='bulk'") -> int:
    """Take our flock on a store; a file descriptor that holds it, or -1 where the file system is read-only. ``purpose``: what
    needs the store alone.

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
            whose = "another handle has it open" if exclusive else "it is open for bulk loading, or being sealed"
            what = f"{purpose} needs the store alone. " if exclusive else ""
            raise StoreInUse(f"{path}: {whose}; {what}Retry later", path=path) from None
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

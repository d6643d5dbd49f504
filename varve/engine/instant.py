"""A store's file at one instant, for those who look at the whole of it: pages that nobody changes while they are read.

Nothing of the data is touched through a memory map, so a damaged file costs an error and never the process. Where the file
is sound enough, an LMDB reader is registered meanwhile: writers in other processes go on, and leave alone what it can see.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from typing import Self

from lmdb.verify import VerifyError, verify

from varve import limits
from varve.engine import files
from varve.engine.environment import lingering, open_environment
from varve.engine.pages import DamagedPage, Meta, PageFile, no_meta, parse_meta
from varve.errors import CorruptedStore, DiskFull, InvalidInput, NotAVarveStore, StoreNotFound, StoreUnavailable

_TRIES = 1_000
_CHUNK = 256 * limits.PAGE_BYTES
_U64 = struct.Struct("<Q")
_TRANSACTION_AT = 144  # in a meta page: its last field


class Instant:
    """The newest instant of a store that this process does not hold open; a context manager.

    Attributes: ``file`` (its pages), ``damage`` (a meta page that is damaged, where the other one could be used), ``misnumbered``
    (a meta page with the wrong number, by which LMDB may take the wrong one for the newer; here the right one is taken).
    Raises ``StoreNotFound``, ``StoreAccessDenied``, ``StoreAlreadyOpen``, ``StoreInUse``, ``NotAVarveStore``, and
    ``CorruptedStore`` where neither meta page can be used, unless ``whatever`` is asked for: then the file is pages without
    trees.
    """

    file: PageFile
    damage: DamagedPage | None
    misnumbered: DamagedPage | None = None

    def __init__(self, path: str, *, whatever: bool = False) -> None:
        self._whatever = whatever
        self.is_pinned = False
        self._before = ""
        self.path = os.path.abspath(path)
        self._ends = contextlib.ExitStack()
        with contextlib.ExitStack() as ends:
            try:
                _check_there(self.path)
                _refuse_links(self.path)
                self._fd = files.open_data(self.path)
                ends.callback(os.close, self._fd)
                lock = files.lock_handle(self.path, exclusive=False, readonly=True)
            except OSError as exc:
                if isinstance(exc, StoreUnavailable):
                    raise
                raise files.unavailable(self.path, exc) from exc
            if lock >= 0:
                ends.callback(os.close, lock)
            self.damage, meta = self._choose(ends)
            self.file = PageFile(self._fd, meta, os.fstat(self._fd).st_size)
            self._ends = ends.pop_all()

    def _choose(self, ends: contextlib.ExitStack) -> tuple[DamagedPage | None, Meta]:
        found = files.metas(self._fd)
        sane = [meta for meta in found if isinstance(meta, Meta)]
        damaged = [meta for meta in found if isinstance(meta, DamagedPage)]
        if len(sane) == 1:  # perhaps only because a writer is in the middle of the other one
            with contextlib.suppress(CorruptedStore):
                files.newest_meta(self._fd, self.path)
                return None, self._pinned(ends)
            self._page = b""
            # The other page may have led to a later commit: whatever the file holds is looked at.
            last_page = max(sane[0].last_page, os.fstat(self._fd).st_size // limits.PAGE_BYTES - 1)
            return damaged[0], sane[0]._replace(last_page=last_page)
        if not sane:
            self._page = b""
            if self._whatever:
                return damaged[0], no_meta(os.fstat(self._fd).st_size)
            files.newest_meta(self._fd, self.path)  # raises what there is to say
        before = repr(found)
        wrong = files.misnumbered(self._fd)
        if wrong is not None:
            lingering(self.path)
            self._page = b""
            self._before = before
            self.misnumbered, meta = wrong
            return None, meta
        return None, self._pinned(ends)

    def changed(self) -> bool:
        """Whether somebody has committed to the file since, though nobody seemed to have it open: what was read is of no use."""
        return not self.is_pinned and not self.damage and repr(files.metas(self._fd)) != self._before

    def _pinned(self, ends: contextlib.ExitStack) -> Meta:
        """The newest meta page, while a reader of LMDB's keeps what it reaches. Where LMDB's lock file is missing nobody has the
        store open, and nobody ever writes to a sealed one: there is nobody to be kept from writing, and nothing is made."""
        env = lingering(self.path)
        self.is_pinned = env is not None or (
            os.path.lexists(os.path.join(self.path, files.LMDB_LOCK)) and not files.is_sealed(self.path)
        )
        if not self.is_pinned:
            self._before = repr(files.metas(self._fd))
            meta = files.newest_meta(self._fd, self.path)
            slot = meta.transaction & 1
            self._page = os.pread(self._fd, limits.PAGE_BYTES, slot * limits.PAGE_BYTES)
            return meta
        if env is None:
            # It maps the file, and reads nothing of it but the meta pages.
            files.check_room_for_readers(self.path, limits.READERS_MAX)
            env = open_environment(self.path, limits.MAP_BYTES, readonly=True)
            ends.callback(env.close)
        for _ in range(_TRIES):
            transaction = env.begin()
            number = transaction.id()
            for slot in (0, 1):
                page = os.pread(self._fd, limits.PAGE_BYTES, slot * limits.PAGE_BYTES)
                with contextlib.suppress(DamagedPage):
                    meta = parse_meta(page, slot)
                    if meta.transaction == number:
                        ends.callback(transaction.abort)
                        self._page = page
                        return meta
            transaction.abort()  # two commits went by between the two lines
        raise StoreUnavailable(
            f"{self.path}: the data file is not the one that its lock file speaks of. Was it replaced while a process had it "
            "open? End that process and look again",
            path=self.path,
        )

    def structure(self, scratch: str | None = None) -> list[str]:
        """What LMDB's own verifier says of the file: of the file itself where nobody writes to it, else of a copy of this
        instant, made in the folder ``scratch`` (the system's folder for temporary files)."""
        before = files.metas(self._fd)
        problems = _verified(os.path.join(self.path, files.DATA))
        if not self._page or repr(files.metas(self._fd)) == repr(before):
            return problems
        try:
            with tempfile.NamedTemporaryFile(prefix="varve-", dir=scratch) as copy:
                self._copy(copy.fileno())
                return _verified(copy.name)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise InvalidInput(f"{scratch} is no folder for a copy of the store") from exc
        except OSError as exc:
            if exc.errno in files.SPACE_ERRORS:
                raise DiskFull(
                    f"{scratch or tempfile.gettempdir()} has no room for a copy of {self.path}, which is needed while "
                    "others write to it; name another folder, or stop them",
                    path=self.path,
                ) from exc
            raise

    def _copy(self, fd: int) -> None:
        """This instant's pages, with meta pages that know of nothing later."""
        end = (self.file.meta.last_page + 1) * limits.PAGE_BYTES
        for at in range(2 * limits.PAGE_BYTES, end, _CHUNK):
            os.pwrite(fd, os.pread(self._fd, min(_CHUNK, end - at), at), at)
        other = bytearray(self._page)
        transaction = self.file.meta.transaction
        _U64.pack_into(other, 0, ~transaction & 1)
        _U64.pack_into(other, _TRANSACTION_AT, max(0, transaction - 1))
        os.pwrite(fd, self._page, (transaction & 1) * limits.PAGE_BYTES)
        os.pwrite(fd, other, (~transaction & 1) * limits.PAGE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.close()


def _check_there(path: str) -> None:
    """(``os.path.exists`` calls a file that may not be seen missing.) Raises ``StoreNotFound``, ``OSError``."""
    try:
        os.stat(os.path.join(path, files.DATA))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise StoreNotFound(f"{path} holds no store", path=path) from exc


def _refuse_links(path: str) -> None:
    """A link in the place of a lock file would have LMDB write into what it points at."""
    for name in (files.LMDB_LOCK, files.LOCK):
        if os.path.islink(os.path.join(path, name)):
            raise NotAVarveStore(f"{os.path.join(path, name)} is a symbolic link, which Varve never makes", path=path)


def _verified(data: str) -> list[str]:
    try:
        problems: list[str] = verify(data, subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as exc:
        return [str(exc)]
    except OSError as exc:
        return [f"a page cannot be read: {exc.strerror}"]
    except RecursionError:  # it goes from one into the next by calling itself
        return ["sub-databases lie in one another without end"]
    return problems


def contents(path: str) -> dict[str, dict[bytes, bytes]]:
    """Every pair of the three sub-databases of a sound store, for comparisons of small ones."""
    with Instant(path) as instant:
        tables = instant.file.tables()
        return {
            name.decode().removeprefix("varve."): dict(instant.file.items(tables[name])) for name in files.DATABASES
        }

"""Seals: a store that is read-only for good.

A store is sealed by a file, ``varve.seal``, beside its data: from then on every handle that could write refuses to open. The
file is written whole under another name first, so it is there with everything or not at all; that it is there is what counts,
whatever became of its content. It says what the store held, so that ``verify`` can tell whether it still does.

Nobody writes to a sealed store, so LMDB's reader table is neither needed nor made: it can be read on a read-only file
system, and where its folder may not be written to.
"""

from __future__ import annotations

import os
import uuid
from types import TracebackType
from typing import Final, NamedTuple, Self

from varve.engine import files
from varve.engine.environment import lingering
from varve.engine.pages import PageFile
from varve.errors import CorruptedStore, StoreNotFound, StoreUnavailable, UnsupportedFormat
from varve.layout import document

FORMAT: Final = 1


class Seal(NamedTuple):
    """What a seal says: whose events, from which sequence up to which, their digest (``varve.layout.content``), when sealed."""

    uuid: bytes
    first_sequence: int
    next_sequence: int
    content_digest: str
    sealed_at_ns: int

    def encode(self) -> bytes:
        """The bytes of the file."""
        return document.encode(
            {
                "varve_seal": FORMAT,
                "store_uuid": str(uuid.UUID(bytes=self.uuid)),
                "first_sequence": self.first_sequence,
                "next_sequence": self.next_sequence,
                "content_digest": self.content_digest,
                "sealed_at_ns": self.sealed_at_ns,
            }
        )


def read_seal(folder: str) -> Seal | None:
    """The seal of a store; None where it has none. Raises ``CorruptedStore`` where it cannot be read: the store is sealed all
    the same; ``UnsupportedFormat``, ``StoreUnavailable`` and its kin."""
    if not files.is_sealed(folder):
        return None
    path = os.path.join(folder, files.SEAL)
    try:
        with files.open_file(path) as file:
            raw = file.read(document.DOCUMENT_BYTES_MAX + 1)
        return _seal(path, raw)
    except OSError as exc:
        raise files.unavailable(path, exc) from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CorruptedStore(f"the seal {path} is damaged: {exc}; restore a backup", path=folder) from None


def _seal(path: str, raw: bytes) -> Seal:
    """The seal in a file's bytes. Raises what access to things of other kinds raises."""
    fields = document.decode(raw)
    version = fields["varve_seal"]
    if isinstance(version, int) and version > FORMAT:
        raise UnsupportedFormat(
            f"{path} has format {version}; this Varve reads up to {FORMAT}. Upgrade varve-store",
            path=path,
            found=version,
            supported=FORMAT,
        )
    first, following, sealed_at_ns = (fields[name] for name in ("first_sequence", "next_sequence", "sealed_at_ns"))
    if any(type(number) is not int for number in (first, following, sealed_at_ns)):
        raise TypeError("its numbers are none")
    seal = Seal(uuid.UUID(fields["store_uuid"]).bytes, first, following, fields["content_digest"], sealed_at_ns)
    if not isinstance(seal.content_digest, str) or seal.encode() != raw:
        raise ValueError("it says other things than a seal says")
    return seal


def write_seal(folder: str, seal: Seal) -> None:
    """Seal a folder: of a store that nobody has open, or of one that is still under its temporary name. Its data must be on disk.

    Raises ``OSError``.
    """
    path = os.path.join(folder, files.SEAL)
    files.write_new(f"{path}.new", seal.encode(), replace=True)
    os.rename(f"{path}.new", path)
    files.sync_folder(folder)


class Alone:
    """A store that nobody else has open, to be sealed: a context manager, whose ``file`` is its pages.

    Raises ``StoreNotFound``, ``StoreAlreadyOpen``, ``StoreInUse`` (also while others only read), ``StoreAccessDenied``,
    ``NotAVarveStore``, ``CorruptedStore``.
    """

    file: PageFile

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = self._lock = -1
        try:
            _check_there(path)
            lingering(path)
            self._lock = files.lock_handle(path, exclusive=True, readonly=False, purpose="sealing it")
            self._fd = files.open_data(path)
            files.check_data_file(path)
            os.fsync(self._fd)  # what weaker levels of durability have not forced to disk yet
            self.file = PageFile(self._fd, files.newest_meta(self._fd, path), os.fstat(self._fd).st_size)
        except OSError as exc:
            self._close()
            if isinstance(exc, StoreUnavailable):
                raise
            raise files.unavailable(path, exc) from exc
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


def _check_there(path: str) -> None:
    try:
        os.stat(os.path.join(path, files.DATA))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise StoreNotFound(f"{path} holds no store", path=path) from exc

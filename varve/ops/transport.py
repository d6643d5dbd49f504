"""Files that logs travel in: plain or gzip, by path or as an open binary file; a written one appears when it is complete."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import secrets
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Final, cast

from varve.engine import files
from varve.errors import DiskFull, InvalidInput, MalformedDump

__all__ = ["Input", "SourceFile", "TargetFile", "reading", "writing"]

SourceFile = str | os.PathLike[str] | BinaryIO
"""A file to read: its path, or an open binary file. What begins as gzip does is unpacked."""

TargetFile = str | os.PathLike[str] | BinaryIO
"""A file to write: its path (``.gz``: compressed), or an open binary file. A path appears when it is complete."""

_GZIP: Final = b"\x1f\x8b"
_GZIP_LEVEL: Final = 6
_BUFFER_BYTES: Final = 1 << 20
PEEK_BYTES: Final = 4_096


class Input:
    """A file that is read from its beginning to its end."""

    def __init__(self, raw: BinaryIO, name: str) -> None:
        self.name = name
        """For messages."""
        self._raw = raw
        self.total_bytes = _size(raw)
        """Length of the file as it is stored; 0 where that is not known."""
        outer = io.BufferedReader(cast("Any", raw), _BUFFER_BYTES) if not hasattr(raw, "peek") else cast("Any", raw)
        self.is_packed = bytes(outer.peek(2)[:2]) == _GZIP
        self.file: Any = outer
        if self.is_packed:
            packed: Any = gzip.GzipFile(fileobj=outer, mode="rb")
            self.file = io.BufferedReader(packed, _BUFFER_BYTES)

    def begins(self) -> bytes:
        """The first bytes, which are read again."""
        with self.guarded():
            return bytes(self.file.peek(PEEK_BYTES)[:PEEK_BYTES])

    def done_bytes(self) -> int:
        """How far it was read, in bytes as they are stored."""
        try:
            return int(self._raw.tell()) if self.total_bytes else 0
        except (OSError, ValueError):
            return 0

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Say what is wrong with compressed data as of any other file."""
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise MalformedDump(
                f"{self.name}: the compressed file is truncated or damaged ({exc}); nothing from there on was read",
                path=self.name,
            ) from None


def _size(raw: BinaryIO) -> int:
    try:
        return os.fstat(raw.fileno()).st_size if raw.seekable() else 0
    except (OSError, ValueError, AttributeError):
        return 0


@contextlib.contextmanager
def reading(source: SourceFile) -> Iterator[Input]:
    """A file to read from. Raises ``InvalidInput``, ``StoreUnavailable``, ``StoreNotFound`` and kin where it cannot be opened."""
    if isinstance(source, str | os.PathLike):
        path = files.folder(source, "the file's path")
        with contextlib.ExitStack() as stack:
            try:
                raw = stack.enter_context(open(path, "rb", buffering=0))
            except OSError as exc:
                raise files.unavailable(path, exc) from exc
            yield Input(cast("BinaryIO", raw), path)
        return
    if not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise InvalidInput(f"a file to read is a path or an open binary file, not {source!r:.80}")
    yield Input(source, str(getattr(source, "name", "the file")))


@contextlib.contextmanager
def rewindable(source: SourceFile) -> Iterator[str]:
    """The path of a file that is read more than once: of a pipe or a compressed file, a copy in the system's temporary folder
    that is gone afterwards."""
    with reading(source) as given, contextlib.ExitStack() as stack:
        if isinstance(source, str | os.PathLike) and not given.is_packed and given.total_bytes:
            yield given.name
            return
        copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="varve-"))
        with given.guarded():
            while piece := given.file.read(_BUFFER_BYTES):
                copy.write(piece)
        copy.flush()
        yield copy.name


@contextlib.contextmanager
def writing(target: TargetFile, store: str) -> Iterator[IO[bytes]]:
    """A file to write to. A path is written under a temporary name beside it, forced to disk and renamed when all is there;
    what stood there before is replaced. Nothing is written into the folder of the store."""
    if not isinstance(target, str | os.PathLike):
        if not hasattr(target, "write") or isinstance(target, io.TextIOBase):
            raise InvalidInput(f"a file to write is a path or an open binary file, not {target!r:.80}")
        yield target
        return
    path = os.path.abspath(files.folder(target, "the file's path"))
    if files.holds(store, path):
        raise InvalidInput(f"{path} lies in the store that is read; write to another folder")
    if os.path.isdir(path):
        raise InvalidInput(f"{path} is a folder; name a file")
    unfinished = f"{path}.{secrets.token_hex(8)}.unfinished"
    try:
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(open(unfinished, "xb", buffering=_BUFFER_BYTES))
            if path.endswith(".gz"):  # neither name nor time: equal logs give equal files
                with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(unfinished, path)
        files.sync_folder(os.path.dirname(path))
    except OSError as exc:
        if exc.errno in files.SPACE_ERRORS:
            raise DiskFull(f"no room for {path}; free some and retry: nothing was kept", path=path) from exc
        if exc.filename in {unfinished, path}:
            raise files.unavailable(path, exc) from exc
        raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)

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
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

from varve.engine import files
from varve.errors import DiskFull, InvalidInput, MalformedDump

__all__ = ["Input", "SourceFile", "TargetFile", "reading", "writing"]

TargetFile = str | os.PathLike[str] | BinaryIO
"""A file to write: its path (``.gz``: compressed), or an open binary file. A path appears when it is complete."""

_GZIP: Final = b"\x1f\x8b"
_GZIP_LEVEL: Final = 6
_BUFFER_BYTES: Final = 1 << 20
HEAD_BYTES: Final = 4_096


class _Chained(io.RawIOBase):
    """A file whose first bytes were read already."""

    def __init__(self, head: bytes, raw: Any) -> None:
        self._head = head
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            data: bytes = self._raw.read(len(buffer)) or b""
        else:
            data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _begun(raw: Any) -> tuple[bytes, Any]:
    """The first bytes of a file, and a file that gives them once more: a pipe cannot be read twice."""
    head = b""
    while len(head) < HEAD_BYTES and (piece := raw.read(HEAD_BYTES - len(head))):
        head += piece
    return head, io.BufferedReader(_Chained(head, raw), _BUFFER_BYTES)


class Input:
    """A file that is read from its beginning to its end."""

    def __init__(self, raw: Any, name: str, path: str | None = None) -> None:
        self.name = name
        """For messages."""
        self.path = path
        """Where it can be opened again; None where it cannot."""
        self._raw = raw
        self.total_bytes = _size(raw)
        """Length of the file as it is stored; 0 where that is not known."""
        self.head: bytes
        """The first bytes, unpacked."""
        self.file: Any
        """What is in it, unpacked."""
        self.head, self.file = _begun(raw)
        self.is_packed = self.head.startswith(_GZIP)
        if self.is_packed:
            with self.guarded():
                self.head, self.file = _begun(gzip.GzipFile(fileobj=self.file, mode="rb"))

    def done_bytes(self) -> int:
        """How far it was read, in bytes as they are stored."""
        try:
            return min(int(self._raw.tell()), self.total_bytes) if self.total_bytes else 0
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


class Rewindable(os.PathLike[str]):
    """The path of a file that can be read more than once, and the name of the file whose content it is, for messages."""

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self.name = name

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self.name


SourceFile = str | os.PathLike[str] | BinaryIO | Input
"""A file to read: its path, or an open binary file. What begins as gzip does is unpacked."""


def _is_text(given: Any) -> bool:
    return isinstance(given, io.TextIOBase)


def _size(raw: Any) -> int:
    try:
        return os.fstat(raw.fileno()).st_size if raw.seekable() else 0
    except (OSError, ValueError, AttributeError):
        return 0


@contextlib.contextmanager
def reading(source: SourceFile) -> Iterator[Input]:
    """A file to read from. Raises ``InvalidInput``, ``StoreUnavailable``, ``StoreNotFound`` and kin where it cannot be opened."""
    if isinstance(source, Input):
        yield source
        return
    if isinstance(source, str | os.PathLike):
        path = files.folder(source, "the file's path")
        with contextlib.ExitStack() as stack:
            try:
                raw = stack.enter_context(Path(path).open("rb", buffering=0))
                given = Input(raw, source.name if isinstance(source, Rewindable) else path, path)
            except OSError as exc:
                raise files.unavailable(path, exc) from exc
            yield given
        return
    if not hasattr(source, "read") or _is_text(source):
        raise InvalidInput(f"a file to read is a path or an open binary file, not {source!r:.80}")
    yield Input(source, str(getattr(source, "name", "the file")))


@contextlib.contextmanager
def rewindable(source: SourceFile) -> Iterator[Rewindable]:
    """A file that is read more than once: of a pipe or a compressed file, a copy in the system's temporary folder that is gone
    afterwards."""
    with reading(source) as given, contextlib.ExitStack() as stack:
        path = given.path or (given.name if given.total_bytes else None)
        if path is not None and not given.is_packed and Path(path).is_file():
            yield Rewindable(path, given.name)
            return
        copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="varve-"))
        with given.guarded():
            while piece := given.file.read(_BUFFER_BYTES):
                copy.write(piece)
        copy.flush()
        yield Rewindable(copy.name, given.name)


@contextlib.contextmanager
def writing(target: TargetFile, *stores: str) -> Iterator[IO[bytes]]:
    """A file to write to. A path is written under a temporary name beside it, forced to disk and renamed when all is there;
    what stood there before is replaced. Nothing is written into the folders of the stores that are read."""
    if not isinstance(target, str | os.PathLike):
        if not hasattr(target, "write") or _is_text(target):
            raise InvalidInput(f"a file to write is a path or an open binary file, not {target!r:.80}")
        yield target
        return
    path = Path(files.folder(target, "the file's path")).absolute()
    if any(files.holds(store, str(path)) for store in stores):
        raise InvalidInput(f"{path} lies in the store that is read; write to another folder")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; name a file")
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("xb", buffering=_BUFFER_BYTES) as raw:
            if path.suffix == ".gz":  # neither name nor time: equal logs give equal files
                with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        unfinished.replace(path)
        files.sync_folder(str(path.parent))
    except OSError as exc:
        if exc.errno in files.SPACE_ERRORS:
            raise DiskFull(f"no room for {path}; free some and retry: nothing was kept", path=str(path)) from exc
        if exc.filename in {unfinished, str(unfinished), str(path)}:
            raise files.unavailable(str(path), exc) from exc
        raise
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()

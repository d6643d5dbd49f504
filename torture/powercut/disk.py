"""What a disk may hold after a power cut: a model of page cache, disk and journal, fed with a trace.

What is modelled:

- A write changes the page cache. It is on disk for certain once an fsync or fdatasync of that file has returned which
  began after the write (LMDB writes a commit's pages, calls fdatasync, then writes the meta page). Until then any part of
  it may be on disk: any subset of its 4 KiB pages, and of its 512-byte sectors, in any order, of several
  writes of one sector any one.
- A write through a descriptor opened with O_DSYNC is on disk when it returns, itself only: it flushes no other pages. LMDB
  writes its meta page so (``me_mfd``), unless the level is ``relaxed`` (MDB_NOMETASYNC) or ``bulk`` (MDB_NOSYNC): then the
  meta page goes the way of every other page, and the next fdatasync takes it along.
- LMDB writes 120 bytes of a meta page, from byte 32 on, inside its first sector: a disk that writes sectors whole cannot
  tear it. (One that tears 512 bytes can break LMDB, which has no checksum there. It is not modelled.)
- A file's length is metadata: it comes with an fsync or fdatasync; until then it may be any of those that the file had, and
  what lies behind is gone. Longer than what was written means zeros.
- A name (of a new file, a link, a rename, a removal) is durable once its folder was fsynced after it; until then any subset of
  the changes of names may have happened, each as a whole. Without its name a file is gone, synced or not.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from torture.powercut.trace import Kind, Op

SECTOR = 512
PAGE = 4096
_PER_PAGE = PAGE // SECTOR
_ZEROS = bytes(SECTOR)


class Sector(NamedTuple):
    """One version of a sector."""

    number: int
    data: bytes
    digest: int


Selector = Callable[[list[Sector]], bool | list[Sector]]
NameSelector = Callable[[int], bool]
LengthSelector = Callable[[list[int]], int]


def _sector(number: int, data: bytes) -> Sector:
    if data == _ZEROS:
        return Sector(number, data, 0)  # as where nothing was ever written
    return Sector(number, data, _digest(number.to_bytes(8, "little"), data))


def _digest(*parts: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(b"".join(parts), digest_size=8).digest(), "little")


@dataclass(slots=True)
class Write:
    """A write that may not be on disk yet: its pages, each the versions of its sectors."""

    order: int
    pages: list[list[Sector]]
    through: bool


@dataclass(slots=True)
class File:
    """A file: what is on disk for certain, what the page cache holds, and what lies between."""

    cache: bytearray = field(default_factory=bytearray)
    disk: bytearray = field(default_factory=bytearray)
    length: int = 0
    digests: dict[int, int] = field(default_factory=dict)
    digest: int = 0
    pending: list[Write] = field(default_factory=list)
    lengths: list[tuple[int, int]] = field(default_factory=list)
    """Lengths that are not durable: order, length."""

    def write(self, order: int, offset: int, data: bytes, *, through: bool) -> None:
        """Into the page cache."""
        end = offset + len(data)
        if end > len(self.cache):
            self.cache.extend(bytes(end - len(self.cache)))
            self.lengths.append((order, end))
        self.cache[offset:end] = data
        pages: dict[int, list[Sector]] = {}
        for number in range(offset // SECTOR, -(-end // SECTOR)):
            whole = bytes(self.cache[number * SECTOR : (number + 1) * SECTOR]).ljust(SECTOR, b"\0")
            pages.setdefault(number // _PER_PAGE, []).append(_sector(number, whole))
        self.pending.append(Write(order, list(pages.values()), through))

    def resize(self, order: int, length: int) -> None:
        """Longer, or empty while nothing of it is on disk."""
        if length < len(self.cache) and self.cache:
            raise NotImplementedError("a file that shrinks is not modelled: nothing here does that")
        self.cache.extend(bytes(length - len(self.cache)))
        self.lengths.append((order, length))

    def sync(self, begun: int) -> None:
        """An fsync that began at this order has returned."""
        for write in self.pending:
            if write.order < begun:
                self._settle(write)
        self.pending = [write for write in self.pending if write.order >= begun]
        for order, length in self.lengths:
            if order < begun:
                self.length = length
        self.lengths = [(order, length) for order, length in self.lengths if order >= begun]

    def through(self) -> None:
        """The write through O_DSYNC that was begun last has returned."""
        at = max(index for index, write in enumerate(self.pending) if write.through)
        write = self.pending.pop(at)
        numbers = {sector.number for page in write.pages for sector in page}
        for earlier in self.pending[:at]:  # what it has overtaken can no longer come
            pages = ([sector for sector in page if sector.number not in numbers] for page in earlier.pages)
            earlier.pages = [page for page in pages if page]
        self._settle(write)
        for order, length in self.lengths:
            if order == write.order:
                self.length = max(self.length, length)
        self.lengths = [(order, length) for order, length in self.lengths if order != write.order]

    def _settle(self, write: Write) -> None:
        for page in write.pages:
            for number, data, digest in page:
                end = (number + 1) * SECTOR
                if end > len(self.disk):
                    self.disk.extend(bytes(end - len(self.disk)))
                self.disk[end - SECTOR : end] = data
                self.digest ^= self.digests.get(number, 0) ^ digest
                self.digests[number] = digest


Names = dict[tuple[int, str], int]
"""Folder and name -> inode; the root is folder 0."""


class Rename(NamedTuple):
    """A change of names, done as a whole: names that go, names that come."""

    order: int
    folders: frozenset[int]
    gone: tuple[tuple[int, str], ...]
    come: tuple[tuple[tuple[int, str], int], ...]

    def apply(self, names: Names) -> None:
        """Make it."""
        for key in self.gone:
            names.pop(key, None)
        names.update(self.come)


class Chosen(NamedTuple):
    """What became of a file: the sectors that differ from what is on disk for certain, and its length."""

    sectors: dict[int, Sector]
    length: int


class Image:
    """What a disk may hold: files and folders by path, relative to the root."""

    def __init__(self, disk: Disk, names: Names, chosen: dict[int, Chosen]) -> None:
        self.folders: list[str] = []
        self._files: list[tuple[str, File, Chosen]] = []
        below: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), inode in names.items():
            below.setdefault(folder, []).append((name, inode))
        todo = [("", 0)]
        while todo:
            path, folder = todo.pop()
            for name, inode in sorted(below.get(folder, ())):
                at = f"{path}{name}"
                if inode in disk.folders:
                    self.folders.append(at)
                    todo.append((f"{at}/", inode))
                else:
                    file = disk.files[inode]
                    self._files.append((at, file, chosen.get(inode) or Chosen({}, file.length)))
        self._files.sort(key=lambda entry: entry[0])
        self.digest = self._digest()

    def _digest(self) -> int:
        spelled = [repr(sorted(self.folders))]
        for path, file, (sectors, length) in self._files:
            digest = file.digest
            for number, sector in sectors.items():
                if number * SECTOR < length:
                    digest ^= file.digests.get(number, 0) ^ sector.digest
            if length < file.length:
                raise NotImplementedError("a file shorter than what is on disk is not modelled")
            spelled.append(f"{path} {length} {digest:x}")
        return _digest("\n".join(spelled).encode("utf-8", "surrogateescape"))

    def files(self) -> Iterable[tuple[str, bytearray]]:
        """Path and content of every file."""
        for path, file, (sectors, length) in self._files:
            content = bytearray(file.disk[:length])
            content.extend(bytes(length - len(content)))
            for number, data, _ in sectors.values():
                if number * SECTOR < length:
                    content[number * SECTOR : (number + 1) * SECTOR] = data
            del content[length:]
            yield path, content


class Disk:
    """Follows a trace; at any point it makes the images that a power cut may leave.

    The root is an empty folder when the trace begins.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.files: dict[int, File] = {}
        self.folders: set[int] = {0}
        self.names: Names = {}
        self._cached: Names = {}
        self._changes: list[Rename] = []
        self._syncs: dict[int, int] = {}
        self._order = 0

    # -- following ---------------------------------------------------------------------------------

    def feed(self, op: Op) -> None:
        """The next record of the trace."""
        self._order += 1
        kind = op.kind
        if kind in {Kind.WRITTEN, Kind.THROUGH}:
            if op.inode in self.files:
                self.files[op.inode].write(self._order, op.offset, op.data, through=kind is Kind.THROUGH)
        elif kind is Kind.THROUGH_ENDED:
            if op.inode in self.files:
                self.files[op.inode].through()
        elif kind is Kind.SYNC_BEGUN:
            self._syncs[op.offset] = self._order
        elif kind is Kind.SYNC_ENDED:
            self._synced(op.inode, self._syncs.pop(op.offset))
        elif kind is Kind.SIZED:
            if op.inode in self.files:
                self.files[op.inode].resize(self._order, op.offset)
        elif kind is not Kind.MARK:
            self._renamed(op)

    def _synced(self, inode: int, begun: int) -> None:
        if inode in self.files:
            self.files[inode].sync(begun)
            return
        folder = inode if inode in self.folders else 0
        rest = []
        for change in self._changes:
            if change.order < begun and change.folders == {folder}:
                change.apply(self.names)
            else:
                rest.append(change)
        self._changes = rest

    def _renamed(self, op: Op) -> None:
        paths = op.paths
        if not all(_kept(path) for path in paths):
            return
        keys = [self._key(path) for path in paths]
        gone: tuple[tuple[int, str], ...] = ()
        come: tuple[tuple[tuple[int, str], int], ...] = ()
        if op.kind is Kind.MET:
            return
        if op.kind is Kind.CREATED:
            self.files[op.inode] = File()
            come = ((keys[0], op.inode),)
        elif op.kind is Kind.FOLDER:
            self.folders.add(op.inode)
            come = ((keys[0], op.inode),)
        elif op.kind is Kind.REMOVED:
            gone = (keys[0],)
        else:
            gone = (keys[0],) if op.kind is Kind.RENAMED else ()
            come = ((keys[1], self._cached[keys[0]]),)
        folders = frozenset(key[0] for key in (*gone, *(key for key, _ in come)))
        change = Rename(self._order, folders, gone, come)
        change.apply(self._cached)
        self._changes.append(change)

    def _key(self, path: str) -> tuple[int, str]:
        """Folder and name of a path, as the page cache has it."""
        parts = path[len(self._root) :].strip("/").split("/")
        folder = 0
        for part in parts[:-1]:
            folder = self._cached[folder, part]
        return folder, parts[-1]

    # -- choosing ----------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether everything is on disk, so that there is one image only."""
        return not self._changes and not any(file.pending or file.lengths for file in self.files.values())

    def settled(self) -> Image:
        """Everything that was done is on disk."""
        return self.choose(lambda _: True, names=lambda _: True, length=lambda lengths: lengths[-1])

    def lost(self) -> Image:
        """Nothing is on disk but what must be."""
        return self.choose(lambda _: False, names=lambda _: False, length=lambda lengths: lengths[0])

    def pages(self) -> list[list[Sector]]:
        """Every page that may or may not be on disk, in the order of the writes."""
        return [page for file in self.files.values() for write in file.pending for page in write.pages]

    @property
    def changes(self) -> int:
        """How many changes of names may or may not be on disk."""
        return len(self._changes)

    @property
    def lengths(self) -> int:
        """How many lengths are open."""
        return sum(len(file.lengths) for file in self.files.values())

    def choose(self, sectors: Selector, *, names: NameSelector, length: LengthSelector) -> Image:
        """The image in which these pages (or sectors of them), changes of names and lengths are on disk.

        ``sectors`` is asked for each page in order: True, False or the sectors of it that are. ``names`` for the number of each
        change; ``length`` picks one of a file's possible lengths.
        """
        chosen: dict[int, Chosen] = {}
        for inode, file in self.files.items():
            if not file.pending and not file.lengths:
                continue
            overlay: dict[int, Sector] = {}
            for write in file.pending:
                for page in write.pages:
                    taken = sectors(page)
                    if taken:
                        for sector in page if taken is True else taken:
                            overlay[sector.number] = sector
            chosen[inode] = Chosen(overlay, length([file.length, *(one for _, one in file.lengths)]))
        tree = dict(self.names)
        for number, change in enumerate(self._changes):
            if names(number):
                change.apply(tree)
        return Image(self, tree, chosen)

    def random(self, draw: random.Random) -> Image:
        """Any image that may be left now."""
        share = draw.choice((0.5, 0.5, 0.1, 0.9))
        torn = draw.choice((0.0, 0.0, 0.3, 1.0))
        names = draw.choice((1.0, 0.5, 0.0)) if self._changes else 1.0

        def sectors(page: list[Sector]) -> bool | list[Sector]:
            if draw.random() >= torn:
                return draw.random() < share
            if draw.random() < 0.5:  # cut once, at either end
                at = draw.randrange(len(page) + 1)
                return page[:at] if draw.random() < 0.5 else page[at:]
            return [sector for sector in page if draw.random() < share]

        def length(lengths: list[int]) -> int:
            return lengths[-1] if draw.random() < 0.5 else draw.choice(lengths)

        return self.choose(sectors, names=lambda _: draw.random() < names, length=length)


def _kept(path: str) -> bool:
    """Whether a name matters to what a store holds. Lock files and sockets are made anew by whoever needs them."""
    name = path.rpartition("/")[2]
    return not (name in {"lock.mdb", "varve.lock"} or "/watch" in path or "/consumers" in path)

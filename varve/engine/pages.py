"""LMDB's file as pages of bytes: read with ``pread``, nothing mapped, every number checked before it is followed.

LMDB trusts its file: what a damaged page says is followed through the memory map, into an assertion or beyond the end of
the file. Whoever looks at a file that may be damaged looks through here.

The layout follows LMDB 0.9 (mdb.c: ``MDB_page``, ``MDB_meta``, ``MDB_db``, ``MDB_node``), little-endian, 64-bit::

    page   u64 number | u16 pad | u16 flags | u16 lower | u16 upper     an overflow page: u32 pages instead of the last two
    meta   page | u32 magic | u32 version | u64 address | u64 map size | tree of free pages | main tree | u64 last page |
           u64 transaction                                              in pages 0 and 1, written in turn
    tree   u32 pad (page size in the first) | u16 flags | u16 depth | u64 branch, leaf, overflow pages | u64 entries | u64 root
    node   u16 low | u16 high | u16 flags | u16 key bytes | key | value  found by the u16 offsets behind a page's header
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from varve import limits

MAGIC = 0xBEEFC0DE
DATA_VERSION = 1
MAGIC_AT = 16
NO_PAGE = 2**64 - 1

_PAGE_BYTES = limits.PAGE_BYTES
_PAGE = struct.Struct("<QHHHH")
_OVERFLOW = struct.Struct("<QHHI")
_META = struct.Struct("<QHHHH II QQ IHH5Q IHH5Q QQ")
_TREE = struct.Struct("<IHH5Q")
_NODE = struct.Struct("<HHHH")
_U64 = struct.Struct("<Q")

_BRANCH = 0x01
_LEAF = 0x02
_OVERFLOWS = 0x04
_META_FLAG = 0x08
_LARGE_VALUE = 0x01
_SUB_DATABASE = 0x02

_TRANSACTION_MAX = 2**62  # a commit a nanosecond for a century; LMDB's counter must not overflow
_NUMERIC_KEYS = 0x08
_NO_FOLDER = 0x4000  # the flag that an environment made as a single file leaves there
_FREE_FLAGS = (_NUMERIC_KEYS, _NUMERIC_KEYS | _NO_FOLDER)
_VALUE_BYTES_MAX = limits.EVENT_BYTES_MAX + 2**20  # a block of one event and what it declares

_DEPTH_MAX = 32  # CURSOR_STACK of mdb.c
_KEY_BYTES_MAX = 511

Item = tuple[bytes, bytes]


_Bounds = tuple[bytes | None, bytes | None]
_Child = tuple[int, int, _Bounds]


class DamagedPage(ValueError):
    """A page that is not what it should be. ``rest`` is what a meta page says beside its trees, where only these are damaged."""

    def __init__(self, number: int, reason: str, rest: Meta | None = None) -> None:
        super().__init__(f"page {number}: {reason}")
        self.number = number
        self.reason = reason
        self.rest = rest


class Tree(NamedTuple):
    """A B+tree's record."""

    depth: int
    entries: int
    root: int
    is_numeric: bool = False
    """Whether its keys are numbers in the machine's order, as those of the tree of free pages are."""

    def rank(self, key: bytes) -> bytes | int:
        """What its keys are ordered by."""
        return int.from_bytes(key, "little") if self.is_numeric else key


class Meta(NamedTuple):
    """A meta page. The greater is the newer."""

    transaction: int
    last_page: int
    free: Tree
    main: Tree


def tree_pages(record: bytes | memoryview) -> int:
    """Pages of a sub-database by its record in the main one; 0 for what is none."""
    if len(record) != _TREE.size:
        return 0
    _, _, _, branch, leaf, overflow, _, _ = _TREE.unpack(record)
    return int(branch + leaf + overflow)


def parse_meta(page: bytes, number: int) -> Meta:
    """The meta page in page 0 or 1, if it can be one that LMDB wrote. Raises ``DamagedPage``."""
    if len(page) < _META.size:
        raise DamagedPage(number, "it is cut off")
    (found, _, flags, _, _, magic, version, _, map_bytes, page_bytes, *rest) = _META.unpack_from(page)
    free = Tree(rest[1], rest[5], rest[6], is_numeric=True)
    main_pad, main_flags, main = rest[7], rest[8], Tree(rest[9], rest[13], rest[14])
    last_page, transaction = rest[-2:]
    if magic != MAGIC or not flags & _META_FLAG or found != number:
        raise DamagedPage(number, "it is no meta page")
    if version != DATA_VERSION or page_bytes != _PAGE_BYTES:
        raise DamagedPage(number, f"data version {version}, pages of {page_bytes} bytes")
    if (transaction and transaction & 1 != number) or transaction > _TRANSACTION_MAX:
        raise DamagedPage(number, f"transaction {transaction} does not belong here")
    if rest[0] not in _FREE_FLAGS or main_pad or main_flags:
        raise DamagedPage(
            number, f"flags {rest[0]:#x} and {main_flags:#x} of its trees are not what Varve's files have"
        )
    if last_page < 1 or map_bytes > limits.MAP_BYTES_MAX:
        raise DamagedPage(number, f"its sizes are impossible: a map of {map_bytes} bytes, last page {last_page}")
    treeless = Meta(transaction, last_page, Tree(0, 0, NO_PAGE, is_numeric=True), Tree(0, 0, NO_PAGE))
    for tree in (free, main):
        empty = tree.root == NO_PAGE
        if empty != (tree.entries == 0) or empty != (tree.depth == 0) or tree.depth > _DEPTH_MAX:
            raise DamagedPage(number, "it describes no tree", treeless)
        if not empty and not 2 <= tree.root <= last_page:
            raise DamagedPage(number, f"its root {tree.root} lies outside", treeless)
    return Meta(transaction, last_page, free, main)


def no_meta(size: int) -> Meta:
    """What is known of a file without meta pages: how many pages it has. Its trees cannot be read."""
    lost = Tree(1, 1, 0)
    return Meta(0, size // _PAGE_BYTES - 1, lost, lost)


class PageFile:
    """The pages of one instant: as they are reached from one meta page.

    ``size`` is the file's length. The caller sees to it that the file does not change under it.
    """

    def __init__(self, fd: int, meta: Meta, size: int) -> None:
        self._fd = fd
        self.meta = meta
        self.size = size
        self.value_bytes_max = _VALUE_BYTES_MAX
        """No value is longer: one that says so is damaged."""
        self._last_page = min(meta.last_page, size // _PAGE_BYTES - 1)

    def page(self, number: int) -> bytes:
        """A page. Raises ``DamagedPage`` where the file does not have it."""
        return self._read(number, _PAGE_BYTES)

    def _read(self, number: int, length: int) -> bytes:
        if not 2 <= number <= number + (length - 1) // _PAGE_BYTES <= self.meta.last_page:
            raise DamagedPage(number, "it lies outside")
        data = self.at(number * _PAGE_BYTES, length) if number <= self._last_page else b""
        if len(data) < length:
            raise DamagedPage(number, "the file ends before it does")
        return data

    def tables(self) -> dict[bytes, Tree]:
        """The sub-databases by name. Raises ``DamagedPage``."""
        return dict(self.readable_tables(_raise))

    def readable_tables(self, on_damage: Callable[[DamagedPage], None]) -> Iterator[tuple[bytes, Tree]]:
        """The sub-databases that can be found."""
        for page, name, flags, value, _ in self._nodes(self.meta.main, on_damage, Reached(0)):
            if flags & _SUB_DATABASE and len(value) == _TREE.size:
                pad, tree_flags, depth, _, _, _, entries, root = _TREE.unpack(value)
                if pad or tree_flags:
                    on_damage(DamagedPage(page, f"{name[:40]!r} has flags {tree_flags:#x}, and none of ours has any"))
                yield name, Tree(depth, entries, root)
            else:
                on_damage(DamagedPage(page, f"{name[:40]!r} is no sub-database"))

    def items(self, tree: Tree) -> Iterator[Item]:
        """Every pair of a tree in key order. Raises ``DamagedPage`` at the first thing that is wrong."""
        count = 0
        for _, key, _, value, _ in self._nodes(tree, _raise, Reached(0)):
            count += 1
            yield key, value
        if count != tree.entries:
            raise DamagedPage(tree.root, f"the tree holds {count} pairs and says {tree.entries}")

    def readable(self, tree: Tree, on_damage: Callable[[DamagedPage], None]) -> Iterator[Item]:
        """Every pair of a tree that can be read, as it stands; what cannot is told. Keys and values may be anything."""
        for _, key, _, value, _ in self._nodes(tree, on_damage, Reached(0)):
            yield key, value

    def places(self, tree: Tree, on_damage: Callable[[DamagedPage], None]) -> Iterator[tuple[bytes, bytes, int]]:
        """As ``readable``, with the offset in the file of each value, all of whose bytes stand together: see ``at``."""
        for _, key, _, value, at in self._nodes(tree, on_damage, Reached(0)):
            yield key, value, at

    def at(self, offset: int, length: int) -> bytes:
        """Bytes of the file. Raises ``DamagedPage`` where they cannot be read."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError as exc:
            raise DamagedPage(offset // _PAGE_BYTES, f"it cannot be read: {exc.strerror}") from exc

    def _nodes(
        self, tree: Tree, on_damage: Callable[[DamagedPage], None], reached: Reached
    ) -> Iterator[tuple[int, bytes, int, bytes, int]]:
        """Page number, key, flags, value and the value's offset in the file of every leaf node, in order.

        Each key lies behind the one before it and within what the pages above say: a search that is led by them finds it.
        """
        todo: list[_Child] = [(tree.root, 1, (None, None))] if tree.root != NO_PAGE else []
        while todo:
            number, depth, (low, high) = todo.pop()
            try:
                if depth > min(tree.depth, _DEPTH_MAX):
                    raise DamagedPage(number, "it lies deeper than its tree")  # noqa: TRY301 - told like the others
                page = self.page(number)
                if not reached.add(number):
                    raise DamagedPage(number, "it is reached twice")  # noqa: TRY301
                is_leaf = depth == tree.depth
                offsets = _offsets(page, number, _LEAF if is_leaf else _BRANCH, on_damage)
                if not is_leaf:
                    todo += reversed(_children(page, number, offsets, depth, (low, high), tree, on_damage))
            except DamagedPage as exc:
                on_damage(exc)
                continue
            if not is_leaf:
                continue
            last: Any = None
            for at in offsets:
                try:
                    node = self._leaf_node(page, number, at, reached, on_damage)
                    rank: Any = tree.rank(node[0])
                    if last is not None and rank <= last:
                        on_damage(DamagedPage(number, "its keys are not in order"))
                    elif tree is not self.meta.main and node[1] & _SUB_DATABASE:
                        on_damage(DamagedPage(number, "a pair says that it is a sub-database"))
                    elif not _within(node[0], low, high, tree):
                        on_damage(DamagedPage(number, "a key lies outside of what the pages above it say"))
                    last = rank
                except DamagedPage as exc:
                    on_damage(exc)
                    continue
                yield number, *node

    def _leaf_node(
        self, page: bytes, number: int, at: int, reached: Reached, on_damage: Callable[[DamagedPage], None]
    ) -> tuple[bytes, int, bytes, int]:
        low, high, flags, key_bytes = _NODE.unpack_from(page, at)
        value_at = at + _NODE.size + key_bytes
        length = low | high << 16
        end = value_at + (8 if flags & _LARGE_VALUE else length)
        if flags & ~(_LARGE_VALUE | _SUB_DATABASE) or not 1 <= key_bytes <= _KEY_BYTES_MAX or end > len(page):
            raise DamagedPage(number, f"its node at {at} does not fit")
        key = page[at + _NODE.size : value_at]
        if not flags & _LARGE_VALUE:
            return key, flags, page[value_at:end], number * _PAGE_BYTES + value_at
        first = _U64.unpack_from(page, value_at)[0]
        return key, flags, self._large(first, length, reached, on_damage), first * _PAGE_BYTES + _PAGE.size

    def _large(self, number: int, length: int, reached: Reached, on_damage: Callable[[DamagedPage], None]) -> bytes:
        """A value that has pages of its own. What its first page says of them is checked, but the value does not hang on it."""
        pages = (_PAGE.size - 1 + length) // _PAGE_BYTES + 1
        if length > self.value_bytes_max or not 2 <= number <= self.meta.last_page + 1 - pages:
            raise DamagedPage(number, f"a value of {length} bytes cannot begin there")
        if number + pages - 1 > self._last_page:
            raise DamagedPage(number, "the file ends before it does")
        new = [reached.add(number + page) for page in range(pages)]
        if not all(new):
            raise DamagedPage(number, "a value's pages are reached twice")
        data = self._read(number, _PAGE.size + length)
        found, _, flags, count = _OVERFLOW.unpack_from(data)
        if found != number or flags != _OVERFLOWS or count != pages:
            on_damage(DamagedPage(number, f"it does not begin a value of {pages} pages"))
        return data[_PAGE.size :]

    def reached(self, on_damage: Callable[[DamagedPage], None]) -> Reached:
        """Every page that a tree reaches."""
        reached = Reached(self._last_page)
        trees = [self.meta.free, *dict(self.readable_tables(on_damage)).values()]
        for _ in self._nodes(self.meta.main, on_damage, reached):
            pass
        for tree in trees:
            for _ in self._nodes(tree, on_damage, reached):
                pass
        return reached

    def free_pages(self) -> Reached:
        """The pages that LMDB may use again. Raises ``DamagedPage``."""
        free = Reached(self._last_page)
        for key, value in self.items(self.meta.free):
            numbers = [number for (number,) in _U64.iter_unpack(value[: len(value) // 8 * 8])]
            if len(key) != _U64.size or not numbers or numbers[0] != len(numbers) - 1:
                raise DamagedPage(self.meta.free.root, "a list of free pages is damaged")
            for number in numbers[1:]:
                if not 2 <= number <= self.meta.last_page:
                    raise DamagedPage(self.meta.free.root, f"the free page {number} lies outside")
                if number <= self._last_page:
                    free.add(number)
        return free

    def freed_last(self) -> int | None:
        """The number of the commit that these pages are of, as the list of free pages has it: each commit notes there, under its
        number, what it freed. None where nothing was freed yet, or it cannot be told."""
        number, depth = self.meta.free.root, self.meta.free.depth
        key = b""
        try:
            for level in range(1, depth + 1):
                page = self.page(number)
                at = _offsets(page, number, _LEAF if level == depth else _BRANCH, _raise)[-1]
                low, high, flags, _ = _NODE.unpack_from(page, at)
                number = low | high << 16 | flags << 32
                key = page[at + _NODE.size : at + _NODE.size + _U64.size]
        except DamagedPage:
            return None
        return int.from_bytes(key, "little") if key else None

    def unaccounted_values(self) -> Iterator[tuple[bytes, int]]:
        """What may be values, with their offsets, in pages that no tree reaches and that are not free: they belong to trees whose
        upper pages are damaged. A value with pages of its own comes with all that they hold.

        Raises ``DamagedPage`` where the free pages cannot be told.
        """
        free = self.free_pages()
        reached = self.reached(_ignore)
        numbers = (n for n in range(2, self._last_page + 1) if n not in free and n not in reached)
        return self._values(numbers)

    def all_values(self) -> Iterator[tuple[bytes, int]]:
        """What may be values in any page at all, current or of older states."""
        return self._values(range(2, self._last_page + 1))

    def _values(self, numbers: Iterable[int]) -> Iterator[tuple[bytes, int]]:
        beyond = 0
        for number in numbers:
            if number < beyond:  # inside of a value, whose bytes may look like anything
                continue
            try:
                page = self.page(number)
                found, _, flags, count = _OVERFLOW.unpack_from(page)
                if found != number:
                    continue
                if flags == _OVERFLOWS and 0 < count <= self._last_page - number + 1:
                    at = number * _PAGE_BYTES + _PAGE.size
                    beyond = number + count
                    yield self.at(at, min(count * _PAGE_BYTES - _PAGE.size, _VALUE_BYTES_MAX)), at
                elif flags == _LEAF:
                    yield from self._leaf_values(page, number)
            except DamagedPage:
                continue

    def _leaf_values(self, page: bytes, number: int) -> Iterator[tuple[bytes, int]]:
        for node in _offsets(page, number, _LEAF, _ignore):
            try:
                _, flags, value, at = self._leaf_node(page, number, node, Reached(0), _raise)
            except DamagedPage:
                continue
            if not flags:
                yield value, at


class Reached:
    """Numbers of pages that were seen: a bit for each."""

    def __init__(self, last_page: int) -> None:
        self._bits = bytearray(last_page // 8 + 1)

    def add(self, number: int) -> bool:
        """Note a page; whether it is new."""
        at, bit = number >> 3, 1 << (number & 7)
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1 - len(self._bits) + len(self._bits) // 2))
        new = not self._bits[at] & bit
        self._bits[at] |= bit
        return new

    def __contains__(self, number: int) -> bool:
        at = number >> 3
        return at < len(self._bits) and bool(self._bits[at] & 1 << (number & 7))


def _within(key: bytes, low: bytes | None, high: bytes | None, tree: Tree) -> bool:
    """Whether a key is not below ``low``, and below ``high``."""
    rank: Any = tree.rank(key)
    return (low is None or tree.rank(low) <= rank) and (high is None or rank < tree.rank(high))


def _children(
    page: bytes,
    number: int,
    offsets: list[int],
    depth: int,
    bounds: _Bounds,
    tree: Tree,
    on_damage: Callable[[DamagedPage], None],
) -> list[_Child]:
    """The pages below a branch page, with the bounds that it sets to their keys. The first node's key stands for nothing."""
    found = []
    for at in offsets:
        low, high, flags, key_bytes = _NODE.unpack_from(page, at)
        key = page[at + _NODE.size : at + _NODE.size + key_bytes]
        found.append((low | high << 16 | flags << 32, key))
    edges: list[bytes | None] = [bounds[0], *(key for _, key in found[1:]), bounds[1]]
    inner = [key for _, key in found[1:]]
    if any(not _within(before, None, key, tree) for before, key in pairwise(inner)):
        on_damage(DamagedPage(number, "its keys are not in order"))
    if any(not _within(key, *bounds, tree) for key in inner):
        on_damage(DamagedPage(number, "a key lies outside of what the pages above it say"))
    return [(child, depth + 1, (edges[at], edges[at + 1])) for at, (child, _) in enumerate(found)]


def _offsets(page: bytes, number: int, kind: int, on_damage: Callable[[DamagedPage], None]) -> list[int]:
    """Where the nodes of a page are. Damage of the header is told; what still can be nodes is returned."""
    found, _, flags, lower, upper = _PAGE.unpack_from(page)
    if found != number or flags != kind:
        on_damage(
            DamagedPage(number, f"it says that it is page {found}, of kind {flags:#x}; kind {kind:#x} was expected")
        )
    if not _PAGE.size <= lower <= upper <= len(page) or lower % 2:
        on_damage(DamagedPage(number, f"its bounds {lower} and {upper} are impossible"))
        return []
    offsets = [at for (at,) in struct.iter_unpack("<H", page[_PAGE.size : lower])]
    sound = [at for at in offsets if lower <= at <= len(page) - _NODE.size]
    if len(sound) != len(offsets) or not offsets:
        on_damage(DamagedPage(number, "it has no nodes" if not offsets else "its nodes lie outside"))
    return sound


def _raise(damage: DamagedPage) -> None:
    raise damage


def _ignore(damage: DamagedPage) -> None:
    """Told elsewhere."""

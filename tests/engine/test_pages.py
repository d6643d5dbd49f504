"""LMDB's file read page by page: the same pairs as LMDB gives, and an error for whatever cannot be right."""

from __future__ import annotations

import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from varve.engine import files
from varve.engine.pages import DamagedPage, Meta, PageFile, Reached, Tree, no_meta, parse_meta

PAGE = 4096


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An environment of two trees of several levels, values with pages of their own, and free pages."""
    rng = random.Random(1)
    with lmdb.open(str(tmp_path), max_dbs=4, map_size=2**30, lib_version=0) as env:
        for turn in range(4):
            for name in (b"one", b"two"):
                database = env.open_db(name)
                with env.begin(write=True) as transaction:
                    for n in range(400):
                        size = rng.choice((0, 8, 100, 1_000, 5_000, 40_000))
                        transaction.put(b"%d-%d" % (turn, n), bytes([n % 251]) * size, db=database)
                    for n in range(0, 300, 3):
                        transaction.delete(b"%d-%d" % (turn, n), db=database)
    return tmp_path / "data.mdb"


@pytest.fixture
def file(data: Path) -> Iterator[PageFile]:
    fd = os.open(data, os.O_RDONLY)
    yield PageFile(fd, files.newest_meta(fd, str(data.parent)), data.stat().st_size)
    os.close(fd)


def pairs(data: Path, name: bytes) -> dict[bytes, bytes]:
    with lmdb.open(str(data.parent), max_dbs=4, readonly=True, lib_version=0) as env:
        database = env.open_db(name, create=False)
        with env.begin() as transaction:
            return dict(transaction.cursor(database))


def test_the_same_pairs_as_lmdb(data: Path, file: PageFile) -> None:
    """Of every tree, in order; and where each value stands in the file."""
    tables = file.tables()
    assert set(tables) == {b"one", b"two"}
    for name, tree in tables.items():
        assert dict(file.items(tree)) == pairs(data, name)
        assert list(file.items(tree)) == sorted(pairs(data, name).items())
        for key, value, at in file.places(tree, lambda damage: pytest.fail(str(damage))):
            assert file.at(at, len(value)) == value, key


def test_every_page_is_reached_or_free(file: PageFile) -> None:
    """No page is both, and none is neither: so nothing is unaccounted for in a sound file."""
    free, reached = file.free_pages(), file.reached(lambda damage: pytest.fail(str(damage)))
    for number in range(2, file.meta.last_page + 1):
        assert (number in free) != (number in reached)
    assert list(file.unaccounted_values()) == []


def test_values_below_a_damaged_page_are_unaccounted(data: Path, file: PageFile) -> None:
    """The root of one tree is overwritten: what hung below it turns up, and nothing else does."""
    tree = file.tables()[b"one"]
    wanted = {value for value in pairs(data, b"one").values() if value}
    with data.open("r+b") as raw:
        raw.seek(tree.root * PAGE)
        raw.write(bytes(PAGE))
    found = [value for value, _ in file.unaccounted_values()]
    for value in wanted:
        assert any(one[: len(value)] == value for one in found)
    others = {value for value in pairs(data, b"two").values() if value} - wanted
    assert not any(one in others for one in found)
    assert len(list(file.all_values())) > len(found)


Change = Callable[[bytearray], None]


def at(offset: int, layout: str, value: int) -> Change:
    return lambda page: struct.pack_into(layout, page, offset, value)


META_DAMAGE = {
    "another number": at(0, "<Q", 7),
    "no meta page": at(10, "<H", 1),
    "no magic": at(16, "<I", 1),
    "another version": at(20, "<I", 9),
    "other pages": at(40, "<I", 8192),
    "a transaction of the other page": at(144, "<Q", 2**40 + 1),
    "a transaction at the end of all numbers": at(144, "<Q", 2**64 - 2),
    "no last page": at(136, "<Q", 0),
    "an endless map": at(32, "<Q", 2**60),
    "a root outside": at(128, "<Q", 2**50),
    "a root in a meta page": at(128, "<Q", 1),
    "entries without a root": at(128, "<Q", 2**64 - 1),
    "depth without entries": at(120, "<Q", 0),
    "too deep": at(94, "<H", 33),
}


@pytest.mark.parametrize("damage", META_DAMAGE)
def test_meta_pages_that_cannot_be(data: Path, damage: str) -> None:
    """Each field that LMDB follows is looked at before it does."""
    page = bytearray(data.read_bytes()[:PAGE])
    assert isinstance(parse_meta(bytes(page), 0), Meta)
    META_DAMAGE[damage](page)
    with pytest.raises(DamagedPage) as refused:
        parse_meta(bytes(page), 0)
    assert refused.value.number == 0


def test_a_meta_page_that_is_cut_off(data: Path) -> None:
    with pytest.raises(DamagedPage, match="cut off"):
        parse_meta(data.read_bytes()[:100], 0)


def test_an_empty_environment(tmp_path: Path) -> None:
    """No tree at all."""
    lmdb.open(str(tmp_path), lib_version=0).close()
    fd = os.open(tmp_path / "data.mdb", os.O_RDONLY)
    empty = PageFile(fd, files.newest_meta(fd, str(tmp_path)), os.fstat(fd).st_size)
    assert empty.tables() == {}
    assert not any(number in empty.reached(lambda damage: pytest.fail(str(damage))) for number in range(9))
    assert list(empty.unaccounted_values()) == []
    os.close(fd)


def test_without_a_meta_page_there_are_values_only(data: Path, file: PageFile) -> None:
    """What is left when nothing says where the trees are."""
    blind = PageFile(file._fd, no_meta(file.size), file.size)
    with pytest.raises(DamagedPage):
        blind.tables()
    with pytest.raises(DamagedPage):
        blind.unaccounted_values()
    found = [value for value, _ in blind.all_values()]
    for value in pairs(data, b"two").values():
        assert any(one[: len(value)] == value for one in found)


def node(page: bytearray, index: int) -> int:
    """Offset of a node."""
    return int(struct.unpack_from("<H", page, 16 + 2 * index)[0])


LEAF_DAMAGE = {
    "another number": at(0, "<Q", 7),
    "another kind": at(10, "<H", 4),
    "lower above upper": at(12, "<H", 4095),
    "an odd lower bound": at(12, "<H", 17),
    "no nodes": at(12, "<H", 16),
    "a node outside": at(16, "<H", 4095),
    "a node in the header": at(16, "<H", 2),
    "an endless key": lambda page: struct.pack_into("<H", page, node(page, 0) + 6, 600),
    "an empty key": lambda page: struct.pack_into("<H", page, node(page, 0) + 6, 0),
    "a value beyond the page": lambda page: struct.pack_into("<HHH", page, node(page, 0), 0xFFFF, 3, 0),
    "a value of many keys": lambda page: struct.pack_into("<H", page, node(page, 0) + 4, 4),
    "keys out of order": lambda page: struct.pack_into("<HH", page, 16, node(page, 1), node(page, 0)),
}


def leaf_of(file: PageFile, tree: Tree) -> int:
    """The first leaf page of a tree."""
    number = tree.root
    for _ in range(tree.depth - 1):
        page = file.page(number)
        low, high, flags = struct.unpack_from("<HHH", page, node(bytearray(page), 0))
        number = low | high << 16 | flags << 32
    return number


def change(data: Path, number: int, edit: Change) -> None:
    with data.open("r+b") as raw:
        raw.seek(number * PAGE)
        page = bytearray(raw.read(PAGE))
        edit(page)
        raw.seek(number * PAGE)
        raw.write(page)


@pytest.mark.parametrize("damage", LEAF_DAMAGE)
def test_leaf_pages_that_cannot_be(data: Path, file: PageFile, damage: str) -> None:
    """Strictly, the first damage raises; leniently, it is told and what is left is given, nothing of it made up."""
    good = pairs(data, b"one")
    tree = file.tables()[b"one"]
    change(data, leaf_of(file, tree), LEAF_DAMAGE[damage])
    with pytest.raises(DamagedPage):
        list(file.items(tree))
    told: list[DamagedPage] = []
    left = dict(file.readable(tree, told.append))
    assert told or damage == "keys out of order"
    wrong = {key for key in left if left[key] != good.get(key)}
    assert len(wrong) <= 1  # where the node itself was changed, its key or value are what it says now
    assert len(left) >= len(good) // 2


def branch(number: int) -> Change:
    """Every child of a branch page is that page."""

    def edit(page: bytearray) -> None:
        (lower,) = struct.unpack_from("<H", page, 12)
        for (offset,) in struct.iter_unpack("<H", page[16:lower]):
            struct.pack_into("<HHH", page, offset, number & 0xFFFF, number >> 16 & 0xFFFF, number >> 32 & 0xFFFF)

    return edit


@pytest.mark.parametrize("where", ["itself", "outside", "far outside", "a meta page", "one leaf"])
def test_branches_that_lead_astray(data: Path, file: PageFile, where: str) -> None:
    """In circles, beyond the end, many times to one page: an error each time, and an end."""
    tree = file.tables()[b"one"]
    assert tree.depth > 1
    numbers = {
        "itself": tree.root,
        "outside": file.meta.last_page + 1,
        "far outside": 2**47,
        "a meta page": 0,
        "one leaf": leaf_of(file, tree),
    }
    change(data, tree.root, branch(numbers[where]))
    with pytest.raises(DamagedPage):
        list(file.items(tree))
    told: list[DamagedPage] = []
    assert len(list(file.readable(tree, told.append))) < tree.entries
    assert told


def test_values_with_pages_of_their_own(data: Path, file: PageFile) -> None:
    """Their first page says whose they are; a length beyond the file is no length."""
    tree = file.tables()[b"one"]
    first = next(at for _, value, at in file.places(tree, lambda _: None) if len(value) == 40_000) // PAGE
    for edit in (at(0, "<Q", 7), at(10, "<H", 2), at(12, "<I", 3)):
        before = file.page(first)
        change(data, first, edit)
        with pytest.raises(DamagedPage, match="does not begin a value"):
            list(file.items(tree))
        change(data, first, lambda page, before=before: page.__setitem__(slice(None), before))  # type: ignore[misc]
    assert dict(file.items(tree)) == pairs(data, b"one")


def raising(damage: DamagedPage) -> None:
    raise damage


def test_two_values_in_the_same_pages(file: PageFile) -> None:
    """The second one is told: a page belongs to one value."""
    tree = file.tables()[b"one"]
    first = next(at for _, value, at in file.places(tree, lambda _: None) if len(value) == 40_000) // PAGE
    reached = Reached(file.meta.last_page)
    assert len(file._large(first, 40_000, reached, raising)) == 40_000
    with pytest.raises(DamagedPage, match="reached twice"):
        file._large(first, 40_000, reached, raising)


def test_a_count_that_does_not_hold(file: PageFile) -> None:
    tree = file.tables()[b"one"]
    with pytest.raises(DamagedPage, match="says"):
        list(file.items(tree._replace(entries=tree.entries + 1)))


@pytest.mark.parametrize("depth", [0, 1, 40])
def test_a_depth_that_does_not_hold(file: PageFile, depth: int) -> None:
    """A tree whose record says that it is flatter or deeper than it is: an error, and an end."""
    tree = file.tables()[b"one"]
    wrong = tree._replace(depth=depth)
    with pytest.raises(DamagedPage):
        list(file.items(wrong))
    told: list[DamagedPage] = []
    assert len(list(file.readable(wrong, told.append))) < tree.entries
    assert told


def test_a_pair_beside_the_sub_databases(data: Path) -> None:
    """It is told, and hides none of them."""
    with lmdb.open(str(data.parent), max_dbs=4, map_size=2**30, lib_version=0) as env, env.begin(write=True) as out:
        out.put(b"no table", b"a value")
    with data.open("rb") as raw:
        file = PageFile(raw.fileno(), files.newest_meta(raw.fileno(), str(data.parent)), data.stat().st_size)
        with pytest.raises(DamagedPage, match="'no table' is no sub-database"):
            file.tables()
        told: list[DamagedPage] = []
        assert [name for name, _ in file.readable_tables(told.append)] == [b"one", b"two"]
    assert len(told) == 1


def test_free_pages_that_the_file_does_not_reach(file: PageFile) -> None:
    """A file may end before the free pages at its end: they are left out, and are no damage."""
    free = [number for number in range(2, file.meta.last_page + 1) if number in file.free_pages()]
    short = PageFile(file._fd, file.meta, free[-1] * PAGE)
    found = short.free_pages()
    assert [number for number in range(2, file.meta.last_page + 1) if number in found] == free[:-1]


def test_a_list_of_free_pages_that_does_not_hold(data: Path, file: PageFile) -> None:
    """A count that is not its length, a page outside: nothing is free then, and nothing is taken for unaccounted."""
    free = leaf_of(file, file.meta.free)

    def longer(page: bytearray) -> None:
        start = node(page, 0)
        struct.pack_into("<Q", page, start + 16, 2**20)

    def outside(page: bytearray) -> None:
        start = node(page, 0)
        struct.pack_into("<Q", page, start + 24, 2**40)

    for edit in (longer, outside):
        before = file.page(free)
        change(data, free, edit)
        with pytest.raises(DamagedPage):
            file.free_pages()
        with pytest.raises(DamagedPage):
            file.unaccounted_values()
        change(data, free, lambda page, before=before: page.__setitem__(slice(None), before))  # type: ignore[misc]
    file.free_pages()


def test_a_file_that_is_cut_off(data: Path, file: PageFile) -> None:
    """Pages behind its end are damaged pages, whatever the meta page says; their number costs no memory."""
    whole = dict(file.items(file.tables()[b"two"]))
    half = data.stat().st_size // 2 // PAGE * PAGE
    os.truncate(data, half)
    short = PageFile(file._fd, file.meta._replace(last_page=2**45), half)
    told: list[DamagedPage] = []
    left: dict[bytes, bytes] = {}
    for name, tree in short.readable_tables(told.append):
        if name == b"two":
            left = dict(short.readable(tree, told.append))
    assert told
    assert left.items() <= whole.items()
    with pytest.raises(DamagedPage):
        short.page(half // PAGE)


@pytest.mark.parametrize("turn", range(2))
def test_damage_anywhere_ends_in_pairs_and_errors(data: Path, file: PageFile, turn: int) -> None:
    """Whatever bytes are changed: no other exception, no endless walk."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown with a failure
    rng = random.Random(seed)
    good = data.read_bytes()
    trees = [*file.tables().values(), file.meta.free, file.meta.main]
    for _ in range(25):
        changed = bytearray(good)
        for _ in range(rng.choice((1, 10, 1_000))):
            changed[rng.randrange(2 * PAGE, len(good))] = rng.randrange(256)
        data.write_bytes(changed)
        told: list[DamagedPage] = []
        for tree in trees:
            list(file.readable(tree, told.append))
        file.reached(told.append)
        list(file.all_values())
        try:
            list(file.unaccounted_values())
        except DamagedPage:
            continue
    data.write_bytes(good)
    assert len(list(file.items(trees[0]))) == trees[0].entries


def test_a_pair_that_says_it_is_a_sub_database(data: Path, file: PageFile) -> None:
    """A flipped flag of a pair: reads saw nothing of it, and the first write to its key failed."""
    tree = file.tables()[b"one"]

    def edit(page: bytearray) -> None:
        page[node(page, 0) + 4] |= 2

    change(data, leaf_of(file, tree), edit)
    with pytest.raises(DamagedPage, match="sub-database"):
        list(file.items(tree))


def test_a_table_with_flags_that_ours_never_have_is_damage(data: Path) -> None:
    """LMDB would read its pairs in another way. It is told, and read as far as it goes."""
    with data.open("r+b") as raw:
        content = raw.read()
        for name in re.finditer(b"two" + bytes(6), content):  # its record, now and in older states: pad and flags
            os.pwrite(raw.fileno(), b"\x04", name.start() + 7)
        file = PageFile(raw.fileno(), files.newest_meta(raw.fileno(), str(data.parent)), data.stat().st_size)
        told: list[str] = []
        assert {name for name, _ in file.readable_tables(lambda damage: told.append(str(damage)))} == {b"one", b"two"}
    assert len(told) == 1
    assert "'two' has flags" in told[0]


def test_a_page_that_cannot_be_read_hides_no_value_of_another(file: PageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are looked for page by page."""
    everything = list(file.all_values())
    real, bad = PageFile.page, everything[0][1] // PAGE

    def page(self: PageFile, number: int) -> bytes:
        if number == bad:
            raise DamagedPage(number, "the disk does not give it")
        return real(self, number)

    monkeypatch.setattr(PageFile, "page", page)
    left = list(file.all_values())
    assert left
    assert set(left) <= set(everything)
    assert all(at // PAGE != bad for _, at in left)

"""Untrusted bytes: MalformedEvent or a readable event, nothing else."""

from __future__ import annotations

import random
import struct
from decimal import Decimal
from typing import Any

import fuzz
import pytest
from codec_models import Cash, Everything, OrderPlaced, Tree, everything, ledger
from fuzz import SAMPLES, accepted, mutation

from varve import limits
from varve.codec import event, event_type, verify
from varve.codec.declare import declare
from varve.errors import MalformedEvent


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: type(s).__name__)
def test_mutated_bytes_are_refused_or_readable(sample: Any) -> None:
    """Flipped bits, replaced words and cut ends never get past verify and then fail."""
    compiled = event_type(type(sample))
    data = compiled.pack(sample)
    chance = random.Random(4711)
    survivors = 0
    for _ in range(600):
        survivors += accepted(compiled, mutation(data, chance))
    assert survivors < 600


HOLES = {
    "strings of anything": ("characters", lambda *_: None),
    "tables of anything": ("table_inside", lambda *_: (1, 1, 0)),
    "what reaches outside": ("need", lambda *_: None),
    "unions of unknown members": ("union", lambda *_: (0, 0, 0)),
    "vectors of unions that do not fit": ("union_items", lambda *_: (0, 0, 0)),
    "vectors of anything": ("vector", lambda *_: (0, 0, 0)),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_planted_hole_is_found(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a verifier without one of its checks lets something pass that cannot be read."""
    name, instead = HOLES[hole]
    monkeypatch.setattr(verify._Verifier, name, instead)
    chance = random.Random(4711)
    targets = [(event_type(type(one)), event_type(type(one)).pack(one)) for one in (everything(), ledger())]
    tries = (chance.choice(targets) for _ in range(3000))
    assert any(fuzz.finding(compiled, mutation(data, chance)) is not None for compiled, data in tries)


def test_a_long_run_reports_what_it_did(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`make fuzz` counts its buffers and ends with 0; with a hole it ends with 1 and shows the bytes. The seed is printed."""
    assert fuzz.main(["--minutes", "0.005", "--seed", "7"]) == 0
    told = capsys.readouterr().out
    assert "seed 7\n" in told
    assert "accepted and read completely" in told
    name, instead = HOLES["what reaches outside"]
    monkeypatch.setattr(verify._Verifier, name, instead)
    assert fuzz.main(["--minutes", "1", "--seed", "7"]) == 1
    assert '{"format":1' in capsys.readouterr().out


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: type(s).__name__)
def test_every_shorter_buffer_is_refused_or_readable(sample: Any) -> None:
    """Truncation at any byte."""
    compiled = event_type(type(sample))
    data = compiled.pack(sample)
    for end in range(0, len(data), 1 if len(data) < 200 else 7):
        accepted(compiled, data[:end])


def test_random_bytes_are_refused() -> None:
    """Noise is no event."""
    chance = random.Random(1)
    for size in (0, 1, 3, 4, 8, 16, 64, 256):
        for _ in range(50):
            accepted(event_type(Everything), chance.randbytes(size))


def chain(depth: int) -> bytes:
    """A chain of tables without values: soffset, children (empty, right behind), link."""
    size = 16
    out = bytearray(struct.pack("<I", 32) + struct.pack("<HHHHH", 10, 12, 0, 4, 8) + bytes(2))
    out += struct.pack("<HHHHH", 10, 12, 0, 4, 0) + bytes(6)
    for level in range(depth):
        at, last = 32 + level * size, level == depth - 1
        out += struct.pack("<iIII", at - (16 if last else 4), 8, 0 if last else size - 8, 0)
    return bytes(out)


def test_tables_nested_too_deeply_are_refused() -> None:
    """64 levels pass, more do not."""
    compiled = event_type(Tree)
    tree = Tree(0)
    for _ in range(63):
        tree = Tree(0, (), tree)
    compiled.verify(compiled.pack(tree))
    compiled.verify(chain(64))
    with pytest.raises(MalformedEvent, match="deeper than 64"):
        compiled.verify(chain(65))


def test_tables_shared_beyond_measure_are_refused() -> None:
    """A few kilobytes of vectors that all point to the next level stand for 8^40 tables: refused, and quickly."""
    levels, fan = 40, 8
    out = bytearray(struct.pack("<IHHHH2x", 16, 8, 8, 0, 4) + bytes(2))
    assert len(out) == 16
    size = 8 + 4 + 4 * fan
    for level in range(levels):
        at = 16 + level * size
        last = level == levels - 1
        out += struct.pack("<iII", at - 4, 4, 0 if last else fan)
        following = at + size
        out += b"".join(struct.pack("<I", following - (at + 12 + 4 * i)) for i in range(fan))
    with pytest.raises(MalformedEvent, match="expand beyond measure"):
        event_type(Tree).verify(bytes(out))


@event
class Pair:
    left: Pair | None
    right: Pair | None


def test_tables_shared_by_two_fields_are_refused() -> None:
    """The same through plain fields: both sides of each of 40 levels point to the next, 2^40 tables in 640 bytes."""
    levels, size = 40, 12
    out = bytearray(struct.pack("<IHHHHHHHHHH", 24, 8, 12, 4, 8, 8, 12, 0, 0, 0, 0))
    for level in range(levels):
        at, last = 24 + level * size, level == levels - 1
        out += struct.pack("<iII", at - (12 if last else 4), size - 4, size - 8)
    with pytest.raises(MalformedEvent, match="expand beyond measure"):
        event_type(Pair).verify(bytes(out))


WIDE = 100


def overlapping_vectors(size: int) -> bytes:
    """Vectors of tables, one for each field of a table of WIDE, that begin 8 bytes apart and hold each other's counts.

    Three zones of equal width: vtables of no field; words that are items of vectors and, where a count read as an item points
    to them, empty tables; empty tables.
    """
    out = bytearray(size)
    head = 4 + 2 * WIDE
    struct.pack_into(f"<IHH{WIDE}H", out, 0, 4 + head, head, 4 + 4 * WIDE, *range(4, 4 + 4 * WIDE, 4))
    table = 4 + head
    struct.pack_into("<i", out, table, head)
    low = (table + 4 + 4 * WIDE + 7) & ~7
    zone = (size - low) // 3 & ~7
    words = [0x00040004] * (zone // 4) + [zone] * (zone // 4) + [2 * zone] * (zone // 4)
    struct.pack_into(f"<{len(words)}I", out, low, *words)
    count = (zone // 4 - 2 * WIDE - 8) & ~7 | 4
    for index in range(WIDE):
        slot, vector = table + 4 + 4 * index, low + zone + 8 * index
        struct.pack_into("<I", out, slot, vector - slot)
        struct.pack_into("<I", out, vector, count)
    return bytes(out)


@pytest.mark.parametrize("item", [bytes, Pair])
def test_vectors_that_overlap_beyond_measure_are_refused(item: Any) -> None:
    """64 KiB of overlapping vectors are half a million items to look at, each of which fits: no more than the buffer could hold
    of them side by side, and some, are looked at, in all fields together."""
    names = [f"f{index}" for index in range(WIDE)]
    body: dict[str, Any] = {"__annotations__": dict.fromkeys(names, tuple[item, ...] | None), "__module__": __name__}
    compiled = event_type(event(name="Wide")(type("Wide", (), body | dict.fromkeys(names))))
    with pytest.raises(MalformedEvent, match="overlaps with other parts so often"):
        compiled.verify(overlapping_vectors(65_536))


def table_of(name: str, hint: Any, fields: int) -> Any:
    """An event class of so many fields of one type."""
    return declare(type(name, (), {"__annotations__": {f"f{n}": hint for n in range(fields)}}), "table", None, {})


def vector_of(tables: int, size: int) -> bytearray:
    """A buffer whose root holds one vector of tables; its items are at 28."""
    out = bytearray(size)
    struct.pack_into("<I4xHHH2xiII", out, 0, 16, 6, 8, 4, 8, 4, tables)
    return out


def overlapping(fields: int, tables: int) -> bytearray:
    """Tables that begin at every fourth byte, each with so many empty strings, on one vtable."""
    vtable = 28 + 4 * tables
    first = vtable + 4 * (tables + fields) + 8
    out = vector_of(tables, 2 * (first + 4 * (tables + fields)) - vtable + 16)
    struct.pack_into(f"<{fields + 2}H", out, vtable, 4 + 2 * fields, 4 + 4 * fields, *range(4, 4 + 4 * fields, 4))
    for at in range(first, first + 4 * (tables + fields), 4):
        struct.pack_into("<I", out, at, at - vtable)  # of a table the way back, of a field the way to its string
    for n in range(tables):
        struct.pack_into("<I", out, 28 + 4 * n, first - 28)
    return out


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """How often a method of the verifier is called, as the length of a list."""
    calls: list[int] = []
    method = getattr(verify._Verifier, name)

    def counting(self: Any, *args: Any) -> Any:
        calls.append(1)
        return method(self, *args)

    monkeypatch.setattr(verify._Verifier, name, counting)
    return calls


def test_parts_that_overlap_cost_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 kB, three million strings could be made: what is looked at is bounded by the size."""
    cls = declare(
        type("Out", (), {"__annotations__": {"v": list[table_of("In", str | None, 1000)]}}),  # type: ignore[misc]
        "table",
        None,
        {},
    )
    data = overlapping(1000, 2200)
    assert len(data) < 2**16
    calls = counted(monkeypatch, "target")
    with pytest.raises(MalformedEvent, match="overlaps with other parts so often"):
        event_type(cls).verify(bytes(data))
    assert 10_000 < len(calls) < len(data) // 2 + 2**14 + 100


def test_few_parts_that_overlap_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the official verifier does, whatever wrote them."""
    cls = declare(
        type("Out", (), {"__annotations__": {"v": list[table_of("In", str | None, 20)]}}),  # type: ignore[misc]
        "table",
        None,
        {},
    )
    calls = counted(monkeypatch, "target")
    assert accepted(event_type(cls), bytes(overlapping(20, 500)))
    assert len(calls) > 500 * 20


def test_a_shared_vtable_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small tables of a wide class share one, in honest buffers too."""
    cls = declare(
        type("Out", (), {"__annotations__": {"v": list[table_of("In", int | None, 1000)]}}),  # type: ignore[misc]
        "table",
        None,
        {},
    )
    tables = 7000
    out = vector_of(tables, 65_000)
    vtable = 28 + 4 * tables
    struct.pack_into("<HH", out, vtable, 2004, 4)
    for n in range(tables):
        at = vtable + 2004 + 4 * n
        struct.pack_into("<I", out, 28 + 4 * n, at - 28 - 4 * n)
        struct.pack_into("<I", out, at, at - vtable)
    calls = counted(monkeypatch, "entry")
    event_type(cls).verify(bytes(out))
    assert len(calls) == 1001


@pytest.mark.parametrize("hint", [str, "decimal"])
def test_overlapping_texts_cost_no_more_than_their_bytes(hint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each string reaches to the end: the characters count, not only the strings."""
    fields = 900
    cls = table_of("Texts", Decimal if hint == "decimal" else str, fields)
    size = 60_000
    first = 16 + 4 + 2 * fields + 4 + 4 * fields + 8 & ~3
    out = bytearray(b"1" * (size - 1) + b"\0")
    table = 8 + 4 + 2 * fields + 2 & ~3
    struct.pack_into(f"<I4x{fields + 2}H", out, 0, table, 4 + 2 * fields, 4 + 4 * fields, *range(4, 4 + 4 * fields, 4))
    struct.pack_into("<i", out, table, table - 8)
    for n in range(fields):
        at = first + 8 * n
        length = (size - 5 - at) & 0x7F7F | 0x3030  # its bytes are characters of the strings before it
        struct.pack_into("<I", out, at, length)
        struct.pack_into("<I", out, table + 4 + 4 * n, at - table - 4 - 4 * n)
    seen: list[int] = []
    monkeypatch.setattr(verify._Verifier, "characters", lambda _self, _tag, _at, length, _what: seen.append(length))
    with pytest.raises(MalformedEvent, match="overlaps with other parts so often"):
        event_type(cls).verify(bytes(out))
    assert sum(seen) < 16 * (size // 2 + 2**14)


def test_honest_buffers_are_far_from_the_bound() -> None:
    """A step has four bytes of its own at least, also where the official Builder shares strings and vtables."""
    spent = 0
    for compiled, data in fuzz.shapes(11, random.Random(3)):
        verifier = verify._Verifier(compiled.schema, data)
        before = verifier.left = len(data) // 4
        verifier.root(compiled.name, 1)
        spent += before - verifier.left
    assert spent > 1000


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 2**32 - 1, "outside the buffer"),
        (0, 18, "not aligned"),
        (0, 0, "the offset of the root points outside"),
        (4, 0x001C0002, "impossible size"),
        (4, 0x001C000D, "impossible size"),
        (4, 0x001CFFFE, "the vtable of OrderPlaced reaches outside"),
        (8, 0x00020008, "product lies outside its table"),
        (8, 0x0004000C, "order_id is not aligned to 8 bytes"),
        (12, 0x00140018, "amount is not aligned to 8 bytes"),
        (12, 0x00100016, "quantity is not aligned to 4 bytes"),
        (16, 2**31 - 1, "outside the buffer"),
        (20, 2**32 - 1, "outside the buffer"),
        (44, 2**32 - 1, "outside the buffer"),
        (44, 5, "not terminated"),
        (48, 0xFFFFFFFF, "not UTF-8"),
        (4, 0x001C0001, "impossible size"),
        (4, 0x0000000C, "impossible size"),
    ],
)
def test_the_reason_is_told(at: int, value: int, reason: str) -> None:
    """MalformedEvent says what is wrong, and where."""
    data = bytearray(event_type(OrderPlaced).pack(OrderPlaced(12345, "Laptop", 1, 99900)))
    struct.pack_into("<I", data, at, value)
    with pytest.raises(MalformedEvent, match=reason) as caught:
        event_type(OrderPlaced).verify(bytes(data))
    assert caught.value.offset is not None


def test_items_that_are_not_aligned_are_refused() -> None:
    """Eight bytes each, at a multiple of four."""
    with pytest.raises(MalformedEvent, match=r"V\.f0 is not aligned to 8 bytes at byte 28"):
        event_type(table_of("V", list[int], 1)).verify(bytes(vector_of(1, 64)))


def test_a_decimal_that_is_no_number_is_refused() -> None:
    """As it is when it is written."""
    compiled = event_type(table_of("D", Decimal, 1))
    data = compiled.pack(compiled.cls(Decimal("1.5")))
    with pytest.raises(MalformedEvent, match=r"D\.f0 is not finite"):
        compiled.verify(data.replace(b"1.5", b"NaN"))


@event
class Row:
    items: list[Cash] | None
    link: Row | None


def test_a_vector_shared_with_a_deeper_table_counts_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was checked where it is shallow first."""
    compiled = event_type(Row)
    data = bytearray(compiled.pack(Row((Cash(),), Row((Cash(), Cash()), None))))
    second = max(at for at in range(0, len(data) - 4, 4) if data.startswith(b"\2\0\0\0", at))
    first = min(at for at in range(0, len(data) - 4, 4) if data.startswith(b"\1\0\0\0", at))
    [outer] = [at for at in range(0, first, 4) if at + struct.unpack_from("<I", data, at)[0] == first]
    struct.pack_into("<I", data, outer, second - outer)
    compiled.verify(bytes(data))
    monkeypatch.setattr(limits, "NESTING_DEPTH_MAX", 2)
    with pytest.raises(MalformedEvent, match="nested deeper than 2"):
        compiled.verify(bytes(data))


def test_an_event_beyond_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a byte of it is looked at."""
    compiled = event_type(OrderPlaced)
    data = compiled.pack(OrderPlaced(1, "x", 2, 3))
    monkeypatch.setattr(limits, "EVENT_BYTES_MAX", len(data))
    compiled.verify(data)
    monkeypatch.setattr(limits, "EVENT_BYTES_MAX", len(data) - 1)
    with pytest.raises(MalformedEvent, match=f"an event of {len(data)} bytes; at most {len(data) - 1} are allowed"):
        compiled.verify(data)


def test_a_union_that_must_be_there_is_missed() -> None:
    """Written by a class in which it may be None, read by one in which it may not."""

    @event
    class Cheque:
        number: int

    @event(name="Paid")
    class Before:
        by: Cash | Cheque | None = None

    @event(name="Paid")
    class After:
        by: Cash | Cheque

    data = event_type(Before).pack(Before())
    with pytest.raises(MalformedEvent, match=r"Paid\.by is absent"):
        event_type(After).verify(data)
    given = bytearray(event_type(Before).pack(Before(Cheque(1))))
    event_type(After).verify(given)
    (table,) = struct.unpack_from("<I", given)
    vtable = table - struct.unpack_from("<i", given, table)[0]
    (tag,) = struct.unpack_from("<H", given, vtable + 4)
    given[table + tag] = 0  # there, and 0, as other writers do it
    given[vtable + 6 : vtable + 8] = bytes(2)
    event_type(Before).verify(given)
    with pytest.raises(MalformedEvent, match=r"Paid\.by is absent"):
        event_type(After).verify(given)

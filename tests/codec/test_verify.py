"""Untrusted bytes: MalformedEvent or a readable event, nothing else."""

from __future__ import annotations

import random
import struct
from typing import Any

import fuzz
import pytest
from codec_models import Everything, OrderPlaced, Tree, everything, ledger
from fuzz import SAMPLES, accepted, mutation

from varve.codec import event, event_type, verify
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


def overlapping(size: int) -> bytes:
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
    compiled.verify(overlapping(8_192))
    with pytest.raises(MalformedEvent, match="overlaps so much else"):
        compiled.verify(overlapping(65_536))


def test_absent_fields_of_tables_that_share_a_vtable_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of no field takes 4 bytes and 4 more of its vector, however many optional fields its class has: asking for each
    of them would make a small buffer a long job."""
    names = [f"f{index}" for index in range(WIDE)]
    body: dict[str, Any] = {"__annotations__": dict.fromkeys(names, str | None), "__module__": __name__}
    empty = event(name="Empty")(type("Empty", (), body | dict.fromkeys(names)))
    body = {"__annotations__": {"items": tuple[empty, ...]}, "__module__": __name__}
    compiled = event_type(event(name="Holder")(type("Holder", (), body)))
    count, head = 1_000, 4 + 2 * WIDE
    out = bytearray(24 + 4 * count + head + 4 * count)
    struct.pack_into("<IHHHxxiII", out, 0, 12, 6, 8, 4, 8, 4, count)
    vtable = 24 + 4 * count
    struct.pack_into("<HH", out, vtable, head, 4)
    for index in range(count):
        slot, table = 24 + 4 * index, vtable + head + 4 * index
        struct.pack_into("<I", out, slot, table - slot)
        struct.pack_into("<i", out, table, table - vtable)
    asked: list[str] = []
    position = verify._Verifier.position
    monkeypatch.setattr(
        verify._Verifier, "position", lambda self, *where: asked.append(where[-1]) or position(self, *where)
    )
    compiled.verify(bytes(out))
    assert asked == ["Holder.items"]


@event
class Texts:
    left: tuple[str, ...]
    right: tuple[str, ...]


def test_strings_that_overlap_beyond_measure_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings that begin at each other's characters, in two fields of which neither is too much."""
    monkeypatch.setattr(verify, "SHARED_BYTES_MAX", 1_000)
    count, each = 5, 256
    vectors = 4 + 4 * count
    out = bytearray(24 + 2 * vectors + 8 * count + each + 8)
    struct.pack_into("<IHHHHiII", out, 0, 12, 8, 12, 4, 8, 8, 8, 4 + vectors)
    for field in range(2):
        at = 24 + vectors * field
        struct.pack_into("<I", out, at, count)
        for index in range(count):
            slot, text = at + 4 + 4 * index, 24 + 2 * vectors + 4 * (count * field + index)
            struct.pack_into("<I", out, slot, text - slot)
            struct.pack_into("<I", out, text, each)
    with pytest.raises(MalformedEvent, match="right overlaps so much else"):
        event_type(Texts).verify(bytes(out))


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 2**32 - 1, "outside the buffer"),
        (0, 18, "not aligned"),
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

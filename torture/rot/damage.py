"""Damaged files: what disks, cables, copies and hands do to one."""

from __future__ import annotations

import random
from collections.abc import Callable

from torture.rot.originals import PAGE, Original

_META_BYTES = 152
_HEADER_BYTES = 16
_LEAF = 0x02
_LARGE = 0x01


def flips(image: bytearray, _original: Original, chance: random.Random) -> None:
    """One bit, or a few anywhere."""
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16, 200))):
        image[chance.randrange(len(image))] ^= 1 << chance.randrange(8)


def words(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Some bytes in a row overwritten."""
    size = chance.choice((1, 2, 4, 8, 64, 512))
    at = chance.randrange(len(image) - size)
    image[at : at + size] = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))


def headers(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Bits of page headers and of the entries behind them."""
    for _ in range(chance.choice((1, 1, 2))):
        page = chance.randrange(len(image) // PAGE) * PAGE
        reach = chance.choice((_HEADER_BYTES, _HEADER_BYTES, 64, PAGE))
        image[page + chance.randrange(reach)] ^= 1 << chance.randrange(8)


def nodes(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Bits of the entries that a page holds: sizes, flags, keys, page numbers."""
    page = chance.randrange(2, len(image) // PAGE) * PAGE
    lower = int.from_bytes(image[page + 12 : page + 14], "little")
    if _HEADER_BYTES < lower < PAGE:
        slot = page + chance.randrange(_HEADER_BYTES, lower, 2)
        node = page + int.from_bytes(image[slot : slot + 2], "little")
        image[min(len(image) - 1, node + chance.randrange(24))] ^= 1 << chance.randrange(8)
    else:
        image[page + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)


def oversized(image: bytearray, _original: Original, chance: random.Random) -> None:
    """A value with pages of its own that is said to be larger than the file, or to begin elsewhere."""
    found = []
    for page in range(2 * PAGE, len(image) - PAGE + 1, PAGE):
        flags, lower = (int.from_bytes(image[page + at : page + at + 2], "little") for at in (10, 12))
        if flags == _LEAF and _HEADER_BYTES <= lower <= PAGE:
            slots = range(page + _HEADER_BYTES, page + lower, 2)
            nodes = [page + int.from_bytes(image[slot : slot + 2], "little") for slot in slots]
            found += [node for node in nodes if node + 24 < page + PAGE and image[node + 4] & _LARGE]
    if not found:
        flips(image, _original, chance)
        return
    node = chance.choice(found)
    if chance.randrange(4):
        image[node + 2 : node + 4] = chance.choice((2, 16, 64, 2**10, 2**14)).to_bytes(2, "little")
    else:
        value = node + 8 + int.from_bytes(image[node + 6 : node + 8], "little")
        image[value : value + 8] = chance.randrange(len(image) // PAGE).to_bytes(8, "little")


def metas(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Bits and fields of the meta pages."""
    page = chance.choice((0, PAGE))
    if chance.randrange(2):
        for _ in range(chance.choice((1, 1, 2, 8))):
            image[page + chance.randrange(_META_BYTES)] ^= 1 << chance.randrange(8)
    else:
        field = page + 8 * chance.randrange(_META_BYTES // 8)
        number = chance.choice((0, 1, 2, len(image) // PAGE, 2**32, 2**63, 2**64 - 1, chance.getrandbits(64)))
        image[field : field + 8] = number.to_bytes(8, "little")


def zeroed(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Pages, or sectors, of zeros."""
    size = chance.choice((512, PAGE, PAGE, PAGE, 2 * PAGE, 8 * PAGE))
    at = chance.randrange(len(image) // size) * size
    image[at : at + size] = bytes(size)


def garbage(image: bytearray, _original: Original, chance: random.Random) -> None:
    """A page of noise, perhaps behind a header that is right."""
    at = _page(image, chance)
    keep = chance.choice((0, _HEADER_BYTES, 64))
    image[at + keep : at + PAGE] = chance.randbytes(PAGE - keep)


def swapped(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Two pages in each other's place, perhaps under the right numbers."""
    one, other = _page(image, chance), _page(image, chance)
    first, second = image[one : one + PAGE], image[other : other + PAGE]
    if chance.randrange(2):  # as whoever writes a page to the wrong place with its number set right
        first[:8], second[:8] = second[:8], first[:8]
    image[one : one + PAGE], image[other : other + PAGE] = second, first


def duplicated(image: bytearray, _original: Original, chance: random.Random) -> None:
    """A page where another should be."""
    one, other = _page(image, chance), _page(image, chance)
    number = bytes(image[other : other + 8])
    image[other : other + PAGE] = image[one : one + PAGE]
    if chance.randrange(2):
        image[other : other + 8] = number


def truncated(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Cut off anywhere, mostly at pages and sectors."""
    unit = chance.choice((1, 512, PAGE, PAGE))
    del image[chance.randrange(len(image) // unit) * unit :]


def lengthened(image: bytearray, _original: Original, chance: random.Random) -> None:
    """Something behind the end."""
    image += chance.choice((bytes(PAGE), chance.randbytes(PAGE), chance.randbytes(100), bytes(image[:PAGE])))


def lost_writes(image: bytearray, original: Original, chance: random.Random) -> None:
    """Pages as they were before: writes that never reached the disk."""
    older = _older(original, chance)
    changed = [
        at for at in range(0, min(len(older), len(image)), PAGE) if older[at : at + PAGE] != image[at : at + PAGE]
    ]
    if not changed:
        return
    for at in (
        changed if chance.randrange(4) == 0 else chance.sample(changed, min(len(changed), chance.choice((1, 1, 2, 5))))
    ):
        image[at : at + PAGE] = older[at : at + PAGE]


def old_meta(image: bytearray, original: Original, chance: random.Random) -> None:
    """One meta page as it was before, or both."""
    older = _older(original, chance)
    for at in chance.choice(((0,), (PAGE,), (0, PAGE))):
        image[at : at + PAGE] = older[at : at + PAGE]


def old_file(image: bytearray, original: Original, chance: random.Random) -> None:
    """The file as it was before, perhaps with the new length or a new meta page."""
    older = _older(original, chance)
    newer = bytes(image)
    image[: len(older)] = older
    if chance.randrange(2):
        del image[len(older) :]
    if chance.randrange(3) == 0:
        at = chance.choice((0, PAGE))
        image[at : at + PAGE] = newer[at : at + PAGE]


def _older(original: Original, chance: random.Random) -> bytes:
    """An image of before: mostly of a few commits ago."""
    images = original.images
    back = min(chance.choice((1, 1, 2, 3, 5, 1_000)), len(images) - 1)
    return images[chance.randrange(len(images))] if back > 100 else images[-1 - back]


def _page(image: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(image) // PAGE) * PAGE


Damage = Callable[[bytearray, Original, random.Random], None]

MIXED = "mixed with another store"
KINDS: dict[str, Damage] = {
    "bit flips": flips,
    "overwritten bytes": words,
    "page headers": headers,
    "entries of pages": nodes,
    "oversized values": oversized,
    "meta pages": metas,
    "zeroed": zeroed,
    "garbage": garbage,
    "swapped pages": swapped,
    "duplicated pages": duplicated,
    "truncated": truncated,
    "lengthened": lengthened,
    "lost writes": lost_writes,
    "old meta pages": old_meta,
    "old file": old_file,
    MIXED: flips,  # see ``damaged``
}
_WEIGHTS = (16, 8, 8, 12, 4, 8, 8, 5, 7, 7, 6, 2, 9, 4, 3, 4)


def damaged(
    all_of: list[Original], chance: random.Random, kinds: tuple[str, ...] = tuple(KINDS)
) -> tuple[str, Original, bytes]:
    """What was done (one of ``kinds``), to which store, and what became of it."""
    original = chance.choice(all_of)
    weights = dict(zip(KINDS, _WEIGHTS, strict=True))
    (kind,) = chance.choices(kinds, [weights[one] for one in kinds])
    image = bytearray(original.image)
    if kind == MIXED:
        other = chance.choice([one for one in all_of if one is not original])
        for at in range(0, min(len(image), len(other.image)), PAGE):
            if chance.randrange(3) == 0:
                image[at : at + PAGE] = other.image[at : at + PAGE]
    else:
        KINDS[kind](image, original, chance)
        if chance.randrange(12) == 0 and len(image) > 2 * PAGE:
            flips(image, original, chance)
    return kind, original, bytes(image)

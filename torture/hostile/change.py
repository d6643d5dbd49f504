"""Mutations that know what bytes are made of: offsets, lengths, vtables, counts."""

from __future__ import annotations

import random
import struct
import zlib

_WORDS = (0, 1, 2, 4, 7, 8, 12, 255, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 4, 2**32 - 1)
_HALVES = (0, 1, 2, 4, 6, 8, 12, 24, 255, 2**15, 2**16 - 2, 2**16 - 1)
_LONGS = (0, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)


def mutated(data: bytes, chance: random.Random, focus: int | None = None) -> bytes:
    """Bytes with one to four changes; with ``focus`` most of them lie in so many first bytes, where structure is."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        size = len(out)
        if not size:
            return chance.randbytes(chance.randrange(40))
        reach = min(size, focus) if focus is not None and chance.randrange(4) else size
        _change(out, chance.randrange(reach), chance)
    if chance.randrange(12) == 0:
        return bytes(out[: chance.randrange(len(out) + 1)])
    if chance.randrange(24) == 0:
        return bytes(out) + chance.randbytes(chance.randrange(1, 64))
    return bytes(out)


def _change(out: bytearray, at: int, chance: random.Random) -> None:
    size = len(out)
    word, half, long = min(at & ~3, (size - 4) & ~3), min(at & ~1, (size - 2) & ~1), min(at & ~7, (size - 8) & ~7)
    kind = chance.randrange(10)
    if kind <= 1 or size < 16:
        out[at] = out[at] ^ (1 << chance.randrange(8)) if kind else chance.randrange(256)
    elif kind == 2:
        struct.pack_into("<I", out, word, chance.choice((*_WORDS, size, at, size - at)) & 0xFFFFFFFF)
    elif kind == 3:
        struct.pack_into("<H", out, half, chance.choice(_HALVES))
    elif kind == 4:
        struct.pack_into("<Q", out, long, chance.choice(_LONGS))
    elif kind == 5:  # an offset or a count that is a little off
        value = struct.unpack_from("<I", out, word)[0] + chance.choice((-16, -8, -4, -2, -1, 1, 2, 4, 8, 16))
        struct.pack_into("<I", out, word, value & 0xFFFFFFFF)
    elif kind == 6:  # an offset to what another points to
        there = chance.randrange(size - 3) & ~3
        value = there + struct.unpack_from("<I", out, there)[0] - word
        struct.pack_into("<I", out, word, value & 0xFFFFFFFF)
    elif kind == 7:  # two fields change places
        there = chance.randrange(size - 3) & ~3
        out[word : word + 4], out[there : there + 4] = out[there : there + 4], out[word : word + 4]
    elif kind == 8:
        width = chance.choice((1, 2, 4, 8, 16, 64))
        source = chance.randrange(size)
        piece = bytes(out[source : source + width])
        if chance.randrange(2):
            out[at : at + len(piece)] = piece
        else:
            out[at:at] = piece
    else:
        del out[at : at + chance.choice((1, 2, 4, 8, 16, 64))]


def framed(frame: bytes | bytearray) -> bytes:
    """A block's frame with a checksum that is right for what it holds."""
    out = bytearray(frame)
    if len(out) >= 4:
        struct.pack_into("<I", out, 0, zlib.crc32(memoryview(out)[4:]))
    return bytes(out)

"""Files of pairs: ``log.pairs`` holds a stretch of the log (key, frame), ``<table>.pairs`` a side table.

``8s "VRVPAIR1"``, then for each pair, in key order, ``u32 bytes of the key | u32 bytes of the value | key | value``
(little-endian). How long the file is, and its SHA-256, stand in the manifest.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from varve.backups.manifest import TableDigest
from varve.engine import files

MAGIC: Final = b"VRVPAIR1"
_SIZES = struct.Struct("<II")

Pair = tuple[bytes, bytes]


def encode_pair(key: bytes, value: bytes | memoryview) -> bytes:
    """A pair as it stands in a file."""
    return b"".join((_SIZES.pack(len(key), len(value)), key, value))


def read_pairs(path: str) -> Iterator[Pair]:
    """The pairs of a file. Raises ``ValueError`` where it ends within one, ``OSError``."""
    with files.open_file(path, buffering=1 << 20) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("it is no file of pairs")
        left = os.fstat(file.fileno()).st_size - len(MAGIC)
        while head := file.read(_SIZES.size):
            if len(head) < _SIZES.size:
                raise ValueError("it ends within a pair")
            key_bytes, value_bytes = _SIZES.unpack(head)
            left -= _SIZES.size + key_bytes + value_bytes
            if left < 0:
                raise ValueError("it ends within a pair")
            raw = file.read(key_bytes + value_bytes)
            yield raw[:key_bytes], raw[key_bytes:]


def digest_of(pairs: Iterable[Pair]) -> TableDigest:
    """How many pairs, and the SHA-256 of them."""
    digest = hashlib.sha256()
    count = 0
    for key, value in pairs:
        digest.update(encode_pair(key, value))
        count += 1
    return TableDigest(count, digest.hexdigest())

"""Documents: what comes back is what was written, to the byte, or nothing."""

from __future__ import annotations

import json
import random

import pytest

from varve.layout import document

FIELDS = {"varve_seal": 1, "name": "größe", "list": [1, {"a": None}], "big": 2**70}


def test_fields_come_back_in_their_order() -> None:
    raw = document.encode(FIELDS)
    assert document.decode(raw) == FIELDS
    assert list(json.loads(raw)) == [*FIELDS, "sha256"]
    assert document.encode({**FIELDS, "big": 1}) != raw


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    """Also in a space or behind the end, where JSON does not care."""
    raw = document.encode(FIELDS)
    for at in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            with pytest.raises(ValueError, match=r"\w"):
                document.decode(bytes(changed))
        with pytest.raises(ValueError, match=r"\w"):
            document.decode(raw[:at])
    with pytest.raises(ValueError, match="changed"):
        document.decode(raw + b" ")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b"{}", b'{"a": 1}', b"\xff", b"[" * 100_000, b'{"sha256": ["' + b"1" * 5_000 + b'"]}']
)
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        document.decode(raw)


def test_a_document_of_any_length_is_not_read() -> None:
    fields = {"long": "x" * document.DOCUMENT_BYTES_MAX}
    with pytest.raises(ValueError, match="longer"):
        document.decode(document.encode(fields))


def test_noise_is_refused_as_nothing_but_a_value_error() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(300):
        with pytest.raises(ValueError, match=r"\w"):
            document.decode(rng.randbytes(rng.randint(0, 60)))
            pytest.fail(f"seed {seed}")

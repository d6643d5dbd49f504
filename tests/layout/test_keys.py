"""Idempotency keys out of their tokens."""

from __future__ import annotations

import uuid

import pytest

from varve.layout import keys
from varve.layout.records import MalformedRecord


@pytest.mark.parametrize("key", [b"\x00raw", "text ä", uuid.UUID(int=5)])
def test_an_idempotency_key_comes_back_from_its_token(key: keys.IdempotencyKey) -> None:
    """Of its own kind."""
    assert keys.decode_idempotency_key(keys.encode_idempotency_key(key)) == key


@pytest.mark.parametrize("token", [b"", b"\x01", b"\x02", b"\x02\xff", b"\x03short", b"\x04x", b"\x01" + bytes(256)])
def test_a_token_that_is_none_is_refused(token: bytes) -> None:
    """Kinds that do not exist, wrong lengths, text that is none."""
    with pytest.raises(MalformedRecord):
        keys.decode_idempotency_key(token)

"""Saved state as bytes: golden bytes, scopes that never mix, any other bytes are malformed."""

import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.layout import snapshots as layout
from varve.layout.records import MalformedRecord

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda name: name.encode())
IDS = st.integers(0, 2**64 - 1) | NAMES | st.uuids()
SCOPES = st.tuples(NAMES, st.none() | IDS)
LOG = (bytes(range(16)), 7, b"m" * 16)


def whole(key: bytes, schema: str = "v1", scope: bytes | None = None) -> bytes:
    return layout.encode_snapshot(key, key[:-8] if scope is None else scope, schema, b"state", LOG, 5)


def test_bytes_are_for_ever() -> None:
    assert layout.scope_bytes("all").hex() == "0103616c6c"
    assert layout.scope_bytes("orders", 1).hex() == "02066f7264657273" + "08" + "010000000000000001"
    key = layout.snapshot_key(layout.scope_bytes("all"), 258)
    assert key.hex() == "0103616c6c" + "0000000000000102"
    value = whole(key)
    head = (
        "01000200" + bytes(range(16)).hex() + "0500000000000000" + "0700000000000000" + "6d" * 16
        + "0500000000000000" + zlib.crc32(b"state").to_bytes(4, "little").hex() + "0000" + "7631"
    )  # fmt: skip
    crc = zlib.crc32(bytes.fromhex(head), zlib.crc32(key))
    assert value.hex() == crc.to_bytes(4, "little").hex() + head + b"state".hex()


@given(SCOPES, SCOPES)
def test_no_scope_begins_with_another(one: tuple[str, object], other: tuple[str, object]) -> None:
    a, b = (layout.scope_key(layout.scope_bytes(*scope)) for scope in (one, other))  # type: ignore[arg-type]
    assert (a == b) == (one == other)
    assert not a.startswith(b) or a == b


@given(SCOPES)
def test_scopes_come_back(scope: tuple[str, object]) -> None:
    name, stream_id = scope
    found = layout.decode_scope(layout.scope_bytes(name, stream_id))  # type: ignore[arg-type]
    assert found == (name if stream_id is None else (name, stream_id))


def test_long_scopes_are_digests_in_keys_and_whole_in_values() -> None:
    scope = layout.scope_bytes("n" * 255, "i" * 255)
    at = layout.scope_key(scope)
    assert (at[0], len(at)) == (3, 33)
    key = layout.snapshot_key(at, 1)
    value = whole(key, scope=scope)
    head = layout.decode_head(key, value[: layout.HEAD_BYTES_MAX], len(value))
    assert head.scope == scope
    assert value[head.state_at :] == b"state"


@given(st.binary(max_size=40))
def test_bytes_that_are_no_scope(data: bytes) -> None:
    try:
        scope = layout.decode_scope(data)
    except MalformedRecord:
        return
    assert layout.scope_bytes(*((scope,) if isinstance(scope, str) else scope)) == data


@given(st.data())
def test_any_damage_to_key_or_head_is_found(data: st.DataObject) -> None:
    key = layout.snapshot_key(layout.scope_bytes("orders", uuid.UUID(int=1)), 9)
    value = bytearray(whole(key))
    head = layout.decode_head(key, bytes(value), len(value))
    assert (head.schema, head.log_end, head.saved_at_ns) == ("v1", 7, 5)
    assert head.state_crc == zlib.crc32(b"state")
    at = data.draw(st.integers(0, head.state_at - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MalformedRecord):
        layout.decode_head(key, bytes(value), len(value))
    with pytest.raises(MalformedRecord):
        layout.decode_head(key[:-1] + b"\x0a", whole(key), len(value))


def test_other_lengths_versions_and_text_are_malformed() -> None:
    key = layout.snapshot_key(layout.scope_bytes("all"), 1)
    value = whole(key)
    with pytest.raises(MalformedRecord):
        layout.decode_head(key, value[:20], len(value))
    with pytest.raises(MalformedRecord, match="length"):
        layout.decode_head(key, value, len(value) - 1)
    for at, byte, says in ((4, 2, "version"), (len(value) - 6, 0xFF, "saved state")):
        changed = bytearray(value)
        changed[at] = byte
        rest = bytes(changed[4 : len(value) - 5])
        changed[:4] = zlib.crc32(rest, zlib.crc32(key)).to_bytes(4, "little")
        with pytest.raises(MalformedRecord, match=says):
            layout.decode_head(key, bytes(changed), len(value))
    with pytest.raises(MalformedRecord):
        layout.split_key(b"12345678")

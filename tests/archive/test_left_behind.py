"""What an archived beginning leaves behind: index and metadata go on from it as if nothing had gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from archive_models import Number, Text

import varve
from varve import limits
from varve.engine.instant import Instant
from varve.layout.base import Base, decode_base
from varve.layout.block import Block
from varve.layout.derive import Derivation
from varve.layout.frame import MalformedBlock


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """A log of short blocks: two names, streams that come and go, keys, commits over several blocks."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 400)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 400)
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        numbers, texts = db.stream("numbers", Number), db.stream("texts", Text | Number)
        for i in range(120):
            key: Any = f"key {i}" if i % 7 == 0 else None
            numbers.append_batch(i % 3, [Number(i)] * (1 + i % 4), idempotency_key=key)
            if i % 2:
                texts.append(f"t{i % 50}", Text("x" * (i % 30)))
        texts.append_batch("long", [Text("y" * 30)] * 40, idempotency_key="long")
    with Instant(str(tmp_path / "store")) as instant:
        tree = instant.file.tables()[b"varve.log"]
        return [Block(memoryview(frame)) for _, frame in instant.file.items(tree)]


def derived(blocks: list[Block], base: Base | None = None) -> Derivation:
    out = Derivation(base)
    for block in blocks:
        out.feed(block)
    return out


def test_the_rest_follows_from_it_as_from_the_whole(blocks: list[Block]) -> None:
    """Wherever the horizon is: what is kept of the index is the same pairs, and so is all of the metadata but the horizon."""
    whole = derived(blocks)
    index, meta = dict(whole.index_pairs()), dict(whole.meta_pairs())
    assert len(blocks) > 30
    for cut in (*range(1, len(blocks), 4), len(blocks) - 1):
        base = derived(blocks[:cut]).base()
        assert base is not None
        assert base == decode_base(base.pairs())
        assert base.horizon == blocks[cut].first
        rest = derived(blocks[cut:], base)
        kept = dict(rest.index_pairs())
        assert kept.items() <= index.items()
        lost = index.keys() - kept.keys()
        assert len(kept) >= len(base.streams) + len(base.names)
        found = dict(rest.meta_pairs())
        assert found.pop(b"\x08") == blocks[cut - 1].last_time_ns.to_bytes(8, "little")
        assert rest.record is not None
        assert rest.record.first_sequence == base.horizon
        assert {**found, b"\0": meta[b"\0"]} == meta
        if cut == len(blocks) - 1:
            assert lost
        # Once more, from there: the same as in one go.
        for further in range(cut + 1, len(blocks), 11):
            assert derived(blocks[cut:further], base).base() == derived(blocks[:further]).base()


def test_nothing_leaves_nothing() -> None:
    """An empty log has no base."""
    assert Derivation().base() is None


def test_a_base_that_contradicts_itself(blocks: list[Block]) -> None:
    """Told when one builds on it."""
    base = derived(blocks[:9]).base()
    assert base is not None
    for change in (
        {"names": [*base.names[:1], *base.names[:1]]},
        {"open_key": b"\x02nobody's"},
        {"streams": [*base.streams, base.streams[0]]},
        {"streams": [(9, *base.streams[0][1:])]},
        {"streams": [(0, b"\x07", 0, [(0, 1)])]},
    ):
        fields = {name: getattr(base, name) for name in Base.__slots__}
        with pytest.raises(MalformedBlock):
            Derivation(Base(**{**fields, **change}))


def test_what_is_declared_has_an_event(blocks: list[Block]) -> None:
    """A stream, or a name, that was declared too early could not be told from one whose end is lost."""
    whole = derived(blocks)
    for of in ("_runs", "_name_runs"):
        broken = derived(blocks)
        getattr(broken, of).popitem()
        with pytest.raises(MalformedBlock, match="before its first event"):
            broken.base()
    assert whole.base() is not None

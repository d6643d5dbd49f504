"""Broken .fbs text: classes or a SchemaError, nothing else, and soon."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fbs_fuzz import HOSTILE, PIECES, TEXTS, mutated, tried


@pytest.mark.parametrize("seed", range(4))
def test_mutated_text_is_refused_or_works(tmp_path: Path, seed: int) -> None:
    """SchemaError or classes that compile, with .fbs and Python text of their own."""
    chance = random.Random(seed)
    accepted = sum(
        tried(tmp_path / "x.fbs", mutated(chance.choice(chosen), chance))
        for chosen in (TEXTS[:3], TEXTS)
        for _ in range(125)
    )
    assert 0 < accepted < 250


def test_noise_is_refused(tmp_path: Path) -> None:
    """Any sequence of the language's words, and of any characters."""
    chance = random.Random(1)
    for _ in range(200):
        tried(tmp_path / "x.fbs", " ".join(chance.choices(PIECES, k=chance.randint(1, 40))))
        tried(tmp_path / "x.fbs", "".join(map(chr, chance.choices(range(1, 0x300), k=20))))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_no_time(tmp_path: Path, text: str) -> None:
    """Nothing is exponential in what a file says, or this test would never end; and nothing recurses with it."""
    tried(tmp_path / "x.fbs", text)

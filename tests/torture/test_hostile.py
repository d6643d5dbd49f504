"""Hostile bytes, small: every target, and every hole that was planted in one."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torture import farm
from torture.hostile import PART, TARGETS, Hostile
from torture.hostile.change import framed, mutated
from torture.hostile.target import Attempt
from torture.part import Budget

SEED = 20_240_229


@pytest.mark.slow
def test_nothing_is_found(tmp_path: Path) -> None:
    """Typed errors, or whatever was accepted can be used; of every target a few were tried."""
    outcome = PART.run(Budget(PART.small, SEED, tmp_path), lambda _: None)
    assert outcome.violations == []
    assert outcome.count == PART.small
    assert set(outcome.figures) == {target.name for target in TARGETS}


@pytest.mark.slow
def test_every_hole_is_found(tmp_path: Path) -> None:
    """A harness that misses a planted fault proves nothing."""
    missed = [control for control in PART.controls(Budget(1, SEED, tmp_path)) if not control.caught]
    assert missed == []


def test_a_unit_is_repeated_by_its_number(tmp_path: Path) -> None:
    """``--first`` and ``--count 1`` make the same input again, whatever ran before it."""
    seen: list[list[bytes]] = []

    class Listening:
        name = "listening"
        share = 1

        def prepare(self, seed: int, folder: Path) -> Attempt:
            def attempt(chance: random.Random) -> bool:
                (folder / f"{chance.getrandbits(64)}").touch()
                return True

            return attempt

        def holes(self) -> Iterator[Any]:
            return iter(())

    for first, count in ((0, 6), (4, 1)):
        folder = tmp_path / str(first)
        folder.mkdir()
        Hostile((Listening(),)).run(Budget(count, SEED, folder, first, jobs=1), lambda _: None)
        seen.append(sorted(path.name for path in (folder / "listening").iterdir()))
    assert len(seen[0]) == 6
    assert len(seen[1]) == 1
    assert set(seen[1]) < set(seen[0])


def test_what_a_unit_raises_is_its_finding(tmp_path: Path) -> None:
    """The farm goes on behind a unit that raises or dies, and counts what the others did."""

    def unit(number: int, counts: Counter[str]) -> str | None:
        counts["done"] += 1
        if number == 3:
            raise LookupError("three")
        return "five" if number == 5 else None

    harvest = farm.run(unit, range(2, 9), jobs=2, folder=tmp_path)
    assert harvest.done == 7
    assert harvest.counts == {"done": 7}
    assert [number for number, _ in harvest.findings] == [3, 5]
    assert harvest.findings[0][1].startswith("LookupError: three")


def test_a_harness_that_breaks_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What fails outside of a unit is no finding but the end of the run."""

    def begin(_: int) -> None:
        raise OSError("no room")

    with pytest.raises(RuntimeError, match="the harness itself failed"):
        farm.run(lambda *_: None, range(2), jobs=1, folder=tmp_path, begin=begin)
    assert "no room" in capfd.readouterr().err


def test_mutations_are_few_and_repeatable() -> None:
    """The same chance gives the same bytes; most inputs keep most of what they were made of."""
    data = bytes(range(256)) * 4
    made = [mutated(data, random.Random(number)) for number in range(300)]
    assert made == [mutated(data, random.Random(number)) for number in range(300)]
    assert sum(one != data for one in made) > 290
    assert sum(abs(len(one) - len(data)) <= 256 for one in made) > 250
    assert all(mutated(data[:size], random.Random(size)) is not None for size in range(40))


def test_a_frame_gets_a_checksum_that_is_right() -> None:
    made = framed(b"\1" * 400)
    assert made[4:] == b"\1" * 396
    assert int.from_bytes(made[:4], "little") == zlib.crc32(made[4:])

"""Rot, small: damaged files of every kind, and every check that was left out."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from torture.part import Budget
from torture.rot import PART, host
from torture.rot.damage import KINDS, damaged
from torture.rot.originals import PAGE, Original

SEED = 20_240_229


@pytest.mark.slow
def test_nothing_wrong_is_returned(tmp_path: Path) -> None:
    """A host that does not trust survives; whatever passes is slack or an older state."""
    outcome = PART.run(Budget(PART.small, SEED, tmp_path), lambda _: None)
    assert outcome.violations == []
    assert outcome.count == PART.small
    files, refused = (
        sum(count for name, count in outcome.figures.items() if name.endswith(what) and isinstance(count, int))
        for what in (": files", ": refused")
    )
    assert files > refused > 0


@pytest.mark.slow
def test_every_check_that_is_left_out_is_missed(tmp_path: Path) -> None:
    """A harness that does not notice proves nothing."""
    missed = [control for control in PART.controls(Budget(1, SEED, tmp_path)) if not control.caught]
    assert missed == []


def original() -> Original:
    image = b"".join(bytes([number]) * PAGE for number in range(12))
    older = [image[: PAGE * size] + bytes(PAGE) for size in (3, 5, 9)]
    return Original("made up", image, [], [], [*older, image])


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_repeatable(kind: str) -> None:
    """Equal numbers do equal things, and nearly all of them do something."""
    both = [original(), original()]
    both[1].image = both[1].image[::-1]
    made = [damaged(both, random.Random(number), (kind,)) for number in range(40)]
    again = [damaged(both, random.Random(number), (kind,)) for number in range(40)]
    assert [image for _, _, image in made] == [image for _, _, image in again]
    assert {name for name, _, _ in made} == {kind}
    assert sum(image != one.image for _, one, image in made) > 12


def test_a_child_says_what_it_found_or_how_it_died() -> None:
    """By signals, by hanging, by an error."""
    assert host.in_child(lambda: {"answer": 42}) == {"answer": 42}
    with pytest.raises(host.Died, match="SIGTERM"):
        host.in_child(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(host.Died, match="hang"):
        host.in_child(signal.pause, wait_s=0.05)
    with pytest.raises(host.Died, match="an error"):
        host.in_child(lambda: 1 // 0)

"""The part that kills, run small with its controls, and the pieces that it stands on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from torture.children import ask, fork, how_ended, is_killed
from torture.kills import KILLS, PART
from torture.kills.controls import judged
from torture.kills.ledger import Ledger, Read, Row
from torture.kills.page import Page
from torture.kills.points import _SOURCES, POINTS, Death, NoSuchPoint, line_of
from torture.kills.victims import LANES, OF_A_ROUND, ROLES, Part, Stand
from torture.part import Budget

SEED = 20_261


@pytest.mark.slow
def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    """A few rounds: no violation, and kills of several kinds were done."""
    outcome = PART.run(Budget(PART.small, SEED, tmp_path), lambda _: None)
    assert not outcome.violations
    assert outcome.count >= PART.small
    assert isinstance(outcome.figures["commits acknowledged to those who were killed"], int)
    assert outcome.figures["commits acknowledged to those who were killed"] > 0
    assert outcome.figures["waiters told of a commit after a strike"] > 0


@pytest.mark.slow
def test_every_control_is_caught(tmp_path: Path) -> None:
    """What is planted is noticed: builds that lose, survivors that hang, a checker fed wrong logs."""
    controls = list(PART.controls(Budget(1, SEED, tmp_path)))
    assert [control for control in controls if not control.caught] == []
    assert len(controls) >= 11


def test_a_violation_says_how_to_see_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command names the seed and the first kill of the round."""
    said = {"round": 3, "kills": KILLS, "problems": ["lost"], "roles": {}, "reached": {}, "commits": 0, "waits": 0}
    orders: list[dict[str, object]] = []

    def stream(_module: str, given: list[dict[str, object]]) -> list[dict[str, object]]:
        orders.extend(given)
        return [said]

    monkeypatch.setattr("torture.kills.stream", stream)
    outcome = PART.run(Budget(KILLS + 5, 7, tmp_path, first=3 * KILLS, jobs=2), lambda _: None)
    assert [violation.what for violation in outcome.violations] == ["lost"]
    assert outcome.violations[0].again == f"python -m torture kills --seed 7 --first {3 * KILLS} --count {KILLS}"
    assert [order["rounds"] for order in orders] == [[(3, KILLS)], [(4, 5)]]


# -- points --------------------------------------------------------------------------------------------------------------


def test_every_point_is_a_line_of_the_source() -> None:
    """A point that the source has lost fails here, not by never being reached."""
    places = Counter((code, line) for code, line in map(line_of, POINTS))
    assert max(places.values()) == 1


def test_a_point_that_is_lost_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a line nor a function that is no longer there is passed over."""
    module = _SOURCES["before begin"][0]
    monkeypatch.setitem(_SOURCES, "no line", (module, "Session.commit", "launch()"))
    monkeypatch.setitem(_SOURCES, "no function", (module, "Session.launch", "launch()"))
    for name in ("no line", "no function"):
        with pytest.raises(NoSuchPoint):
            line_of(name)


@pytest.mark.parametrize(
    "death", [Death("point", "remembering", 1), Death("point", "remembering", 3), Death("line", nth=500)]
)
def test_a_victim_dies_at_its_point(tmp_path: Path, death: Death) -> None:
    """By its own hand, there and not before: it had acknowledged what came before, and nothing after."""
    page = Page()
    reached, lanes = page.cell(), [page.lane() for _ in range(LANES)]
    stand = Stand("billing", page.cell(), page.cell())
    part = Part("single", tmp_path / "store", "1", lanes, page.cell(), page.note(), stand)

    def live() -> None:
        signal.alarm(60)
        death.arm(tmp_path, reached)
        part.play()

    status = os.waitpid(fork(live), 0)[1]
    assert is_killed(status), how_ended(status)
    assert reached.value == 1
    if death.how == "point":
        assert (lanes[0].acked, lanes[0].attempted) == (death.nth - 1, death.nth)
    page.close()


def test_every_role_is_played_or_a_control() -> None:
    """No role is forgotten in the rounds."""
    assert set(ROLES) - set(OF_A_ROUND) == {"greedy"}


# -- the ledger ----------------------------------------------------------------------------------------------------------


def test_a_sound_log_is_sound() -> None:
    """Nothing is said of it."""
    assert judged(lambda log: log) == []


def test_a_commit_under_way_may_be_there_or_not() -> None:
    """One more than was acknowledged, whole or not at all."""
    page = Page()
    lane = page.lane()
    lane.attempt()
    for there in (0, 2):
        ledger = Ledger()
        ledger.feed(Read(at, ("rows", 1), at, 0, Row(lane.number, 0, at, 2, "")) for at in range(there))
        ledger.settle(lane)
        assert ledger.problems == []
    page.close()


def test_a_position_that_was_acknowledged_is_compared() -> None:
    """The last one of a lane that is dead."""
    page = Page()
    lane = page.lane()
    lane.attempt()
    lane.ack(5)
    ledger = Ledger()
    ledger.feed([Read(0, ("rows", 1), 0, 0, Row(lane.number, 0, 0, 1, ""))])
    ledger.settle(lane)
    assert ledger.problems == ["lane 0: commit 0 acknowledged at 5, is at 0"]
    page.close()


# -- the page and the children ---------------------------------------------------------------------------------------------


def test_a_page_outlives_who_writes_into_it() -> None:
    """What a child wrote before it was killed is there."""
    page = Page()
    lane, note, cell = page.lane(), page.note(), page.cell(7)

    def write() -> None:
        lane.attempt()
        lane.ack(41)
        note.write("found")
        cell.value += 1
        os.kill(os.getpid(), signal.SIGKILL)

    assert is_killed(os.waitpid(fork(write), 0)[1])
    assert (lane.attempted, lane.acked, lane.position, note.text, cell.value) == (1, 1, 41, "found", 8)
    assert lane.sibling(0).position == 41
    page.close()


def test_a_page_that_is_full_says_so() -> None:
    """Rather than giving one lane to two victims."""
    page = Page()
    for make in (page.lane, page.cell, page.note):
        with pytest.raises(RuntimeError, match="too many"):
            for _ in range(10_000):
                make()
    page.close()


def test_a_child_answers_fails_dies_or_hangs() -> None:
    """Each is told from the others."""
    assert ask(lambda: [1, 2]).value == [1, 2]
    assert "ZeroDivisionError" in (ask(lambda: 1 // 0).error or "")
    assert "SIGTERM" in (ask(lambda: os.kill(os.getpid(), signal.SIGTERM)).error or "")
    hung = ask(signal.pause, patience_s=0.05)
    assert hung.hung
    assert hung.error

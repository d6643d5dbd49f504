"""Faults planted into the victims, the survivors and the checker: each must be noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torture.kills.ledger import Ledger, Read, Row, Step
from torture.kills.page import Lane, Page
from torture.kills.points import Death
from torture.kills.rounds import Setting, play
from torture.part import Control

_SHORT_S = 3.0
_ROUNDS_MAX = 6
"""Whether a kill strikes between two steps is the kernel's choice: so many rounds are tried."""


def controls(folder: Path, seed: int) -> Iterator[Control]:
    """Plant each fault."""
    yield from _checker()
    writers = ("single", "transaction", "batch")
    early = Setting(
        roles=writers,
        deaths=(Death("point", "before LMDB's commit", 3), Death("point", "put record, single", 4)),
        plant=_acknowledge_early,
        full=False,
    )
    yield _round("a build that acknowledges before the commit", folder, seed, early, "lost")
    halves = Setting(
        roles=("transaction",),
        deaths=(Death("point", "before LMDB's commit", 2), Death("point", "before LMDB's commit", 4)),
        plant=lambda _: _commit_in_halves(),
        full=False,
    )
    yield _round("a build that commits a transaction in two halves", folder, seed, halves, "in part")
    unreaped = Setting(
        roles=("holder", "reader", "opener"), deaths=(Death("instant"),), plant_all=_reap_nothing, full=False
    )
    yield _round("the reaper of reader slots switched off", folder, seed, unreaped, "reader slots of dead processes")
    growing = Setting(roles=("single",), deaths=(Death("instant"),), plant_all=_reap_nothing)
    yield _round("a writer beside a dead snapshot holder, reaper off", folder, seed, growing, "the file grows", kills=1)
    deaf = Setting(roles=("single",), patience_s=_SHORT_S, deaf=True, full=False)
    yield _round("waiters whom nobody tells and who do not look", folder, seed, deaf, "a waiter was not told")
    greedy = Setting(roles=("greedy",), deaths=(Death("instant"),), patience_s=_SHORT_S, greedy=True, full=False)
    yield _round("a writer's lock that is never given back", folder, seed, greedy, "cannot append any more")


def _round(name: str, folder: Path, seed: int, setting: Setting, word: str, kills: int = 20) -> Control:
    found: list[str] = []
    for number in range(_ROUNDS_MAX):
        with _restored():
            found = play(seed, number, folder / "control", setting, kills).problems
        if any(word in problem for problem in found):
            return Control(name, True, next(problem for problem in found if word in problem)[:200])
    return Control(name, False, f"nothing said {word!r}: {found}"[:200])


# -- builds that are known to lose data --------------------------------------------------------------------------------------


def _acknowledge_early(lanes: list[Lane]) -> None:
    from varve.engine.commit import Session

    commit = Session.commit

    def early(self: Session) -> None:
        for lane in lanes:
            if lane.attempted > lane.acked:
                lane.ack(0)
        _delegate(commit, self)

    _replace(Session, "commit", early)


def _delegate(commit: Callable[..., Any], *arguments: Any) -> Any:
    return commit(*arguments)


def _commit_in_halves() -> None:
    from varve.engine.core import Engine
    from varve.engine.request import CommitRequest, Committed

    commit = Engine.commit

    def halves(self: Engine, request: CommitRequest) -> Committed:
        if len(request.appends) < 2:
            return commit(self, request)
        one, two = request.appends[:1], request.appends[1:]
        done = commit(self, CommitRequest(one))
        done.segments += commit(self, CommitRequest(two)).segments
        return done

    _replace(Engine, "commit", halves)


def _reap_nothing() -> None:
    from varve.engine.environment import Environment

    _replace(Environment, "reap", lambda _: None)


_replaced: list[tuple[type, str, object]] = []


def _replace(owner: type, name: str, by: object) -> None:
    _replaced.append((owner, name, getattr(owner, name)))
    setattr(owner, name, by)


class _restored:  # noqa: N801 - used like a function
    """What was planted into the process that forks is taken out again."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        while _replaced:
            owner, name, was = _replaced.pop()
            setattr(owner, name, was)


# -- a checker that is fed ---------------------------------------------------------------------------------------------------


def _checker() -> Iterator[Control]:
    """Logs that are wrong in one way each, with lanes that say what was acknowledged."""
    for name, spoil, word in (
        ("a checker fed a gap", lambda log: [*log[:3], *log[4:]], "a gap"),
        ("a checker fed a lost commit", lambda log: log[:4], "lost"),
        ("a checker fed half a commit", lambda log: log[:5], "in part"),
        ("a checker fed an event twice", lambda log: [*log, log[-1]], "a gap"),
        ("a checker fed a commit that nobody made", _with_invented, "invented"),
        ("a checker fed a consumer that went back", _with_step_back, "consumed from"),
    ):
        problems = judged(spoil)
        hits = [problem for problem in problems if word in problem]
        yield Control(name, bool(hits), (hits or problems or ["nothing"])[0])
    sound = judged(lambda log: log)
    yield Control("a checker fed a sound log says nothing", not sound, "; ".join(sound) or "nothing")


def judged(spoil: Callable[[list[Read]], list[Read]]) -> list[str]:
    """What is said of three commits of two events each, all acknowledged, once they are spoiled."""
    page = Page()
    lane = page.lane()
    for number in range(3):
        lane.attempt()
        lane.ack(2 * number)
    log = [Read(at, ("rows", 1), at, at - at % 2, Row(lane.number, at // 2, at % 2, 2, "")) for at in range(6)]
    ledger = Ledger()
    ledger.feed(spoil(log))
    ledger.settle(lane)
    page.close()
    return ledger.problems


def _with_invented(log: list[Read]) -> list[Read]:
    return [*log, *(Read(at, ("rows", 1), at, 6, Row(0, 3, at - 6, 2, "")) for at in (6, 7))]


def _with_step_back(log: list[Read]) -> list[Read]:
    steps = (Step("billing", 0, 5), Step("billing", 3, 6))
    return [*log, *(Read(6 + at, ("steps", 1), at, 6 + at, step) for at, step in enumerate(steps))]

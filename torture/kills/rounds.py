"""A round: one store, survivors, and victims that are killed strike by strike."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import varve
from torture.children import ask, fork, how_ended, is_killed
from torture.kills import KILLS
from torture.kills.company import Keeper, Question, Sentinel, Stuck, companion, judge_all, wait_until, where
from torture.kills.ledger import Row
from torture.kills.page import Cell, Lane, Page
from torture.kills.points import CALLS, POINTS, Death
from torture.kills.victims import LANES, OF_A_ROUND, WRITERS, Part, Stand

_AT_ONCE_MAX: Final = 4
_LIFE_S: Final = 0.025
"""The longest until the instant of a victim that is killed at an instant."""
_REACH_S: Final = 0.3
"""How long a victim may take to come to its point."""
_GROWN_PAGES_MAX: Final = 60
"""By how much a hundred single commits may make a file grow that nobody reads."""

Plant = Callable[[list[Lane]], None]
"""What a control does to a victim before it begins."""


@dataclass(slots=True)
class Setting:
    """How a round is played; controls change it."""

    patience_s: float = 60.0
    roles: tuple[str, ...] = OF_A_ROUND
    deaths: tuple[Death, ...] = ()
    """Instead of those that chance gives."""
    plant: Plant | None = None
    plant_all: Callable[[], None] | None = None
    """What a control does to everybody."""
    deaf: bool = False
    greedy: bool = False
    """Whether somebody takes the writer's lock and keeps it."""
    full: bool = True
    """Whether the end of the round is judged, too."""


@dataclass(slots=True)
class Result:
    """What a round came to."""

    problems: list[str] = field(default_factory=list)
    kills: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    """Points and system calls that victims died at."""
    commits: int = 0
    """That were acknowledged to victims."""
    waits: int = 0
    """Waiters that were told of a commit after a strike."""


@dataclass(slots=True)
class _Victim:
    part: Part
    death: Death
    reached: Cell
    pid: int = 0
    born_s: float = 0.0

    @property
    def is_of_the_store(self) -> bool:
        return self.part.role != "creator"


class Round:
    """Plays one round. Everything by chance comes from the seed and the round's number."""

    def __init__(self, seed: int, number: int, folder: Path, setting: Setting) -> None:
        self._choose = random.Random(f"{seed}/{number}")
        self._seed = f"{seed}/{number}"
        self._folder = folder
        self._store = folder / "store"
        self._setting = setting
        self._page = Page()
        self._stands = [Stand(name, self._page.cell(), self._page.cell()) for name in ("billing", "shipping")]
        self._rides = [Stand(name, self._page.cell(), self._page.cell()) for name in ("ledger",)]
        self._dead: list[int] = []
        self._all_lanes: list[Lane] = []
        self._strikes = 0
        self.result = Result()

    def play(self, kills: int = KILLS) -> Result:
        """Until so many were killed, or something was found."""
        self._folder.mkdir()
        try:
            self._play(kills)
        except Stuck as exc:
            self.result.problems.append(f"{exc} (strike {self._strikes})")
        finally:
            self._page.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        return self.result

    def _play(self, kills: int) -> None:
        page, setting = self._page, self._setting
        if setting.plant_all is not None:
            setting.plant_all()
        lane, stop = page.lane(), page.cell()
        note, keeper_note, sentinel_note = page.note(), page.note(), page.note()
        keeper_lane = page.lane()
        self._companion_lane, self._companion_note = lane, note
        keeper = Keeper(self._store, keeper_lane, page.cell(), keeper_note)
        keeper.ask(Question([], [], []), setting.patience_s)  # it has made the store
        sentinel = Sentinel(self._store, [page.cell() for _ in range(3)], sentinel_note, deaf=setting.deaf)
        living = companion(self._store, lane, stop, note)
        self._all_lanes += [lane, keeper_lane]
        survivors = {"keeper": keeper.pid, "companion": living, "sentinel": sentinel.pid}
        try:
            while self.result.kills < kills and not self.result.problems:
                self._strike(keeper, sentinel, kills - self.result.kills)
        except Stuck as exc:
            if setting.greedy:  # it is known where they are
                raise
            raise Stuck(f"{exc}: {'; '.join(f'{name} {where(pid)}' for name, pid in survivors.items())}") from exc
        finally:
            stop.value = 1
            if self.result.problems or sys.exc_info()[0] is not None:
                for pid in (keeper.pid, living):
                    os.kill(pid, signal.SIGKILL)
            os.kill(sentinel.pid, signal.SIGKILL)
            keeper.close()
            for pid in (keeper.pid, living, sentinel.pid):
                os.waitpid(pid, 0)
        if setting.full and not self.result.problems:
            self.result.problems += judge_growth(self._folder, self._page, setting.patience_s)
            self.result.problems += judge_all(self._store, self._all_lanes, 4 * setting.patience_s)

    # -- a strike --------------------------------------------------------------------------------------

    def _strike(self, keeper: Keeper, sentinel: Sentinel, kills_max: int) -> None:
        setting, result = self._setting, self.result
        self._strikes += 1
        count = min(self._choose.randint(1, _AT_ONCE_MAX), kills_max)
        victims = self._cast(count)
        before = self._companion_lane.acked
        for victim in victims:
            victim.pid = fork(lambda victim=victim: self._live(victim))  # type: ignore[misc]
            victim.born_s = time.monotonic()
        if setting.greedy:
            time.sleep(0.2)
        else:
            self._kill(victims)
        lanes = [lane for victim in victims if victim.is_of_the_store for lane in victim.part.lanes]
        has_opened = any(victim.part.opened.value and victim.is_of_the_store for victim in victims)
        try:
            sequence = keeper.ask(
                Question(lanes, [self._companion_lane], self._dead if has_opened else []), setting.patience_s
            )
            self._look(victims, keeper, sentinel, sequence, before)
        finally:
            if setting.greedy:
                self._kill(victims)
        self._dead += [victim.pid for victim in victims]
        self._all_lanes += lanes
        result.commits += sum(lane.acked for victim in victims for lane in victim.part.lanes)
        self._judge_creations(victims)

    def _look(self, victims: list[_Victim], keeper: Keeper, sentinel: Sentinel, sequence: int, before: int) -> None:
        setting, problems = self._setting, self.result.problems
        for victim in victims:
            if victim.part.note.text:
                problems.append(f"a victim ({victim.death}): {victim.part.note.text}")
        for found in (keeper.found, sentinel.found, self._companion_note.text):
            if found:
                problems.append(f"{found} (after {', '.join(f'{one.part.role} {one.death}' for one in victims)})")
        if problems:
            return
        if sentinel.is_told(sequence, setting.patience_s):
            self.result.waits += 3
        else:
            problems.append(f"a waiter was not told of commit {sequence - 1} within {setting.patience_s} s")
        if not wait_until(lambda: self._companion_lane.acked > before + 1, setting.patience_s):
            problems.append("a surviving writer does not go on")

    def _cast(self, count: int) -> list[_Victim]:
        victims: list[_Victim] = []
        stands, rides = list(self._stands), list(self._rides)
        page = self._page
        for _ in range(count):
            death = self._choose.choice(self._setting.deaths) if self._setting.deaths else self._death()
            role = self._role(death)
            if (role == "consumer" and not stands) or (role == "rider" and not rides):
                role = "single"
            stand = rides.pop() if role == "rider" else stands.pop() if role == "consumer" else self._stands[0]
            store = self._store
            durability: Literal["full", "relaxed", "bulk"] = "full"
            if role == "creator":
                durability = self._choose.choice(("full", "full", "relaxed", "bulk"))
                # Creators of one strike race for one store, except whoever needs it alone.
                alone = f", {len(victims)}" if durability == "bulk" else ""
                store = self._folder / f"new {self._strikes}{alone}" / "deep" / "store"
            part = Part(
                role,
                store,
                f"{self._seed}/{self._strikes}/{len(victims)}",
                [page.lane() for _ in range(LANES)],
                page.cell(),
                page.note(),
                stand,
                durability,
            )
            victims.append(_Victim(part, death, page.cell()))
        return victims

    def _death(self) -> Death:
        choose = self._choose
        how = choose.choice(("point", "point", "line", "call", "instant"))
        if how == "point":
            name = choose.choice(POINTS)
            is_rare = any(word in name for word in _RARE)
            return Death("point", name, 1 if is_rare else choose.choice((1, 1, 2, 3, 7)))
        if how == "line":
            return Death("line", nth=int(10 ** choose.uniform(1, 4)))
        if how == "call":
            kind, when = choose.choice(CALLS)
            is_rare = kind not in {"write", "sync"}
            return Death("call", f"{kind} {when}", choose.choice((1, 1, 2) if is_rare else (1, 2, 3, 4, 5, 6, 10, 30)))
        return Death("instant")

    def _role(self, death: Death) -> str:
        """One that comes past the point, where that is told easily."""
        roles = self._setting.roles
        wanted: tuple[str, ...] = roles
        if death.how in {"point", "call"}:
            wanted = next((found for words, found in _WHO if any(word in death.name for word in words)), WRITERS)
        wanted = tuple(role for role in wanted if role in roles) or roles
        return self._choose.choice(wanted)

    def _live(self, victim: _Victim) -> None:
        if self._setting.plant is not None:
            self._setting.plant(victim.part.lanes)
        victim.death.arm(self._folder, victim.reached)
        victim.part.play()

    def _kill(self, victims: list[_Victim]) -> None:
        """Let each die where it shall, and whoever does not come to it at an instant."""
        alive = {}
        for victim in victims:
            lasts_s = self._choose.uniform(0, _LIFE_S) if victim.death.how == "instant" else _REACH_S
            alive[victim.pid] = (victim, victim.born_s + lasts_s)
        while alive:
            for pid, (victim, until_s) in list(alive.items()):
                found, status = os.waitpid(pid, os.WNOHANG)
                if not found:
                    if time.monotonic() >= until_s:
                        os.kill(pid, signal.SIGKILL)
                    continue
                del alive[pid]
                self._died(victim, status, until_s)
            time.sleep(0.0003)

    def _died(self, victim: _Victim, status: int, until_s: float) -> None:
        result = self.result
        if not is_killed(status):
            result.problems.append(
                f"{victim.part.role} ended by itself ({how_ended(status)}): {victim.part.note.text or 'it says nothing'}"
            )
            return
        result.kills += 1
        result.roles[victim.part.role] += 1
        if victim.reached.value or (victim.death.how == "call" and time.monotonic() < until_s):
            result.reached[victim.death.name or victim.death.how] += 1
        else:
            result.reached["an instant"] += 1

    def _judge_creations(self, victims: list[_Victim]) -> None:
        by_store: dict[Path, list[Lane]] = {}
        for victim in victims:
            if victim.part.role == "creator":
                by_store.setdefault(victim.part.store, []).extend(victim.part.lanes)
        for store, lanes in by_store.items():
            self.result.problems += judge_all(store, lanes, self._setting.patience_s)
            shutil.rmtree(store.parents[1], ignore_errors=True)


_RARE: Final = (
    "folder",
    "LMDB's file",
    "databases",
    "record made",
    "making the record",
    "locking",
    "opening",
    "side table",
    "claim",
    "helper",
    "watcher",
)
"""Words in the names of points that a process comes to once or twice."""

_WHO: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    # words in a point's name, roles that come past it
    (("single",), ("single", "threads", "opener")),
    (("folder", "LMDB's file", "databases", "record made", "making the record"), ("creator",)),
    (("locking the handle", "opening LMDB"), ("creator", "opener")),
    (("mkdir", "truncate", "map"), ("creator", "creator", "opener")),
    (("flock", "fcntl", "open "), ("creator", "opener", "side", "consumer")),
    (("bind",), ("waiter", "tail", "side")),
    (("side table",), ("creator",)),
    (("consumer",), ("side", "consumer", "rider")),
    (("position",), ("consumer", "rider", "side")),
    (("handing", "ringing", "helper", "group"), ("threads", "group")),
    (("idempotency",), ("transaction",)),
    (("declarations",), ("transaction", "creator")),
    (("blocks",), ("batch", "creator")),
    (("extending",), ("transaction", "group", "batch")),
    (("socket", "polling"), ("waiter", "tail")),
)


# -- a snapshot holder that dies ---------------------------------------------------------------------------------------------


def judge_growth(folder: Path, page: Page, patience_s: float) -> list[str]:
    """Kill somebody who holds a snapshot: a writer that goes on by itself, whom nobody joins, makes the file no larger for
    it, once it has written ``REAP_BYTES``."""
    opened, note, holding = page.cell(), page.note(), page.cell()

    def hold() -> None:
        part = Part("holder", folder / "store", "", [], opened, note, Stand("", holding, holding))
        part.play()

    def grow() -> int:
        from varve import limits

        with varve.open(folder / "store", durability="relaxed") as db:
            rows = db.stream("rows", Row)

            def append(count: int) -> None:
                for number in range(count):
                    rows.append("grown", Row(lane.number, lane.attempt(), 0, 1, str(number)))
                    lane.ack(db.next_global_sequence - 1)

            lane = page.lane()
            append(1)
            pid = fork(hold)
            try:
                if not wait_until(lambda: opened.value, patience_s):
                    raise Stuck(f"a snapshot holder does not begin: {note.text}")
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            append(limits.REAP_BYTES // limits.COMMIT_BYTES + 10)
            last = db._engine.environment.last_page()  # noqa: SLF001 - stats() would reckon in bytes
            append(100)
            grown: int = db._engine.environment.last_page() - last  # noqa: SLF001
            return grown

    ended = ask(grow, 4 * patience_s)
    if ended.error:
        return [f"a store whose reader died holding a snapshot: {ended.error}"]
    if ended.value > _GROWN_PAGES_MAX:
        return [f"the file grows by {ended.value} pages in 100 commits for a snapshot whose holder is dead"]
    return []


def play(seed: int, number: int, folder: Path, setting: Setting, kills: int = KILLS) -> Result:
    """One round in a folder that is made and removed again."""
    return Round(seed, number, folder, setting).play(kills)


def summary(result: Result) -> dict[str, Any]:
    """For JSON."""
    return {
        "kills": result.kills,
        "problems": result.problems,
        "roles": dict(result.roles),
        "reached": dict(result.reached),
        "commits": result.commits,
        "waits": result.waits,
    }

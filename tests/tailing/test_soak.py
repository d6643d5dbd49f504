"""Four writers and six tailing processes, killed at random and started again: nothing is missing, nothing comes twice.

make soak SECONDS=300            (the suite runs a few seconds of it)
VARVE_SOAK_SEED=...              the same choices again, as far as processes run alike
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak_checks import WRITERS, Difference, check_log, check_tail, check_writer, is_expected
from soak_processes import STOP, TAILS
from soak_processes import WRITERS as WRITING
from soak_rows import FOLLOWED_ID, LAST, SOLE, Ack, Paid, Placed, Row, Rows, Shipped, read_acks, read_rows, row_of
from tailing_models import say

import varve
from varve.engine.hints import HintSender

SECONDS = float(os.environ.get("VARVE_SOAK_SECONDS", "4"))
SEED = int(os.environ.get("VARVE_SOAK_SEED", random.randrange(2**32)))
KILLS_MIN = 6
STALLED_S = 60.0
"""Longer than any of it ever takes; a test that hangs ends then, and says where."""

NOTED = ("all", "end", "time", "streams", "types", "one", "follow", "follow-one")
BEGUN_LATER = ("tail-end", "tail-time")  # when there is something before their start
SCRIPT = Path(__file__).with_name("soak_processes.py")


class Soak:
    """The processes of one run."""

    def __init__(self, store: Path, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.when = dt.datetime.now(dt.UTC)
        self.lives: Counter[str] = Counter()
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Begin a life of a process."""
        life, self.lives[name] = self.lives[name], self.lives[name] + 1
        command = [SCRIPT, name, self.store, self.folder, SEED, life, self.when.isoformat()]
        with (self.folder / f"{name}.errors").open("ab") as errors:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-W", "error", *map(str, command)], stdin=subprocess.DEVNULL, stderr=errors
            )

    def kill(self, name: str) -> None:
        """End it wherever it is, and begin its next life. One that ended by itself has failed."""
        running = self.running[name]
        assert running.poll() is None, self.errors(name)
        running.kill()
        running.wait()
        self.start(name)

    def ended(self, name: str) -> None:
        """Wait for one that ends by itself."""
        try:
            code = self.running[name].wait(STALLED_S)
        except subprocess.TimeoutExpired:
            noted = {path.name: sum(1 for _ in read_rows(path)) for path in self.folder.glob("*.rows")}
            raise AssertionError(f"{name} does not end; noted: {noted}") from None
        assert code == 0, self.errors(name)
        assert self.errors(name) == ""

    def errors(self, name: str) -> str:
        return (self.folder / f"{name}.errors").read_text()

    def kill_all(self) -> None:
        """Whatever still runs."""
        for running in self.running.values():
            running.kill()
            running.wait()


def run(soak: Soak, db: varve.Varve) -> Counter[str]:
    """Let it happen, as long as asked for; the kills of each process."""
    choose = random.Random(SEED)
    kills: Counter[str] = Counter()
    victims: list[str] = []
    watcher = db.watcher()
    for name in [*WRITING, *TAILS]:
        if name not in BEGUN_LATER:
            soak.start(name)
    watcher.wait(1_000, STALLED_S)  # the time that processes take to begin counts for nothing
    soak.when = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=min(SECONDS / 3, 10))
    for name in BEGUN_LATER:
        soak.start(name)
    until_s = time.monotonic() + SECONDS
    while time.monotonic() < until_s or kills.total() < KILLS_MIN:
        # The pace is that of the log, so that a slow machine does not kill what has not begun.
        watcher.wait(db.next_global_sequence + choose.randrange(1, 1_000), STALLED_S)
        if not victims:
            victims = [*WRITING, *TAILS]
            choose.shuffle(victims)
        name = victims.pop()
        soak.kill(name)
        kills[name] += 1
    (soak.folder / STOP).touch()
    for name in WRITING:
        soak.ended(name)
    orders, payments = db.stream("orders", Placed | Shipped), db.stream("payments", Paid)
    with db.transaction() as tx:  # the last event of everything that a tail may be asked for
        tx.append(orders, FOLLOWED_ID, Placed(LAST, 0, 0, 0, 0, 3))
        tx.append(orders, FOLLOWED_ID, Shipped(LAST, 0, 0, 0, 1, 3))
        tx.append(payments, FOLLOWED_ID, Paid(LAST, 0, 0, 0, 2, 3))
    for name in TAILS:
        soak.ended(name)
    HintSender(str(soak.store)).send()  # as any commit does, which sweeps what the killed left behind
    assert [path.name for path in soak.store.glob("watch/*") if not path.name.startswith(f"{os.getpid()}-")] == []
    return kills


def nanoseconds(when: dt.datetime) -> int:
    return round((when - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)) * 1_000


@pytest.mark.slow
def test_soak(varve_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every tail gave the log, or its part of it; whatever a writer was told is written is there, once."""
    folder = tmp_path / "noted"
    folder.mkdir()
    say(f"VARVE_SOAK_SEED={SEED}")
    begun_s = time.monotonic()
    soak = Soak(varve_path, folder)
    with varve.open(varve_path, durability="relaxed") as db:
        try:
            kills = run(soak, db)
        finally:
            soak.kill_all()
        ran_s = time.monotonic() - begun_s
        noted = Rows(folder / "log.rows")
        for batch in db.follow(timeout_s=0).batches():
            noted.add(*map(row_of, batch))

    def log() -> Iterator[Row]:
        return read_rows(folder / "log.rows")

    commits = check_log(log())
    acks = {name: read_acks(folder / f"{name}.acks") for name in WRITING}
    untold = {name: check_writer(WRITERS[name], log(), acks[name]) for name in WRITING}
    begun, when_ns = int((folder / "end.start").read_text()), nanoseconds(soak.when)
    given = {
        name: check_tail(
            name, read_rows(folder / f"{name}.rows"), (row for row in log() if is_expected(name, row, begun, when_ns))
        )
        for name in NOTED
    }
    with capsys.disabled() if "VARVE_SOAK_SECONDS" in os.environ else contextlib.nullcontext():
        say(f"\nsoak of {ran_s:.0f} s, seed {SEED}: {given['all']:,} events, {commits:,} commits")
        for name in WRITING:
            say(f"  {name}: {len(acks[name]):,} told, {untold[name]} written and not told, {kills[name]} kills")
        for name in TAILS:
            say(f"  {name}: {kills[name]} kills")
        say(f"  given by tails, each as the log has them: {given}")


# -- the checks can fail -----------------------------------------------------------------------------


def rows(count: int = 20) -> list[Row]:
    """A sound log."""
    return [Row(n, n // 2, n, n, n % 2, 3, 0, SOLE, 0, 0, n, 0, 1, 0) for n in range(count)]


PLANTED = {
    "gap": [*rows()[:5], *rows()[6:]],
    "repeat": [*rows()[:6], *rows()[5:]],
    "swapped pair": [*rows()[:5], rows()[6], rows()[5], *rows()[7:]],
    "missing end": rows()[:-1],
    "end twice": [*rows(), rows()[-1]],
    "altered content": [*rows()[:5], rows()[5]._replace(crc=1), *rows()[6:]],
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_of_a_tail_is_found(planted: list[Row]) -> None:
    check_tail("all", rows(), rows())
    with pytest.raises(Difference):
        check_tail("all", planted, rows())


BATCH = [Row(n, n, 0, 0, 0, 3, 0, 1, 0, 0, 7, n, 4, 0) for n in range(4)]
BAD_LOGS = {
    "gap": [*rows()[:5], *rows()[6:]],
    "swapped pair": PLANTED["swapped pair"],
    "stream sequence": [*rows()[:5], rows()[5]._replace(stream_sequence=9), *rows()[6:]],
    "time": [*rows()[:5], rows()[5]._replace(time_ns=0), *rows()[6:]],
    "operation twice": [*rows()[:5], rows()[5]._replace(number=3), *rows()[6:]],
    "torn batch": BATCH[:3],
    "batch of two commits": [*BATCH[:2], *(row._replace(commit=2) for row in BATCH[2:])],
    "parts exchanged": [row._replace(part=3 - row.part) for row in BATCH],
}


@pytest.mark.parametrize("planted", BAD_LOGS.values(), ids=BAD_LOGS)
def test_a_planted_fault_of_the_log_is_found(planted: list[Row]) -> None:
    check_log(rows())
    check_log(BATCH)
    with pytest.raises(Difference):
        check_log(planted)


TOLD = [Ack(0, 0, n, n) for n in range(20)]
BAD_WRITERS = {
    "told and not there": (rows(19), TOLD),
    "told another place": (rows(), [Ack(0, 0, 0, 1)]),
    "told twice": (rows(), [*TOLD, TOLD[3]]),
    "never repeated": ([row for row in rows() if row.number != 4], TOLD[:4]),
    "out of the caller's order": ([*rows(18), rows()[19], rows()[18]], TOLD[:4]),
}


@pytest.mark.parametrize(("log", "acks"), BAD_WRITERS.values(), ids=BAD_WRITERS)
def test_a_planted_fault_of_a_writer_is_found(log: list[Row], acks: list[Ack]) -> None:
    assert check_writer(SOLE, rows(), TOLD[:-1]) == 1
    with pytest.raises(Difference):
        check_writer(SOLE, log, acks)


def test_notes_outlive_a_kill(tmp_path: Path) -> None:
    """A row that was torn is cut off, and the next life begins behind the last whole one."""
    noted = Rows(tmp_path / "rows")
    noted.add(*rows(3))
    with (tmp_path / "rows").open("ab") as file:
        file.write(b"torn")
    assert Rows(tmp_path / "rows").last_row == rows(3)[-1]
    assert list(read_rows(tmp_path / "rows")) == rows(3)

"""The soak: everything at once, for as long as asked.

Four writers, six tailing processes, a consumer and two readers that hold snapshots run in processes of their own, are
killed at random and started again; one process lives through all of it. Afterwards every output is held against the log, and
the file and that process against bounds (``bounds``). A unit is a second.

The pace of the kills is the log's and the order of processes the kernel's: a seed repeats the choices, not the run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import varve
from torture import judge
from torture.part import Budget, Control, Outcome, Progress, Violation
from torture.soak import bounds, planted
from torture.soak.bounds import Instants, Sample
from torture.soak.checks import WRITERS, Difference, check_consumer, check_log, check_tail, check_writer, is_expected
from torture.soak.processes import LEAKS, READERS, STOP, TAILS
from torture.soak.processes import WRITERS as WRITING
from torture.soak.rows import FOLLOWED_ID, LAST, Paid, Placed, Row, Rows, Shipped, read_acks, read_rows, row_of
from varve.engine.hints import HintSender

KILLS_MIN = 6
STALLED_S = 60.0
"""Longer than any of it ever takes; what hangs ends then, and says where."""
SAMPLE_S = 0.2
HOLD_S = 4.0
"""How long a living reader may hold an instant: readers hold half a second, the rest is for a machine that is busy."""
REAP_S = 15.0
"""The same of a slot whose process was killed: until somebody opens the store and reaps it."""
SLOTS_MAX = 200
"""Reader slots in use at once: some dozens of threads read, and slots of the killed are reaped."""
LEAKED_TIMES = 60
"""How often something has to leak until it can be told from noise, however slow the machine."""
NOTED = ("all", "end", "time", "streams", "types", "one", "follow", "follow-one")
BEGUN_LATER = ("tail-end", "tail-time")  # when there is something before their start
KILLED = (*WRITING, *TAILS, *READERS)
_ROOT = Path(__file__).parents[2]


class Failed(AssertionError):
    """A process failed, or hangs."""


def _warnings(name: str) -> list[str]:
    """Any warning is a failure, but of those that leak: they are warned, rightly."""
    return [] if name.startswith("leak") else ["-W", "error"]


class Soak:
    """The processes of one run, and what was measured of them."""

    def __init__(self, store: Path, folder: Path, seed: int, seconds: float) -> None:
        self.store = store
        self.folder = folder
        self.seed = seed
        self.seconds = seconds
        self.when = dt.datetime.now(dt.UTC)
        self.lives: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.samples: dict[str, list[Sample]] = {}
        self.living, self.dead = Instants(HOLD_S), Instants(REAP_S)
        self.wrong: list[str] = []
        self.slots = 0
        self._sampled_s = 0.0

    # -- processes ---------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Begin a life of a process."""
        life, self.lives[name] = self.lives[name], self.lives[name] + 1
        command = [
            "-c",
            "from torture.soak.processes import main; main()",
            name,
            self.store,
            self.folder,
            self.seed,
            life,
            self.when.isoformat(),
        ]
        with (self.folder / f"{name}.errors").open("ab") as errors:
            self.running[name] = subprocess.Popen(
                [sys.executable, *_warnings(name), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                cwd=_ROOT,
            )

    def kill(self, name: str) -> None:
        """End it wherever it is, and begin its next life. One that ended by itself has failed."""
        running = self.running[name]
        if running.poll() is not None:
            raise Failed(f"{name} ended by itself: {self.errors(name)}")
        running.kill()
        running.wait()
        self.kills[name] += 1
        self.start(name)

    def ended(self, name: str) -> None:
        """Wait for one that ends by itself."""
        try:
            code = self.running[name].wait(STALLED_S)
        except subprocess.TimeoutExpired:
            noted = {path.name: sum(1 for _ in read_rows(path)) for path in self.folder.glob("*.rows")}
            raise Failed(f"{name} does not end; noted: {noted}") from None
        if code or self.errors(name):
            raise Failed(f"{name} ended with {code}: {self.errors(name)}")

    def errors(self, name: str) -> str:
        """What it has said."""
        return (self.folder / f"{name}.errors").read_text(errors="replace")[-3000:]

    def kill_all(self) -> None:
        """Whatever still runs."""
        for running in self.running.values():
            running.kill()
            running.wait()

    # -- measuring ---------------------------------------------------------------------------------

    def measure(self, db: varve.Varve, steady: tuple[str, ...]) -> None:
        """A sample, if it is time for one."""
        now_s = time.monotonic()
        if now_s < self._sampled_s + SAMPLE_S:
            return
        self._sampled_s = now_s
        for name in steady:
            with contextlib.suppress(OSError, ValueError):
                self.samples.setdefault(name, []).append(bounds.sample(self.running[name].pid, now_s))
        environment = db._engine.environment  # noqa: SLF001 - the reader table is not for users
        held = [(pid, number) for pid, number in environment.readers() if number is not None]
        newest = environment.env.info()["last_txnid"]
        self.slots = max(self.slots, sum(1 for _ in environment.readers()))
        alive = [one for one in held if Path(f"/proc/{one[0]}").exists()]
        self.wrong += self.living.look(now_s, newest, alive)
        self.wrong += self.dead.look(now_s, newest, held)

    def names_of_pids(self, told: str) -> str:
        """A line with the names of processes beside their numbers."""
        for name, running in self.running.items():
            told = told.replace(f"process {running.pid} ", f"{name} ")
        return told


def run(soak: Soak, db: varve.Varve, progress: Progress, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Let it happen, as long as asked for. ``meanwhile`` is called all the time: backups will be made there."""
    choose = random.Random(soak.seed)
    victims: list[str] = []
    watcher = db.watcher()
    _begin(soak, db, tuple(name for name in (*KILLED, "steady") if name not in BEGUN_LATER), 1_000)
    soak.when = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=min(soak.seconds / 3, 10))
    for name in BEGUN_LATER:
        soak.start(name)
    begun_s = time.monotonic()
    while time.monotonic() < begun_s + soak.seconds or soak.kills.total() < KILLS_MIN:
        # The pace is that of the log, so that a slow machine does not kill what has not begun.
        target = db.next_global_sequence + choose.randrange(1, 1_000)
        until_s = time.monotonic() + STALLED_S
        while db.next_global_sequence <= target:
            with contextlib.suppress(varve.WaitTimeout):
                watcher.wait(target, SAMPLE_S)
            soak.measure(db, ("steady",))
            meanwhile()
            if time.monotonic() > until_s:
                raise Failed(f"nothing was written for {STALLED_S} s")
        if not victims:
            victims = list(KILLED)
            choose.shuffle(victims)
        soak.kill(victims.pop())
        progress(min(int(soak.seconds), int(time.monotonic() - begun_s)))
    (soak.folder / STOP).touch()
    for name in (*WRITING, *READERS, "steady"):
        soak.ended(name)
    orders, payments = db.stream("orders", Placed | Shipped), db.stream("payments", Paid)
    with db.transaction() as tx:  # the last event of everything that a tail may be asked for
        tx.append(orders, FOLLOWED_ID, Placed(LAST, 0, 0, 0, 0, 3))
        tx.append(orders, FOLLOWED_ID, Shipped(LAST, 0, 0, 0, 1, 3))
        tx.append(payments, FOLLOWED_ID, Paid(LAST, 0, 0, 0, 2, 3))
    for name in TAILS:
        soak.ended(name)
    HintSender(str(soak.store)).send()  # as any commit does, which sweeps what the killed left behind
    left = [path.name for path in soak.store.glob("watch/*") if not path.name.startswith(f"{os.getpid()}-")]
    if left:
        raise Failed(f"sockets of the killed are left: {left}")


def nanoseconds(when: dt.datetime) -> int:
    """Exactly, unlike ``timestamp``."""
    return round((when - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)) * 1_000


def compare(soak: Soak) -> dict[str, int | float | str]:
    """Hold every output against the log; figures. Raises ``Difference``."""
    folder = soak.folder

    def log() -> Iterator[Row]:
        return read_rows(folder / "log.rows")

    commits = check_log(log())
    figures: dict[str, int | float | str] = {"events": sum(1 for _ in log()), "commits": commits}
    for name in (*WRITING, "steady"):
        acks = read_acks(folder / f"{name}.acks")
        untold = check_writer(WRITERS[name], log(), acks)
        figures[f"{name}: told of"] = len(acks)
        figures[f"{name}: written, not told"] = untold
    begun, when_ns = int((folder / "end.start").read_text()), nanoseconds(soak.when)
    for name in NOTED:
        expected = (row for row in log() if is_expected(name, row, begun, when_ns))
        figures[f"tail {name}: given"] = check_tail(name, read_rows(folder / f"{name}.rows"), expected)
    figures["consumer: given again"] = check_consumer("consumer", read_rows(folder / "consumer.rows"), log())
    return figures


def weigh(soak: Soak) -> list[str]:
    """What did not stay bounded, a line each; the store is closed."""
    told = list(dict.fromkeys(map(soak.names_of_pids, soak.wrong)))[:5]
    for name, samples in soak.samples.items():
        told += bounds.growth(name, samples)
    length = (soak.store / "data.mdb").stat().st_size
    most = bounds.file_bytes_max(bounds.live_bytes(soak.store), soak.dead.lag)
    if length > most:
        told.append(f"the file has {length:,} bytes; by what lives and what readers held it may have {most:,}")
    if soak.slots > SLOTS_MAX:
        told.append(f"{soak.slots} reader slots were in use at once")
    return told


class SoakPart:
    """See ``torture.part.Part``."""

    name = "soak"
    unit = "seconds"
    goal = 600
    small = 4

    def run(self, budget: Budget, progress: Progress) -> Outcome:
        """One soak of so many seconds."""
        outcome = Outcome(budget.count)
        again = f"python -m torture soak --seed {budget.seed} --count {budget.count}"
        noted = budget.folder / "noted"
        noted.mkdir()
        soak = Soak(budget.folder / "store", noted, budget.seed, budget.count)
        with varve.open(soak.store, durability="relaxed") as db:
            try:
                run(soak, db, progress)
                rows = Rows(noted / "log.rows")
                for batch in db.follow(timeout_s=0).batches():
                    rows.add(*map(row_of, batch))
            except (Failed, varve.WaitTimeout) as exc:
                outcome.violations.append(Violation(f"{type(exc).__name__}: {exc}", again))
            finally:
                soak.kill_all()
        if outcome.violations:
            return outcome
        try:
            outcome.figures.update(compare(soak))
        except Difference as exc:
            outcome.violations.append(Violation(f"{exc}", again))
        outcome.violations += [Violation(what, again) for what in (*weigh(soak), *judge.unsound(soak.store))]
        samples = soak.samples["steady"]
        outcome.figures.update({
            "kills": soak.kills.total(),
            "file bytes": (soak.store / "data.mdb").stat().st_size,
            "file bytes that live": bounds.live_bytes(soak.store),
            "transactions that readers lagged behind": soak.dead.lag,
            "reader slots": soak.slots,
            "steady: memory, first and last MiB": " ".join(f"{samples[at].memory_bytes / 2**20:.1f}" for at in (0, -1)),
            "steady: descriptors, first and last": f"{samples[0].descriptors} {samples[-1].descriptors}",
        })  # fmt: skip
        return outcome

    def controls(self, budget: Budget) -> Iterator[Control]:
        """Faults in numbers and notes, then three processes that leak, beside one that does not."""
        yield from planted.checks()
        yield from planted.measurements()
        with tempfile.TemporaryDirectory(dir=budget.folder) as folder:
            yield from leaks(Path(folder), budget.seed)


def _begin(soak: Soak, db: varve.Varve, names: tuple[str, ...], events: int) -> None:
    """Start processes and wait until they have written something: the time that they take to begin counts for nothing."""
    for name in names:
        soak.start(name)
    watcher, until_s = db.watcher(), time.monotonic() + STALLED_S
    while db.next_global_sequence <= events:
        with contextlib.suppress(varve.WaitTimeout):
            watcher.wait(events, SAMPLE_S)
        for name in names:
            if soak.running[name].poll() is not None:
                raise Failed(f"{name} ended by itself: {soak.errors(name)}")
        if time.monotonic() > until_s:
            raise Failed("nothing is written")


def _least_done(folder: Path, names: tuple[str, ...]) -> int:
    """How often the slowest of the steady ones has gone round."""
    return min(len(read_acks(folder / f"{name}.acks")) for name in names)


def leaks(folder: Path, seed: int, seconds: float = 7.0) -> Iterator[Control]:
    """A snapshot, memory and descriptors that somebody keeps, in processes that are measured as the steady one is."""
    soak = Soak(folder / "store", folder, seed, seconds)
    names = ("steady", *(f"leak-{leak}" for leak in LEAKS))
    with varve.open(soak.store, durability="relaxed") as db:
        try:
            _begin(soak, db, names, 100)
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s or _least_done(folder, names) < LEAKED_TIMES:
                if time.monotonic() > until_s + STALLED_S:
                    raise Failed(f"processes that leak do not go on: {[soak.errors(name) for name in names]}")
                soak.measure(db, names)
                time.sleep(SAMPLE_S / 4)
            (folder / STOP).touch()
            for name in names:
                soak.running[name].wait(STALLED_S)
        finally:
            soak.kill_all()
    told = weigh(soak)
    for leak in LEAKS:
        words = {"snapshot": "holds transaction", "memory": "memory of", "descriptor": "descriptors of"}[leak]
        found = [one for one in told if f"leak-{leak}" in one and words in one]
        yield Control(f"a {leak} leaks", bool(found), "; ".join(found) or f"nothing noticed but {told}")
    blamed = [one for one in told if one.partition(" holds")[0].endswith("steady") or " of steady" in one]
    yield Control("nothing leaks", not blamed, "; ".join(blamed))


PART = SoakPart()

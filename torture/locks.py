"""Locks and neighbours: handles that exclude each other, what dead processes leave behind, and who opens what.

A unit is an episode in a process of its own. Most let handles of two modes meet, in processes, forked children and both
orders, and end the first one in some way, kill -9 among them; the rest open, write, watch and consume in a store whose
folder is full of what killed processes, other programs and other users left there. The long run begins with the whole
test suite under ``opens``, which sees every file that anybody opens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import varve
from torture import judge
from torture.forked import Died, each
from torture.opens import Audit, Trace
from torture.part import Budget, Control, Outcome, Progress, Violation
from varve.engine import files
from varve.engine import hints as hints_module
from varve.tailing.ownership import lock_path

CHUNK = 20
STUCK_S = 120.0
"""An episode takes milliseconds; one that takes so long is blocked."""
_NOBODY = 65534
_MODES = ("full", "relaxed", "bulk", "readonly")
_ENDS = ("close", "kill", "exit", "leave with views", "killed with a child left", "killed with a program left")
_ROOT = Path(__file__).parents[1]
SUITE_S = 3_600.0


@varve.event
class Said:
    """The event of these stores."""

    number: varve.u64


class Broken(AssertionError):
    """A promise about locks is broken."""


def must(holds: bool, what: str) -> None:
    """Raise ``Broken`` where something does not hold."""
    if not holds:
        raise Broken(what)


def open_as(path: Path, mode: str) -> varve.Varve:
    """A handle of one of the four kinds."""
    if mode == "readonly":
        return varve.open(path, readonly=True)
    return varve.open(path, durability=mode)  # type: ignore[call-overload, no-any-return]


# -- children ----------------------------------------------------------------------------------------------------------


class Child:
    """A forked process that says a word when it is there, and does the next thing when it is told."""

    def __init__(self, work: Callable[[Child], None]) -> None:
        self._told, tells = os.pipe()
        hears, self._tells = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._told)
            os.close(self._tells)
            self._out, self._in = tells, hears
            self._live(work)
        os.close(tells)
        os.close(hears)

    def _live(self, work: Callable[[Child], None]) -> NoReturn:
        try:
            work(self)
        except BaseException:  # noqa: BLE001 - told by the parent
            with contextlib.suppress(OSError):
                os.write(self._out, b"!" + traceback.format_exc()[-3000:].encode())
            os._exit(1)
        os._exit(0)

    def say(self, word: str) -> None:
        """In the child: a word to the parent."""
        os.write(self._out, word.encode().ljust(16))

    def wait(self) -> None:
        """In the child: until the parent wants more, or is gone."""
        os.read(self._in, 1)

    def heard(self) -> str:
        """In the parent: the child's next word."""
        word = os.read(self._told, 16)
        if word.startswith(b"!") or not word:
            with os.fdopen(os.dup(self._told), "rb") as rest:
                word += rest.read()
            raise Broken(f"a child failed: {word.decode(errors='replace')}")
        return word.decode().strip()

    def go(self) -> None:
        """In the parent: let it do the next thing."""
        os.write(self._tells, b"g")

    def kill(self) -> None:
        """Kill -9."""
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> None:
        """Reap it."""
        os.waitpid(self.pid, 0)
        os.close(self._told)
        os.close(self._tells)


# -- exclusion ---------------------------------------------------------------------------------------------------------


def exclusion(path: Path, choose: random.Random, count: Counter[str]) -> None:
    """Two handles of any two modes, one after the other; then the first one ends."""
    mode, other = choose.choice(_MODES), choose.choice(_MODES)
    end = choose.choice(_ENDS)
    asks_in_child = choose.random() < 0.3
    number = choose.randrange(2**60)

    def hold(child: Child) -> None:
        db = open_as(path, mode)
        at = -1
        if mode != "readonly":
            at = db.stream("said", Said).append(1, Said(number)).global_sequence
            db.sync()
        left = []
        if end == "killed with a child left":
            left.append(os.fork())
            if left == [0]:
                time.sleep(STUCK_S)
                os._exit(0)
        elif end == "killed with a program left":
            left.append(os.posix_spawnp("sleep", ["sleep", str(STUCK_S)], os.environ))  # which closes nothing by itself
        child.say(str(at))
        child.say(str(left[0] if left else 0))
        child.wait()
        if end == "close":
            db.close()
        elif end == "leave with views":
            view = db.global_reader().get_bytes(0)
            db.__exit__()
            child.say("left")
            child.wait()
            must(view is not None and len(view) > 0, "a view is gone")
        if end == "exit":
            os._exit(0)
        child.say("ended")
        child.wait()

    holder = Child(hold)
    at, left = int(holder.heard()), int(holder.heard())
    try:
        excluded = "bulk" in {mode, other}
        opened = _opens(path, other, in_child=asks_in_child)
        must(opened != excluded, f"{other} {'opened beside' if opened else 'was refused by'} {mode}")
        count["handles refused" if excluded else "handles let in"] += 1
        if end.startswith("kill"):
            holder.kill()
            holder.ended()
        else:
            holder.go()
            if end != "exit":
                holder.heard()
        if end == "exit":
            holder.ended()
        must(_opens(path, other, in_child=asks_in_child), f"{other} is refused after {mode} ended by {end}")
        count[f"ended by {end}"] += 1
        if at >= 0:
            with varve.open(path, readonly=True) as db:
                db.stream("said", Said)
                recorded = db.global_reader().get(at)
                must(recorded is not None and recorded.event.number == number, "what was acknowledged is gone")
    finally:
        if left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        if not end.startswith("kill") and end != "exit":
            holder.kill()
            holder.ended()


def _opens(path: Path, mode: str, *, in_child: bool) -> bool:
    """Whether a handle can be had; it is closed at once."""
    if in_child:
        asked = Child(lambda child: child.say("yes" if _opens(path, mode, in_child=False) else "no"))
        try:
            return asked.heard() == "yes"
        finally:
            asked.ended()
    try:
        open_as(path, mode).close()
    except varve.StoreInUse:
        return False
    return True


def inherited(path: Path, choose: random.Random, count: Counter[str]) -> None:
    """A parent's handle excludes that of its forked child, and the child's end does not let go of the parent's lock."""
    mode, other = choose.choice(_MODES), choose.choice(_MODES)
    db = open_as(path, mode)
    excluded = "bulk" in {mode, other}
    for _ in range(2):
        must(_opens(path, other, in_child=True) != excluded, f"{other} in a child of {mode}")
    third = Child(lambda child: child.say("yes" if _opens(path, "bulk", in_child=False) else "no"))
    must(third.heard() == "no", f"bulk opened beside {mode} after a child of it had ended")
    third.ended()
    db.close()
    must(_opens(path, "bulk", in_child=True), f"bulk is refused after {mode} was closed")
    count["handles of a parent"] += 1


def race(path: Path, choose: random.Random, count: Counter[str]) -> None:
    """Several at the same instant: either one bulk handle or any number of others."""
    modes = [choose.choice(("bulk", "bulk", "relaxed", "readonly")) for _ in range(3)]

    def ask(child: Child, mode: str) -> None:
        child.say("there")
        child.wait()
        try:
            db = open_as(path, mode)
        except varve.StoreInUse:
            child.say("no")
        else:
            child.say("yes")
            child.wait()
            db.close()

    children = [Child(lambda child, mode=mode: ask(child, mode)) for mode in modes]  # type: ignore[misc]
    for child in children:
        child.heard()
    for child in children:
        child.go()
    answers = [child.heard() == "yes" for child in children]
    for child in children:
        child.kill()
        child.ended()
    inside = [mode for mode, is_in in zip(modes, answers, strict=True) if is_in]
    must(bool(inside), f"of {modes} nobody was let in")
    must(len(inside) == 1 or "bulk" not in inside, f"of {modes} there were let in at once {inside}")
    count["races"] += 1


# -- what is left behind -------------------------------------------------------------------------------------------------


def litter(path: Path, choose: random.Random, count: Counter[str]) -> None:
    """Open, write, watch and consume where others have left all sorts of things; nobody waits for any of it."""
    watch, consumers = path / hints_module.WATCH, path / "consumers"
    for folder in (watch, consumers):
        folder.mkdir(mode=0o700, exist_ok=True)
    stale = choose.choice((0, 1, 10, 100, 400)) if choose.random() < 0.97 else 3_000
    live = _reused_pids()
    for number in range(stale):
        _leave_socket(watch / f"{choose.choice(live)}-{number:016x}")
    left = _leave_garbage(watch, choose)
    _leave_garbage(consumers, choose)
    stopped = _stopped_watcher(path) if choose.random() < 0.4 else None
    killed = _killed_owner(path) if choose.random() < 0.5 else None
    if killed is not None:
        must(lock_path(str(path), "billing", 0, 1).exists(), "a killed owner has left no lock file")
        count["lock files of killed owners"] += 1
    as_other = os.getuid() == 0 and choose.random() < 0.25
    if as_other:
        _give_away(path, choose)
    user = Child(lambda child: _use(path, choose, child, other=as_other))
    try:
        user.heard()
    finally:
        user.kill()
        user.ended()
        if stopped is not None:
            stopped.kill()
            stopped.ended()
    must(all(os.path.lexists(one) for one in left), "what is no stale socket was removed")
    remaining = sum(1 for one in watch.iterdir() if one.is_socket()) if os.access(watch, os.R_OK) else 0
    must(as_other or remaining <= 2, f"{remaining} stale sockets were not swept")
    count["stale sockets"] += stale
    count["as another user"] += as_other


def _reused_pids() -> list[int]:
    return [1, os.getpid(), os.getppid(), 2**22 - 1]


def _leave_socket(path: Path) -> None:
    """A socket whose process was killed."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    here = Path.cwd()
    try:
        os.chdir(path.parent)
        bound.bind(path.name)
    finally:
        os.chdir(here)
        bound.close()


def _leave_garbage(folder: Path, choose: random.Random) -> list[Path]:
    """Things that are no sockets, some of which block whoever opens them."""
    made = []
    for number, kind in enumerate(choose.sample(("file", "folder", "fifo", "dangling", "loop", "no text"), 4)):
        one = folder / f"{os.getpid()}-garbage{number}"
        if kind == "file":
            one.write_bytes(os.urandom(100))
        elif kind == "folder":
            one.mkdir()
        elif kind == "fifo":
            os.mkfifo(one)
        elif kind == "dangling":
            one.symlink_to("/nowhere/at/all")
        elif kind == "loop":
            one.symlink_to(one.name)
        else:
            one = folder / os.fsdecode(b"\xff\xfe-garbage")
            one.touch()
        made.append(one)
    return made


def _stopped_watcher(path: Path) -> Child:
    """A process that watches, and is stopped: its socket fills up and is never read."""

    def watch(child: Child) -> None:
        bound = hints_module.HintSocket.bind(str(path))
        must(bound is not None, "no socket could be bound")
        child.say("watching")
        child.wait()

    child = Child(watch)
    child.heard()
    os.kill(child.pid, signal.SIGSTOP)
    return child


def _killed_owner(path: Path) -> int:
    """The owner of a consumer, killed."""

    def own(child: Child) -> None:
        with varve.open(path, durability="relaxed") as db, db.consumer("billing"):
            child.say("owning")
            child.wait()

    child = Child(own)
    child.heard()
    child.kill()
    child.ended()
    return child.pid


def _give_away(path: Path, choose: random.Random) -> None:
    """The store belongs to another user; the folder of watchers, or what lies in it, may stay root's."""
    for one in (path, *path.iterdir()):
        os.chown(one, _NOBODY, _NOBODY, follow_symlinks=False)
    for one in (path / "consumers").iterdir():
        os.chown(one, _NOBODY, _NOBODY, follow_symlinks=False)
    lot = choose.random()
    if lot < 0.3:
        os.chown(path / "watch", 0, 0)
        (path / "watch").chmod(choose.choice((0o700, 0o755)))
    elif lot < 0.6:
        (path / "watch").chmod(0o500)


def _use(path: Path, choose: random.Random, child: Child, *, other: bool) -> None:
    """What a program does with a store. Whoever blocks it for ``STUCK_S`` has failed."""
    signal.alarm(int(STUCK_S / 2))
    if other:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    mode = choose.choice(("full", "relaxed", "bulk"))
    with open_as(path, mode) as db:
        said = db.stream("said", Said)
        first = db.next_global_sequence
        for number in range(choose.choice((3, 3, 300))):  # more than a socket holds
            said.append(2, Said(number))
        watcher = db.watcher()
        if mode != "bulk":
            end = db.next_global_sequence
            writer = Child(lambda _: _append(path))
            must(watcher.wait(end, STUCK_S / 3) > end, "a watcher was told of nothing")
            writer.ended()
        with db.consumer("billing") as consumer:
            found = [one.event.number for one in consumer.follow(timeout_s=0)]
            must(len(found) >= db.next_global_sequence - first, "a consumer")
    open_as(path, "readonly").close()
    child.say("done")


def _append(path: Path) -> None:
    with varve.open(path, durability="relaxed") as db:
        db.stream("said", Said).append(3, Said(1))


# -- the part ----------------------------------------------------------------------------------------------------------

_EPISODES: dict[Callable[[Path, random.Random, Counter[str]], None], float] = {
    exclusion: 55,
    inherited: 10,
    race: 15,
    litter: 20,
}


def episode(folder: Path, seed: int, number: int, count: Counter[str]) -> None:
    """One of them, on a store of its own. Raises ``Broken``."""
    choose = random.Random(f"{seed}/locks/{number}")
    kind = choose.choices(tuple(_EPISODES), tuple(_EPISODES.values()))[0]
    home = Path(tempfile.mkdtemp(dir=folder))
    home.chmod(0o755)
    path = home / "store"
    try:
        with varve.open(path, durability="relaxed") as db:
            db.stream("said", Said).append(1, Said(0))
        kind(path, choose, count)
        findings = judge.unsound(path)
        must(not findings, f"the store is not sound: {findings}")
    finally:
        for one in (path / "watch", home):
            with contextlib.suppress(OSError):
                one.chmod(0o755)
        shutil.rmtree(home, ignore_errors=True)


def _episodes(folder: Path, seed: int, numbers: range) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Several of them, and what each that failed said."""
    count: Counter[str] = Counter()
    wrong = []
    audit = Audit()
    audit.begin()
    for number in numbers:
        try:
            episode(folder, seed, number, count)
            must(not audit.found, f"lock.mdb was opened: {audit.found}")
        except Exception:  # noqa: BLE001 - whatever it says is wrong
            wrong.append((number, traceback.format_exc()[-1500:]))
            audit.found.clear()
    return wrong, count


class Locks:
    """See ``torture.part.Part``."""

    name = "locks"
    unit = "episodes"
    goal = 4_000
    small = 60

    def run(self, budget: Budget, progress: Progress) -> Outcome:
        """The suite's trace where the run is long, then episodes."""
        outcome = Outcome(0)
        if budget.count >= self.goal:
            self._suite(budget, outcome)
        first = budget.first
        chunks = [range(at, min(at + CHUNK, first + budget.count)) for at in range(first, first + budget.count, CHUNK)]
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(dir=_memory(budget.folder)) as folder:
            Path(folder).chmod(0o755)  # other users shall come in

            def work(numbers: range) -> tuple[list[tuple[int, str]], Counter[str]]:
                return _episodes(Path(folder), budget.seed, numbers)

            for numbers, came in each(chunks, work, jobs=budget.jobs, timeout_s=STUCK_S * CHUNK):
                wrong, count = ([(numbers[0], came.how)], Counter[str]()) if isinstance(came, Died) else came
                for number, what in wrong:
                    again = f"python -m torture locks --seed {budget.seed} --first {number} --count 1"
                    outcome.violations.append(Violation(what, again))
                counts.update(count)
                outcome.count += len(numbers)
                progress(outcome.count)
        outcome.figures.update(sorted(counts.items()))
        return outcome

    def _suite(self, budget: Budget, outcome: Outcome) -> None:
        """The whole test suite, every process of it traced."""
        trace = Trace(budget.folder / "suite")
        began = time.monotonic()
        ran = traced_suite(trace, ["-n", str(budget.jobs), "tests"])
        again = "python -m torture locks (the long run: its first part)"
        outcome.violations += [Violation(f"in the test suite: {line}", again) for line in trace.found]
        if ran.returncode:
            outcome.violations.append(Violation(f"the test suite fails under the trace: {ran.stdout[-2000:]}", again))
        opens, locks, processes = trace.seen
        outcome.figures.update(
            {
                "suite: files opened": opens,
                "suite: lock files opened by LMDB": locks,
                "suite: processes": processes,
                "suite: seconds": round(time.monotonic() - began),
            }
        )

    def controls(self, budget: Budget) -> Iterator[Control]:
        """Locks that are none; a lock file that is opened by Python and by C; a sender that waits."""
        faults: dict[str, tuple[Callable[[], None], Any]] = {
            "flock does nothing": (_no_flock, exclusion),
            "flock does nothing, in a parent": (_no_flock, inherited),
            "flock does nothing, in a race": (_no_flock, race),
            "a child keeps its parent's lock": (_lock_kept_by_children, exclusion),
            "stale sockets are waited for": (_a_sender_waits, litter),
            "stale sockets are not swept": (_nobody_sweeps, litter),
            "garbage is swept, too": (_everything_is_swept, litter),
        }
        with tempfile.TemporaryDirectory(dir=_memory(budget.folder)) as name:
            folder = Path(name)
            folder.chmod(0o755)

            def work(task: tuple[str, tuple[Callable[[], None], Any]]) -> str:
                _, (plant, kind) = task
                plant()
                return _noticed(folder, kind, budget.seed)

            for (name, _), came in each(list(faults.items()), work, jobs=budget.jobs, timeout_s=STUCK_S):
                how = came.how if isinstance(came, Died) else came
                yield Control(name, bool(how), how or "nothing noticed")
            yield from _openers(folder)


def traced_suite(trace: Trace, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests under a trace."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=_ROOT, env=trace.variables(), capture_output=True, text=True, check=False, timeout=SUITE_S
    )


def _memory(folder: Path) -> Path:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else folder


# -- planted faults --------------------------------------------------------------------------------------------------------


def _noticed(folder: Path, kind: Any, seed: int) -> str:
    for number in range(40):
        home = Path(tempfile.mkdtemp(dir=folder))
        home.chmod(0o755)
        with varve.open(home / "store", durability="relaxed") as db:
            db.stream("said", Said).append(1, Said(0))
        try:
            kind(home / "store", random.Random(f"{seed}/{number}"), Counter())
        except (Broken, varve.VarveError) as exc:
            return str(exc).strip().splitlines()[-1][:150]
    return ""


def _no_flock() -> None:
    class Fcntl:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: None) if name == "flock" else getattr(fcntl, name)

    vars(files)["fcntl"] = Fcntl()


def _lock_kept_by_children() -> None:
    """The copy of the descriptor that a forked child inherits stays open in it."""
    from varve.engine.environment import Environment

    def forget(self: Environment) -> None:
        self.is_forked = True

    Environment.forget = forget  # type: ignore[method-assign]


def _a_sender_waits() -> None:
    """Sockets that block."""
    right = hints_module._datagram_socket  # noqa: SLF001 - the fault is inside

    def made() -> Any:
        one = right()
        if one is not None:
            one.settimeout(4)
        return one

    hints_module._datagram_socket = made  # noqa: SLF001
    vars(hints_module)["_is_unread"] = lambda _: False
    global STUCK_S  # noqa: PLW0603 - in a process of its own, which has little time
    STUCK_S = 4.0


def _nobody_sweeps() -> None:
    hints_module._sweep = lambda *_: None  # noqa: SLF001


def _everything_is_swept() -> None:
    def sweep(folder: str, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))  # noqa: PTH108, PTH118 - as the original

    hints_module._sweep = sweep  # noqa: SLF001


_OPENERS = {
    "opened by Python": "open(path + '/lock.mdb').close()",
    "opened by os.open": "os.close(os.open(path + '/lock.mdb', os.O_RDONLY))",
    "opened by another name": "os.link(path + '/lock.mdb', path + '/link'); open(path + '/link').close()",
    "opened through /proc": (
        "fd = next(n for n in os.listdir('/proc/self/fd') if os.path.realpath('/proc/self/fd/' + n).endswith('lock.mdb'));"
        "open('/proc/self/fd/' + fd).close()"
    ),
    "opened by C": "import ctypes; os.close(ctypes.CDLL(None).open((path + '/lock.mdb').encode(), 0))",
}
_SCRIPT = """
import os, sys
import varve
path = sys.argv[1]
from torture.opens import Audit
audit = Audit()
audit.begin()
with varve.open(path) as db:
    {0}
    if os.fork() == 0:
        varve.open(path).close()
        os._exit(0)
    os.wait()
open(path + '/lock.mdb').close()
print(len(audit.found))
"""


def _openers(folder: Path) -> Iterator[Control]:
    """Whoever opens the lock file is seen, by either way to see it; nobody else is."""
    for name, code in {"nobody": "pass", **_OPENERS}.items():
        trace = Trace(Path(tempfile.mkdtemp(dir=folder)))
        ran = subprocess.run(
            [sys.executable, "-c", _SCRIPT.format(code), str(trace.folder / "store")],
            cwd=_ROOT, env=trace.variables(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        audited, traced = int(ran.stdout), len(trace.found)
        wanted = (0, 0) if name == "nobody" else (1, 1)
        if name == "opened by C":
            wanted = (0, 1)  # Python does not know of it
        yield Control(
            f"lock.mdb: {name}", (audited, traced) == wanted, f"{audited} by Python's audit, {traced} by the trace"
        )


PART = Locks()

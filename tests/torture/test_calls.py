"""The part whose system calls fail, run small with its controls, and the pieces that it stands on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from torture.calls import PART
from torture.calls.faults import Fault, faults
from torture.calls.unit import OLD, Seen, compare, judge_told
from torture.calls.workloads import ACKNOWLEDGED, WORKLOADS, Attempt, Told
from torture.part import Budget
from torture.preload.fail import FOR_EVER, KINDS, NotLoaded, Spoiler, environment

SEED = 20_262


@pytest.mark.slow
def test_failing_calls_lose_nothing(tmp_path: Path) -> None:
    """A sample of all ways to fail, and real full disks: no violation."""
    outcome = PART.run(Budget(PART.small, SEED, tmp_path), lambda _: None)
    assert not outcome.violations
    assert outcome.count == PART.small
    reached = outcome.figures["units in which a call did fail"]
    assert isinstance(reached, int)
    assert reached > PART.small // 2
    for kind in ("tmpfs", "ext4"):
        print(f"a full disk, {kind}: {outcome.figures[f'a full disk, {kind}']}")  # noqa: T201 - a skip is told


@pytest.mark.slow
def test_every_control_is_caught(tmp_path: Path) -> None:
    """What is planted is noticed: engines that lie, hang or die, a kernel that lies, a checker fed wrong stores."""
    controls = list(PART.controls(Budget(1, SEED, tmp_path)))
    assert [control for control in controls if not control.caught] == []
    assert len(controls) >= 14


def test_a_violation_says_how_to_see_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command names the seed and the unit; units go round behind the last fault."""
    fault = Fault("single", "write", 1, "data.mdb", "ERROR", errno.EIO, "once")
    units: list[object] = []

    def stream(_module: str, orders: list[dict[str, object]]) -> list[dict[str, object]]:
        if orders[0]["do"] == "plan":
            return [{"plan": [fault.as_dict()]}]
        if orders[0]["do"] == "disk":
            return [{"kind": order["kind"], "skipped": "SKIPPED"} for order in orders]
        units.extend(order["units"] for order in orders)
        return [{"unit": 41, "fault": str(fault), "reached": True, "outcomes": [], "problems": ["lost"]}]

    monkeypatch.setattr("torture.calls.stream", stream)
    outcome = PART.run(Budget(3, 7, tmp_path, first=41, jobs=2), lambda _: None)
    assert [(one.what, one.again) for one in outcome.violations] == [
        ("single: write 1 (data.mdb) error EIO, once: lost", "python -m torture calls --seed 7 --first 41 --count 1")
    ]
    assert units == [[41, 43], [42]]
    assert outcome.figures["a full disk, ext4"] == "SKIPPED"


# -- the plan ------------------------------------------------------------------------------------------------------------


def test_every_call_fails_in_every_way() -> None:
    """Each call of each kind, numbered within its kind; errors once, for its kind, for every kind; short and late."""
    calls = [("write", "data.mdb"), ("sync", "data.mdb"), ("write", "data.mdb")]
    planned = list(faults("single", calls))
    by_call = Counter((fault.kind, fault.nth) for fault in planned)
    assert set(by_call) == {("write", 1), ("sync", 1), ("write", 2)}
    assert by_call["write", 1] == by_call["write", 2]
    ways = {(fault.action, fault.error, fault.lasting) for fault in planned if fault.nth == 1 and fault.kind == "write"}
    for error in (errno.EIO, errno.ENOSPC, errno.EINTR):
        assert {("ERROR", error, "once"), ("ERROR", error, "kind")} <= ways
    assert {("SHORT", errno.EIO, "once"), ("LATE_ERROR", errno.EIO, "once")} <= ways
    assert len({str(fault) for fault in planned}) == len(planned)


def test_how_long_a_fault_lasts() -> None:
    """Once, for its kind, for every kind that can fail so; an interrupted call is called again, so not without end."""
    once, kind, everything = (
        Fault("single", "write", 1, "data.mdb", "ERROR", errno.ENOSPC, lasting) for lasting in ("once", "kind", "all")
    )
    assert (once.later, once.times) == ((), 1)
    assert (kind.later, kind.times) == (("write",), FOR_EVER)
    assert {"write", "sync", "open"} <= set(everything.later) < set(KINDS)
    assert Fault("single", "write", 1, "", "ERROR", errno.EINTR, "kind").times < 1_000


def test_every_fault_survives_json() -> None:
    """It comes out as it went in."""
    for fault in faults("single", [(kind, "x") for kind in KINDS]):
        assert Fault(**fault.as_dict()) == fault


# -- the judge -----------------------------------------------------------------------------------------------------------

FAULT = Fault("single", "write", 1, "data.mdb", "ERROR", errno.EIO, "once")


@pytest.mark.parametrize(("attempts", "word"), [
    ([Attempt(0, "append", ACKNOWLEDGED)], ""),
    ([Attempt(0, "append", "store_failed"), Attempt(1, "append", "store_failed")], ""),
    ([Attempt(0, "append", "OSError", is_ours=False)], "foreign error"),
    ([Attempt(0, "append", "corrupted_store")], "does not fit"),
    ([Attempt(0, "append", "disk_full")], "does not fit"),
    ([Attempt(0, "append", ACKNOWLEDGED, synced=False)], "nothing was synced"),
    ([Attempt(0, "append", "store_failed"), Attempt(1, "append", ACKNOWLEDGED)], "although the handle had failed"),
])  # fmt: skip
def test_what_was_told_is_judged(attempts: list[Attempt], word: str) -> None:
    """Errors that do not fit the fault, acknowledgements without a sync, handles that go on."""
    problems = judge_told(Told(attempts), FAULT)
    assert [problem for problem in problems if word in problem] == problems
    assert bool(problems) == bool(word)


def test_an_error_without_a_fault_is_a_violation() -> None:
    """Nothing was spoiled, so nothing may fail."""
    assert judge_told(Told([Attempt(0, "append", "store_failed")]), None)


@pytest.mark.parametrize(("outcome", "there", "is_well"), [
    (ACKNOWLEDGED, 2, True),
    (ACKNOWLEDGED, 0, False),
    (ACKNOWLEDGED, 1, False),
    ("store_failed", 0, True),
    ("store_failed", 2, False),
    ("commit_outcome_unknown", 0, True),
    ("commit_outcome_unknown", 2, True),
    ("commit_outcome_unknown", 1, False),
    ("not tried", 2, False),
])  # fmt: skip
def test_the_truth_is_compared_with_what_was_told(outcome: str, there: int, is_well: bool) -> None:
    """Acknowledged: there. Refused: not there. Unknown: either. Never in part."""
    seen = [Seen(OLD + number, 0, 1, number, number) for number in range(6)]
    seen += [Seen(0, part, 2, 6 + part, 6) for part in range(there)]
    problems = compare([Attempt(0, "append", outcome)], seen, ordered=True, old=True)
    assert (problems == []) == is_well


# -- the library ---------------------------------------------------------------------------------------------------------

USE = """
import errno, os, sys
from pathlib import Path
from torture.preload.fail import Action, Spoiler
folder = Path(sys.argv[1])
spoiler = Spoiler()
spoiler.arm(folder)
fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
print(os.write(fd, b"12345678"), os.writev(fd, [b"abc", b"def"]))
os.fsync(fd); os.mkdir(folder / "b"); os.rename(folder / "a", folder / "c")
os.close(os.open("/dev/null", os.O_RDONLY))
print([(call.kind, call.file) for call in spoiler.calls()], spoiler.synced)
spoiler.arm(folder, kinds=("write",), nth=2, action=Action.SHORT)
print(os.write(fd, b"12345678"), os.write(fd, b"12345678"), os.write(fd, b"12345678"), spoiler.hits)
spoiler.arm(folder, kinds=("write",), nth=1, action=Action.SHORT)
print(os.writev(fd, [b"abc", b"def", b"gh"]))
spoiler.arm(folder, kinds=("sync",), nth=1, action=Action.ERROR, error=errno.ENOSPC, later=("sync", "write"), times=2)
for call in (lambda: os.write(fd, b"1"), lambda: os.fsync(fd), lambda: os.write(fd, b"1"), lambda: os.write(fd, b"1")):
    try:
        print(call())
    except OSError as exc:
        print(errno.errorcode[exc.errno])
size = os.fstat(fd).st_size
spoiler.arm(folder, kinds=("write",), nth=1, action=Action.LATE_ERROR)
try:
    os.write(fd, b"late")
except OSError as exc:
    print(errno.errorcode[exc.errno], os.fstat(fd).st_size - size)
before = spoiler.synced
spoiler.arm(folder, kinds=("sync",), nth=1, action=Action.SILENT)
os.fsync(fd)
print(spoiler.synced - before)
spoiler.disarm()
os.fsync(fd)
print([call.spoiled for call in spoiler.calls()])
spoiler.arm(folder, kinds=("write",), nth=2, action=Action.KILL_AFTER)
print("end", flush=True)
os.write(fd, b"1")
os.write(fd, b"killed")
print("not here")
"""


def test_the_library_counts_and_spoils(tmp_path: Path) -> None:
    """Calls on the folder are counted, the n-th fails, is cut short, lands late, is passed over, kills."""
    done = subprocess.run(
        [sys.executable, "-c", USE, tmp_path], env=environment(), capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "8 6",
        "[('open', 'a'), ('write', 'a'), ('write', 'a'), ('sync', 'a'), ('mkdir', 'b'), ('rename', 'c')] 1",
        "8 4 8 1",
        "4",
        "1",
        "ENOSPC",
        "ENOSPC",
        "1",
        "EIO 4",
        "0",
        "[True]",
        "end",
    ]
    assert done.returncode == -9
    assert (tmp_path / "c").read_bytes().endswith(b"1killed")


def test_a_process_without_the_library_says_so() -> None:
    """It would count nothing and find nothing."""
    if "fail-" not in os.environ.get("LD_PRELOAD", ""):
        with pytest.raises(NotLoaded):
            Spoiler()


def test_every_workload_has_a_story() -> None:
    """Its docstring says what it does."""
    assert all(work.__doc__ for work in WORKLOADS.values())

"""Steps in a store's life: closed, opened by another version of the program, forked, rebuilt."""

from __future__ import annotations

import os
import random
import shutil
import traceback

import varve
from torture import judge
from torture.model import plans
from torture.model.machine import MAP_BYTES, SMALL_MAP_BYTES, Machine, must, same
from torture.model.world import Append, Fact, Plan, Written
from varve import ops


def reopen(machine: Machine, choose: random.Random) -> None:
    """Close it and open it again, in another mode perhaps, as another version of the program perhaps."""
    machine.drop_held()
    followed = machine.runs
    machine.db.close()
    _refuses_closed(machine)
    followed.clear()
    machine.durability = choose.choice(("relaxed", "relaxed", "bulk"))
    if choose.random() < 0.3:
        machine.version = 1 - machine.version
    size = (machine.path / "data.mdb").stat().st_size
    if not machine.is_small and choose.random() < 0.15 and size < SMALL_MAP_BYTES // 2:
        machine.map_bytes = SMALL_MAP_BYTES
    machine.open()


def grow(machine: Machine) -> None:
    """The map has been full for long enough: open it with a larger one."""
    machine.look_at_all()
    machine.drop_held()
    machine.db.close()
    machine.map_bytes = MAP_BYTES
    machine.refused = 0
    machine.open()
    machine.look_at_all()


def _refuses_closed(machine: Machine) -> None:
    stream = machine.caller.streams["orders"]
    for use in (
        lambda: machine.db.next_global_sequence,
        lambda: stream.append(1, Fact(1, 1, "x").event(1)),
        machine.db.stats,
    ):
        try:
            use()
        except varve.StoreClosed:
            continue
        must(False, "a closed store is used")


def close_with_views(machine: Machine, choose: random.Random) -> None:
    """Views in the user's hands keep it open, and everything goes on; iterations of it end."""
    view = machine.db.global_reader().get_bytes(choose.randrange(len(machine.world.log)))
    assert view is not None
    for name in list(machine.consumers):
        machine.leave_consumer(name)
    machine.runs.clear()
    try:
        machine.db.close()
    except varve.ViewsStillAlive:
        machine.snapshots = [held for held in machine.snapshots if _is_usable(held.snapshot)]
        machine.check_held()
        return
    must(False, "it was closed under a view", bytes(view)[:20])


def _is_usable(snapshot: varve.Snapshot) -> bool:
    try:
        return snapshot.next_global_sequence >= 0
    except varve.SnapshotClosed:
        return False


def leave_with_views(machine: Machine, choose: random.Random) -> None:
    """A ``with`` block that is left while views live: they stay good, and the store can be opened meanwhile."""
    view = machine.db.global_reader().get_bytes(choose.randrange(len(machine.world.log)))
    assert view is not None
    machine.views.append((view, bytes(view)))
    del view
    machine.drop_held(views=False)
    machine.db.__exit__()
    machine.check_held()
    machine.open()


def readonly(machine: Machine, choose: random.Random) -> None:
    """Look at everything through a handle that cannot write."""
    machine.drop_held()
    machine.db.close()
    machine.readonly = True
    machine.open()
    stream, event = machine.caller.streams["orders"], Fact(1, 1, "x").event(machine.version)
    for use in (
        lambda: stream.append(1, event),
        lambda: stream.append_many([(1, event)]),
        machine.db.transaction,
        lambda: machine.db.write(lambda _: None),
        machine.db.sync,
        lambda: machine.db.consumer("billing"),
        lambda: machine.db.delete_consumer("billing"),
    ):
        try:
            use()
        except varve.ReadonlyStore:
            continue
        must(False, "a readonly handle writes")
    low = max(0, len(machine.world.log) - choose.randrange(200))
    machine.check_all(machine.db.global_reader().iter_from(low), list(range(low, len(machine.world.log))))
    machine.db.close()
    machine.readonly = False
    machine.open()


def evolve(machine: Machine, choose: random.Random) -> None:
    """The program binds the other version of its classes while the store is open."""
    machine.followers.clear()  # they have resolved the classes of before
    machine.runs.clear()
    for name in list(machine.consumers):
        machine.leave_consumer(name)
    machine.version = choose.randrange(2)
    machine.bind()


def sync(machine: Machine, _: random.Random) -> None:
    """Force it to disk."""
    machine.db.sync()


def compare_all(machine: Machine, _: random.Random) -> None:
    """Everything against everything."""
    machine.look_at_all()


def fork(machine: Machine, choose: random.Random) -> None:
    """A child refuses its parent's handle, opens the store itself, reads and perhaps writes; the parent goes on."""
    machine.run_async(_nothing())  # its loop is the parent's
    fact, one = machine.facts.one(choose, 10), plans.stream_id(choose)
    writes = choose.random() < 0.7 and machine.durability != "bulk" and not machine.is_small
    made = Plan((Append("one", "payments", ((one, fact),), one, len(machine.world.stream("payments", one))),))
    told, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(told)
            _in_child(machine, made if writes else None)
            code = 0
        except BaseException:  # noqa: BLE001 - the parent shall know
            os.write(tells, traceback.format_exc()[-3000:].encode())
        finally:
            os._exit(code)
    os.close(tells)
    with os.fdopen(told, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    must(status == 0, f"a forked child (status {status}):\n{said}")
    if writes:
        judged = machine.world.judge(made)
        assert isinstance(judged, Written)
        machine.world.write(made, judged, machine.clock.now_ns)
    machine.check_held()


async def _nothing() -> None:
    return


def _in_child(machine: Machine, made: Plan | None) -> None:
    for use in (lambda: machine.db.next_global_sequence, lambda: machine.db.write(lambda _: None), machine.db.stats):
        try:
            use()
        except varve.ForkedStore:
            continue
        must(False, "a child uses its parent's handle")
    machine.check_held()  # views are the child's as well
    if machine.durability == "bulk":
        try:
            varve.open(machine.path)
        except varve.StoreInUse:
            return
        must(False, "a child opened what its parent has for bulk loading")
    db = varve.open(machine.path, durability="relaxed", clock=machine.clock, map_bytes=machine.map_bytes)
    machine.db, machine.caller = db, plans.Caller(db, machine.version)
    end = len(machine.world.log)
    machine.check_all(db.global_reader().iter_from(max(0, end - 30)), list(range(max(0, end - 30), end)))
    if made is not None:
        same(machine.caller.run("call", made), machine.world.judge(made), "a child's append")
    db.close()


def rebuild(machine: Machine, _: random.Random) -> None:
    """Go on with the store that is made of the log alone."""
    machine.drop_held()
    machine.db.close()
    old = machine.path
    machine.generation += 1
    report = ops.repair(old, machine.path)
    same(report.events, len(machine.world.log), "events of a rebuilt store")
    shutil.rmtree(old)
    machine.map_bytes = MAP_BYTES
    machine.open()
    kept = {info.name: info.position for info in machine.db.consumers()}
    for name in list(machine.positions):
        if name in kept:
            same(kept[name], machine.positions[name], "a position in a rebuilt store")
        else:
            del machine.positions[name]
    machine.look_at_all()


def begin_anew(machine: Machine) -> None:
    """A log that has become long is left behind: look at all of it, and begin another store."""
    machine.look_at_all()
    machine.drop_held()
    machine.db.close()
    findings = judge.unsound(machine.path)
    must(not findings, "the store is not sound:", findings)
    shutil.rmtree(machine.path)
    machine.begin_new()

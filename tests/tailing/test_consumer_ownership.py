"""One owner at a time: locks that the kernel frees, tokens that prove it, forks, files that vanish."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve
from varve.tailing.ownership import OwnerLock

sys.path.insert(0, str(Path(__file__).parent))

from consumer_models import consuming, fill, open_db, there, told


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with open_db(varve_path) as store:
        yield store


def lock_file(db: varve.Varve) -> Path:
    [path] = Path(db.path, "consumers").iterdir()
    return path


OWN = """
with open_db(sys.argv[1]) as db:
    consumer = db.consumer("billing", interval_s=0, force="force" in sys.argv)
    print(there(consumer), flush=True)
    for line in sys.stdin:
        try:
            print(there(consumer), flush=True)
        except varve.ConsumerFenced:
            print("fenced", flush=True)
"""


def tell(running: object) -> None:
    running.stdin.write("\n")  # type: ignore[attr-defined]
    running.stdin.flush()  # type: ignore[attr-defined]


def test_the_second_instance_is_refused(db: varve.Varve) -> None:
    """In one process; with the name and the process that has it."""
    with db.consumer("billing") as consumer:
        for _ in range(2):
            with pytest.raises(varve.ConsumerBusy) as caught:
                db.consumer("billing")
            assert (caught.value.name, caught.value.pid, caught.value.kind) == ("billing", os.getpid(), "conflict")
        with pytest.raises(varve.ConsumerBusy):
            db.delete_consumer("billing")
        with db.consumer("other"):
            pass
        assert there(consumer) == []
    db.consumer("billing").close()


def test_a_dropped_consumer_is_free_at_once(db: varve.Varve) -> None:
    """Its last reference is enough, also out of the middle of a loop."""
    fill(db, 5)
    for _ in range(3):
        for recorded in db.consumer("billing", commit="manual").follow():
            assert recorded.global_sequence == 0
            break
        db.consumer("billing")


def test_one_of_many_threads_gets_it(db: varve.Varve) -> None:
    """However they come together, also while others look who has it."""
    fill(db, 1)
    db.consumer("billing").close()
    for _ in range(10):
        begin = threading.Barrier(6)
        got: list[object] = []

        def run(begin: threading.Barrier = begin, got: list[object] = got) -> None:
            begin.wait()
            try:
                got.append(db.consumer("billing"))
            except varve.ConsumerBusy as exc:
                got.append(exc)

        def look(begin: threading.Barrier = begin) -> None:
            begin.wait()
            for _ in range(20):
                db.consumers()

        threads = [threading.Thread(target=target) for target in (run, run, run, run, look, look)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        owners = [one for one in got if isinstance(one, varve.Consumer)]
        assert len(got) == 4
        assert len(owners) == 1
        owners[0].close()


def test_the_kernel_frees_what_a_killed_process_owned(db: varve.Varve) -> None:
    """Nothing stale is left: kill -9, and the next one continues behind the last commit."""
    fill(db, 10)
    for round_number in range(3):
        with consuming(OWN, db.path) as owner:
            expected = list(range(10)) if round_number == 0 else []
            assert told(owner) == str(expected)
            with pytest.raises(varve.ConsumerBusy) as caught:
                db.consumer("billing")
            assert caught.value.pid == owner.pid
            assert [info.running for info in db.consumers()] == [True]
            owner.kill()
            owner.wait()
        assert [info.running for info in db.consumers()] == [False]
    with db.consumer("billing") as consumer:
        assert consumer.position == 10


def test_a_lock_file_is_for_its_owner_only(db: varve.Varve) -> None:
    """0600 in a folder of 0700, closed by exec."""
    with db.consumer("billing"):
        path = lock_file(db)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        held = list(Path("/proc/self/fd").iterdir())
        mine = [int(fd.name) for fd in held if fd.resolve() == path.resolve()]
        assert len(mine) == 1
        assert not os.get_inheritable(mine[0])


# -- fencing ---------------------------------------------------------------------------------------


def test_force_fences_the_owner_who_hangs(db: varve.Varve) -> None:
    """He wakes up, may store nothing, and is told; the new owner is as safe as the old one was."""
    fill(db, 3)
    with consuming(OWN, db.path) as hung:
        assert told(hung) == "[0, 1, 2]"
        os.kill(hung.pid, signal.SIGSTOP)
        fill(db, 2)
        with pytest.raises(varve.ConsumerBusy):
            db.consumer("billing")
        consumer = db.consumer("billing", force=True, interval_s=0)
        assert there(consumer) == [3, 4]
        os.kill(hung.pid, signal.SIGCONT)
        tell(hung)
        assert told(hung) == "fenced"
        with consuming(OWN, db.path) as third:
            assert told(third) == ""  # ConsumerBusy: the lock is the new owner's
        hung.kill()
        hung.wait()
        with consuming(OWN, db.path) as third:
            assert told(third) == ""
        fill(db, 1)
        assert there(consumer) == [5]
    [info] = db.consumers()
    assert (info.position, info.members[0].token, info.members[0].pid) == (6, 2, os.getpid())


def test_an_owner_who_was_fenced_stores_and_gives_nothing_more(db: varve.Varve) -> None:
    """Whatever he tries; each attempt says so."""
    fill(db, 10)
    old = db.consumer("billing", commit="manual")
    events = old.follow(0)
    assert next(events).global_sequence == 0
    new = db.consumer("billing", force=True, commit="manual")
    assert [r.global_sequence for _, r in zip(range(5), new.follow(), strict=False)] == [0, 1, 2, 3, 4]
    new.commit_blocking()
    for use in (old.commit_blocking, lambda: next(events), lambda: old.seek(0), lambda: there(old)):
        with pytest.raises(varve.ConsumerFenced) as caught:
            use()
        assert caught.value.name == "billing"
    old.close()
    assert db.consumers()[0].position == 5
    assert db.consumers()[0].running
    assert there(new) == [5, 6, 7, 8, 9]


def test_force_on_force(db: varve.Varve) -> None:
    """Only the last one owns it."""
    fill(db, 3)
    owners = [db.consumer("billing", force=True, commit="manual") for _ in range(4)]
    for owner in owners:
        there(owner)
    for owner in owners[:3]:
        with pytest.raises(varve.ConsumerFenced):
            owner.commit_blocking()
        owner.close()
    assert owners[3].commit_blocking() == 3
    with pytest.raises(varve.ConsumerBusy, match="by this process already: close the other one first"):
        db.consumer("billing")
    assert [member.token for member in db.consumers()[0].members] == [4]


def test_force_without_need_is_as_usual(db: varve.Varve) -> None:
    """The name is free, or new."""
    with db.consumer("billing", force=True):
        assert lock_file(db).name.endswith(".0-of-1.lock")
    with db.consumer("billing", force=True), pytest.raises(varve.ConsumerBusy):
        db.consumer("billing")


def test_an_owner_whose_consumer_is_deleted_is_fenced(db: varve.Varve) -> None:
    """Also where it was made again since: tokens never come twice."""
    fill(db, 5)
    old = db.consumer("billing", commit="manual")
    there(old)
    assert db.delete_consumer("billing", force=True)
    with db.consumer("billing") as new:
        assert new.position == 0
        with pytest.raises(varve.ConsumerFenced):
            old.commit_blocking()
    assert db.consumers()[0].position == 0


def test_an_idle_owner_learns_of_it_before_the_next_event(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Having hung, it looks before it gives anything."""
    monkeypatch.setattr("varve.limits.CONSUMER_CHECK_INTERVAL_S", 0)
    old = db.consumer("billing", commit="manual")
    assert there(old) == []
    with db.consumer("billing", force=True):
        fill(db, 1)
        with pytest.raises(varve.ConsumerFenced):
            next(old.follow(0))


# -- files -----------------------------------------------------------------------------------------


def test_a_stale_lock_file_is_no_obstacle(db: varve.Varve) -> None:
    """The file stays, the lock does not."""
    db.consumer("billing").close()
    inode = lock_file(db).stat().st_ino
    with db.consumer("billing"):
        assert lock_file(db).stat().st_ino == inode


def test_whoever_deletes_lock_files_fences_their_owners(db: varve.Varve) -> None:
    """Two owners may run then, but only the newer one can store."""
    fill(db, 5)
    old = db.consumer("billing", commit="manual")
    there(old)
    lock_file(db).unlink()
    Path(db.path, "consumers").rmdir()
    new = db.consumer("billing", commit="manual")
    there(new)
    with pytest.raises(varve.ConsumerFenced):
        old.commit_blocking()
    assert new.commit_blocking() == 5
    old.close()
    with pytest.raises(varve.ConsumerBusy):
        db.consumer("billing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(db: varve.Varve) -> None:  # pragma: no cover
    """A typed error, and nothing is stored."""
    Path(db.path).chmod(0o500)
    try:
        with pytest.raises(varve.StoreAccessDenied):
            db.consumer("billing")
    finally:
        Path(db.path).chmod(0o700)
    assert db.consumers() == []


@pytest.mark.parametrize("errno_name", ["EACCES", "EROFS", "ENOSPC", "ENOTDIR"])
def test_what_the_system_refuses_becomes_an_error_of_ours(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, errno_name: str
) -> None:
    """And the consumer is not made."""
    import errno

    code = getattr(errno, errno_name)

    def refuse(self: OwnerLock, path: Path, flags: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(OwnerLock, "_open", refuse)
    expected = varve.StoreAccessDenied if errno_name in {"EACCES", "EROFS"} else varve.StoreUnavailable
    with pytest.raises(expected):
        db.consumer("billing")
    monkeypatch.undo()
    assert db.consumers() == []
    db.consumer("billing").close()


def test_a_pipe_in_the_place_of_a_lock_file_is_not_waited_for(db: varve.Varve) -> None:
    """Opening one for reading waits for a writer, who may never come: looking who runs a consumer did not come back."""
    db.consumer("billing").close()
    path = lock_file(db)
    path.unlink()
    os.mkfifo(path)
    signal.alarm(30)  # ends the process that waits
    try:
        assert [info.running for info in db.consumers()] == [False]
        db.consumer("billing").close()
    finally:
        signal.alarm(0)


def test_a_file_in_the_place_of_the_folder_is_told(db: varve.Varve) -> None:
    """Not a crash."""
    Path(db.path, "consumers").write_text("")
    with pytest.raises(varve.StoreUnavailable):
        db.consumer("billing")
    Path(db.path, "consumers").unlink()
    db.consumer("billing").close()


# -- forks -----------------------------------------------------------------------------------------

FORK = """
db = open_db(sys.argv[1])
fill(db, 3)
consumer = db.consumer("billing", interval_s=0)
there(consumer)
child = os.fork()
if not child:
    try:
        consumer.commit_blocking()
    except varve.ForkedStore:
        refused = "refused"
    try:
        there(consumer)
    except varve.ForkedStore:
        refused += " twice"
    consumer.close()
    del consumer
    os.write(1, f"{refused}\\n".encode())  # one write each: the two share a pipe
    sys.stdin.readline()
    os._exit(0)
os.write(1, f"{child}\\n".encode())
sys.stdin.readline()
"""


def test_a_forked_child_neither_uses_nor_keeps_the_lock(db: varve.Varve) -> None:
    """Its parent dies by kill -9 while the child lives on: the name is free. Before, the child's end freed nothing."""
    with consuming(FORK, db.path) as parent:
        lines = {told(parent), told(parent)}
        assert "refused twice" in lines
        child = int((lines - {"refused twice"}).pop())
        with pytest.raises(varve.ConsumerBusy):
            db.consumer("billing")  # the child has closed its copy, which left the parent's lock alone
        parent.kill()
        parent.wait()
        os.kill(child, 0)  # lives
        try:
            with db.consumer("billing") as consumer:
                assert consumer.position == 3
        finally:
            os.kill(child, signal.SIGKILL)

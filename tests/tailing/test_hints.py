"""Hints between processes: sent without waiting, never more than one unread, swept when their owner is dead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tailing_models import Placed, process, take, tell

import varve
from varve.engine import hints
from varve.engine.hints import HintSender, HintSocket
from varve.tailing.hub import hub_of


def unread(watcher: HintSocket) -> int:
    """How many hints lie there; they are taken out."""
    count = 0
    while True:
        try:
            watcher._socket.recv(16)
        except BlockingIOError:
            return count
        count += 1


def bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> HintSocket:
    """A watcher's socket, as another process would have it."""
    path.mkdir(exist_ok=True, parents=True)
    watcher = HintSocket.bind(str(path))
    assert watcher is not None
    monkeypatch.setattr(hints, "_own", set())
    return watcher


def test_a_watcher_has_one_hint_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many commits; once it was read, the next commit sends another."""
    watcher, sender = bound(tmp_path, monkeypatch), HintSender(str(tmp_path))
    for _ in range(3):
        for _ in range(100):
            sender.send()
        assert unread(watcher) == 1
    watcher.drain()
    sender.close()
    watcher.close()
    assert not list((tmp_path / "watch").iterdir())


def test_a_full_socket_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many writers, of which the kernel cannot say that their hints lie unread: what does not fit is not sent."""
    watcher = bound(tmp_path, monkeypatch)
    monkeypatch.setattr(hints, "_is_unread", lambda _: False)
    senders = [HintSender(str(tmp_path)) for _ in range(4)]
    for _ in range(2_000):
        for sender in senders:
            sender.send()
    assert 1 <= unread(watcher) < 8_000
    for sender in senders:
        assert len(sender._watchers) == 1
        sender.close()
    watcher.close()


def test_a_watcher_that_comes_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the folder's time of change does not tell: two of them within a grain of the clock."""
    sender = HintSender(str(tmp_path))
    sender.send()
    watchers = []
    changed_ns = time.time_ns()
    monkeypatch.setattr(hints, "_now_ns", lambda: changed_ns)
    for _ in range(5):
        watchers.append(bound(tmp_path, monkeypatch))
        os.utime(tmp_path / "watch", ns=(changed_ns, changed_ns))
        sender.send()
        assert [unread(watcher) for watcher in watchers] == [1] * len(watchers)
    for watcher in watchers:
        watcher.close()
    sender.send()
    assert not sender._watchers
    sender.close()


def test_an_own_watcher_needs_no_hint(tmp_path: Path) -> None:
    watcher = HintSocket.bind(str(tmp_path))
    assert watcher is not None
    sender = HintSender(str(tmp_path))
    sender.send()
    assert unread(watcher) == 0
    assert not sender._watchers
    watcher.close()


def test_a_dead_socket_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the writer that meets it when it connects, or when it sends, and by the next watcher."""
    for how in ("connect", "send", "bind"):
        sender = HintSender(str(tmp_path))
        watcher = bound(tmp_path, monkeypatch)
        if how == "send":
            sender.send()
        watcher._socket.close()  # died, and left its name behind
        assert len(list((tmp_path / "watch").iterdir())) == 1
        if how == "bind":
            bound(tmp_path, monkeypatch).close()
        else:
            sender.send()
        assert not list((tmp_path / "watch").iterdir()), how
        sender.close()


def test_what_is_no_socket_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "notes.txt").write_text("mine")
    (tmp_path / "watch" / "folder").mkdir()
    watcher, sender = bound(tmp_path, monkeypatch), HintSender(str(tmp_path))
    sender.send()
    assert unread(watcher) == 1
    watcher.close()
    sender.close()
    assert sorted(path.name for path in (tmp_path / "watch").iterdir()) == ["folder", "notes.txt"]


def test_only_so_many_are_hinted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest polls; a place that becomes free is taken."""
    monkeypatch.setattr(varve.limits, "HINTED_WATCHERS_MAX", 2)
    watchers = [bound(tmp_path, monkeypatch) for _ in range(3)]
    sender = HintSender(str(tmp_path))
    sender.send()
    assert sorted(unread(watcher) for watcher in watchers) == [0, 1, 1]
    sender.close()
    for watcher in watchers:
        watcher.close()


def test_a_long_path_goes_around_the_length_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ("long" * 50)
    watcher, sender = bound(path, monkeypatch), HintSender(str(path))
    sender.send()
    assert unread(watcher) == 1
    watcher.close()
    sender.close()


def store_of(path: Path) -> varve.Varve:
    return varve.open(path, durability="relaxed")


def follow_another(path: Path) -> list[int]:
    """What a tail of this process gives of what another process appends, one at a time."""
    with store_of(path) as db, process("run_writer()", path) as writer:

        async def main() -> list[int]:
            tail, numbers = db.tail(), []
            for _ in range(3):
                tell(writer)
                numbers.append((await anext(tail)).event.number)
            return numbers

        return asyncio.run(main())


def _unwritable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / "watch").write_text("not a folder")


def _no_way_around(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "_AROUND", str(path / "nowhere"))


def _no_sockets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "_datagram_socket", lambda: None)


@pytest.mark.parametrize("spoil", [_unwritable, _no_way_around, _no_sockets], ids=lambda spoil: spoil.__name__)
def test_without_a_socket_polling_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    """A folder that cannot be made, a path too long for an address, a platform without: every event comes."""
    path = tmp_path / ("long" * 40)
    with store_of(path):
        pass
    spoil(path, monkeypatch)
    assert HintSocket.bind(str(path)) is None
    assert follow_another(path) == [0, 1, 2]


def test_the_child_of_a_fork_lets_the_socket_go(tmp_path: Path) -> None:
    """The parent's socket dies with the parent: a child that lives on does not keep it."""

    def wait() -> None:
        with contextlib.suppress(varve.StoreClosed):
            db.watcher().wait(0)

    with store_of(tmp_path / "store") as db:
        waiting = threading.Thread(target=wait)
        waiting.start()
        hub = hub_of(db._engine)
        while hub._poller._sockets is None:
            pass
        assert hub._poller._sockets._hints is not None
        descriptor = hub._poller._sockets._hints.fileno()
        pid = os.fork()
        if not pid:
            try:
                os.fstat(descriptor)
            except OSError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        os.fstat(descriptor)
    waiting.join()


def test_the_child_of_a_fork_hints_its_parent(tmp_path: Path) -> None:
    """The parent's sockets are another process's there."""
    watcher = HintSocket.bind(str(tmp_path))
    assert watcher is not None
    pid = os.fork()
    if not pid:
        HintSender(str(tmp_path)).send()
        os._exit(0)
    os.waitpid(pid, 0)
    assert unread(watcher) == 1
    watcher.close()


def test_a_store_that_nobody_watches_has_no_folder_for_it(tmp_path: Path) -> None:
    """Appending and reading make none: only waiting does."""
    with store_of(tmp_path / "store") as db:
        db.stream("orders", Placed).append(1, Placed(0))
        asyncio.run(take(db.tail(), 1))
        assert not (tmp_path / "store" / "watch").exists()


def refuses(*_: Any, **__: Any) -> Any:
    raise OSError(24, "Too many open files")


def test_no_socket_for_a_writer_hints_nobody_and_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process has no descriptor left, watchers poll; once there is one, they are hinted again."""
    watcher, sender = bound(tmp_path, monkeypatch), HintSender(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("socket.socket", refuses)
        sender.send()
        watcher.sweep()
        assert HintSocket.bind(str(tmp_path)) is None
    assert unread(watcher) == 0
    os.utime(tmp_path / "watch")
    sender.send()
    assert unread(watcher) == 1
    sender.close()
    watcher.close()


def test_a_folder_that_cannot_be_listed_hints_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets that were known are let go, as their owners may be gone; nothing is raised into a commit."""
    watcher, sender = bound(tmp_path, monkeypatch), HintSender(str(tmp_path))
    sender.send()
    assert unread(watcher) == 1
    os.utime(tmp_path / "watch", (0, 0))
    with monkeypatch.context() as patch:
        patch.setattr("os.listdir", refuses)
        sender.send()
    assert unread(watcher) == 0
    assert not sender._watchers
    sender.close()
    watcher.close()


def test_a_socket_that_cannot_be_connected_or_sent_to_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither hinted nor swept: the next listing tries again."""
    watcher, sender = bound(tmp_path, monkeypatch), HintSender(str(tmp_path))

    @contextlib.contextmanager
    def no_address(*_: Any) -> Any:
        raise OSError(13, "Permission denied")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(hints, "_address", no_address)
        sender.send()
        watcher.sweep()
    assert unread(watcher) == 0
    assert len(list((tmp_path / "watch").iterdir())) == 1
    os.utime(tmp_path / "watch")
    sender.send()
    assert unread(watcher) == 1
    [(name, known)] = sender._watchers.items()
    monkeypatch.setattr(hints, "_is_unread", lambda _: False)

    class Broken:
        send = staticmethod(refuses)
        close = staticmethod(known.close)

    sender._hint(name, Broken())  # type: ignore[arg-type]
    assert not sender._watchers
    sender._drop(name)  # twice is once
    sender.close()
    watcher.close()


def test_what_lies_in_a_socket_that_cannot_tell_counts_as_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint too many is harmless, one too few is not."""
    watcher, sender = bound(tmp_path, monkeypatch), HintSender(str(tmp_path))
    sender.send()
    [known] = sender._watchers.values()
    assert hints._is_unread(known)
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.ioctl", refuses)
        assert not hints._is_unread(known)
    sender.close()
    assert not hints._is_unread(known)
    watcher.close()

"""``varve.open(trust=False)``: whatever a file holds, the host lives, and serves nothing of it that is not right."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

import varve
from varve.engine import examine

PAGE = 4096


@varve.event
class Note:
    n: int
    text: str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        for n in range(30):
            notes.append_batch(n % 3, [Note(n, "x" * 200) for _ in range(20)])
    return path


def everything(path: Path, *, trust: bool) -> list[int]:
    with varve.open(path, trust=trust) as db:
        return [recorded.global_sequence for recorded in db.global_reader().iter_from(0)]


def test_a_sound_store_opens(path: Path, tmp_path: Path) -> None:
    """For reading and writing, as ever; and one that is not there yet is made."""
    assert everything(path, trust=False) == list(range(600))
    with varve.open(path, trust=False) as db:
        assert db.stream("notes", Note).append(1, Note(1, "")).global_sequence == 600
    with varve.open(path, trust=False, readonly=True) as db:
        assert db.next_global_sequence == 601
    with varve.open(tmp_path / "new", trust=False) as db:
        assert db.next_global_sequence == 0
    with pytest.raises(varve.StoreNotFound):
        varve.open(tmp_path / "none", trust=False, readonly=True)


def deadly(path: Path) -> None:
    """Damage that LMDB follows: the log's branch page leads beyond the map."""
    data = bytearray((path / "data.mdb").read_bytes())
    for page in range(2, len(data) // PAGE):
        at = page * PAGE
        flags = int.from_bytes(data[at + 10 : at + 12], "little")
        lower = int.from_bytes(data[at + 12 : at + 14], "little")
        if flags == 2:  # every leaf: its nodes' values have pages of their own, far away
            for node in range(16, lower, 2):
                start = at + int.from_bytes(data[at + node : at + node + 2], "little")
                data[start + 4] |= 1
    (path / "data.mdb").write_bytes(data)


KILLED = """
import sys, varve
with varve.open(sys.argv[1], readonly=True) as db:
    print([recorded.global_sequence for recorded in db.global_reader().iter_from(0)][:1])
"""


def test_damage_that_kills_a_host_is_refused(path: Path) -> None:
    """The same file, opened with trust, takes the process down: that is what is being kept from this one."""
    deadly(path)
    died = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, check=False)
    assert died.returncode
    with pytest.raises(varve.CorruptedStore) as refused:
        varve.open(path, trust=False)
    assert refused.value.findings
    assert "repair" in str(refused.value)


def test_damage_is_told_with_its_findings(path: Path) -> None:
    """A flipped bit in a block, which a normal open finds only when it is read."""
    data = bytearray((path / "data.mdb").read_bytes())
    for place in [match.start() for match in re.finditer(b"x{200}", data)]:
        data[place] ^= 1
    (path / "data.mdb").write_bytes(data)
    varve.open(path).close()
    with pytest.raises(varve.CorruptedStore) as refused:
        varve.open(path, trust=False)
    assert any("checksum" in finding for finding in refused.value.findings)
    assert refused.value.path == str(path)


def test_errors_of_the_examination_are_ours(path: Path, tmp_path: Path) -> None:
    """Of the same class, with the same facts: another program's file, a store that is open for bulk loading."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "data.mdb").write_bytes(b"something else" * 1_000)
    with pytest.raises(varve.NotAVarveStore) as refused:
        varve.open(other, trust=False)
    assert refused.value.path == str(other)
    with varve.open(path, durability="bulk"), pytest.raises(varve.StoreInUse):
        varve.open(path, trust=False)
    with varve.open(path), pytest.raises(varve.StoreAlreadyOpen):
        varve.open(path, trust=False)


@pytest.mark.parametrize(
    ("code", "err", "wanted"),
    [
        (-6, "Aborted", varve.CorruptedStore),
        (1, "Traceback\nMemoryError", varve.CorruptedStore),
        (0, "", varve.StoreUnavailable),  # another program answers to the name of Python
        (1, "Traceback\nModuleNotFoundError: No module named 'varve'", varve.StoreUnavailable),
    ],
)
def test_an_examination_that_fails_is_a_refusal(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, err: str, wanted: type[varve.VarveError]
) -> None:
    """Killed, out of memory, not carried out: the file is not opened, and only what the file can have done is blamed on it."""
    monkeypatch.setattr(examine, "_run", lambda _: (code, "hello\n", err))
    with pytest.raises(wanted, match="could not be examined"):
        varve.open(path, trust=False)


def test_what_else_is_printed_does_not_matter(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs print when a Python starts; and nothing is imported from the folder that one happens to be in."""
    here = tmp_path / "upload"
    here.mkdir()
    (here / "json.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, b"bytes"])
    varve.open(path, trust=False).close()


def test_a_python_that_cannot_be_started(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(varve.StoreUnavailable, match="cannot start"):
        varve.open(path, trust=False)


@pytest.mark.parametrize("trust", [True, False])
def test_a_pipe_is_no_store(tmp_path: Path, trust: bool) -> None:
    """It was waited for, for ever."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "data.mdb")
    with pytest.raises(varve.NotAVarveStore):
        varve.open(tmp_path / "pipe", trust=trust)


@pytest.mark.parametrize("name", ["lock.mdb", "varve.lock"])
def test_a_link_in_the_place_of_a_lock_file_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    """LMDB would write its lock table into whatever it points at."""
    precious = tmp_path / "precious"
    precious.write_text("data")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(precious)
    with pytest.raises(varve.NotAVarveStore, match="link"):
        varve.open(path, trust=False)
    assert precious.read_text() == "data"


META_FLAGS = {"of the free pages' tree": 44, "of the main tree": 92}


@pytest.mark.parametrize("flags", META_FLAGS)
def test_flags_that_lmdb_would_follow(path: Path, flags: str) -> None:
    """A flipped bit there passed for sound, and killed the host with an assertion."""
    data = bytearray((path / "data.mdb").read_bytes())
    for page in (0, PAGE):
        data[page + META_FLAGS[flags]] ^= 4
    (path / "data.mdb").write_bytes(data)
    for trust in (True, False):
        with pytest.raises(varve.CorruptedStore):
            varve.open(path, trust=trust)


def test_an_unknown_error_is_a_refusal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = '{"error": {"class": "os", "message": "what?", "facts": {}}}'
    monkeypatch.setattr(examine, "_run", lambda asked: (0, json.loads(asked)["mark"] + answer, ""))
    with pytest.raises(varve.StoreUnavailable, match="what"):
        varve.open(path, trust=False)


def test_a_program_without_a_python_is_told_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded interpreter has nothing to start."""
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(varve.StoreUnavailable, match="verify"):
        varve.open(path, trust=False)


def test_an_empty_file_is_a_store_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing in it that could not be trusted, and nothing to start a process for."""
    (tmp_path / "data.mdb").touch()
    monkeypatch.setattr(examine, "_run", lambda _: pytest.fail("it was examined"))
    with varve.open(tmp_path, trust=False) as db:
        assert db.next_global_sequence == 0


def test_a_folder_that_may_not_be_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(examine.os, "stat", denied)
    with pytest.raises(varve.StoreAccessDenied):
        examine.examine(str(path))


def test_a_table_that_nobody_knows_is_a_refusal(path: Path) -> None:
    """A flipped bit in the name of a sub-database hides what stands in it: consumers would begin anew."""
    with varve.open(path) as db:
        db.consumer("billing", interval_s=0).close()
    data = (path / "data.mdb").read_bytes()
    assert data.count(b"varve.consumers")
    (path / "data.mdb").write_bytes(data.replace(b"varve.consumers", b"varve.consumert"))
    with pytest.raises(varve.CorruptedStore, match="consumert"):
        varve.open(path, trust=False)


_WAITING = """
import sys
import varve
from varve.engine import examine

wait = f"told = open({sys.argv[2]!r}, 'w'); told.write('examining'); told.flush(); import threading; threading.Event().wait()"
examine._EXAMINER = examine._EXAMINER.replace("from varve.ops.verify import examined", wait)
varve.open(sys.argv[1], trust=False)
"""


def test_the_examiner_ends_with_the_process_that_asked(path: Path, tmp_path: Path) -> None:
    """Killed, it cannot tell anybody: the examiner of a large store would go on for hours."""
    os.mkfifo(tmp_path / "told")
    fd = os.open(tmp_path / "told", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with subprocess.Popen([sys.executable, "-c", _WAITING, str(path), str(tmp_path / "told")]) as process:
            assert select.select([fd], [], [], 60)[0], "no examiner began"
            assert os.read(fd, 100) == b"examining"
            process.kill()
            process.wait()
            assert select.select([fd], [], [], 60)[0], "the examiner goes on"
            assert os.read(fd, 100) == b""
    finally:
        os.close(fd)

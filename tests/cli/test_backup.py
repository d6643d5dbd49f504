"""``varve backup``, ``restore`` and ``seal`` as people and scripts run them: what they print, what they exit with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import varve
from varve import ops
from varve.cli.app import app
from varve.cli.backup import size
from varve.cli.restore import moment, parsed


@varve.event
class Placed:
    number: varve.u64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store of ten events."""
    with varve.open(tmp_path / "data", durability="relaxed") as db:
        orders = db.stream("orders", Placed)
        orders.append_batch(1, [Placed(n) for n in range(7)])
        orders.append_batch(1, [Placed(n) for n in range(3)])
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as installed, with its output in pipes."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("varve")), *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "40"},
        check=False,
    )


def said(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What a command prints that succeeds, run in this process."""
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_backup_made_and_restored(folder: Path) -> None:
    """As the documentation has it, by real processes; mistakes are one line and an exit code."""
    done = run(folder, "backup", "data", "set")
    assert (done.returncode, done.stderr) == (0, "")
    assert "000001-full: 10 events, 0 to 9, " in done.stdout
    again = run(folder, "backup", "data", "set", "--incremental")
    assert "nothing was written" in again.stdout
    done = run(folder, "restore", "set", "new", "--to-sequence", "8", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["next_sequence"], report["rounded_down"], report["backups"]) == (7, True, ["000001-full"])
    assert ops.verify(folder / "new").sound
    for arguments, code in ((("restore", "set", "new"), 2), (("backup", "nothing", "set"), 6)):
        done = run(folder, *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("varve: ")
        assert done.stderr.count("\n") == 1
    (folder / "set" / "000001-full" / "data.mdb").write_bytes(b"")
    done = run(folder, "backup", "--check", "set")
    assert done.returncode == 5
    assert "data.mdb" in done.stdout
    assert done.stderr == "varve: 1 of 1 backups in set cannot be used\n"


def test_a_store_sealed(folder: Path) -> None:
    done = run(folder, "seal", "data")
    assert (done.returncode, done.stderr) == (0, "")
    assert "data: sealed, up to sequence 10, content " in done.stdout
    with pytest.raises(varve.SealedStore):
        varve.open(folder / "data")


def test_a_set_listed_and_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each backup; broken ones are told with what is wrong."""
    assert "there was no backup to continue" in said(folder, monkeypatch, "backup", "data", "set", "--incremental")
    with varve.open(folder / "data") as db:
        db.stream("orders", Placed).append(1, Placed(1))
    made = json.loads(said(folder, monkeypatch, "backup", "data", "set", "--incremental", "--json"))
    assert made["written"]
    assert made["backup"]["name"] == "000002-incremental"
    lines = said(folder, monkeypatch, "backup", "--list", "set").splitlines()
    assert [line.split()[0] for line in lines] == ["backup", "000001-full", "000002-incremental"]
    assert lines[2].split()[-5:-2] == ["10", "11", "1"]
    listed = json.loads(said(folder, monkeypatch, "backup", "--list", "set", "--json"))
    assert [one["next_sequence"] for one in listed] == [10, 11]
    assert said(folder, monkeypatch, "backup", "--check", "set") == "2 backups, up to sequence 11: sound\n"
    assert json.loads(said(folder, monkeypatch, "backup", "--check", "set", "--json"))["sound"]
    (folder / "set" / "000002-incremental" / "MANIFEST.json").unlink()
    (folder / "set" / ".unfinished-000003-full").mkdir()
    assert "000002-incremental: the backup" in said(folder, monkeypatch, "backup", "--list", "set")
    listed = json.loads(said(folder, monkeypatch, "backup", "--list", "set", "--json"))
    assert listed[1]["problem"]["code"] == "corrupted_backup"
    done = CliRunner().invoke(app, ["backup", "--check", "set"])
    assert isinstance(done.exception, varve.CorruptedBackup)
    assert ".unfinished-000003-full" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["data"],
        ["--list", "data", "set"],
        ["--check", "data", "set"],
        ["--list", "--check", "set"],
        ["data", "set", "--incremental", "--list"],
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["backup", *arguments])
    assert isinstance(done.exception, varve.InvalidInput)


def test_a_restore_says_what_it_did(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with varve.open(folder / "data") as db:
        last = db.global_reader().get(9)
        assert last is not None
        db.consumer("billing", start=varve.END).close()
    said(folder, monkeypatch, "backup", "data", "set")
    out = said(folder, monkeypatch, "restore", "set", "early", "--to-sequence", "9")
    assert "early: up to sequence 7, last commit " in out
    assert "9 lies within a commit; the store ends before it" in out
    assert "the consumer 'billing' stood at 10, and was moved back to 7" in out
    out = said(folder, monkeypatch, "restore", "set", "late", "--to-time", last.recorded_at.isoformat(), "--check")
    assert "late: up to sequence 10" in out
    assert "empty" in said(folder, monkeypatch, "restore", "set", "none", "--to-sequence", "0")


def test_sealing_again_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(folder, monkeypatch, "seal", "data")
    assert "was sealed before" in said(folder, monkeypatch, "seal", "data")
    assert not json.loads(said(folder, monkeypatch, "seal", "data", "--json"))["is_new"]


def test_times_and_sizes() -> None:
    assert parsed("2026-05-04T12:00:00+02:00") == parsed("2026-05-04T10:00:00Z")
    for text in ("yesterday", "", "2026-05-04T12:00:00"):
        with pytest.raises(varve.InvalidInput):
            parsed(text)
    assert moment(1_000_000_000) == "1970-01-01 00:00:01.000 UTC"
    assert [size(n) for n in (0, 999, 1_000, 2_500_000, 3 * 10**9)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
    ]

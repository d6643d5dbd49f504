"""``varve export``, ``import``, ``parity`` and ``digest`` as people run them: real processes, pipes, a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Inside

import varve
from varve import ops

VARVE = str(Path(sys.executable).with_name("varve"))


@varve.event
class Placed:
    order_id: varve.u64
    product: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store and a CSV file."""
    with varve.open(tmp_path / "data") as db:
        db.stream("orders", Placed).append_batch(1, [Placed(1, "Laptop"), Placed(2, "Größe")], idempotency_key="k")
        db.stream("other", Placed).append(7, Placed(3, "Mouse"), metadata={"user": "x"})
    (tmp_path / "orders.csv").write_text("order id;at\n1;2024-01-01T00:00:00Z\n2;2024-01-01T00:00:01Z\n")
    return tmp_path


def run(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command, as installed."""
    return subprocess.run([VARVE, *arguments], cwd=folder, input=stdin, capture_output=True, check=False)


def test_a_log_goes_through_a_pipe_into_another_store(folder: Path) -> None:
    """Export, import, parity, digest."""
    exported = run(folder, "export", "data")
    assert exported.returncode == 0, exported.stderr
    imported = run(folder, "import", "copy", "-", stdin=exported.stdout)
    assert (imported.returncode, imported.stdout) == (0, b"copy: 3 events imported\n"), imported.stderr
    dumped = run(folder, "export", "data", "-o", "x.dump.gz", "--json")
    digest = json.loads(dumped.stdout)["digest"]
    again = run(folder, "import", "copy", "-", "--json", stdin=(folder / "x.dump.gz").read_bytes())
    assert json.loads(again.stdout) == {"events": 0, "commits": 0, "present": 3, "digest": digest}
    assert run(folder, "digest", "copy").stdout.decode() == digest + "\n"
    assert run(folder, "parity", "x.dump.gz", "copy").stdout == b"equal: 3 events\n"
    filtered = run(
        folder, "export", "data", "--stream", "orders", "--type", "Placed", "--from", "1", "--to", "3"
    ).stdout
    assert [json.loads(line)["global_sequence"] for line in filtered.splitlines()[2:-1]] == [1]


def test_a_store_whose_beginning_was_archived_is_not_taken_for_its_log(folder: Path) -> None:
    """Nothing is written of it, not even a header; from where it begins it can be exported."""
    Large = varve.event(name="Large")(type("Large", (), {"__annotations__": {"text": str}}))
    with varve.open(folder / "data", durability="relaxed") as db:
        db.stream("large", Large).append_batch(1, [Large("x" * 9_000) for _ in range(9)])
        first = db.archive(before=db.next_global_sequence - 1, to=folder / "old").next_sequence
        end = db.next_global_sequence
    assert first
    for command in (
        ["export", "data"],
        ["export", "data", "--format", "dump"],
        ["digest", "data"],
        ["parity", "data", "old"],
    ):
        refused = run(folder, *command)
        assert (refused.returncode, refused.stdout) == (6, b""), command
        assert b"was archived" in refused.stderr
    rest = run(folder, "export", "data", "--from", str(first))
    assert rest.returncode == 0, rest.stderr
    assert len([line for line in rest.stdout.splitlines() if b'"global_sequence"' in line]) == end - first


def test_two_logs_that_differ_give_exit_code_3(folder: Path) -> None:
    """And one line that names the difference."""
    ops.load(folder / "copy", _exported(folder, b"Gr", b"gr"))
    told = run(folder, "parity", "data", "copy")
    assert (told.returncode, told.stdout) == (3, b"")
    assert told.stderr.decode() == (
        "varve: data and copy differ at global sequence 1, field product: 'Größe' in the first, 'größe' in the second\n"
    )
    told = run(folder, "parity", "data", "copy", "--json")
    assert told.returncode == 3
    assert json.loads(told.stdout)["difference"]["field"] == "product"
    assert run(folder, "import", "data", "x.jsonl").returncode == 3


def _exported(folder: Path, old: bytes, new: bytes) -> Path:
    path = folder / "x.jsonl"
    ops.export_jsonl(folder / "data", path)
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def test_rows_are_shown_and_asked_about(folder: Path) -> None:
    """Without a terminal and --yes nothing is imported; the schema can be saved and used again."""
    refused = run(
        folder, "import", "new", "orders.csv", "--stream", "orders", "--id", "order id", "--save-schema", "o.fbs"
    )
    assert refused.returncode == 2
    assert b"// order id -> order_id" in refused.stderr
    assert b"say --yes" in refused.stderr
    assert not (folder / "new").exists()
    assert "table Orders" in (folder / "o.fbs").read_text()
    done = run(
        folder,
        "import",
        "new",
        "-",
        "--stream",
        "orders",
        "--id",
        "order id",
        "-y",
        stdin=(folder / "orders.csv").read_bytes(),
    )
    assert done.stdout == b"new: 2 events imported\n"
    again = run(folder, "import", "new", "orders.csv", "--stream", "orders", "--id", "order id", "-y")
    assert again.stdout == b"new: 0 events imported, 2 were there\n"
    typed = run(folder, "import", "typed", "orders.csv", "--stream", "orders", "--id", "order id", "--schema", "o.fbs")
    assert typed.returncode == 0, typed.stderr


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 2)])
def test_a_terminal_is_asked(folder: Path, answer: bytes, code: int) -> None:
    """On a pseudo-terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [VARVE, "import", "new", "orders.csv", "--stream", "orders", "--id", "order id"],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while b"with this schema?" not in shown:
            shown += terminal.read(1024)
        terminal.write(answer)
        while True:
            try:
                piece = terminal.read(1024)
            except OSError:  # its other end is closed
                break
            if not piece:
                break
            shown += piece
        assert process.wait() == code
    assert b"table Orders" in shown
    assert (folder / "new").exists() == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["import", "new", "orders.csv"], 2, "with --stream"),
        (["import", "new", "orders.csv", "--stream", "s"], 2, "--stream needs --id"),
        (["import", "new", "orders.csv", "--stream", "s", "--id", "nope", "-y"], 2, "no such column"),
        (["import", "new", "none.csv"], 6, "No such file"),
        (["import", "new", "cut.dump"], 5, "truncated"),
        (["import", "new", "cut.dump", "--type", "T"], 2, "--type cannot be used"),
        (["export", "none"], 6, "none"),
        (["export", "data", "--format", "dump", "--from", "1"], 2, "a dump is the whole log"),
        (["export", "data", "--json"], 2, "name one with -o"),
        (["export", "data", "-o", "data/x"], 2, "lies in the store"),
        (["export", "data", "--from", "-1"], 2, "start is a global sequence"),
        (["parity", "data", "orders.csv"], 2, "neither a store nor a dump"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, arguments: list[str], code: int, reason: str) -> None:
    """With the exit code of its kind, and nothing made."""
    ops.dump(folder / "data", folder / "x.dump")
    (folder / "cut.dump").write_bytes((folder / "x.dump").read_bytes()[:-1])
    told = run(folder, *arguments)
    assert told.returncode == code, told.stderr
    assert reason in told.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in told.stderr
    assert arguments[0] != "import" or arguments[-1] == "-y" or not (folder / "new").exists()


def test_a_mistake_in_the_first_rows_makes_no_store(inside: Inside, tmp_path: Path) -> None:
    """A column that is not there is told before anything is."""
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    found = inside.run("import", "new", "rows.csv", "--stream", "s", "--id", "nope", "--yes")
    assert found.code == 2
    assert "there is no such column" in found.err
    assert not (tmp_path / "new").exists()

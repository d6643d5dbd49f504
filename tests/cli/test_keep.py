"""``varve verify`` and ``varve repair``, against sound stores and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Inside, Placed, on_a_terminal, process

import varve
from varve import ops


def damage(path: Path, needle: bytes) -> None:
    """Other bytes where these stand, as a disk does it."""
    data = path / "data.mdb"
    content = data.read_bytes()
    assert needle in content
    data.write_bytes(content.replace(needle, bytes(len(needle))))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four blocks of fifty events each, the third of them damaged."""
    with varve.open(tmp_path / "data") as db:
        orders = db.stream("orders", Placed)
        for number in range(4):
            orders.append_batch(number, [Placed(number, f"batch {number} " + "x" * 300) for _ in range(50)])
        db.consumer("billing", start=120).close()
    damage(tmp_path / "data", b"batch 2 ")
    return tmp_path / "data"


def test_a_sound_store(inside: Inside, tmp_path: Path) -> None:
    """Exit code 0, and what was looked at."""
    ops.make_demo(tmp_path / "shop")
    assert inside.done("verify", "shop").startswith("sound: 700 events in ")
    found = inside.json("verify", "shop", "--json")
    assert (found["sound"], found["events"], found["findings"], found["suppressed"]) == (True, 700, [], 0)
    assert inside.done("repair", "shop", "copy").startswith("copy holds 700 events in ")
    assert inside.done("log", "copy", "--json") == inside.done("log", "shop", "--json")
    assert "copy" in inside.refused(2, "repair", "shop", "copy")


def test_a_damaged_store(inside: Inside, data: Path, tmp_path: Path) -> None:
    """Exit code 5 and what is wrong, by people and programs; looking stops where the damage is."""
    told = inside.run("verify", "data")
    assert (told.code, told.err) == (5, "")
    assert "log/checksum: the checksum of the block at " in told.out
    assert " finding" in told.out.splitlines()[-1]
    told = process(tmp_path, "verify", "data", "--json")
    report = ops.verify(data)
    assert told.code == 5
    import json

    found = json.loads(told.out)
    assert not found["sound"]
    assert [one["message"] for one in found["findings"]] == [one.message for one in report.findings]
    assert found["not_checked"] == list(report.not_checked)
    assert found["events"] == report.events
    told = inside.run("log", "data", "--json")
    assert told.code == 5
    assert 0 < told.out.count("\n") < 200
    assert told.err.count("\n") == 1
    code, out = on_a_terminal(tmp_path, "verify", "data")
    assert code == 5
    assert "\x1b[31m" in out


def test_salvage_says_what_was_lost(inside: Inside, data: Path, tmp_path: Path) -> None:
    """Without it a damaged log is refused; the new store is sound, and each lost event is listed."""
    assert "salvage" in inside.refused(5, "repair", "data", "saved")
    assert not (tmp_path / "saved").exists()
    found = inside.json("repair", "data", "saved", "--salvage", "--json")
    assert found["events"] == 200
    assert 0 < found["lost_events"] < 200
    assert sum(run["events"] for run in found["lost"]) == found["lost_events"]
    assert {run["stream"] for run in found["lost"]} == {"orders"}
    assert inside.json("verify", "saved", "--json")["sound"]
    lost = [one for one in inside.lines("log", "saved", "--json") if one["type"] == "varve.Lost"]
    assert len(lost) == found["lost_events"]
    assert inside.json("consumers", "list", "saved", "--json")[0]["position"] == 120
    told = inside.done("repair", "data", "again", "--salvage")
    assert "lost: " in told
    assert (
        f"again holds 200 events in {found['blocks']} blocks; {found['lost_events']} of them stand for lost ones"
        in told
    )


def test_how_lost_events_are_told() -> None:
    """Certain or not, of a stream that is known or not."""
    from varve.cli.repair import run_json, run_text

    known = ops.LostRun(5, 1, "orders", "a\x1b", 7, exact=True)
    assert run_text(known) == "lost: 1 event from #5 on, of orders/a\\x1b from [7] on"
    assert run_text(ops.LostRun(5, 2, "orders", 1, 7, exact=False)).endswith(
        "on; it had these places or others around them"
    )
    unknown = ops.LostRun(5, 1_000, None, None, None, exact=False)
    assert run_text(unknown) == "lost: 1,000 events from #5 on, of which stream is not known"
    assert run_json(unknown)["stream_id"] is None


def test_other_errors_have_their_codes(inside: Inside, tmp_path: Path) -> None:
    """No store, another program's file, a target inside of the source."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"x" * 8192)
    assert inside.run("verify", "other").code == 5
    inside.refused(6, "verify", "nowhere")
    inside.refused(6, "repair", "nowhere", "new")
    ops.make_demo(tmp_path / "shop")
    assert "lies in the store" in inside.refused(2, "repair", "shop", "shop/inner")

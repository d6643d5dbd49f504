"""Every case at a tiny size: that it runs and that both sides do the same work, never how fast."""

import json
import sys
from pathlib import Path

import pytest

from benches import __main__ as benches
from benches import cases_codec, codec_events, codec_official
from benches.report import Goal, Line, as_json, exact, table
from benches.workspace import file_system


@pytest.mark.parametrize("case", list(benches.CASES))
def test_a_case_runs_and_its_checksums_agree(case: str, tmp_path: Path) -> None:
    """At least one line comes out, and nothing is left behind."""
    lines = benches.measure([case], "tiny", folder=tmp_path)
    assert lines
    for line in lines:
        assert line.case == case
        assert line.durability in {"full", "bulk", "none"}
        assert line.figure.low <= line.figure.median <= line.figure.high
    assert not list(tmp_path.iterdir())


def test_the_size_goal_holds_for_blocks_of_any_batch(tmp_path: Path) -> None:
    """Bytes are counted, not timed, so this goal can be asserted."""
    frames = benches.measure(["size"], "tiny", folder=tmp_path)[0]
    assert frames.met


def test_a_comparison_that_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without msgspec the codec's cases run, and name what was left out."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    lines = benches.measure(["codec-encode-flat", "codec-read-flat"], "tiny", folder=tmp_path)
    skipped = [line for line in lines if "skipped" in line.what]
    assert [line.case for line in skipped] == ["codec-encode-flat", "codec-read-flat"]
    assert all("msgspec is not installed" in line.detail and line.met is None for line in skipped)
    assert len(lines) > len(skipped)


def test_the_official_side_of_the_codec_reads_what_it_writes() -> None:
    """Builder and accessors of the comparison agree with each other, and both with our codec."""
    for shape in (codec_events.FLAT, codec_events.NESTED, codec_events.OPTIONALS):
        encode, read = codec_official.ENCODE[shape.name], codec_official.READ[shape.name]
        events = shape.events(50)
        ours = cases_codec.event_type(shape.cls).pack_all(events)
        for event, packed in zip(events, ours, strict=True):
            assert read(encode(event)) == read(packed) == shape.values(event)


def test_the_table_tells_met_from_missed() -> None:
    """A missed goal stands out; a figure without a goal claims nothing."""
    goals = (Goal(at_least=2.0), Goal(at_least=4.0), Goal(at_most=2.0), Goal())
    lines = [Line("write", "append_batch", "full", goal, exact(3.0), "x as fast") for goal in goals]
    rows = table(lines).splitlines()[2:]
    assert ["yes" in row for row in rows] == [True, False, False, False]
    assert ["NO" in row for row in rows] == [False, True, True, False]
    assert all("full" in row for row in rows)


def test_figures_can_be_read_by_a_program() -> None:
    """JSON holds the lines and what they were measured on."""
    out = json.loads(as_json([Line("get", "get", "none", Goal(at_most=6), exact(5.0), "us")], size="tiny"))
    assert out["about"]["size"] == "tiny"
    assert out["lines"][0]["met"] is True
    assert out["lines"][0]["figure"] == {"median": 5.0, "low": 5.0, "high": 5.0}


def test_cases_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name is told apart from a goal that was missed."""
    assert benches.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(benches.CASES)
    assert benches.main(["--only", "no such case"]) == 2


def test_a_file_system_is_found_by_its_longest_mount_point() -> None:
    """Measurements belong on a disk: memory file systems are told apart."""
    if Path("/proc/self/mounts").exists():
        assert file_system("/proc") == "proc"

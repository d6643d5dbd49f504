"""Results that are kept, goals, and the document that is made of them."""

import json
import re
import sys
from pathlib import Path

import pytest

from benches import __main__ as benches
from benches import charts, report, results
from benches.goals import GOALS, TABLE, Goal
from benches.lines import Line, cost_line, exact, rate_line, speed_line, table
from benches.pairs import Measured, Pair
from benches.registry import cases
from benches.results import Outcome

ABOUT = {
    "size": "full",
    "when": "2030-01-01 10:00",
    "seconds": 60.0,
    "load": [0.5, 1.0],
    "commit": "abc",
    "source": "s",
}


def pair(a_s: float = 1.0, b_s: float = 3.0) -> Pair:
    """Three rounds, all alike."""
    ratio = b_s / a_s
    return Pair((a_s,) * 3, (b_s,) * 3, Measured(ratio, ratio * 0.9, ratio * 1.1), "varve", "rival")


def peer_line(kind: str, peer: str, b_s: float) -> Line:
    """A comparison with a peer."""
    what = f"some events, {kind}, against {peer}"
    return speed_line(
        f"compare/{peer}", what, "full", Goal(), pair(b_s=b_s), events=10, series=f"compare {kind}", at=peer
    )


def outcomes() -> list[Outcome]:
    """A few results, one of every sort."""
    lines = (
        speed_line("append/one-transaction", "many at once", "full", GOALS["million-put-loop"], pair(), events=10),
        cost_line("append/single", "one", "full", GOALS["single-append"], pair(b_s=0.5), events=10),
        speed_line("append/240", "batches", "full", Goal(), pair(), events=10, series="240 bytes, full", at=1.0),
        speed_line("append/240", "batches", "full", Goal(), pair(), events=10, series="240 bytes, full", at=1000.0),
    )
    growth = cost_line("open/growth", "growth", "none", Goal(), pair(), events=10, series="gets", at=1e6)
    slow = tuple(peer_line(kind, "sqlite3-columns", 0.5) for kind in ("million", "thousands", "single", "replay"))
    fast = tuple(peer_line(kind, "rocksdict", 2.0) for kind in ("million", "thousands", "single", "replay"))
    left_out = Line("compare/umadb", "left out", "full", Goal(), exact(0.0), "skipped", "umadb is not installed")
    rate = rate_line("read/get", "a rate", "none", Goal(), (1.0, 2.0), events=10)
    return [
        Outcome("append/one-transaction", "append", ABOUT, lines),
        Outcome("open/growth", "open", ABOUT, (growth,)),
        Outcome("read/get", "read", ABOUT, (rate,)),
        Outcome("compare/sqlite3-columns", "compare", ABOUT, slow),
        Outcome("compare/rocksdict", "compare", ABOUT, fast),
        Outcome("compare/umadb", "compare", ABOUT, (left_out,)),
    ]


def test_the_table_tells_met_from_missed() -> None:
    """A missed goal stands out; a figure without a goal claims nothing."""
    goals = (Goal(at_least=2.0), Goal(at_least=4.0), Goal(at_most=2.0), Goal())
    lines = [Line("write", "append_batch", "full", goal, exact(3.0), "x as fast") for goal in goals]
    rows = table(lines).splitlines()[2:]
    assert ["yes" in row for row in rows] == [True, False, False, False]
    assert ["NO" in row for row in rows] == [False, True, True, False]
    assert all("full" in row for row in rows)


@pytest.mark.parametrize(
    ("goal", "value", "met", "aim", "margin", "standing"),
    [
        (Goal(at_least=2.0, aim=4.0), 3.0, True, False, 0.5, "met, 50% better than the floor"),
        (Goal(at_least=2.0, aim=4.0), 4.0, True, True, 1.0, "aim reached, 100% better than the floor"),
        (Goal(at_least=2.0, aim=4.0), 1.5, False, False, -0.25, "**missed by 25%**"),
        (Goal(at_most=2.0, aim=1.0), 1.5, True, False, 0.25, "met, 25% better than the floor"),
        (Goal(at_most=2.0, aim=1.0), 0.5, True, True, 0.75, "aim reached, 75% better than the floor"),
        (Goal(at_most=2.0, aim=1.0), 3.0, False, False, -0.5, "**missed by 50%**"),
        (Goal(), 3.0, None, None, None, "reported"),
    ],
)
def test_a_goal_says_by_how_much_it_was_met(
    goal: Goal, value: float, met: bool | None, aim: bool | None, margin: float | None, standing: str
) -> None:
    """Floors that are lower bounds and floors that are upper bounds."""
    assert goal.met(value) is met
    assert goal.aim_met(value) is aim
    assert goal.margin(value) == (None if margin is None else pytest.approx(margin))
    assert report.standing(goal, value) == standing


def test_aims_lie_beyond_floors() -> None:
    """Whoever reaches an aim has met the floor."""
    for goal in GOALS.values():
        if goal.aim is not None:
            assert goal.met(goal.aim)


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    """To five digits: medians, intervals, quartiles, goals of the table and goals of a case."""
    own = Outcome("read/own", "read", ABOUT, (Line("read/own", "w", "none", Goal(at_most=6, aim=5), exact(5), "us"),))
    for outcome in [own, *outcomes()]:
        results.save(tmp_path, outcome)
        found = results.load(tmp_path, outcome.case)
        assert found is not None
        assert found.about == outcome.about
        for ours, theirs in zip(outcome.lines, found.lines, strict=True):
            assert (theirs.what, theirs.goal, theirs.sides, theirs.series, theirs.at) == (
                ours.what, ours.goal, ours.sides, ours.series, ours.at,
            )  # fmt: skip
            assert theirs.figure.median == pytest.approx(ours.figure.median, rel=1e-4)
    assert results.load(tmp_path, "no/such") is None
    assert len(list(results.load_all(tmp_path))) == len(outcomes()) + 1


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is known of this source is not measured again; a result of another source is."""
    name, folder = "codec/encode-flat", tmp_path / "results"
    arguments = ["--tiny", "--only", name, "--results", str(folder), "--folder", str(tmp_path / "work")]
    assert benches.main(arguments) == 0
    first = json.loads(results.path_of(folder, name).read_text(encoding="utf-8"))
    assert first["about"]["size"] == "tiny"
    assert first["about"]["commit"] is not None
    results.path_of(folder, name).write_text(json.dumps(first | {"lines": first["lines"][:1]}), encoding="utf-8")
    capsys.readouterr()
    assert benches.main(arguments) == 0
    out = capsys.readouterr()
    assert f"{name} ... known" in out.err
    assert len(out.out.splitlines()) == 3, "what is known is shown"
    first["about"]["source"] = "another"
    results.path_of(folder, name).write_text(json.dumps(first), encoding="utf-8")
    assert benches._known(cases()[name], folder, None) is None


def test_a_case_that_fails_ends_neither_the_others_nor_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on, says which failed, and does not end with 0."""
    monkeypatch.setattr(benches, "_run_child", lambda case, *_: case.name != "codec/read-flat")
    assert benches.main(["--tiny", "--only", "codec", "--results", str(tmp_path), "--folder", str(tmp_path)]) == 1
    assert "failed: codec/read-flat\n" in capsys.readouterr().err


def test_a_run_can_wait_for_a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the load has gone down, but not for ever."""
    loads, slept = iter([5.0, 2.0, 1.0, 0.5]), list[float]()
    monkeypatch.setattr(benches.machine, "load", lambda: next(loads))
    monkeypatch.setattr(benches.time, "sleep", slept.append)
    benches._wait(1.0)
    assert len(slept) == 2
    monkeypatch.setattr(benches.machine, "load", lambda: 5.0)
    slept.clear()
    benches._wait(1.0)
    assert len(slept) == benches.WAIT_STEPS_MAX


def document(tmp_path: Path) -> Path:
    """A document with every block, and prose around them."""
    text = "# By hand\n\n" + "\n".join(
        f"<!-- bench: {name} -->\nold {name}\n<!-- end -->\nprose {name}" for name in report.BLOCKS
    )
    path = tmp_path / "performance.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_document_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    """Blocks are replaced, prose stays, and doing it twice changes nothing."""
    path = document(tmp_path)
    for outcome in outcomes():
        results.save(tmp_path / "results", outcome)
    arguments = ["--results", str(tmp_path / "results"), "--document", str(path)]
    assert report.main(arguments) == 0
    text = path.read_text(encoding="utf-8")
    assert "old " not in text
    assert all(f"prose {name}" in text for name in report.BLOCKS)
    assert "met, 20% better than the floor" in text
    assert "**missed by 60%**" in text
    assert "not measured" in text
    assert report.NOTHING in text
    assert "umadb is not installed" in text
    pictures = re.findall(r"\]\((performance/[a-z]+\.svg)\)", text)
    assert sorted(pictures) == sorted(
        f"performance/{name}.svg" for name in ("goals", "write", "replay", "batches", "growth")
    )
    assert all((tmp_path / picture).exists() for picture in pictures)
    assert report.main(arguments) == 0
    assert path.read_text(encoding="utf-8") == text
    assert report.main(["--results", str(tmp_path / "nothing"), "--document", str(path)]) == 1


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """A misspelt marker would leave old figures in place."""
    text = document(tmp_path).read_text(encoding="utf-8")
    made = report.blocks(outcomes())
    with pytest.raises(ValueError, match=r"not known: \['goalz'\].*lacks: \['goals'\]"):
        report.filled(text.replace("bench: goals", "bench: goalz"), made)


def test_the_real_document_has_every_block() -> None:
    """So that ``make bench`` can write it."""
    assert report.filled(report.DOCUMENT.read_text(encoding="utf-8"), report.blocks(outcomes()))


def test_where_a_peer_is_better_is_said_plainly() -> None:
    """A peer that is faster is listed, one that is slower is not, one that was left out is not mistaken for either."""
    text = report.better(outcomes())
    assert text.count("sqlite3-columns") == 4
    assert "rocksdict" not in text
    assert "umadb" not in text
    assert text.count("**0.50 x**") == 4
    assert report.better([Outcome("compare/rocksdict", "compare", ABOUT, ())]) == "Nowhere in what was measured."


def test_a_goal_with_several_lines_shows_the_least_good() -> None:
    """Neither of them may hide behind the other."""
    for goal, worst in ((GOALS["million-put-loop"], "2.00"), (GOALS["single-append"], "3.00")):
        lines = tuple(Line("case", "what", "full", goal, exact(value), "x") for value in (2.0, 3.0))
        row = next(
            row for row in report.goals([Outcome("case", "append", ABOUT, lines)]).splitlines() if goal.against in row
        )
        assert f"{worst} (the least good of 2)" in row


def test_small_sizes_are_said_to_be_small() -> None:
    """Goals are stated for full sizes."""
    small = [Outcome(one.case, one.group, ABOUT | {"size": "quick"}, one.lines) for one in outcomes()]
    assert "Measured at small sizes (quick)" in report.goals(small)
    assert "small sizes" not in report.goals(outcomes())
    assert all(work.what in report.goals(outcomes()) for work in TABLE)


def test_charts_are_small_and_follow_the_reader() -> None:
    """They stand alone, have the colour of the text around them on either ground, and are the same each time."""
    drawn = charts.charts(outcomes())
    assert set(drawn) == {"goals", "write", "replay", "batches", "growth"}
    for svg in drawn.values():
        assert len(svg.encode()) < charts.BYTES_MAX
        assert "prefers-color-scheme:dark" in svg
        assert "stroke:black" not in svg
        assert "<script" not in svg
        assert "#chart-varve" in svg
    assert charts.charts(outcomes()) == drawn
    assert charts.charts([]) == {}


def test_a_chart_that_is_no_longer_drawn_goes(tmp_path: Path) -> None:
    """Old figures do not stay beside new ones."""
    (tmp_path / "old.svg").write_text("<svg/>", encoding="utf-8")
    assert set(charts.write_charts(tmp_path, outcomes())) == {path.stem for path in tmp_path.glob("*.svg")}


def test_drawing_leaves_imports_alone() -> None:
    """Pygal's finder of an old kind made imports that fail warn, in whichever tests came after the charts in one process."""
    assert charts.charts(outcomes())
    assert all(hasattr(finder, "find_spec") for finder in sys.meta_path)

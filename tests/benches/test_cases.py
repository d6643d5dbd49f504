"""Every case at a tiny size: that it runs and that both sides do the same work, never how fast."""

import sys
from pathlib import Path

import pytest

from benches import __main__ as benches
from benches import registry
from benches.codec import cases as codec_cases
from benches.codec import official, shapes
from benches.events import kinds
from benches.goals import GOALS, TABLE
from benches.lines import Line
from benches.machine import file_system
from benches.solo import SOLOS, Solo
from benches.workspace import SIZES, Workspace


@pytest.mark.parametrize("case", [name for name, case in registry.cases().items() if case.group != "compare"])
def test_a_case_runs_and_its_checksums_agree(case: str, work: Workspace) -> None:
    """At least one line comes out, and nothing but the stores that are kept is left behind."""
    lines = list(registry.cases()[case].run(work))
    assert_sound(case, lines)
    assert not list(work.folder.glob("round-*"))


def assert_sound(case: str, lines: list[Line]) -> None:
    """What must hold of the lines of any case."""
    assert lines
    for line in lines:
        assert line.case == case
        assert line.durability in {"full", "relaxed", "bulk", "none"}
        assert line.figure.low <= line.figure.median <= line.figure.high
        for _, spread in line.sides:
            assert 0 < spread.lower <= spread.median <= spread.upper
        assert not line.goal.key or GOALS[line.goal.key] is line.goal


@pytest.mark.parametrize("solo", SOLOS, ids=lambda solo: solo.identity)
def test_a_call_gives_what_it_must(solo: Solo, work: Workspace) -> None:
    """What pytest-benchmark times has a checksum that is worked out from the events."""
    side, expected, events = solo.prepare(work)
    assert events > 0
    with side.setup() as state:
        assert side.checksum(state, side.run(state)) == expected


def test_a_call_that_gives_something_else_is_told(work: Workspace) -> None:
    """The checksums of two calls of one group differ: they are not constants."""
    thousands = [solo for solo in SOLOS if solo.group == "append" and solo.name.endswith("batches of 1,000")]
    assert len({str(solo.prepare(work)[1]) for solo in thousands}) == len(kinds())


def test_every_goal_of_the_table_has_a_case() -> None:
    """A goal that nobody measures would look like one that was forgotten."""
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in Path(registry.__file__).parent.rglob("*.py")
        if path.stem != "goals"
    )
    missing = {key for key in GOALS if f'"{key}"' not in sources and f"'{key}'" not in sources}
    assert not missing
    assert sum(len(work.goals) for work in TABLE) == len(GOALS), "two goals have one key"


def test_two_cases_of_one_name_are_refused() -> None:
    """One of them would never run."""
    name = next(iter(registry.cases()))
    module = f"benches.{registry.cases()[name].group}.{registry.cases()[name].source.stem}"
    with pytest.raises(ValueError, match=f"two cases are called {name}"):
        registry._collect(dict(registry.cases()), "codec", module)


def test_events_have_the_sizes_that_they_are_named_for() -> None:
    """FlatBuffers of 24, 240 and 1,000 bytes."""
    for kind in kinds().values():
        lengths = {len(payload) for payload in kind.encoded(kind.events(100))}
        if kind.name.endswith("bytes"):
            assert lengths == {int(kind.name.removesuffix(" bytes").replace(",", ""))}
        else:
            assert {type(event).__name__ for event in kind.events(400)} == {"FlightFlown", "FlightCancelled"}


def test_the_size_goal_holds_for_blocks_of_any_batch(work: Workspace) -> None:
    """Bytes are counted, not timed, so this goal can be asserted."""
    frames = next(line for line in registry.cases()["append/disk"].run(work) if "frames" in line.what)
    assert GOALS["disk-batches"].met(frames.figure.median)


def test_a_comparison_that_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without msgspec the codec's cases run, and name what was left out."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    lines = benches.measure(["codec/encode-flat", "codec/read-flat"], "tiny", folder=tmp_path)
    skipped = [line for line in lines if "skipped" in line.what]
    assert [line.case for line in skipped] == ["codec/encode-flat", "codec/read-flat"]
    assert all("msgspec is not installed" in line.detail and line.met is None for line in skipped)
    assert len(lines) > len(skipped)


def test_the_official_side_of_the_codec_reads_what_it_writes() -> None:
    """Builder and accessors of the comparison agree with each other, and both with our codec."""
    for shape in (shapes.FLAT, shapes.NESTED, shapes.OPTIONALS):
        encode, read = official.ENCODE[shape.name], official.READ[shape.name]
        events = shape.events(50)
        ours = codec_cases.event_type(shape.cls).pack_all(events)
        for event, packed in zip(events, ours, strict=True):
            assert read(encode(event)) == read(packed) == shape.values(event)


def test_cases_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A whole name means one case, a group its cases, a part all that have it; an unknown one is told."""
    assert benches.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(registry.cases())
    assert benches.main(["--only", "no such case"]) == 2
    assert [case.name for case in registry.chosen(["read/get"])] == ["read/get"]
    assert {case.group for case in registry.chosen(["replay"])} == {"replay"}
    assert {"append/single", "replay/single-appends"} <= {case.name for case in registry.chosen(["single"])}


def test_a_file_system_is_found_by_its_longest_mount_point() -> None:
    """Measurements belong on a disk: memory file systems are told apart."""
    if Path("/proc/self/mounts").exists():
        assert file_system("/proc") == "proc"


def test_a_kept_store_is_built_anew_for_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are kept between runs; what other code wrote must not be measured."""
    built: list[Path] = []

    def build(path: Path) -> None:
        assert not path.exists()
        path.mkdir()
        built.append(path)

    for _ in range(2):
        Workspace(tmp_path, SIZES["tiny"]).built("store", build)
    assert len(built) == 1
    monkeypatch.setattr("benches.machine.source_digest", lambda: "another")
    assert Workspace(tmp_path, SIZES["tiny"]).built("store", build) == built[0]
    assert len(built) == 2

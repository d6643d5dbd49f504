"""The peers: each that is installed runs, at a tiny size, and keeps what it is given as durably as it says."""

import subprocess
import sys
from pathlib import Path

import pytest

from benches import registry
from benches.compare import peers
from benches.compare.peers import PEERS, Peer
from benches.events import orders
from benches.lines import table
from benches.workspace import Workspace

ALWAYS = {"sqlite3-columns", "sqlite3-blob", "py-lmdb", "py-lmdb-builder"}


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def installed(request: pytest.FixtureRequest) -> Peer:
    """Each peer; one that is not installed is skipped, and the report of the tests says so."""
    peer: Peer = request.param
    reason = peer.missing()
    if reason is not None:
        pytest.skip(reason)
    return peer


def test_peers_that_need_nothing_are_always_there() -> None:
    """Wherever the tests run, some of the comparison runs."""
    assert {peer.name for peer in PEERS if peer.missing() is None} >= ALWAYS


@pytest.mark.filterwarnings("ignore::DeprecationWarning:py_event_sourcing")
def test_a_peer_keeps_what_it_is_given(installed: Peer, tmp_path: Path) -> None:
    """Events of several commits come back in number and total, and the durability is what is said of it."""
    events = orders(50)
    with installed.opened(tmp_path / "store") as store:
        prepared = store.prepare(events)
        for start in (0, 20, 40):
            store.append(prepared[start : start + 20])
            seen = events[: start + 20]
            assert store.amounts() == (len(seen), sum(event.amount for event in seen))
        assert store.durable() is (installed.durability == "full")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:py_event_sourcing")
def test_a_peer_is_compared_in_every_kind_of_work(installed: Peer, work: Workspace) -> None:
    """Each comparison's checksums agree, and the goals that the peer stands for are there."""
    lines = list(registry.cases()[f"compare/{installed.name}"].run(work))
    assert [line.series.removeprefix("compare ") for line in lines] == [
        "million",
        "thousands",
        "single",
        "replay",
        "disk",
    ]
    assert {line.goal.key for line in lines} - {""} == {key for _, key in installed.goals}
    assert {line.durability for line in lines} <= {installed.durability, "none"}


@pytest.mark.parametrize("case", ["compare/limits-disk", "compare/limits-memory", "compare/limits-loop"])
def test_the_limits_of_the_machine_are_measured(case: str, work: Workspace) -> None:
    """They need nothing that is not there."""
    lines = list(registry.cases()[case].run(work))
    assert lines
    assert all(line.case == case and line.unit == "x the cost" for line in lines)


def test_a_peer_that_is_not_installed_is_named(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out silently."""
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda _: None)
    (line,) = registry.cases()["compare/rocksdict"].run(work)
    assert line.what == "left out"
    assert "rocksdict is not installed: pip install" in table([line])


def test_no_peer_is_needed_to_list_the_cases() -> None:
    """Rivals are imported when they are measured: the others run without them, and untouched by what an import of one does."""
    code = (
        "import sys; from benches import __main__, registry; registry.cases();"
        "print(sorted({'eventsourcing', 'rocksdict', 'umadb', 'py_event_sourcing', 'msgspec', 'pygal'} & sys.modules.keys()))"
    )
    root = Path(registry.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

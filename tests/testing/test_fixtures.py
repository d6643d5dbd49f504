"""``varve.testing``: fixtures and helpers that users' tests rely on."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import varve
from varve.testing import ManualClock, assert_sound, temporary_store


@varve.event
class Ticked:
    n: int


def damage(path: Path) -> None:
    """Flip one byte of an event's text where it lies in the data file."""
    raw = bytearray((path / "data.mdb").read_bytes())
    at = raw.rindex(b"find me here")
    raw[at] ^= 0xFF
    (path / "data.mdb").write_bytes(raw)


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    """Forwards and backwards, in seconds."""
    clock = ManualClock(5_000_000_000)
    assert (clock(), clock()) == (5_000_000_000,) * 2
    clock.advance(1.5)
    assert clock() == 6_500_000_000
    clock.advance(-2)
    assert clock() == 4_500_000_000


def test_one_can_sleep_on_a_manual_clock() -> None:
    """Whoever sleeps wakes when the clock has been moved so far, from any thread; who is cancelled sleeps no more."""
    clock = ManualClock()
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async def main() -> None:
        tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2, 0)]
        while 0 not in woken:  # noqa: ASYNC110 - a turn of the loop at a time
            await asyncio.sleep(0)
        assert clock.sleeping == (1, 2, 3)
        clock.advance(1.5)
        await tasks[1]
        assert (woken, clock.sleeping) == ([0, 1], (0.5, 1.5))
        tasks[0].cancel()
        await asyncio.to_thread(clock.advance, 10)
        await tasks[2]
        await asyncio.wait(tasks)
        assert (woken, clock.sleeping) == ([0, 1, 2], ())

    asyncio.run(main())


def test_the_fixtures_give_an_open_store_on_a_clock(
    varve_store: varve.Varve, varve_path: Path, varve_clock: ManualClock
) -> None:
    """The three belong together."""
    assert varve_store.path == str(varve_path)
    stream = varve_store.stream("ticks", Ticked)
    stream.append(1, Ticked(1))
    varve_clock.advance(60)
    stream.append(1, Ticked(2))
    first, second = stream.reader().iter_stream(1)
    assert second.time_ns - first.time_ns == 60_000_000_000


def test_a_temporary_store_is_gone_afterwards() -> None:
    """Folder and all; options and clock are those of ``varve.open``."""
    clock = ManualClock(7)
    with temporary_store(clock=clock, durability="relaxed") as db:
        path = Path(db.path)
        db.stream("ticks", Ticked).append(1, Ticked(1))
        assert db.global_reader().get(0).time_ns == 7
        assert db.stats().durability == "relaxed"
    assert not path.parent.exists()
    with pytest.raises(varve.StoreClosed):
        _ = db.next_global_sequence


def test_a_temporary_store_lets_errors_through() -> None:
    """The block's own error wins, and the folder is removed."""
    with pytest.raises(ZeroDivisionError), temporary_store(durability="relaxed") as db:
        path = Path(db.path)
        1 / 0  # noqa: B018
    assert not path.exists()


def test_a_damaged_temporary_store_fails_the_test() -> None:
    """The check after the block is a real one."""

    @varve.event
    class Text:
        text: str

    with pytest.raises(AssertionError, match="checksum"), temporary_store(durability="relaxed") as db:
        db.stream("texts", Text).append(1, Text("find me here"))
        path = Path(db.path)
        db.close()
        damage(path)


def test_assert_sound_names_what_is_wrong(tmp_path: Path) -> None:
    """Silence for a sound store, every finding for another."""

    @varve.event
    class Text:
        text: str

    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("texts", Text).append(1, Text("find me here"))
    assert_sound(tmp_path / "store")
    damage(tmp_path / "store")
    with pytest.raises(AssertionError, match="is not sound:\nlog: "):
        assert_sound(tmp_path / "store")


BODIES = {
    "sound": ("varve_store.stream('t', Text).append(1, Text('find me here'))", "1 passed"),
    "damaged": (
        "varve_store.stream('t', Text).append(1, Text('find me here')); varve_store.close(); do(varve_path)",
        "1 passed, 1 error",
    ),
    "left open": ("varve_store.close(); global db; db = varve.open(varve_path)", "1 passed, 1 error"),
}


@pytest.mark.parametrize("body", BODIES)
def test_the_fixtures_check_the_store_after_the_test(tmp_path: Path, body: str) -> None:
    """A pytest run of its own: a sound store passes; a damaged one, or one left open, is an error at teardown."""
    code, outcome = BODIES[body]
    (tmp_path / "test_it.py").write_text(
        "import varve\nfrom damage import do\n@varve.event\nclass Text:\n    text: str\n"
        "\ndef test_it(varve_store, varve_path):\n    " + code + "\n"
    )
    (tmp_path / "damage.py").write_text(
        "from pathlib import Path\n" + inspect.getsource(damage).replace("def damage", "def do")
    )
    root = str(Path(varve.__file__).parents[1])
    runner = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {root!r})
        import importlib.metadata, pytest
        known = any(e.name == "varve" for e in importlib.metadata.entry_points(group="pytest11"))
        plugin = [] if known else ["-p", "varve.testing.plugin"]
        sys.exit(pytest.main([*plugin, "-p", "no:cacheprovider", "-q", "test_it.py"]))
    """)
    done = subprocess.run([sys.executable, "-c", runner], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome in done.stdout, done.stdout + done.stderr
    assert done.returncode == (0 if body == "sound" else 1)

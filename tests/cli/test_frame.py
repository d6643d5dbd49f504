"""The frame: version, help, exit codes, Ctrl-C, terminals; and the manual, held against the commands."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command_line import WAIT_S, Inside, fill, interrupted, next_line, on_a_terminal, process, script, started

import varve
from varve.cli.app import GROUPS, app
from varve.errors import VarveError

MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"
COMMON = {"--help"}
"""Options that every command has."""


def commands(command: Any = None, path: str = "varve") -> dict[str, Any]:
    """Every command by its words."""
    command = typer.main.get_command(app) if command is None else command
    inner = getattr(command, "commands", None)
    if inner is None:
        return {path: command}
    return {words: one for name, sub in inner.items() for words, one in commands(sub, f"{path} {name}").items()}


def options(command: Any) -> set[str]:
    """The long options of a command."""
    return {
        name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("--")
    } - COMMON


def sections() -> dict[str, str]:
    """The manual's section of each command."""
    found = {}
    for part in MANUAL.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        if heading.startswith("`varve"):
            words = [word for word in heading.split("`")[1].split() if word.islower() and word.isalpha()]
            found[" ".join(words)] = body.split("\n# ")[0]
    return found


def test_version(tmp_path: Path) -> None:
    """As every command says it."""
    assert process(tmp_path, "--version") == (0, f"varve {varve.__version__}\n", "")


def test_help_lists_every_command_in_a_group(inside: Inside) -> None:
    """Each command stands under one heading; a new one has to be put under one."""
    text = inside.done("--help")
    names = {words.split()[1] for words in commands()}
    assert names <= {name for group in GROUPS.values() for name in group}
    assert "\nMore:\n" not in text
    for title, group in GROUPS.items():
        listed = re.search(rf"\n{title}:\n((?:  .*\n)+)", text)
        assert (listed is not None) == bool(names & set(group))
        if listed is not None:
            assert [line.split()[0] for line in listed[1].splitlines() if line[2] != " "] == [
                n for n in group if n in names
            ]
    assert "..." not in text.split("Exit codes")[0].replace("[ARGS]...", ""), "what a command does has to fit its line"


@pytest.mark.parametrize("words", commands())
def test_every_command_has_help_with_an_example(inside: Inside, words: str) -> None:
    """``--help`` of each shows how it is called, and each answers programs."""
    text = inside.done(*words.split()[1:], "--help")
    assert f"{words} " in re.split(r"Examples?:", text)[-1]
    found = options(commands()[words])
    assert {"--json", "--as-json"} & found or words in {"varve schema python", "varve schema fbs"}


def test_the_manual_has_a_section_for_every_command() -> None:
    """And none for what is gone."""
    assert sorted(sections()) == sorted(commands())


@pytest.mark.parametrize("words", commands())
def test_the_manual_knows_every_option(words: str) -> None:
    """Each option stands in the section of its command, and a list item there that begins with an option is one of its own."""
    body = sections()[words]
    assert {name for name in options(commands()[words]) if f"`{name}" not in body} == set()
    described = {
        name
        for line in re.findall(r"^- (`.*)$", body, re.MULTILINE)
        for name in re.findall(r"`(--[a-z-]+)", line.split(":")[0])
    }
    assert described - options(commands()[words]) == set()


def test_an_error_is_one_line_whatever_is_in_it(inside: Inside) -> None:
    """Also where a name that was typed, or an error that came from the store, holds what steers a terminal."""
    fill(Path("data"))
    told = inside.refused(2, "log", "data", "--stream", "a\x1b[31m\nb")
    assert "'a\\x1b[31m\\nb'" in told
    told = inside.refused(6, "log", "no\x1b[31m\nsuch")
    assert "no\\x1b[31m\\x0asuch" in told


def test_a_mistake_never_makes_a_store(inside: Inside, tmp_path: Path) -> None:
    """Every command that takes a store refuses a folder without one, and leaves it alone."""
    for words, command in commands().items():
        if words == "varve import":
            continue  # which may make one
        if any(getattr(one, "metavar", "") == "STORE" for one in command.params):
            rest = {
                "varve cat": ["a", "1"],
                "varve get": ["0"],
                "varve append": ["a", "1", "--type", "T", "--json", "{}"],
            }.get(words, [])
            rest = {
                "varve schema export": ["out"],
                "varve schema check": ["varve.ops.demo:Line"],
                "varve consumers seek": ["a", "end"],
                "varve consumers delete": ["a"],
                "varve state get": ["a"],
                "varve state put": ["a", "1"],
                "varve state delete": ["a", "--yes"],
                "varve backup": ["out"],
                "varve compact": ["out"],
                "varve archive": ["--before", "1", "--to", "out"],
            }.get(words, rest)
            told = inside.refused(6, *words.split()[1:], "nowhere", *rest)
            assert "there is no store at" in told or "holds no store" in told, words
    assert list(tmp_path.iterdir()) == []


def test_kinds_of_errors_have_exit_codes(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code is that of the error's kind, whatever raises it."""
    from varve.cli import app as frame
    from varve.cli import verify

    def kinds(cls: type[VarveError]) -> list[type[VarveError]]:
        return [cls, *(found for sub in cls.__subclasses__() for found in kinds(sub))]

    for cls in kinds(VarveError):

        def broken(*_: object, error: type[VarveError] = cls, **__: object) -> None:
            raise error("no")

        monkeypatch.setattr(verify.ops, "verify", broken)
        assert inside.refused(frame.EXIT_CODES[cls.kind], "verify", "data") == "varve: no\n"


INTERRUPTED = """
import os, signal, sys
from varve import ops
original = ops.{name}
def struck(*arguments, progress, **options):
    def told(done, total):
        if done:
            os.kill(os.getpid(), signal.SIGINT)
        progress(done, total)
    return original(*arguments, progress=told, **options)
ops.{name} = struck
sys.argv = ["varve", *{arguments!r}]
from varve.cli import main
main()
"""


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("verify", ["verify", "data"]),
        ("repair", ["repair", "data", "copy"]),
        ("repair", ["repair", "data", "copy", "--salvage"]),
        ("block_fill", ["stats", "data", "--exact"]),
    ],
)
def test_ctrl_c_in_the_middle_leaves_nothing_half_done(tmp_path: Path, name: str, arguments: list[str]) -> None:
    """One line, exit code 130; no folder that looks like a result, nothing left beside it."""
    fill(tmp_path / "data", 20)
    before = {
        path: path.read_bytes()
        for path in (tmp_path / "data").iterdir()
        if path.suffix != ".lock" and path.name != "lock.mdb"
    }
    found = script(tmp_path, INTERRUPTED.format(name=name, arguments=arguments))
    assert found == (130, "", "varve: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    """Loading takes half of the time of a short command."""
    text = "import sys\nclass Struck:\n    def find_spec(self, name, *_):\n        if name == 'typer': raise KeyboardInterrupt\n"
    found = script(tmp_path, f"{text}sys.meta_path.insert(0, Struck())\nfrom varve.cli import main\nmain()")
    assert found == (130, "", "varve: interrupted\n")


def test_ctrl_c_while_lines_are_read(tmp_path: Path) -> None:
    """What was committed is told; what was not is not there."""
    fill(tmp_path / "data", 2)
    arguments = ("append", "data", "orders", "9", "--type", "shop.Shipped")
    with started(tmp_path, *arguments, "--every", "2") as running:
        assert running.stdin is not None
        for number in range(5):
            running.stdin.write(b'{"order_id": %d}\n' % number)
        running.stdin.flush()
        assert next_line(running) == "#3 to #4  2 events\n"
        assert next_line(running) == "#5 to #6  2 events\n"
        found = interrupted(running)
    assert found == (130, "", "varve: interrupted; 4 events in 2 transactions were written before\n")
    with varve.open(tmp_path / "data") as db:
        assert db.next_global_sequence == 7


def test_a_progress_bar_is_for_terminals(tmp_path: Path) -> None:
    """It shows on a terminal's standard error, with a rate, and goes again; pipes get nothing."""
    fill(tmp_path / "data", 300)
    code, out = on_a_terminal(tmp_path, "verify", "data")
    assert code == 0
    assert "verifying" in out
    assert "sound: 450 events" in re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert process(tmp_path, "verify", "data").err == ""


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    """On a terminal, and not where NO_COLOR is set, nor in a pipe."""
    fill(tmp_path / "data")
    assert "\x1b[36m" in on_a_terminal(tmp_path, "log", "data")[1]
    assert "\x1b[36m" not in on_a_terminal(tmp_path, "log", "data", NO_COLOR="1")[1]
    assert "\x1b" not in process(tmp_path, "log", "data").out


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """``varve log | head -1``, with more to say than a pipe holds."""
    fill(tmp_path / "data", 800)
    for extra in ([], ["--json"]):
        with started(tmp_path, "log", "data", *extra) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            assert next_line(running)
            running.stdout.close()
            assert running.wait(timeout=WAIT_S) == 0
            assert running.stderr.read() == b""


def test_signals_are_what_they_are() -> None:
    """130 is 128 and the number of SIGINT."""
    from varve.cli.app import INTERRUPTED as CODE

    assert CODE == 128 + signal.SIGINT

"""What ``flatc --conform`` says of the changes that Varve allows and refuses."""

from __future__ import annotations

import subprocess

import pytest
from evolution_cases import ALLOWED, DANGEROUS, Change, root
from official import Flatc

from varve.codec.fbs import to_fbs


def conforms(flatc: Flatc, change: Change) -> str:
    """What flatc says against a change; empty when it accepts it."""
    folder = flatc.fresh(to_fbs(change.before))
    (folder / "after.fbs").write_text(to_fbs(change.after), encoding="utf-8")
    command = [flatc.command, "--conform", "schema.fbs", "after.fbs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("change", DANGEROUS, ids=lambda c: c.what)
def test_flatc_lets_the_dangerous_changes_pass(flatc: Flatc, change: Change) -> None:
    """Each of them is refused by Varve (``test_evolve.py``); flatc sees nothing in it."""
    assert conforms(flatc, change) == ""


@pytest.mark.parametrize("change", ALLOWED, ids=lambda c: c.what)
def test_flatc_agrees_to_what_varve_allows(flatc: Flatc, change: Change) -> None:
    """Other languages may follow every change that a store accepts."""
    assert conforms(flatc, change) == ""


def test_flatc_refuses_another_type(flatc: Flatc) -> None:
    """The harness hears flatc when it does refuse: a field of another type."""
    assert "types differ" in conforms(flatc, Change("", root({"a": int}), root({"a": str})))

"""What is no path of a store, and no place for a new one, is refused with an error of Varve's, and nothing is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from damage import Noted

import varve
from varve import ops

NO_PATHS: list[Any] = ["", b"", b"store", 5, None, "a\0b", "\ud800", {"store"}]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store of one event."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("notes", Noted).append(1, Noted(1, "one"))
    return tmp_path / "store"


@pytest.mark.parametrize("odd", NO_PATHS, ids=ascii)
def test_what_is_no_path_is_refused(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Any) -> None:
    """The empty path would be the current folder: here it even is a store."""
    monkeypatch.chdir(path)
    before = names(path)
    with pytest.raises(varve.InvalidInput):
        varve.open(odd)
    with pytest.raises(varve.InvalidInput):
        varve.open(odd, trust=False)
    with pytest.raises(varve.InvalidInput):
        ops.verify(odd)
    with pytest.raises(varve.InvalidInput):
        ops.schemas(odd)
    for salvage in (False, True):
        with pytest.raises(varve.InvalidInput):
            ops.repair(odd, tmp_path / "new", salvage=salvage)
        with pytest.raises(varve.InvalidInput):
            ops.repair(path, odd, salvage=salvage)
    if odd is not None:
        with pytest.raises(varve.InvalidInput):
            ops.verify(path, scratch=odd)
    assert names(path) == before
    assert names(tmp_path) == ["store"]


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("target", ["store/new", "store/a/b", "link/new", "store/../store/new"])
def test_a_target_inside_of_the_source_is_refused(path: Path, tmp_path: Path, target: str, *, salvage: bool) -> None:
    """The source is only read: its folder, too."""
    (tmp_path / "link").symlink_to(path)
    before = names(path)
    with pytest.raises(varve.InvalidInput, match="lies in the store"):
        ops.repair(path, tmp_path / target, salvage=salvage)
    with pytest.raises(varve.InvalidInput, match="lies in the store"):
        ops.repair(tmp_path / "link", tmp_path / target, salvage=salvage)
    assert names(path) == before


def test_a_source_inside_of_the_target_is_refused(path: Path, tmp_path: Path) -> None:
    """The target is there, then."""
    with pytest.raises(varve.InvalidInput, match="exists already"):
        ops.repair(path, tmp_path)
    assert names(tmp_path) == ["store"]


def test_a_name_that_begins_like_the_source_is_no_place_in_it(path: Path, tmp_path: Path) -> None:
    """Beside it is where most people put the new one."""
    assert ops.repair(path, tmp_path / "store.new").events == 1
    assert ops.verify(tmp_path / "store.new").sound


def test_a_path_into_a_file_holds_no_store(path: Path) -> None:
    """As little as one that does not exist."""
    with pytest.raises(varve.StoreNotFound):
        ops.verify(path / "data.mdb")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_store_that_others_may_not_see_is_not_called_missing(path: Path, tmp_path: Path) -> None:
    """Somebody else's folder: the permission is what to ask for."""
    script = (
        "import os, sys, varve.ops\n"
        "from varve import ops\n"
        "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "try: ops.verify('store')\n"
        "except varve.StoreAccessDenied: print('denied')\n"
    )
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "denied\n", done.stderr
    assert path.exists()

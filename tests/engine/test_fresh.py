"""A store made from pairs: everything that was put under the name it was asked for, or nothing at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import lmdb
import pytest
from engine_helpers import FaultyEnvironment, lmdb_error

import varve
from varve.engine import files, fresh
from varve.engine.environment import Environment
from varve.engine.fresh import FreshStore
from varve.engine.instant import Instant, contents

PAIRS = [(b"%03d" % n, bytes([n]) * 10) for n in range(100)]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "made"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(("batch", "batch_bytes"), [(1, 2**20), (7, 2**20), (100, 2**20), (4_096, 25), (4_096, 2**20)])
def test_pairs_come_back_however_they_were_grouped(
    target: Path, monkeypatch: pytest.MonkeyPatch, batch: int, batch_bytes: int
) -> None:
    """A transaction for so many pairs or so many bytes: none is lost between two of them."""
    monkeypatch.setattr(fresh, "_BATCH", batch)
    monkeypatch.setattr(fresh, "_BATCH_BYTES", batch_bytes)
    with FreshStore(str(target)) as made:
        made.put("log", PAIRS)
        made.put("index", [])
        made.put("meta", iter(PAIRS[:50]))
        made.put("meta", PAIRS[50:])
        assert not target.exists()
        made.finish()
    assert contents(str(target)) == {"log": dict(PAIRS), "index": {}, "meta": dict(PAIRS)}
    assert names(target.parent) == ["made"]


def test_side_tables_are_made_once_and_gone_on_with(target: Path) -> None:
    with FreshStore(str(target)) as made:
        made.put("consumers", PAIRS[:50])
        made.put("consumers", PAIRS[50:])
        made.finish()
    with Instant(str(target)) as instant:
        assert dict(instant.file.items(instant.file.tables()[b"varve.consumers"])) == dict(PAIRS)


def test_without_a_finish_nothing_remains(target: Path) -> None:
    """Neither where an error ends it nor where it is forgotten."""
    with pytest.raises(RuntimeError), FreshStore(str(target)) as made:
        made.put("log", PAIRS)
        raise RuntimeError
    with FreshStore(str(target)) as made:
        made.put("log", PAIRS)
        made.close()
        made.close()
    assert names(target.parent) == []


@pytest.mark.parametrize(
    ("code", "free", "error"),
    [
        (errno.ENOSPC, 2**30, varve.DiskFull),
        (errno.EIO, 2**30, varve.StoreFailed),
        (errno.EIO, 0, varve.DiskFull),  # LMDB says EIO for a write that was cut short
    ],
)
@pytest.mark.parametrize("step", ["put", "close"])
def test_a_disk_that_fails_is_told_and_nothing_kept(
    target: Path, monkeypatch: pytest.MonkeyPatch, code: int, free: int, error: type[varve.VarveError], step: str
) -> None:
    """A disk that was full at the last sync was called a failed one, to be looked at."""
    failure = lmdb_error(lmdb.DiskError if code == errno.ENOSPC else lmdb.Error, code)

    def fail(*_: object) -> None:
        raise failure

    with pytest.raises(error) as caught, FreshStore(str(target)) as made:
        assert made._environment is not None
        faulty = FaultyEnvironment(made._environment.env)
        made._environment.env = faulty  # type: ignore[assignment]
        monkeypatch.setattr(files, "free_bytes", lambda _: free)
        if step == "put":
            faulty.on_put = fail  # type: ignore[assignment]
        made.put("log", PAIRS)
        faulty.sync = fail  # type: ignore[attr-defined]
        made.finish()
    assert type(caught.value) is error
    assert caught.value.path == str(target)
    assert names(target.parent) == []


def test_a_store_that_cannot_be_begun_leaves_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a store for which there was no room stayed, and the next attempt was told that another is running."""

    def full(environment: Environment) -> None:
        raise varve.DiskFull("no room", path=environment.path)

    with monkeypatch.context() as patch:
        patch.setattr(Environment, "_databases", full)
        with pytest.raises(varve.DiskFull):
            FreshStore(str(target))
    assert names(target.parent) == []
    with FreshStore(str(target)) as made:
        made.finish()


def test_who_begins_at_the_same_moment_takes_nothing_away(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both looked before either began: the second is refused, and what the first has made stays his."""
    with FreshStore(str(target)) as made:
        made.put("log", PAIRS)
        with monkeypatch.context() as patch, pytest.raises(varve.StoreAlreadyOpen):
            patch.setattr(os.path, "lexists", lambda _: False)
            FreshStore(str(target))
        made.finish()
    assert contents(str(target))["log"] == dict(PAIRS)


def test_what_was_made_meanwhile_is_left_alone(target: Path) -> None:
    """Somebody else's folder under the name: his it stays."""
    with pytest.raises(varve.InvalidInput, match="meanwhile"), FreshStore(str(target)) as made:
        made.put("log", PAIRS)
        target.mkdir()
        made.finish()
    assert names(target.parent) == ["made"]
    assert names(target) == []


def test_a_name_that_cannot_be_made_durable_is_told(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own error came out of a rebuild."""

    def fail(folder: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), folder)

    with FreshStore(str(target)) as made:
        monkeypatch.setattr(files, "sync_folder", fail)
        with pytest.raises(varve.StoreUnavailable) as caught:
            made.finish()
    assert caught.value.path == str(target)

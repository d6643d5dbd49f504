"""Consumers that are moved from outside, by ``db.seek_consumer``."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tailing_models import Placed

import varve


@pytest.fixture
def db(tmp_path: Path) -> varve.Varve:
    """A store with ten events; closed by whoever collects it."""
    db = varve.open(tmp_path / "store", durability="relaxed")
    db.stream("orders", Placed).append_batch(1, [Placed(number) for number in range(10)])
    return db


def test_who_comes_next_continues_there(db: varve.Varve) -> None:
    """Backwards and forwards, also where the place is a time or the end; nobody is made by it."""
    db.consumer("billing").close()
    for start, position in ((7, 7), (varve.END, 10), (dt.datetime(2000, 1, 1, tzinfo=dt.UTC), 0), (3, 3)):
        assert db.seek_consumer("billing", start) == position
        with db.consumer("billing", start=9) as consumer:
            assert consumer.position == position
    assert db.seek_consumer("mail", 3) is None
    assert [info.name for info in db.consumers()] == ["billing"]


def test_all_members_of_a_group_move_at_once(db: varve.Varve) -> None:
    """Their shares stand at one place then, and the number of members stays."""
    for member in range(3):
        with db.consumer("mail", member=member, members=3) as consumer:
            consumer.seek(member)
    assert db.seek_consumer("mail", 5) == 5
    [info] = db.consumers()
    assert [member.position for member in info.members] == [5, 5, 5]
    with db.consumer("mail", member=1, members=3) as consumer:
        assert consumer.position == 5


def test_who_runs_it_is_left_alone_or_fenced(db: varve.Varve) -> None:
    """Any member that runs is enough for a refusal; by force it is out, and the position is the one that was asked for."""
    with db.consumer("mail", member=1, members=3) as consumer:
        with pytest.raises(varve.ConsumerBusy):
            db.seek_consumer("mail", 5)
        assert consumer.seek(2) == 2
        assert db.seek_consumer("mail", 5, force=True) == 5
        with pytest.raises(varve.ConsumerFenced):
            consumer.seek(1)
    [info] = db.consumers()
    assert info.position == 5


def test_what_it_refuses(db: varve.Varve, tmp_path: Path) -> None:
    """Places that are none, names that are none, a handle that cannot write."""
    db.consumer("billing", start=4).close()
    for start in (11, -1, True, "end", dt.datetime(2000, 1, 1), None):
        with pytest.raises(varve.InvalidInput):
            db.seek_consumer("billing", start)  # type: ignore[arg-type]
    with pytest.raises(varve.InvalidName):
        db.seek_consumer("", 0)
    [info] = db.consumers()
    assert info.position == 4
    db.close()
    with varve.open(tmp_path / "store", readonly=True) as readonly, pytest.raises(varve.ReadonlyStore):
        readonly.seek_consumer("billing", 0)

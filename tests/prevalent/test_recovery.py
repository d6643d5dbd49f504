"""The state made again: snapshots that are used, passed over, taken; logs that are old, cut, or of other code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from prevalent_models import Bank, Deposit, Draw, Explode, Transfer, balances, bank, open_db

import varve
from varve import limits, ops
from varve.prevalent.journal import Journal
from varve.upcasts import REGISTRY

SCOPE = ("prevalent/bank", 0)


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What was read of the log."""
    seen: list[tuple[int, int]] = []
    runs = Journal.runs

    def noted(self: Journal, start: int, stop: int) -> Any:
        seen.append((start, stop))
        return runs(self, start, stop)

    monkeypatch.setattr(Journal, "runs", noted)
    return seen


def positions(db: varve.Varve) -> list[int]:
    """Where snapshots are."""
    return [info.position for info in db.snapshots.stored(SCOPE)]


def test_a_snapshot_is_taken_after_so_many_commands(db: varve.Varve, replayed: list[tuple[int, int]]) -> None:
    """The newest so many are kept; a start begins with the newest one."""
    with bank(db, snapshot_every=10, keep=2) as system:
        for number in range(35):
            system.execute(Deposit(f"a{number % 3}", number))
        system.execute(Draw(3))
        expected = system.query(lambda state: state.to_snapshot(), copy=True)
        assert (positions(db), system.snapshot_position) == ([20, 30], 30)
        assert system.verify()
    replayed.clear()
    with bank(db) as system:
        assert replayed == [(30, 36)]
        assert system.query(lambda state: state.to_snapshot()) == expected
        assert system.verify()
        assert system.snapshot() == 36
        assert system.snapshot() == 36
    replayed.clear()
    with bank(db) as system:
        assert replayed == []
        assert system.query(lambda state: state.to_snapshot()) == expected


def test_snapshots_count_what_waits(db: varve.Varve) -> None:
    """And write it first."""
    with bank(db, snapshot_every=10, flush="manual") as system:
        for _ in range(15):
            system.execute(Deposit("ann", 1))
        assert (positions(db), system.position, system.pending) == ([10], 10, 5)


def test_snapshots_of_another_version_are_passed_over(db: varve.Varve, replayed: list[tuple[int, int]]) -> None:
    """Everything is replayed, and the other version finds its own again."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))
        system.snapshot()
    for version, seen in ((2, [(0, 1)]), (1, [])):
        replayed.clear()
        with bank(db, version=version) as system:
            assert replayed == seen
            assert balances(system) == {"ann": 1}


def test_a_damaged_snapshot_is_passed_over(varve_path: Path, replayed: list[tuple[int, int]]) -> None:
    """The one before it is used, or none."""
    with open_db(varve_path) as db, bank(db) as system:
        system.execute(Deposit("ann", 1))
        system.snapshot()
        system.execute(Deposit("ann", 12_345))
        system.execute(Deposit("needle", 1))
        system.snapshot()
    [data] = Path(varve_path, "snapshots").glob("data.mdb")
    raw = data.read_bytes()
    assert raw.count(b"needle") >= 1
    data.write_bytes(raw.replace(b"needle", b"noodle"))
    with open_db(varve_path) as db, bank(db) as system:
        assert replayed == [(1, 3)]
        assert balances(system) == {"ann": 12_346, "needle": 1}
    shutil.rmtree(Path(varve_path, "snapshots"))
    replayed.clear()
    with open_db(varve_path) as db, bank(db) as system:
        assert replayed == [(0, 3)]
        assert balances(system) == {"ann": 12_346, "needle": 1}


def test_a_snapshot_of_a_history_that_was_lost_is_passed_over(varve_path: Path, tmp_path: Path) -> None:
    """The store went back to a backup, and on from there."""
    with open_db(varve_path) as db, bank(db) as system:
        system.execute(Deposit("ann", 1))
    shutil.copytree(varve_path, tmp_path / "before", ignore=shutil.ignore_patterns("lock.mdb"))
    with open_db(varve_path) as db, bank(db) as system:
        system.execute(Deposit("ann", 100))
        system.snapshot()
    shutil.copytree(
        varve_path / "snapshots", tmp_path / "before" / "snapshots", ignore=shutil.ignore_patterns("lock.mdb")
    )
    with open_db(tmp_path / "before") as db, bank(db) as system:
        assert balances(system) == {"ann": 1}
        system.execute(Deposit("ann", 2))
    with open_db(tmp_path / "before") as db, bank(db) as system:
        assert balances(system) == {"ann": 3}


def test_a_state_that_cannot_be_saved_goes_on(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is executed; who asks for a snapshot is told where it stands."""
    with bank(db, snapshot_every=3) as system:
        with monkeypatch.context() as patch:
            patch.setattr(Bank, "to_snapshot", lambda self: {"accounts": object()})
            for number in range(5):
                assert system.execute(Deposit("ann", 1)) == number + 1
            with pytest.raises(varve.InvalidInput, match="accounts"):
                system.snapshot()
        assert positions(db) == []
        system.execute(Deposit("ann", 1))
        assert positions(db) == [6]


def test_what_a_crash_left_unapplied_is_taken_back_at_the_start(db: varve.Varve) -> None:
    """Its apply raises here, too."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))
    db.stream("prevalent/bank", Explode).append(0, Explode("x"))
    with bank(db) as system:
        assert (balances(system), system.position) == ({"ann": 1}, 3)
        assert db.global_reader().get(2).event == varve.Aborted(1, "RuntimeError: boom: x")  # type: ignore[union-attr]
        system.execute(Deposit("ann", 1))
    with bank(db) as system:
        assert (balances(system), system.position) == ({"ann": 2}, 4)
        assert system.verify()


def test_a_command_that_was_executed_is_never_passed_over(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its code fails now, starting fails, and nothing is changed."""
    with bank(db) as system:
        for number in range(5):
            system.execute(Deposit("ann", number))
    apply = Deposit.apply

    def refusing(self: Deposit, state: Bank) -> int:
        if self.amount == 2:
            raise ZeroDivisionError
        return apply(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Deposit, "apply", refusing)
        with pytest.raises(varve.ReplayFailed) as caught:
            bank(db)
        assert (caught.value.system, caught.value.stream_sequence, caught.value.type_name) == ("bank", 2, "Deposit")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert db.next_global_sequence == 5
    with bank(db) as system:
        assert balances(system) == {"ann": 10}
        system.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(Deposit, "apply", refusing)
        with bank(db) as system, pytest.raises(varve.ReplayFailed):
            system.verify()


def test_a_command_may_be_taken_back_later(db: varve.Varve, replayed: list[tuple[int, int]]) -> None:
    """As a second writer might: a snapshot that holds it is of no use then, one before it is."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))
        system.snapshot()
        for amount in (10, 100, 1_000):
            system.execute(Deposit("ann", amount))
        other = bank(db)
        system.snapshot()
        db.stream("prevalent/bank", varve.Aborted).append(0, varve.Aborted(2, "on second thoughts"))
        replayed.clear()
        assert system.refresh() == 1
        assert replayed == [(4, 5), (4, 5), (1, 5)]
        assert balances(system) == {"ann": 1_011}
        assert system.verify()
        assert system.execute(Deposit("ann", 1)) == 1_012
        assert other.refresh() == 2
        assert balances(other) == {"ann": 1_012}
        other.close()


@varve.event(name="Deposit")
class OldDeposit:
    account: str
    amount: varve.u64


@varve.event(name="Credit")
class Credit:
    account: str
    amount: varve.u64
    reason: str

    def apply(self, state: Bank) -> int:
        state.accounts[self.account] = balance = state.accounts.get(self.account, 0) + self.amount
        return balance


def test_old_commands_come_through_upcasts(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the class that executes now."""
    with bank(db) as system:
        for number in range(4):
            system.execute(Deposit("ann", number))
    with pytest.raises(varve.UnexpectedEventType):
        varve.PrevalentSystem(db, "bank", initial=Bank, commands=[Credit])
    monkeypatch.setattr(REGISTRY, "_steps", REGISTRY._steps)
    monkeypatch.setattr(REGISTRY, "generation", REGISTRY.generation + 1)

    @varve.upcast(OldDeposit, Credit)
    def _credit(old: OldDeposit) -> Credit:
        return Credit(old.account, old.amount, "a deposit")

    with varve.PrevalentSystem(db, "bank", initial=Bank, commands=[Credit]) as system:
        assert balances(system) == {"ann": 6}
        assert system.execute(Credit("ann", 1, "interest")) == 7
        assert system.verify()


def test_rules_that_hide_events_from_readers_hide_no_command(db: varve.Varve) -> None:
    """Hidden is not gone."""
    with bank(db) as system:
        for number in range(4):
            system.execute(Deposit("ann", number))
    db.stream("prevalent/bank", Deposit).truncate_before(0, 3)
    with bank(db) as system:
        assert balances(system) == {"ann": 6}


def test_dropped_commands_need_a_snapshot(varve_path: Path, tmp_path: Path) -> None:
    """Compaction drops what is hidden, and takes the snapshots along."""
    with open_db(varve_path) as db, bank(db) as system:
        for number in range(6):
            system.execute(Deposit("ann", number))
            if number == 3:
                system.snapshot()
        db.stream("prevalent/bank", Deposit).truncate_before(0, 3)
    ops.compact(varve_path, tmp_path / "compacted")
    with open_db(tmp_path / "compacted") as db:
        with bank(db) as system:
            assert (balances(system), system.snapshot_position) == ({"ann": 15}, 4)
            with pytest.raises(varve.ReplayFailed, match="compaction"):
                system.verify()
        with pytest.raises(varve.ReplayFailed, match="compaction"):
            bank(db, version=2)


def test_archived_commands_need_a_snapshot(varve_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one behind them the system goes on."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_000)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 600)
    with open_db(varve_path) as db:
        with bank(db) as system:
            for number in range(100):
                system.execute(Deposit("ann", number))
            system.snapshot()
            system.execute(Deposit("ann", 1))
        db.archive(90, tmp_path / "archive")
        with bank(db) as system:
            assert balances(system) == {"ann": 4_951}
            with pytest.raises(varve.Archived):
                system.verify()
        with pytest.raises(varve.Archived, match="no snapshot behind them"):
            bank(db, version=2)


def test_a_store_that_closes_ends_a_replay(varve_path: Path) -> None:
    """The iterator says so, and holds nothing of the map."""
    with open_db(varve_path) as db:
        with bank(db) as system:
            for number in range(20):
                system.execute(Deposit("ann", number))
        runs = Journal(db, "bank", [Deposit, Transfer]).runs(0, 20)
        assert len(next(runs).offsets) == 20
    with pytest.raises(varve.StoreClosed):
        next(runs)


def test_an_index_that_is_wrong_is_told(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have checksums, and say whose events they hold."""
    from varve.engine.snapshot import Snapshot

    with bank(db) as system:
        for number in range(20):
            system.execute(Deposit("ann", number))
    db.stream("notes", Deposit).append_batch(0, [Deposit("x", 1)] * 20)
    monkeypatch.setattr(Snapshot, "stream_pieces", lambda *_, **__: iter([[(0, 20, 20)]]))
    with pytest.raises(varve.CorruptedStore):
        bank(db)

"""Every script in ``examples/`` runs by itself, in a process of its own, and prints what it promises."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: str | Path, exit_code: int = 0) -> str:
    """Run an example and return what it printed, stderr included."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert finished.returncode == exit_code, finished.stdout
    return finished.stdout


def test_every_script_is_run_by_a_test_here() -> None:
    """A new example cannot stay untested: its name must appear in this folder's tests."""
    tested = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    scripts = {
        path.name for path in EXAMPLES.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    assert {script for script in scripts if script not in tested} == set()


def test_quickstart_appends_reads_and_replays() -> None:
    """quickstart.py needs no argument, and the numbers it prints are those of its three orders."""
    printed = run("quickstart.py").splitlines()
    assert printed == [
        "appended at stream sequence 0, global sequence 0",
        printed[1],
        "order 12345: 1 x Laptop for 999.00",
        "customer 2, event 0: Keyboard",
        "customer 2, event 1: Mouse",
        "replayed 3 events worth 1086.00",
    ]
    assert re.fullmatch(r"appended 2 more, the last at .*stream_sequence=1.*global_sequence=2.*", printed[1])


def test_quickstart_refuses_to_place_its_orders_twice(tmp_path: Path) -> None:
    """On a folder of one's own choosing the store stays, so that the second run meets ``expected=0`` in vain."""
    run("quickstart.py", tmp_path / "store")
    assert "WrongExpectedVersion" in run("quickstart.py", tmp_path / "store", exit_code=1)


def test_one_of_two_clerks_is_refused_and_decides_again() -> None:
    """order_aggregate.py: of two appends at the same version exactly one is written, and the loser sees why."""
    printed = run("order_aggregate.py")
    assert len(re.findall(r"^(shipping|support): the order is placed$", printed, re.MULTILINE)) == 2
    assert len(re.findall(r"^(shipping|support): the order is (shipped|cancelled)$", printed, re.MULTILINE)) == 1
    assert len(re.findall(r"^(shipping|support): written as event 1 of the order$", printed, re.MULTILINE)) == 1
    assert re.search(
        r"^support: cannot cancel an order that is shipped$|^shipping: cannot ship an order that is cancelled$",
        printed,
        re.MULTILINE,
    )
    assert re.search(r"^order 7 is (shipped|cancelled) at version 2, saved at \[2\]$", printed, re.MULTILINE)


def test_the_clerks_find_another_order_in_a_folder_of_an_earlier_run(tmp_path: Path) -> None:
    """order_aggregate.py: a store that is kept is no hindrance to the second run."""
    for number in (7, 8):
        assert f"order {number} is " in run("order_aggregate.py", tmp_path / "store")


def test_a_refused_transfer_writes_nothing() -> None:
    """bank_transfer.py: after each refusal balances and the number of events are as before."""
    assert run("bank_transfer.py").splitlines() == [
        "opened: alice 100.00, bob 20.00 (2 events)",
        "transferred: alice 70.00, bob 50.00 (4 events)",
        "refused, bob has 50.00, not 500.00: alice 70.00, bob 50.00 (4 events)",
        "refused, alice holds 2 events and not 1: alice 70.00, bob 50.00 (4 events)",
        "refused, carol has no account: alice 70.00, bob 50.00 (4 events)",
    ]


def test_a_bank_keeps_its_overdraft_rule(tmp_path: Path) -> None:
    """bank.py: no balance below the limit, none that its events do not say, nothing lost among eight tellers; in a folder of
    one's own it goes on where it was."""
    first, again = (run("bank.py", tmp_path / "store").splitlines() for _ in range(2))
    in_all = again.pop(4)
    assert re.fullmatch(r"in all -?\d+\.\d\d, as before", in_all)
    assert again == first[:4] + first[5:]
    assert run("bank.py").splitlines() == first
    assert first == [
        "anna has -100.00, which is as far as it goes",
        "one cent more is refused: -10000 would become -10001, below -10000",
        "nobody has no account: require_exists of ('balance', 'nobody') failed",
        "8 tellers: 200 transfers decided",
        "in all 1400.00, as before",
        "no account is below -100.00: True",
        "each balance is what its events say: True",
    ]


def test_a_second_process_sees_what_is_committed() -> None:
    """second_process.py: a reader that stays open finds the events that the living writer adds."""
    assert run("second_process.py").splitlines() == [
        "reader: 3 measurements, the latest 19.5 degrees",
        "writer: appended two more, 5 by now",
        "reader: 5 measurements, the latest 20.5 degrees",
    ]


def test_a_killed_consumer_continues() -> None:
    """consumer_restart.py: each biller goes on behind the last bill of the one that was killed, and no order has two."""
    printed = run("consumer_restart.py").splitlines()
    assert printed[0] == "biller continues at 0"
    billed = [int(line.rsplit(" ", 1)[1]) for line in printed if line.startswith("  billed order")]
    assert billed == sorted(set(billed))
    assert re.fullmatch(r"biller continues at [5-9]|biller continues at 1[01]", printed[7])
    assert printed[-2:] == ["killed; all orders have a bill", "bills: 12, orders billed twice: 0"]


def test_chat_sessions_survive_their_server() -> None:
    """chat_sessions.py: what was acknowledged survives, what was refused is not there, a snapshot shortens the start."""
    assert run("chat_sessions.py").splitlines() == [
        "first server: 2 messages, and killed",
        "second server: 2 messages, tags #append #events",
        "  how do I keep my #events ?",
        "  in a log: #append only",
        "goes on: message 3",
        "refused: a message to a session that is not there",
        "expired an hour later: 2 sessions, 0 left",
        "the log makes the same state: True",
        "third server: began with the snapshot at 4 of 6 commands",
    ]


def test_examples_leave_nothing_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument an example writes into a temporary folder and removes it."""
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run("quickstart.py")
    run("second_process.py")
    assert [*tmp_path.iterdir(), *temporary.iterdir()] == [temporary]


def test_columns_are_the_same_for_numpy_polars_pandas_and_duckdb() -> None:
    """columns.py compares the revenue that each finds; all of them are installed for the tests."""
    printed = run("columns.py")
    assert "revenue 21,987,458" in printed
    assert "not installed" not in printed


def test_metrics_are_printed_and_agree() -> None:
    """metrics.py: what was billed is what was written, and every refusal was counted."""
    printed = run("metrics.py")
    samples = dict(re.findall(r"^(varve_\w+)\{[^}]*\} ([0-9.e+-]+)$", printed, re.MULTILINE))
    assert printed.endswith("# 600 orders billed\n")
    assert float(samples["varve_events_total"]) == float(samples["varve_consumer_events_total"]) == 600
    assert float(samples["varve_commit_errors_total"]) == 4
    assert float(samples["varve_consumer_lag"]) == 0
    assert float(samples["varve_commit_group_sum"]) == float(samples["varve_commits_total"]) > 600


def test_metrics_are_served_while_the_load_lasts(tmp_path: Path) -> None:
    """metrics.py --serve: a scraper gets the same text over HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "error", str(EXAMPLES / "metrics.py"), str(tmp_path / "s"), "--serve", str(port)]
    with subprocess.Popen([*command, "--seconds", "2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"http://127.0.0.1:{port}/metrics\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            assert "varve_next_sequence{" in answer.read().decode()
        assert re.fullmatch(r"# \d+ orders billed\n", process.stdout.read())
    assert process.returncode == 0
    assert "has orders already" in run("metrics.py", tmp_path / "s", exit_code=1)


def test_order_process_manager_does_everything_once(tmp_path: Path) -> None:
    """order_process_manager.py goes on after a restart, parks the poisoned order, and handles it once somebody has helped;
    when it is run again it has nothing left to do."""
    expected = [
        "handled 3 events",
        "  RequestPayment(order_id=1, amount_cents=199800)",
        "  OrderRejected(order_id=3, reason='out of stock')",
        "restarted, handled 2 events",
        "  ShipGoods(order_id=1, product='Laptop', quantity=2)",
        "  OrderClosed(order_id=1)",
        "order 2: OrderPlaced is dead no stock is kept of 'Lantern'",
        "order 2: PaymentReceived is parked",
        "retried 1, 0 dead letters are left",
        "  RequestPayment(order_id=2, amount_cents=1500)",
        "  ShipGoods(order_id=2, product='Lantern', quantity=1)",
        "laptops left: 3",
    ]
    assert run("order_process_manager.py", tmp_path / "shop").splitlines() == expected
    again = run("order_process_manager.py", tmp_path / "shop").splitlines()
    assert again[0] == "handled 0 events"
    assert sorted(line for line in again if line.startswith("  ")) == sorted(
        line for line in expected if line.startswith("  ")
    )
    assert run("order_process_manager.py").splitlines() == expected

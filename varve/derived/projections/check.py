"""A projection compared with one that is made afresh from the log."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

from varve import limits
from varve.derived.projections import database
from varve.derived.projections.reports import ProjectionCheck, ProjectionDifference
from varve.derived.projections.writer import Tally
from varve.errors import ProjectionOutdated

if TYPE_CHECKING:
    from varve.derived.projections.readers import Readers
    from varve.derived.projections.writer import Told, Work

_THINGS: Final = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> ?"


def check(work: Work, readers: Readers, told: Told | None) -> ProjectionCheck:
    """Make a fresh one up to where the projection stands, and compare. Raises ``ProjectionNotBuilt``, ``ProjectionOutdated``
    and what applying events raises."""
    place, name = work.place, work.declared.name
    with contextlib.closing(readers.connect()) as connection, database.errors_of(connection.path, name):
        connection.execute("BEGIN")  # one instant of it, whoever goes on writing
        record = database.read_record(connection, connection.path)
        reason = work.why_outdated(record)
        if reason is not None:
            raise ProjectionOutdated(
                f"the projection {name} has to be rebuilt before it can be checked: {reason}", name=name, reason=reason
            )
        lock = place.try_lock("rebuild")
        if lock is None:
            raise work.busy("rebuild")
        try:
            place.clear()
            generation = max(place.generations(), default=0) + 1
            held = place.begin(generation)
            tally = Tally(name, told)
            try:
                filling = work.fresh(generation)
                try:
                    work.fill(filling, record.position, tally)
                    return _compare(connection, filling.connection, name, record.position, tally.last.events)
                finally:
                    filling.close()
            finally:
                held.release()
                place.discard(generation)
        finally:
            lock.release()
            place.clear()


def _compare(
    ours: sqlite3.Connection, fresh: sqlite3.Connection, name: str, position: int, events: int
) -> ProjectionCheck:
    found = _Found()
    here, there = _things(ours), _things(fresh)
    for thing in sorted({*here, *there}):
        if here.get(thing) != there.get(thing):
            found.add("schema", thing[1], {"found": here.get(thing), "expected": there.get(thing)}, 1)
    tables = [thing[1] for thing in sorted({*here} & {*there}) if thing[0] == "table"]
    rows = 0
    for table in tables:
        columns = _columns(ours, table)
        if columns == _columns(fresh, table):
            rows += _compare_rows(found, table, columns, _rows(ours, table, columns), _rows(fresh, table, columns))
    return ProjectionCheck(name, position, events, rows, tuple(tables), tuple(found.differences), found.count)


class _Found:
    """Differences: all counted, some spelled out."""

    def __init__(self) -> None:
        self.differences: list[ProjectionDifference] = []
        self.count = 0
        self._spelled: dict[tuple[str, str], int] = {}

    def add(self, kind: Literal["missing", "extra", "schema"], table: str, row: dict[str, Any], count: int) -> None:
        """One more."""
        self.count += count
        spelled = self._spelled[kind, table] = self._spelled.get((kind, table), 0) + 1
        if spelled <= limits.PROJECTION_DIFFERENCES_MAX:
            self.differences.append(ProjectionDifference(kind, table, row, count))


def _things(connection: sqlite3.Connection) -> dict[tuple[str, str], str | None]:
    """Tables, indexes, triggers and views, with their SQL."""
    return {(kind, name): sql for kind, name, sql in connection.execute(_THINGS, (database.TABLE,))}


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    found = connection.execute(f"PRAGMA table_xinfo({_quoted(table)})").fetchall()
    return [str(column[1]) for column in found if column[6] != 1]  # but for those that virtual tables hide


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _rows(connection: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every row that there is, as exact texts that also tell types apart, in their order, and how often there is one."""
    texts = [
        f"CASE typeof({column}) WHEN 'text' THEN 't' || hex({column}) WHEN 'blob' THEN 'b' || hex({column}) "
        f"ELSE quote({column}) END"
        for column in map(_quoted, columns)
    ]
    order = ", ".join(str(number) for number in range(1, len(columns) + 1))
    select = f"SELECT {', '.join(texts)}, count(*) FROM {_quoted(table)} GROUP BY {order} ORDER BY {order}"  # noqa: S608 - quoted
    for *row, count in connection.execute(select):
        yield tuple(row), count


def _compare_rows(
    found: _Found,
    table: str,
    columns: list[str],
    ours: Iterator[tuple[tuple[str, ...], int]],
    fresh: Iterator[tuple[tuple[str, ...], int]],
) -> int:
    """Walk both in their order; the number of rows."""
    rows = 0
    here, there = next(ours, None), next(fresh, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here[0] < there[0]):
            assert here is not None
            found.add("extra", table, _spelled(columns, here[0]), here[1])
            rows += here[1]
            here = next(ours, None)
        elif here is None or there[0] < here[0]:
            found.add("missing", table, _spelled(columns, there[0]), there[1])
            there = next(fresh, None)
        else:
            if here[1] != there[1]:
                kind: Literal["missing", "extra"] = "missing" if here[1] < there[1] else "extra"
                found.add(kind, table, _spelled(columns, here[0]), abs(here[1] - there[1]))
            rows += here[1]
            here, there = next(ours, None), next(fresh, None)
    return rows


def _spelled(columns: list[str], texts: tuple[str, ...]) -> dict[str, Any]:
    return dict(zip(columns, map(_value, texts), strict=True))


def _value(text: str) -> Any:
    if text == "NULL":
        return None
    if text[0] == "t":
        return bytes.fromhex(text[1:]).decode(errors="replace")
    if text[0] == "b":
        return bytes.fromhex(text[1:])
    try:
        return int(text)
    except ValueError:
        return float(text)

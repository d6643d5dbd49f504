"""Rows of files of other origin: CSV, JSON lines, Parquet. Each reader gives ``(line, {column: value})``; None is missing."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import threading
from collections.abc import Iterator
from typing import Any, Final, Literal

from varve import limits
from varve.errors import InvalidInput, InvalidRow, MissingExtra
from varve.ops.transport import Input

__all__ = ["FORMATS", "Format", "Row", "detect", "invalid", "parquet_kinds", "rows"]

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: Final = ("csv", "jsonl", "parquet")

Row = tuple[int, dict[str, Any]]

_DELIMITERS: Final = ",;\t|"
_BATCH_ROWS: Final = 4_096

_CELL_LOCK: Final = threading.Lock()
"""Held while Python's limit for cells of CSV, which is the whole process's, is ours."""


def invalid(given: Input, line: int, what: str, column: str | None = None) -> InvalidRow:
    """The error for a row."""
    where = f", column {column!r}" if column is not None else ""
    return InvalidRow(
        f"{given.name}, line {line}{where}: {what}. Nothing of its transaction was written",
        path=given.name,
        line=line,
        column=column,
    )


def detect(given: Input) -> Format:
    """What a file is, by how it begins."""
    begins = given.head
    if begins.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if begins.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" else "csv"


def rows(given: Input, form: Format, delimiter: str | None) -> Iterator[Row]:
    """The rows of a file, from its beginning. Raises ``InvalidRow``."""
    if form == "csv":
        return _csv(given, delimiter)
    return _json_lines(given) if form == "jsonl" else _parquet(given)


# -- CSV -------------------------------------------------------------------------------------------


def _text(given: Input) -> Any:
    return io.TextIOWrapper(given.file, encoding="utf-8-sig", newline="")


def _records(given: Input, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV file and the lines on which they begin; those of blank lines are left out."""
    if delimiter is None:
        head = given.head.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
        first = head[0] if head else ""
        delimiter = max(_DELIMITERS, key=first.count)
    text = _text(given)
    try:
        try:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
        except TypeError as exc:
            raise InvalidInput(f"a delimiter is one character, not {delimiter!r}: {exc}") from None
        line = 1
        while True:
            try:
                record = _next_record(reader)
            except csv.Error as exc:
                raise invalid(given, line, f"it is no CSV ({exc})") from None
            except UnicodeDecodeError as exc:
                raise invalid(given, line, f"it is no UTF-8 ({exc.reason})") from None
            if record is None:
                return
            if record:
                yield line, record
            line = reader.line_num + 1
    finally:
        with contextlib.suppress(ValueError):
            text.detach()  # else it would close the file with itself


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    """A record whose cells may be as large as an event; Python's own limit is 131,072 characters. None at the end."""
    with _CELL_LOCK:
        before = csv.field_size_limit(limits.EVENT_BYTES_MAX)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(before)


def _csv(given: Input, delimiter: str | None) -> Iterator[Row]:
    records = _records(given, delimiter)
    line, header = next(records, (1, []))
    if not header:
        raise invalid(given, line, "there is no line with the names of the columns")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise invalid(given, line, f"the column {twice!r} is there twice")
    for line, record in records:
        if len(record) != len(header):
            raise invalid(given, line, f"it has {len(record)} cells, the header {len(header)} columns")
        yield line, dict(zip(header, record, strict=True))


# -- JSON lines ------------------------------------------------------------------------------------


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.40} is larger than any that can be stored")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has {twice!r:.80} twice")
    return found


_decode: Final = json.JSONDecoder(parse_float=_finite, object_pairs_hook=_members).decode
"""JSON of which nothing is lost without a word: no number becomes infinite, no member hides another."""


def _json_lines(given: Input) -> Iterator[Row]:
    number = 0
    while line := given.file.readline(limits.IMPORT_LINE_BYTES_MAX):
        number += 1
        if len(line) == limits.IMPORT_LINE_BYTES_MAX and not line.endswith(b"\n"):
            raise invalid(given, number, f"it is longer than {limits.IMPORT_LINE_BYTES_MAX} bytes")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.isspace() or not line:
            continue
        try:
            value = _decode(line.decode())
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise invalid(given, number, f"it is no JSON ({exc})") from None
        except ValueError as exc:  # JSON that says what cannot be kept
            raise invalid(given, number, str(exc)) from None
        if not isinstance(value, dict):
            raise invalid(given, number, "it is no JSON object")
        yield number, value


# -- Parquet ---------------------------------------------------------------------------------------


def _opened(given: Input) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtra(
            "Parquet files need pyarrow: pip install 'varve-store[arrow]'", extra="arrow", package="pyarrow"
        ) from exc
    try:
        return pq.ParquetFile(given.path)
    except (pa.ArrowException, OSError) as exc:
        raise InvalidInput(f"{given.name} is no Parquet file that can be read: {exc}") from None


def _parquet(given: Input) -> Iterator[Row]:
    import pyarrow as pa

    file = _opened(given)
    names = file.schema_arrow.names
    if len(set(names)) != len(names):
        raise InvalidInput(f"{given.name} has two columns of one name")
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            columns = []
            for name, column in zip(names, batch.columns, strict=True):
                try:
                    columns.append(_microseconds(column).to_pylist())
                except (pa.ArrowException, ValueError) as exc:
                    raise invalid(given, number + 1, f"a value from this row on cannot be read: {exc}", name) from None
            for values in zip(*columns, strict=True):
                number += 1
                yield number, dict(zip(names, values, strict=True))
    except (pa.ArrowException, OSError) as exc:
        raise invalid(given, number + 1, f"the file is damaged: {exc}") from None


def _microseconds(column: Any) -> Any:
    """Times as Python can hold them; a nanosecond that would be lost is an error."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz))
    return column


def parquet_kinds(given: Input) -> dict[str, Any]:
    """The kinds of the columns whose Arrow type says it; others are worked out from values. Raises ``InvalidInput`` for what no
    field can hold."""
    import pyarrow as pa

    found = {}
    plain = {
        pa.int8(): "i8", pa.int16(): "i16", pa.int32(): "i32", pa.int64(): "i64",
        pa.uint8(): "u8", pa.uint16(): "u16", pa.uint32(): "u32", pa.uint64(): "u64",
        pa.float32(): "f32", pa.float64(): "f64", pa.bool_(): "bool",
        pa.string(): "str", pa.large_string(): "str", pa.binary(): "bytes", pa.large_binary(): "bytes",
    }  # fmt: skip
    for field in _opened(given).schema_arrow:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_map(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind):
            raise InvalidInput(
                f"{given.name}: the column {field.name!r} is a {kind}, which no field can hold; leave it out"
            )
        if kind in plain:
            found[field.name] = plain[kind]
        elif pa.types.is_timestamp(kind):
            found[field.name] = "datetime"
        elif pa.types.is_decimal(kind):
            found[field.name] = "decimal"
    return found

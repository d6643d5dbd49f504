"""Files of other origin: what is inferred, what becomes of it, and what is refused by line."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import sqlite3
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfer_models import fast_folder

import varve
from varve import ops
from varve.codec import event_type
from varve.codec.schema import Schema
from varve.ops.foreign import type_name_of
from varve.ops.infer import field_names


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory."""
    with fast_folder() as folder:
        yield folder


def kinds(event: Any) -> dict[str, str]:
    """The fields of an inferred type as text; ``?`` marks optional ones."""
    table = Schema.from_bytes(event_type(event.event_class).schema_bytes).table
    return {f.name: f"{f.kind}{'?' * f.optional}" for f in table.fields}


def events(folder: Path) -> list[Any]:
    """The events of a store."""
    with varve.open(folder) as db:
        return [varve.owned(r.event) for r in db.global_reader().iter_from(0)]


def csv_file(folder: Path, text: str | bytes) -> Path:
    """A file."""
    path = folder / "x.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2"], "i64"),
        (["0", str(2**63 - 1)], "i64"),
        (["1", str(2**63)], "u64"),
        (["-1", str(2**63)], "str"),
        ([str(2**64)], "str"),
        (["01", "2"], "str"),
        (["+1"], "str"),
        (["-0"], "f64"),
        (["1", "2.5", "1e3"], "f64"),
        (["1.0", "NaN", "-inf"], "f64"),
        (["1e999"], "str"),
        ([".5"], "str"),
        (["1_000"], "str"),
        (["\u0661"], "str"),
        (["true", "FALSE"], "bool"),
        (["true", "1"], "str"),
        (["2024-01-02T03:04:05Z", "2024-01-02 03:04+02:00"], "datetime"),
        (["2024-01-02T03:04:05"], "datetime"),
        (["2024-01-02T03:04:05", "2024-01-02T03:04:05Z"], "str"),
        (["2024-01-02T03:04:05.1234567Z"], "str"),
        (["2024-01-02T03:04:05.123456000Z"], "datetime"),
        (["2024-01-02"], "str"),
        (["2024-13-02T03:04:05Z"], "str"),
        (["1500-01-02T03:04:05Z"], "str"),
        ([str(uuid.UUID(int=7))], "uuid"),
        ([str(uuid.UUID(int=2**127)).upper(), "x"], "str"),
        (["a", ""], "str?"),
        (["", "3"], "i64?"),
        (["", ""], "str?"),
        (["9" * 5_000], "str"),
    ],
)
def test_a_column_of_csv_becomes_the_narrowest_type_that_loses_nothing(
    tmp_path: Path, cells: list[str], kind: str
) -> None:
    """And its values come back."""
    path = csv_file(tmp_path, "id,x\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    found = ops.infer(path, type_name="Row")
    assert kinds(found) == {"id": "i64", "x": kind}
    assert ops.load_rows(tmp_path / "s", path, stream="s", id="id", event=found).events == len(cells)
    for event, cell in zip(events(tmp_path / "s"), cells, strict=True):
        if event.x is None:
            assert cell == ""
        elif kind.startswith("str"):
            assert event.x == cell
        elif kind[:3] in {"i64", "u64"}:
            assert str(event.x) == cell
        elif kind == "f64":
            assert event.x == float(cell) or cell == "NaN"


def test_nasty_csv(tmp_path: Path) -> None:
    """Byte order mark, quotes, newlines in cells, semicolons, blank lines, odd names, no newline at the end."""
    text = '\ufeffOrder ID;class;2nd;Größe;a b;a_b;"x\ny";__z;\r\n1;"a;""b""";"two\r\nlines";ß;1;2;;z;q\r\n\r\n2;c;d;e;3;4;f;;r'
    found = ops.infer(csv_file(tmp_path, text), type_name="Row")
    assert [column.name for column in found.columns] == [
        "Order ID",
        "class",
        "2nd",
        "Größe",
        "a b",
        "a_b",
        "x\ny",
        "__z",
        "",
    ]
    assert [column.field for column in found.columns] == [
        "Order_ID", "class_", "n2nd", "Grosse", "a_b", "a_b_2", "x_y", "z", "column",
    ] or found.columns[3].field == "Groe"  # fmt: skip
    ops.load_rows(tmp_path / "s", tmp_path / "x.csv", stream="s", id="Order ID", event=found)
    first, second = events(tmp_path / "s")
    assert (first.class_, first.n2nd, first.x_y, first.z) == ('a;"b"', "two\r\nlines", None, "z")
    assert (second.a_b, second.a_b_2, second.x_y, second.z, second.column) == (3, 4, "f", None, "r")


@given(st.dictionaries(st.text(max_size=5), st.none(), max_size=20))
def test_every_name_becomes_a_field_of_its_own(columns: dict[str, None]) -> None:
    """An identifier that a class can have."""
    names = field_names(columns)
    assert len(set(names)) == len(columns)
    for name in names:
        assert name.isascii()
        assert name.isidentifier()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (b"", 1, "no line with the names"),
        (b"a,a\n1,2\n", 1, "the column 'a' is there twice"),
        (b"id,b\n1,2\n3\n", 3, "it has 1 cells, the header 2 columns"),
        (b"id,b\n1,2,3\n", 2, "it has 3 cells"),
        (b'id,b\n1,"open\n2,3\n', 2, "it is no CSV"),
        (b'id,b\n1,"a"b\n', 2, "it is no CSV"),
        (b"id,b\n1,\xff\n", 0, "it is no UTF-8"),
        (b"id,b\n1," + b"x" * 200_001 + b"\n", 2, "field larger"),
    ],
)
def test_what_is_no_csv_is_told_with_its_line(
    tmp_path: Path, text: bytes, line: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written."""
    monkeypatch.setattr(varve.limits, "EVENT_BYTES_MAX", 200_000)
    with pytest.raises(varve.InvalidRow, match=reason) as told:
        ops.infer(csv_file(tmp_path, text), type_name="Row")
    assert told.value.line == line or not line
    with pytest.raises(varve.InvalidInput, match="has no rows"):
        ops.infer(csv_file(tmp_path, "id,b\n"), type_name="Row")


def test_a_cell_may_be_as_large_as_an_event(tmp_path: Path) -> None:
    """Python's own limit, which stays what it was, is smaller."""
    before = csv.field_size_limit()
    text = "x" * (before + 1_000)
    path = csv_file(tmp_path, f'id,b\n1,{text}\n2,"{text}"\n')
    found = ops.infer(path, type_name="Row")
    assert ops.load_rows(tmp_path / "s", path, stream="s", id="id", event=found).events == 2
    assert [event.b for event in events(tmp_path / "s")] == [text, text]
    assert csv.field_size_limit() == before
    with pytest.raises(varve.InvalidRow):
        ops.infer(csv_file(tmp_path, 'id,b\n1,"'), type_name="Row")
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("raw", [b"", b"id,b\n", b"id,b\n1\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_an_error_names_the_file_that_was_given(tmp_path: Path, raw: bytes, packed: bool) -> None:
    """And not the copy that is read of one that is compressed."""
    path = tmp_path / "given.csv"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(varve.InvalidInput, match=r"given\.csv") as told:
        ops.infer(path, type_name="Row")
    assert str(path) in str(told.value)
    with path.open("rb") as file, pytest.raises(varve.InvalidInput, match=r"given\.csv"):
        ops.infer(file, type_name="Row")  # type: ignore[arg-type]


@varve.event
class Order:
    id: varve.u16
    name: str
    paid: bool = False
    at: dt.datetime | None = None
    price: Decimal | None = None
    tags: list[str] | None = None


def test_rows_become_events_of_a_class_that_one_has(tmp_path: Path) -> None:
    """Defaults stand in for what is missing."""
    path = csv_file(tmp_path, 'id,name,at,price,tags\n1,a,2024-01-02T03:04:05,1.50,"[""x""]"\n2,b,,,\n')
    assert ops.load_rows(tmp_path / "s", path, stream="orders", id="id", event=Order).events == 2
    with varve.open(tmp_path / "s") as db:
        reader = db.stream("orders", Order).reader()
        assert reader.get(1, 0) == Order(
            1,
            "a",
            False,
            dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
            Decimal("1.50"),
            ("x",),  # type: ignore[arg-type]
        )
        assert reader.get(2, 0) == Order(2, "b")


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ("70000,a,,", "id", "must be in 0 .. 65535"),
        ("x,a,,", "id", "is no integer"),
        ("1,a,maybe,", "paid", "neither true nor false"),
        ("1,a,,yesterday", "at", "no ISO 8601 time"),
        ("1,,,", "name", "is missing"),
        (",a,,", "id", "is missing"),
    ],
)
def test_a_value_that_does_not_fit_stops_with_its_line(
    tmp_path: Path, row: str, column: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of its transaction is written, those before it stay."""
    monkeypatch.setattr(varve.limits, "IMPORT_ROWS_MAX", 2)
    path = csv_file(tmp_path, f"id,name,paid,at\n1,a,,\n2,b,,\n3,c,,\n{row}\n")
    with pytest.raises(varve.InvalidRow, match=reason) as told:
        ops.load_rows(tmp_path / "s", path, stream="orders", id="id", event=Order)
    assert (told.value.line, told.value.column) == (5, column)
    assert [event.id for event in events(tmp_path / "s")] == [1, 2]


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    """Columns, formats, names."""
    path = csv_file(tmp_path, "id,name,other\n1,a,b\n")
    found = ops.infer(path, type_name="Row")
    with pytest.raises(varve.InvalidRow, match="there is no such column; there are 'id', 'name', 'other'"):
        ops.load_rows(tmp_path / "s", path, stream="s", id="nope", event=found)
    with pytest.raises(varve.InvalidRow, match="Order has no field for it"):
        ops.load_rows(tmp_path / "s", path, stream="s", id="id", event=Order)
    with pytest.raises(varve.InvalidRow, match="is no ISO 8601 time"):
        ops.load_rows(tmp_path / "s", path, stream="s", id="id", event=found, time="name")
    for wrong in ({"format": "xml"}, {"delimiter": ";;"}):
        with pytest.raises(varve.InvalidInput):
            ops.infer(path, type_name="Row", **wrong)  # type: ignore[arg-type]
    for name in ("varve.Row", "", "a b"):
        with pytest.raises((varve.InvalidInput, varve.SchemaError)):
            ops.infer(path, type_name=name)
    assert [type_name_of(name) for name in ("orders", "order-items", "ü", "1")] == ["Orders", "OrderItems", "U", "N1"]


def test_times_of_rows_become_those_of_their_commits(tmp_path: Path) -> None:
    """Rows of one time are one commit; time may stand still, and not go back."""
    rows = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z"]
    path = csv_file(tmp_path, "id,at\n" + "".join(f"{n},{at}\n" for n, at in enumerate(rows)))
    found = ops.infer(path, type_name="Row")
    for present in (0, 3):
        report = ops.load_rows(tmp_path / "s", path, stream="s", id="id", event=found, time="at")
        assert (report.events, report.present) == (3 - present, present)
    with varve.open(tmp_path / "s") as db:
        assert [(r.time_ns // 10**9 % 60, r.commit_sequence) for r in db.global_reader().iter_from(0)] == [
            (0, 0),
            (0, 0),
            (1, 2),
        ]
    path = csv_file(tmp_path, f"id,at\n1,{rows[2]}\n2,{rows[0]}\n")
    with pytest.raises(varve.InvalidRow, match="before the time of the row before it"):
        ops.load_rows(tmp_path / "t", path, stream="s", id="id", event=found, time="at")


def test_the_same_file_is_imported_once(tmp_path: Path) -> None:
    """Another stream is another import; a file that grew is another file."""
    path = csv_file(tmp_path, "id,x\n1,2\n")
    found = ops.infer(path, type_name="Row")
    counts = [
        ops.load_rows(tmp_path / "s", path, stream=stream, id="id", event=found).events for stream in ("a", "a", "b")
    ]
    assert counts == [1, 0, 1]


def test_json_lines_keep_their_structure(tmp_path: Path) -> None:
    """Nested objects, lists, missing members, mixtures; what is irregular is JSON text."""
    rows: list[dict[str, Any]] = [
        {"id": "a", "n": 1, "f": 1, "deep": {"x": [1, 2], "y": {"z": None}}, "lines": [{"sku": "s", "n": 1}], "mix": 1,
         "big": 2**70,
         "at": "2024-01-01T00:00:00Z", "nul": None, "empty": {}, "none": [], "lol": [[1]], "u": 2**63, "fb": 2**60},
        {"id": "b", "n": 2, "f": 1.5, "deep": {"x": [], "y": {"z": "t"}}, "lines": [], "mix": "1", "big": 1, "extra": True,
         "at": "2024-01-01T00:00:00+02:00", "nul": None, "empty": {}, "none": [], "lol": [], "u": 0, "fb": 0.5},
    ]  # fmt: skip
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = ops.infer(path, type_name="Row")
    assert kinds(found) == {
        "id": "str", "n": "i64", "f": "f64", "deep": "Row_deep", "lines": "list[Row_lines]", "mix": "str", "big": "decimal",
        "at": "datetime", "nul": "str?", "empty": "str", "none": "list[str]", "lol": "str", "u": "u64", "fb": "str",
        "extra": "bool?",
    }  # fmt: skip
    notes = {column.name: column.note for column in found.columns if column.note}
    assert notes == {
        "mix": "JSON text (mixed: int and str)", "big": "decimals, as text", "at": "times", "nul": "no values",
        "empty": "JSON text (objects without members)", "lol": "JSON text (lists of lists)",
        "fb": "JSON text (mixed: float and int)",
    }  # fmt: skip
    assert ops.load_rows(tmp_path / "s", path, stream="s", id="id", event=found).events == 2
    first, second = map(varve.to_dict, events(tmp_path / "s"))
    assert first["deep"] == {"x": [1, 2], "y": {"z": None}}
    assert (first["mix"], second["mix"], json.loads(first["lol"]), first["big"]) == ("1", '"1"', [[1]], str(2**70))
    assert (first["extra"], second["extra"], first["fb"]) == (None, True, str(2**60))


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (b'{"id":1}\n[1]\n', 2),
        (b'{"id":1}\n{"id"\n', 2),
        (b'{"id":1}\n' + b'{"a":' * 99_999, 2),
        (b"{\xff}", 1),
        (b'{"id":1}\n\n{"id":2,"x":1e999}\n', 3),
        (b'{"id":1}\n{"id":2,"x":[{"y":-1e999}]}\n', 2),
        (b'{"id":1}\n{"id":2,"a":1,"a":2}\n', 2),
        (b'{"id":1}\n{"id":2,"x":[{"y":1,"y":1}]}\n', 2),
    ],
)
def test_what_is_no_json_line_is_told(tmp_path: Path, lines: bytes, line: int) -> None:
    """By its number."""
    (tmp_path / "x").write_bytes(lines)
    with pytest.raises(varve.InvalidRow) as told:
        ops.infer(tmp_path / "x", type_name="Row", format="jsonl")
    assert told.value.line == line


@pytest.mark.parametrize("value", [1.5, True, -1, None, [1], "x" * 300])
def test_an_id_that_is_none_is_told(tmp_path: Path, value: Any) -> None:
    """Ids are numbers from 0 on, texts and UUIDs."""
    (tmp_path / "x").write_text(json.dumps({"id": 7, "n": 1} | {"id": value}))
    found = ops.infer(tmp_path / "x", type_name="Row")
    with pytest.raises(varve.InvalidRow) as told:
        ops.load_rows(tmp_path / "s", tmp_path / "x", stream="s", id="id", event=found)
    assert told.value.line == 1


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b c", "b_c"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y z", "y_z"]), json_values, max_size=3), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_json_becomes_events_of_an_inferred_type(rows: list[dict[str, Any]]) -> None:
    """No value of any shape is refused by the schema that was inferred from it."""
    with fast_folder() as folder:
        (folder / "x").write_text("\n".join(json.dumps(row | {"id": n}) for n, row in enumerate(rows)))
        found = ops.infer(folder / "x", type_name="Row", format="jsonl")
        assert ops.load_rows(folder / "s", folder / "x", stream="s", id="id", event=found).events == len(rows)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    """Widths, decimals, times, nested values; nanoseconds that Python's times cannot hold are refused, as are maps."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = {
        "id": pa.array([1, 2], pa.uint32()), "f": pa.array([1.5, None], pa.float32()), "b": [b"x", b"y"],
        "t": pa.array([dt.datetime(2024, 1, 1), None], pa.timestamp("ns")), "d": [Decimal("1.50"), None],
        "s": [{"a": 1, "b": ["x"]}, {"a": 2, "b": None}], "day": [dt.date(2024, 1, 2), dt.date(2024, 1, 3)],
        "dict": pa.array(["p", "q"]).dictionary_encode(),
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    found = ops.infer(tmp_path / "x.parquet", type_name="Row")
    assert kinds(found) == {
        "id": "u32", "f": "f32?", "b": "bytes", "t": "datetime?", "d": "decimal?", "s": "Row_s", "day": "str", "dict": "str",
    }  # fmt: skip
    assert ops.load_rows(tmp_path / "s", tmp_path / "x.parquet", stream="s", id="id", event=found).events == 2
    first = events(tmp_path / "s")[0]
    assert (first.b, first.t, first.d, first.day) == (
        b"x",
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        Decimal("1.50"),
        "2024-01-02",
    )
    pq.write_table(pa.table({"id": [1], "t": pa.array([1], pa.timestamp("ns"))}), tmp_path / "ns.parquet")
    with pytest.raises(varve.InvalidRow, match="would lose data"):
        ops.infer(tmp_path / "ns.parquet", type_name="Row")
    pq.write_table(
        pa.table({"id": [1], "m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}), tmp_path / "m.parquet"
    )
    with pytest.raises(varve.InvalidInput, match="which no field can hold"):
        ops.infer(tmp_path / "m.parquet", type_name="Row")
    raw = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(raw[:-20])
    with pytest.raises(varve.InvalidInput, match="no Parquet file"):
        ops.infer(tmp_path / "cut.parquet", type_name="Row")


def test_files_may_be_compressed_or_come_from_a_pipe(tmp_path: Path) -> None:
    """They are read twice all the same."""
    raw = b"id,x\n1,2\n"
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    found = ops.infer(tmp_path / "x.gz", type_name="Row")
    assert ops.load_rows(tmp_path / "s", tmp_path / "x.gz", stream="s", id="id", event=found).events == 1
    assert ops.load_rows(tmp_path / "s", io.BytesIO(raw), stream="s", id="id", event=found).present == 1


def test_a_saved_schema_takes_the_same_file(tmp_path: Path) -> None:
    """.fbs text calls times numbers and UUIDs bytes: what the file has is turned into them."""
    path = csv_file(tmp_path, f"id,at,x\n{uuid.UUID(int=3)},2024-01-01T00:00:00Z,01\n")
    found = ops.infer(path, type_name="Row")
    (tmp_path / "x.fbs").write_text(found.fbs)
    loaded = varve.schema.load(tmp_path / "x.fbs").root_type
    ops.load_rows(tmp_path / "s", path, stream="s", id="x", event=loaded)
    (event,) = events(tmp_path / "s")
    assert (event.at, bytes(event.id.bytes), event.x) == (1_704_067_200 * 10**9, uuid.UUID(int=3).bytes, "01")


# -- eventsourcing ---------------------------------------------------------------------------------

DOG = uuid.UUID(int=9)


def stored(folder: Path, *rows: tuple[Any, int, str, Any], create: str = "") -> Path:
    """A file as the library makes it."""
    path = folder / "es.db"
    connection = sqlite3.connect(path)
    connection.execute(
        create
        or "CREATE TABLE IF NOT EXISTS stored_events (originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB, "
        "PRIMARY KEY (originator_id, originator_version))"
    )
    for originator, version, topic, state in rows:
        raw = state if isinstance(state, bytes) else json.dumps(state).encode()
        connection.execute("INSERT INTO stored_events VALUES (?, ?, ?, ?)", (originator, version, topic, raw))
    connection.commit()
    connection.close()
    return path


def at(second: int) -> dict[str, str]:
    """A time as the library's transcoder writes it."""
    return {"_type_": "datetime_iso", "_data_": f"2024-01-01T00:00:{second:02}+00:00"}


ROWS: list[tuple[Any, int, str, Any]] = [
    (DOG.hex, 1, "zoo:Dog.Registered", {"timestamp": at(5), "originator_topic": "zoo:Dog", "name": "Fido"}),
    (DOG.hex, 2, "zoo:Dog.Weighed", {"timestamp": at(4), "kg": {"_type_": "decimal_str", "_data_": "4.50"}}),
    ("cat-1", 1, "zoo:Cat.Born", {"timestamp": at(6), "parent": {"_type_": "uuid_hex", "_data_": DOG.hex}}),
    (DOG.hex, 3, "other:Dog.Weighed", {"timestamp": at(7), "kg": 5, "set": {"_type_": "set_as_list", "_data_": [1]}}),
]


def test_aggregates_become_streams(tmp_path: Path) -> None:
    """In the order of notifications, with their ids, versions and times."""
    path = stored(tmp_path, *ROWS)
    found = ops.infer_eventsourcing(path)
    assert [(one.type_name, one.events) for one in found.topics] == [
        ("Dog.Registered", 1), ("zoo:Dog.Weighed", 1), ("Cat.Born", 1), ("other:Dog.Weighed", 1),
    ]  # fmt: skip
    assert "table Registered" in found.topics[0].fbs
    assert ops.load_eventsourcing(tmp_path / "s", path, found).events == 4
    with varve.open(tmp_path / "s") as db:
        got = list(db.global_reader().iter_from(0))
        assert [(r.stream, r.stream_id, r.stream_sequence) for r in got] == [
            ("Dog", DOG, 0), ("Dog", DOG, 1), ("Cat", "cat-1", 0), ("Dog", DOG, 2),
        ]  # fmt: skip
        assert [r.recorded_at.second for r in got] == [5, 5, 6, 7]
        assert [dict(r.metadata or {}) for r in got] == [{"notification_id": n} for n in (1, 2, 3, 4)]
        assert (got[1].event.kg, got[1].event.timestamp.second, got[2].event.parent) == (Decimal("4.50"), 4, DOG)
        assert list(got[3].event.set) == [1]
    again = ops.load_eventsourcing(tmp_path / "s", stored(tmp_path, (DOG.hex, 4, "zoo:Dog.Weighed", ROWS[1][3])))
    assert (again.present, again.events) == (4, 1)
    assert ops.verify(tmp_path / "s").sound


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((DOG.hex, 5, "zoo:Dog.Weighed", b"\x78\x9c\x00"), "compressed, encrypted"),
        ((DOG.hex, 5, "zoo:Dog.Weighed", [1]), "no JSON object"),
        ((DOG.hex, 5, "zoo:Dog.Weighed", {"kg": {"_type_": "decimal_str", "_data_": "x"}}), "cannot be decoded"),
        ((DOG.hex, 5, None, {}), "its topic is None"),
        (("x", 2, "zoo:Dog.Weighed", {}), "does not begin with version 1"),
    ],
)
def test_a_stored_event_that_cannot_be_read_is_told(tmp_path: Path, row: Any, reason: str) -> None:
    """By its notification, before anything is written."""
    with pytest.raises(varve.InvalidRow, match=reason) as told:
        ops.load_eventsourcing(tmp_path / "s", stored(tmp_path, *ROWS, row))
    assert told.value.line in {4, 5}
    assert not (tmp_path / "s").exists()


def test_what_is_no_file_of_eventsourcing_is_told(tmp_path: Path) -> None:
    """Other databases, other files, versions with a gap, a store that holds something else."""
    (tmp_path / "x").write_text("no database")
    with pytest.raises(varve.InvalidInput, match="no SQLite file"):
        ops.infer_eventsourcing(tmp_path / "x")
    with pytest.raises(varve.StoreNotFound):
        ops.infer_eventsourcing(tmp_path / "none")
    path = stored(tmp_path, *ROWS)
    with pytest.raises(varve.InvalidInput, match="has no table 'other'"):
        ops.infer_eventsourcing(path, table="other")
    ops.load_eventsourcing(tmp_path / "s", path)
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE stored_events SET state = ? WHERE originator_version = 2",
        (json.dumps(ROWS[1][3] | {"timestamp": at(9)}),),
    )
    connection.commit()
    connection.close()
    with pytest.raises(varve.ImportConflict, match="is not notification 2"):
        ops.load_eventsourcing(tmp_path / "s", path)
    gap = stored(tmp_path, (DOG.hex, 9, "zoo:Dog.Weighed", ROWS[1][3]))
    with pytest.raises(varve.WrongExpectedVersion):
        ops.load_eventsourcing(tmp_path / "t", gap)
    path.unlink()
    create = (
        "CREATE TABLE stored_events (originator_id TEXT, originator_version INTEGER, topic TEXT, state BLOB, "
        "PRIMARY KEY (originator_id, originator_version)) WITHOUT ROWID"
    )
    with pytest.raises(varve.InvalidInput, match="no order of notifications"):
        ops.infer_eventsourcing(stored(tmp_path, *ROWS, create=create))


def test_a_file_that_the_library_itself_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is installed; elsewhere the same rows, written as it writes them, must do."""
    try:
        from eventsourcing.application import Application
        from eventsourcing.domain import Aggregate, event
    except ImportError:
        path, expected = stored(tmp_path, *ROWS), 4
    else:
        path, expected = tmp_path / "real.db", 3
        monkeypatch.setenv("PERSISTENCE_MODULE", "eventsourcing.sqlite")
        monkeypatch.setenv("SQLITE_DBNAME", str(path))

        class Dog(Aggregate):
            @event("Registered")
            def __init__(self, name: str) -> None:
                self.name = name

            @event("TrickAdded")
            def add_trick(self, trick: str) -> None:
                self.trick = trick

        application: Any = Application()
        dog = Dog("Fido")
        dog.add_trick("roll over")
        other = Dog("Rex")
        application.save(dog)
        application.save(other)
        application.close()
    assert ops.load_eventsourcing(tmp_path / "s", path).events == expected
    with varve.open(tmp_path / "s") as db:
        assert [r.event.name for r in db.global_reader().iter_from(0) if hasattr(r.event, "name")][:1] == ["Fido"]
    assert ops.verify(tmp_path / "s").sound

"""What a file must be to become a partition, and what the message says where it is not."""

import gzip
import itertools
import json
import threading
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from ingest.exports import ExportError
from ingest.lake import FolderLake
from ingest.loading import Loaded, load
from ingest.tables import TABLES, Column, Table
from ingest.validation import Window

EVENTS = Table(
    name="events",
    description="One column of each type.",
    columns=(
        Column("id", "varchar", ""),
        Column("part", "bigint", ""),
        Column("at", "timestamp", ""),
        Column("ratio", "double", ""),
        Column("flag", "boolean", ""),
        Column("note", "varchar", ""),
    ),
    key=("id", "part"),
    daily=True,
    event_time="at",
)
DAY = "2024-02-03"
WINDOW = Window(datetime(2024, 2, 3), datetime(2024, 2, 4))  # noqa: DTZ001 - the lake's times have no zone
HEADER = "id,part,at,ratio,flag,note\n"
GOOD = "a,1,2024-02-03T10:00:00,0.5,true,x\n"


class Loader:
    """Loads what a test writes as the export of one day."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self.connection, self.exports, self.lake = connection, folder / "exports", folder / "lake"
        self.day = self.exports / "events"
        self.day.mkdir(parents=True)

    def load(self) -> Loaded:
        return load(self.connection, EVENTS, exports=self.exports, lake=FolderLake(self.lake), day=DAY, window=WINDOW)

    def csv(self, text: str | bytes) -> Loaded:
        (self.day / f"{DAY}.csv").write_bytes(text.encode() if isinstance(text, str) else text)
        return self.load()

    def rows(self) -> list[tuple[object, ...]]:
        path = self.lake / "raw/events" / f"day={DAY}" / "data.parquet"
        return self.connection.read_parquet(str(path), hive_partitioning=False).fetchall()

    def error(self, text: str | bytes) -> str:
        """Return the message after the path, once a good load has proved to survive the bad one."""
        self.csv(HEADER + GOOD)
        before = self.rows()
        with pytest.raises(ExportError) as caught:
            self.csv(text)
        assert self.rows() == before
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(str(self.day / f"{DAY}.csv"))


@pytest.fixture
def loader(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Loader:
    return Loader(connection, tmp_path)


def test_rows_arrive_typed_and_in_order(loader: Loader) -> None:
    loaded = loader.csv(
        HEADER
        + 'b,2,2024-02-03 23:59:59.999999,1e-2,False,"say ""hi"",\nthen"\n'
        + "b,1,2024-02-03,.5,0,\n"
        + "a,-3,2024-02-03T00:00:00Z,,,Zoë\n"
    )
    assert loader.rows() == [
        ("a", -3, WINDOW.start, None, None, "Zoë"),
        ("b", 1, WINDOW.start, 0.5, False, ""),
        ("b", 2, datetime(2024, 2, 3, 23, 59, 59, 999999), 0.01, False, 'say "hi",\nthen'),  # noqa: DTZ001
    ]
    assert (loaded.rows, loaded.extra_columns) == (3, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b,abc,2024-02-03,1,true,x", "column part: 'abc' is not a bigint"),
        ("b,12.5,2024-02-03,1,true,x", "column part: '12.5' is not a bigint"),
        ("b,1_000,2024-02-03,1,true,x", "column part: '1_000' is not a bigint"),
        ("b,9223372036854775808,2024-02-03,1,true,x", "column part: '9223372036854775808' is not a bigint"),
        ("b,1,2024-02-03,nan,true,x", "column ratio: 'nan' is not a double"),
        ("b,1,2024-02-03,1e999,true,x", "column ratio: '1e999' is not a double"),
        ("b,1,2024-02-03,1,yes,x", "column flag: 'yes' is not a boolean"),
        ("b,1,2024-02-30,1,true,x", "column at: '2024-02-30' is not a timestamp"),
        (
            "b,1,2024-02-03T10:00:00+02:00,1,true,x",
            "column at: '2024-02-03T10:00:00+02:00' is not a timestamp",
        ),
        (
            "b,1,2024-02-03T10:00:00.1234567,1,true,x",
            "column at: '2024-02-03T10:00:00.1234567' is not a timestamp",
        ),
        ("b,1,2024-02-04T00:00:00,1,true,x", "column at: '2024-02-04T00:00:00' is outside [2024-02-03"),
        ("b,1,2024-02-03T24:00:00,1,true,x", "column at: '2024-02-03T24:00:00' is outside [2024-02-03"),
        ("b,1,2024-02-02T23:59:59.999999,1,true,x", "column at: '2024-02-02T23:59:59.999999' is outside"),
        ("b,1,,1,true,x", "column at: null is outside"),
        (",1,2024-02-03,1,true,x", "column id: '' is not a key"),
        ("b,,2024-02-03,1,true,x", "column part: null is not a key"),
        ("a,01,2024-02-03,1,true,x", "columns id, part: 'a', 1 is already the key of line 2"),
    ],
)
def test_a_bad_value_is_named_with_line_and_column(loader: Loader, line: str, message: str) -> None:
    assert loader.error(HEADER + GOOD + line + "\n").startswith(f", line 3, {message}")


def test_the_line_is_the_physical_one(loader: Loader) -> None:
    blank_and_broken = HEADER + 'a,1,2024-02-03,1,true,"one\ntwo\nthree"\n\nb,2,2024-02-03,1,true,\nc,x,,,,\n'
    assert loader.error(blank_and_broken).startswith(", line 7, column part: 'x' is not a bigint")


def test_a_value_after_a_field_with_newlines_stands_below_the_rows_first_line(loader: Loader) -> None:
    text = 'note,id,part,at,ratio,flag\n"one\r\ntwo",a,x,2024-02-03,,\n'
    assert loader.error(text).startswith(", line 3, column part: 'x'")


def test_the_first_of_several_bad_rows_is_named(loader: Loader) -> None:
    text = HEADER + "a,1,2024-02-03,,,\nb,x,2024-02-03,,,\nc,1,never,,,\nd,y,2024-02-03,,,\n"
    assert loader.error(text) == ", line 3, column part: 'x' is not a bigint (the first of 2 such rows)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", ": no header line"),
        (b"\n\n", ": no header line"),
        (
            b"id,part,at,ratio,flag\n",
            ", line 1, column note: missing; the file has id, part, at, ratio, flag",
        ),
        (HEADER.replace("ratio", "id").encode(), ", line 1, column ratio: missing"),
        (HEADER.replace("note", "note,id").encode(), ", line 1, column id: is in the header twice"),
        ((HEADER + GOOD + "b,1\n").encode(), ", line 3: 2 fields where the header has 6"),
        (
            (HEADER + GOOD + "b,1,2024-02-03,1,true,x,y\n").encode(),
            ", line 3: 7 fields where the header has 6",
        ),
        ((HEADER + GOOD + 'b,1,2024-02-03,1,true,"x"y\n').encode(), ", line 3: "),
        ((HEADER + GOOD + 'b,1,2024-02-03,1,true,"x\n').encode(), ", line 3: "),
        ((HEADER + GOOD).encode() + b"b,1,2024-02-03,1,true,\xff\n", ", line 3, column note: "),
        ((HEADER + GOOD + GOOD).encode() + b"b,1,2024-02-03,1,true,x\r\n", ", line 4: ends in CRLF"),
    ],
)
def test_a_file_that_is_no_csv_of_the_table_is_refused(loader: Loader, text: bytes, message: str) -> None:
    assert loader.error(text).startswith(message)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + (HEADER + GOOD).encode(),
        (HEADER + GOOD).replace("\n", "\r\n").encode(),
        (HEADER + GOOD).rstrip().encode(),
    ],
    ids=["byte order mark", "CRLF", "no newline at the end"],
)
def test_spellings_of_a_file_are_equal(loader: Loader, data: bytes) -> None:
    loader.csv(data)
    assert [row[0] for row in loader.rows()] == ["a"]


def test_columns_that_are_not_declared_are_listed_and_left_out(loader: Loader) -> None:
    loaded = loader.csv("x,note,id,part,at,ratio,flag,x\n1,n,a,1,2024-02-03,,,2\n")
    assert (loaded.extra_columns, len(loader.rows()[0])) == (["x", "x"], 6)


def test_a_header_alone_is_a_day_without_rows(loader: Loader) -> None:
    loaded = loader.csv(HEADER)
    assert (loaded.rows, loaded.empty_on_purpose, loader.rows()) == (0, False, [])


def test_a_marker_is_a_day_without_rows_on_purpose(loader: Loader) -> None:
    (loader.day / f"{DAY}.empty").touch()
    loaded = loader.load()
    assert (loaded.rows, loaded.empty_on_purpose, loader.rows()) == (0, True, [])


def test_gzip_parquet_and_jsonl_give_the_rows_of_the_csv(loader: Loader) -> None:
    text = HEADER + GOOD + 'b,2,2024-02-03T00:00:00,,,"Zoë, ""x""\n"\n'
    loader.csv(text)
    expected, path = loader.rows(), loader.day / f"{DAY}.csv"
    path.unlink()

    (loader.day / f"{DAY}.csv.gz").write_bytes(gzip.compress(text.encode()))
    loader.load()
    assert loader.rows() == expected
    (loader.day / f"{DAY}.csv.gz").unlink()

    source = loader.lake / "raw/events" / f"day={DAY}" / "data.parquet"
    (loader.day / f"{DAY}.parquet").write_bytes(source.read_bytes())
    loader.load()
    assert loader.rows() == expected
    (loader.day / f"{DAY}.parquet").unlink()

    names = [column.name for column in EVENTS.columns]
    lines = [json.dumps(dict(zip(names, row, strict=True)), default=str) for row in expected]
    (loader.day / f"{DAY}.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    loader.load()
    assert loader.rows() == expected


def test_a_parquet_time_with_a_zone_arrives_in_utc(loader: Loader) -> None:
    loader.connection.sql(
        "select 'a' as id, 1 as part, timestamptz '2024-02-03 01:00:00+01' as at,"
        " 1 as ratio, true as flag, null as note"
    ).write_parquet(str(loader.day / f"{DAY}.parquet"))
    loader.load()
    assert loader.rows() == [("a", 1, WINDOW.start, 1.0, True, None)]


def test_a_parquet_fault_is_named_by_row(loader: Loader) -> None:
    path = loader.day / f"{DAY}.parquet"
    loader.connection.sql(
        "select 'a' as id, unnest([1.0, 1.5]) as part, timestamptz '2024-02-03 01:00:00+01' as at,"
        " 1 as ratio, true as flag, '' as note"
    ).filter("part > 1").write_parquet(str(path))
    with pytest.raises(ExportError, match=r"\.parquet, row 1, column part: '1.5' is not a bigint$"):
        loader.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a"}\n', ", column part: missing; the file has id"),
        ('\n{"id": "a", \n', ", line 2: "),
        ("\n[1]\n", ", line 2: '[1]' is not a JSON object"),
        (
            '{"id":"a","part":1,"at":"2024-02-03","ratio":1,"flag":true,"note":null}\n\n'
            '{"id":"b","part":1.5,"at":"2024-02-03","ratio":1,"flag":true,"note":""}\n',
            ", line 3, column part: '1.5' is not a bigint",
        ),
    ],
)
def test_a_jsonl_fault_is_named_by_line(loader: Loader, text: str, message: str) -> None:
    path = loader.day / f"{DAY}.jsonl"
    path.write_text(text)
    with pytest.raises(ExportError) as caught:
        loader.load()
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_comma_before_a_bracket_in_a_text_of_jsonl_is_no_fault(loader: Loader) -> None:
    path = loader.day / f"{DAY}.jsonl"
    path.write_text('{"id":"a","part":1,"at":"2024-02-03","ratio":1,"flag":true,"note":"[1, ], {2,}"}\n')
    loader.load()
    assert [row[5] for row in loader.rows()] == ["[1, ], {2,}"]


@pytest.mark.parametrize("name", ["csv.gz", "parquet"])
def test_a_file_that_is_cut_off_is_refused(loader: Loader, name: str) -> None:
    loader.csv(HEADER + GOOD * 1)
    whole = (loader.lake / "raw/events" / f"day={DAY}" / "data.parquet").read_bytes()
    if name == "csv.gz":
        whole = gzip.compress((HEADER + GOOD).encode())
    (loader.day / f"{DAY}.csv").unlink()
    path = loader.day / f"{DAY}.{name}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExportError) as caught:
        loader.load()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("torn", ["", "k,1,2024\n"], ids=["whole lines", "half of a line"])
def test_a_file_that_the_source_still_writes_is_refused(loader: Loader, torn: str) -> None:
    path = loader.day / f"{DAY}.csv"
    # Long enough to read that the writer has its turn meanwhile.
    lines = [f"k{number},{number},2024-02-03,,,\n" for number in range(200_000)]
    path.write_text(HEADER + "".join(lines) + torn)
    begun, done = threading.Event(), threading.Event()

    def append() -> None:
        with path.open("a") as file:
            for number in itertools.count():
                begun.set()
                if done.is_set():
                    return
                file.write(f"k,{number},2024-02-03,,,\n")
                file.flush()

    source = threading.Thread(target=append)
    source.start()
    begun.wait()
    try:
        with pytest.raises(ExportError, match=r"\.csv: changed while it was read"):
            loader.load()
    finally:
        done.set()
        source.join()
    assert not loader.lake.exists()


def test_the_same_rows_give_the_same_bytes(loader: Loader) -> None:
    lines = [f"k{n},{n},2024-02-03T{n % 24:02}:00:00,0.5,true,{n * 7919}\n" for n in range(150_000)]
    path = loader.lake / "raw/events" / f"day={DAY}" / "data.parquet"
    loader.csv(HEADER + "".join(lines))
    first = path.read_bytes()
    loader.csv(HEADER + "".join(reversed(lines)))
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("key", "event_time", "message"),
    [((), None, "key"), (("nope",), None, "key"), (("id",), "id", "event_time")],
)
def test_a_declaration_that_contradicts_itself_is_refused(
    key: tuple[str, ...], event_time: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Table("t", "", (Column("id", "varchar", ""),), key, daily=True, event_time=event_time)


def test_the_demo_source_is_declared() -> None:
    assert {table.name for table in TABLES if not table.daily} >= {"customers", "products", "stores", "supplies"}
    assert {table.name for table in TABLES if table.daily} >= {"orders", "items", "tweets"}

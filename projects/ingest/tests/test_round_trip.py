"""Property: rows that Python's csv module writes are the rows that the lake holds."""

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.engine import engine
from ingest.exports import ExportError
from ingest.lake import FolderLake
from ingest.loading import load
from ingest.tables import Column, Table

pytestmark = pytest.mark.slow

NOTES = Table(
    name="notes",
    description="Free text around a number.",
    columns=(
        Column("before", "varchar", ""),
        Column("id", "bigint", ""),
        Column("after", "varchar", ""),
    ),
    key=("id",),
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text(
    "\",\n\r; '|\\", max_size=8
)


def write(path: Path, rows: list[tuple[str, object, str]], ending: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        # Before Python 3.13 the csv module leaves a lone CR unquoted where lines end in LF, unless all is quoted.
        dialect = "unix" if ending == "\n" else "excel"
        writer = csv.writer(file, dialect)
        writer.writerows([("before", "id", "after"), *rows])


@settings(max_examples=150)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_written_rows_come_back(texts: list[tuple[str, str]], ending: str) -> None:
    rows: list[tuple[str, object, str]] = [(first, n, last) for n, (first, last) in enumerate(texts)]
    with engine() as connection, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "notes.csv", rows, ending)
        loaded = load(connection, NOTES, exports=folder, lake=FolderLake(folder / "lake"))
        assert connection.read_parquet(loaded.location).fetchall() == rows


@settings(max_examples=150)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=12), st.tuples(TEXT, TEXT), st.sampled_from(["\n", "\r\n"]))
def test_a_bad_value_is_named_by_the_line_on_which_an_editor_shows_it(
    texts: list[tuple[str, str]], bad: tuple[str, str], ending: str
) -> None:
    rows: list[tuple[str, object, str]] = [(first, n, last) for n, (first, last) in enumerate(texts)]
    with engine() as connection, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "notes.csv"
        write(path, [*rows, (bad[0], "not-a-number", bad[1])], ending)
        line = path.read_bytes().partition(b"not-a-number")[0].count(b"\n") + 1
        try:
            load(connection, NOTES, exports=folder, lake=FolderLake(folder / "lake"))
        except ExportError as error:
            message = str(error)
        else:
            message = "loaded"
    assert message == f"{path}, line {line}, column id: 'not-a-number' is not a bigint"

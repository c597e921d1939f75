"""Reads an export of any format into DuckDB as text, so that one validator serves all formats."""

import csv
import gzip
import zlib
from collections.abc import Sequence

import duckdb

from ingest.exports import Export, ExportError
from ingest.lines import (
    MAX_ROW_BYTES,
    csv_fault,
    csv_reason,
    jsonl_fault,
    may_have_row_without_end,
    open_text,
    records,
    short,
)
from ingest.parsing import quoted
from ingest.tables import Column, Table

# The table with the export's declared columns, all varchar; its rowid counts the export's rows from 0. It is of one
# connection alone, so that several may read at once.
TEXT = "export_text"


def read(connection: duckdb.DuckDBPyConnection, export: Export, table: Table) -> list[str]:
    """Put the export's rows into `TEXT` and return the names of its columns that `table` does not declare.

    Raises `ExportError` where the file cannot be parsed or lacks a declared column.
    """
    connection.execute(f"drop table if exists {TEXT}")
    if export.format == "empty":
        columns = ", ".join(f"{quoted(column.name)} varchar" for column in table.columns)
        connection.execute(f"create temp table {TEXT} ({columns})")
        return []
    try:
        _require_whole(export)
        # DuckDB finds `relation` by the name of the variable: by its own method it makes no temporary table.
        relation, names = _READERS[export.format](connection, export, table)  # noqa: RUF059
        connection.execute(f"create temp table {TEXT} as from relation")
    except duckdb.Error as error:
        raise ExportError(f"{export.path}{_fault(export) or ': ' + _first_part(error)}") from error
    except csv.Error as error:
        raise ExportError(f"{export.path}, line 1: {csv_reason(error)}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ExportError(f"{export.path}: not a complete gzip file ({error})") from error
    return [name for name in names if name not in {column.name for column in table.columns}]


def _csv(
    connection: duckdb.DuckDBPyConnection, export: Export, table: Table
) -> tuple[duckdb.DuckDBPyRelation, Sequence[str]]:
    with open_text(export.path) as file:
        header = next(records(file), None)
    if header is None:
        raise ExportError(f"{export.path}: no header line; a day without rows has an .empty file instead")
    names = header.fields
    _require_columns(export, table, names)
    for column in table.columns:
        if names.count(column.name) > 1:
            raise ExportError(f"{export.path}, line 1, column {column.name}: is in the header twice")
    relation = connection.read_csv(
        str(export.path),
        auto_detect=False,
        # By position: columns that are not loaded may share a name.
        columns={f"c{position}": "varchar" for position in range(len(names))},
        header=True,
        delimiter=",",
        quotechar='"',
        escapechar='"',
        max_line_size=MAX_ROW_BYTES,
    )
    return relation.project(", ".join(_csv_value(column, names) for column in table.columns)), names


def _csv_value(column: Column, names: Sequence[str]) -> str:
    field = f"c{names.index(column.name)}"
    # CSV has one spelling for "no text" and null; for text the lake keeps the empty string.
    value = f"coalesce({field}, '')" if column.type == "varchar" else field
    return f"{value} as {quoted(column.name)}"


def _parquet(
    connection: duckdb.DuckDBPyConnection, export: Export, table: Table
) -> tuple[duckdb.DuckDBPyRelation, Sequence[str]]:
    relation = connection.read_parquet(str(export.path), hive_partitioning=False)
    _require_columns(export, table, relation.columns)
    return relation.project(
        ", ".join(f"cast({quoted(column.name)} as varchar) as {quoted(column.name)}" for column in table.columns)
    ), relation.columns


def _jsonl(
    connection: duckdb.DuckDBPyConnection, export: Export, table: Table
) -> tuple[duckdb.DuckDBPyRelation, Sequence[str]]:
    rows = connection.sql(
        "select json from read_json_objects($path, format = 'nd', maximum_object_size = $size)",
        params={"path": str(export.path), "size": MAX_ROW_BYTES},
    )
    # DuckDB takes a comma before a bracket, and of two values of one key the first: Python's reader has the last word.
    suspect = (
        "json_type(json) <> 'OBJECT' or len(json_keys(json)) <> len(list_distinct(json_keys(json)))"
        r" or regexp_matches(json::varchar, ',\s*[}\]]')"
    )
    if rows.filter(suspect).limit(1).fetchone() and (fault := jsonl_fault(export)):
        raise ExportError(f"{export.path}, {fault}")
    keys = rows.project("unnest(json_keys(json)) as name").distinct().order("name").fetchall()
    names = [str(key) for (key,) in keys]
    # A file without lines has no keys: it is an export without rows, as a CSV file with its header alone.
    if names:
        _require_columns(export, table, names)
    return rows.project(
        ", ".join(f"json_extract_string(json, {_pointer(column)}) as {quoted(column.name)}" for column in table.columns)
    ), names


def _pointer(column: Column) -> str:
    return "'/" + column.name.replace("~", "~0").replace("/", "~1").replace("'", "''") + "'"


def _require_whole(export: Export) -> None:
    """Refuse what DuckDB takes without a word: a gzip file that was cut off, and a row that exceeds its buffer.

    It takes the end of the one for the end of the rows, and leaves the other out with all that follows.
    """
    if export.format != "csv":
        return
    if export.path.suffix == ".gz":
        with gzip.open(export.path) as file:
            is_suspect = may_have_row_without_end(file)
    else:
        with export.path.open("rb") as file:
            is_suspect = may_have_row_without_end(file)
    if is_suspect and (fault := _fault(export)):
        raise ExportError(f"{export.path}{fault}")


def _require_columns(export: Export, table: Table, names: Sequence[str]) -> None:
    for column in table.columns:
        if column.name not in names:
            where = ", line 1" if export.format == "csv" else ""
            raise ExportError(
                f"{export.path}{where}, column {column.name}: missing; the file has {short(', '.join(names))}"
            )


def _first_part(error: duckdb.Error) -> str:
    return " ".join(str(error).partition("Possible")[0].split())[:300]


def _fault(export: Export) -> str | None:
    finders = {"csv": csv_fault, "jsonl": jsonl_fault}
    finder = finders.get(export.format)
    fault = finder(export) if finder else None
    return f", {fault}" if fault else None


_READERS = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}

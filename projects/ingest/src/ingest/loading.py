"""Loads one export into one file of the lake: find, read, validate, replace."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import dagster as dg
import duckdb

from ingest import settings
from ingest.exports import Export, ExportError, find_export
from ingest.lake import Lake
from ingest.parsing import parsed, quoted
from ingest.quarantine import quarantine_name, set_aside, write_set_aside
from ingest.reading import TEXT, read
from ingest.tables import Table
from ingest.validation import Window, validate

AT_ONCE = 2
PREVIEW_ROWS = 5
PREVIEW_WIDTH = 80
# Small enough for a reader to skip by time and to hold one in memory, large enough to compress.
ROW_GROUP_SIZE = 122_880


@dataclass(frozen=True)
class Loaded:
    """What is now in the lake in place of an export."""

    source: Path
    source_sha256: str
    location: str
    rows: int
    bytes: int
    extra_columns: list[str]
    preview: str
    quarantined_rows: int
    quarantine: str | None

    @property
    def empty_on_purpose(self) -> bool:
        """Whether a marker stood in place of the export."""
        return self.source_sha256 == "empty"


def lake_name(table: Table, day: str | None) -> str:
    """Return the lake's name for a table's file, for a daily table that of `day` (ISO date)."""
    return f"raw/{table.name}/data.parquet" if day is None else f"raw/{table.name}/day={day}/data.parquet"


def load(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    *,
    exports: Path,
    lake: Lake,
    day: str | None = None,
    window: Window | None = None,
) -> Loaded:
    """Replace a table's file, or that of its `day`, with the rows of its export.

    Raises `ExportError`, with nothing replaced, where the export is missing, wrong, or cannot be read. Where the lake
    cannot be written, Postgres, if it is dbt's target, has the rows already; the load is made again.
    """
    try:
        export = find_export(exports, table, day)
        version = export.version()
        digest = export.sha256()
        try:
            extra_columns = read(connection, export, table)
        except (ExportError, duckdb.Error):
            _require_version(export, version)  # half of a line may be wrong by itself
            raise
        _require_version(export, version)
        quarantined = set_aside(connection, export, table, window) if table.max_quarantined_rows else 0
        rows = validate(connection, export, table, window)
        typed = connection.table(TEXT).project(
            ", ".join(f"{parsed(column)} as {quoted(column.name)}" for column in table.columns)
        )
        name = lake_name(table, day)
        # Keys are unique, so this order is total: the same rows give the same bytes.
        ordered = typed.order(", ".join(quoted(column) for column in table.order))

        def write(path: Path) -> None:
            ordered.write_parquet(str(path), compression="zstd", row_group_size=ROW_GROUP_SIZE, use_tmp_file=False)

        if settings.is_read_by_postgres():
            from ingest import postgres  # noqa: PLC0415 - of one target, and a driver

            postgres.replace(ordered, table, day, digest)
        # Before the rows that are loaded: where this is cut off, none is in neither of the two.
        aside = quarantine_name(table, day) if quarantined else None
        if aside:
            lake.replace(aside, lambda path: write_set_aside(connection, table, path))
        size = lake.replace(name, write)
        if table.max_quarantined_rows and not quarantined:
            lake.remove(quarantine_name(table, day))
    except (OSError, duckdb.IOException) as error:
        raise ExportError(f"{table.name}{f' of {day}' if day else ''}: {str(error).splitlines()[0]}") from error
    return Loaded(
        source=export.path,
        source_sha256=digest,
        location=lake.location(name),
        rows=rows,
        bytes=size,
        extra_columns=extra_columns,
        preview=_preview(typed, table),
        quarantined_rows=quarantined,
        quarantine=lake.location(aside) if aside else None,
    )


def load_each(
    connection: duckdb.DuckDBPyConnection,
    load_one: Callable[[duckdb.DuckDBPyConnection, str], Loaded],
    partitions: Sequence[str],
) -> tuple[dict[str, Loaded], dict[str, str]]:
    """Load partitions, some at once: one is read while another one's file is on its way to the lake.

    Args:
        connection: the engine, of which each of those at once has a cursor.
        load_one: loads a partition with a cursor.
        partitions: the partitions, in the order in which they begin.

    Returns:
        What was loaded, and the reasons of what failed, by partition. Where another error or an interrupt ends it,
        those that had begun are loaded to their end, and no other one.
    """
    idle: SimpleQueue[duckdb.DuckDBPyConnection] = SimpleQueue()
    for _ in range(AT_ONCE):
        idle.put(connection.cursor())

    def attempt(partition: str) -> Loaded | ExportError:
        cursor = idle.get()
        try:
            return load_one(cursor, partition)
        except ExportError as error:
            return error
        finally:
            idle.put(cursor)

    loaded: dict[str, Loaded] = {}
    failed: dict[str, str] = {}
    workers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="loads an export")
    try:
        for partition, result in zip(partitions, workers.map(attempt, partitions), strict=True):
            if isinstance(result, ExportError):
                failed[partition] = str(result)
            else:
                loaded[partition] = result
    finally:
        workers.shutdown(cancel_futures=True)
    return loaded, failed


def _require_version(export: Export, version: tuple[int, int, int]) -> None:
    if export.version() != version:
        raise ExportError(f"{export.path}: changed while it was read; load it again when it is complete")


def column_schema(table: Table) -> dg.TableSchema:
    """Return the table's columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                column.description,
                dg.TableColumnConstraints(nullable=column.name not in table.required),
            )
            for column in table.columns
        ]
    )


def metadata(table: Table, loaded: Loaded) -> Mapping[str, dg.MetadataValue]:
    """Return what a materialization says about the file that it wrote."""
    rows = "dagster/partition_row_count" if table.daily else "dagster/row_count"
    values: dict[str, dg.MetadataValue] = {
        rows: dg.MetadataValue.int(loaded.rows),
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(table)),
        "bytes": dg.MetadataValue.int(loaded.bytes),
        "path": dg.MetadataValue.path(loaded.location),
        "source": dg.MetadataValue.path(str(loaded.source)),
        "source_sha256": dg.MetadataValue.text(loaded.source_sha256),
        "preview": dg.MetadataValue.md(loaded.preview),
    }
    if table.max_quarantined_rows:
        values["quarantined_rows"] = dg.MetadataValue.int(loaded.quarantined_rows)
    if loaded.quarantine:
        values["quarantine"] = dg.MetadataValue.path(loaded.quarantine)
    if loaded.extra_columns:
        values["ignored_columns"] = dg.MetadataValue.text(", ".join(loaded.extra_columns))
    return values


def _preview(rows: duckdb.DuckDBPyRelation, table: Table) -> str:
    lines = [[column.name for column in table.columns], ["---"] * len(table.columns)]
    lines += [[_cell(value) for value in row] for row in rows.limit(PREVIEW_ROWS).fetchall()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    if len(text) > PREVIEW_WIDTH:
        text = text[: PREVIEW_WIDTH - 1] + "…"
    return " ".join(text.replace("|", "\\|").split())

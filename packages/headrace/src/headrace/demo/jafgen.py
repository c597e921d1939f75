"""Splitting what the public generator jafgen wrote, one file a table, into an export folder by day."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import duckdb

from headrace.cli.user_errors import UserError
from headrace.demo.export_folder import (
    EVENT_TABLES,
    REFERENCE_TABLES,
    ExportRecord,
    ExportSummary,
    FileFormat,
    copy_days,
    copy_reference_table,
    read_record,
    staged_export,
)


def split_jafgen_export(
    source: Path,
    out: Path,
    *,
    first: date | None = None,
    last: date | None = None,
    file_format: FileFormat = "csv",
    force: bool = False,
    on_day: Callable[[int], object] = lambda _days: None,
) -> ExportSummary:
    """Write the files `raw_<table>.csv` in `source` to the export folder `out`, event tables one file a day.

    The days are all from the first to the last that has an order or a tweet, limited to `first` and `last`,
    both inclusive; a day without rows of a table gets an empty marker. An item is of its order's day.
    `on_day` is called after each day with the number of all days.

    Raises:
        UserError: a file is missing or cannot be read as that table, an item has no order, no day is left, or
            `out` has an export already and `force` is not set.
    """
    if read_record(out) is not None and not force:
        raise UserError(f"{out} has an export already: name another folder, or replace it with --force")
    for table in (*REFERENCE_TABLES, *EVENT_TABLES):
        if not _file(source, table).is_file():
            raise UserError(f"{_file(source, table)} is missing: --jafgen wants the folder that jafgen wrote")
    with staged_export(out, replace=force) as (con, staged):
        for table, columns in (REFERENCE_TABLES | EVENT_TABLES).items():
            _load(con, source, table, columns)
        con.execute(_DAYS)
        days = _days(con, source, first, last)
        summary = copy_days(con, days, staged, file_format, on_day=partial(on_day, len(days)))
        for table in REFERENCE_TABLES:
            copy_reference_table(con, table, staged, file_format)
        ExportRecord("jafgen", file_format, days[-1].isoformat()).save(staged)
    return ExportSummary(summary.days, summary.files + len(REFERENCE_TABLES), summary.orders, summary.items)


# Ordered by rowid: a join may shuffle rows, and the files should keep jafgen's order.
_DAYS = """
create temp table orders as select *, ordered_at::date as day from loaded_orders order by rowid;
create temp table tweets as select *, tweeted_at::date as day from loaded_tweets order by rowid;
create temp table items as
select loaded_items.*, orders.day
from loaded_items
left join orders on orders.id = loaded_items.order_id
order by loaded_items.rowid;
"""


def _file(source: Path, table: str) -> Path:
    return source / f"raw_{table}.csv"


def _load(con: duckdb.DuckDBPyConnection, source: Path, table: str, columns: dict[str, str]) -> None:
    name = f"loaded_{table}" if table in EVENT_TABLES else table
    file = _file(source, table)
    try:
        con.execute(
            f"create temp table {name} as from read_csv($file, header = true, delim = ',', quote = '\"', "
            f"escape = '\"', types = $types) select {', '.join(columns)}",
            {"file": str(file), "types": columns},
        )
    except duckdb.Error as error:
        raise UserError(f"{file} is not jafgen's: {str(error).splitlines()[0]}") from error


def _days(con: duckdb.DuckDBPyConnection, source: Path, first: date | None, last: date | None) -> list[date]:
    orphan = con.execute("select id, order_id from items where day is null limit 1").fetchone()
    if orphan:
        raise UserError(f"{_file(source, 'items')}: item {orphan[0]} has no order {orphan[1]}")
    span = con.execute(
        "select min(day), max(day) from (select day from orders union all select day from tweets)"
    ).fetchone()
    if span is None or span[0] is None:
        raise UserError(f"{_file(source, 'orders')} has no rows: run jafgen again")
    start, end = max(first or span[0], span[0]), min(last or span[1], span[1])
    if start > end:
        raise UserError(f"{source} has the days {span[0]} to {span[1]}, none of which is asked for")
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]

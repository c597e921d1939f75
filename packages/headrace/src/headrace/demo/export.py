"""The demo export: generated days of a jaffle shop, written to an export folder, added to it, or revised.

The same seed and orders a day give the same bytes. A day does not depend on the range that it is written in:
writing more days into a folder leaves the days that are there as they are, and only `customers` grows.
"""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import duckdb

from headrace.cli.user_errors import UserError
from headrace.demo import orders, shop
from headrace.demo.export_folder import (
    REFERENCE_TABLES,
    ExportRecord,
    ExportSummary,
    FileFormat,
    copy_days,
    copy_reference_table,
    read_record,
    staged_export,
    whole_days,
)

_INSTEAD = "name another folder, or replace it with --force"

# Bounds memory whatever the range is: some 300 MB for the process.
_ORDERS_AT_A_TIME = 100_000


def write_demo_data(
    out: Path,
    first: date,
    last: date,
    orders_per_day: int,
    seed: int,
    *,
    file_format: FileFormat = "csv",
    force: bool = False,
    on_day: Callable[[int], object] = lambda _days: None,
) -> ExportSummary:
    """Write the days from `first` to `last`, both inclusive, to the export folder `out`.

    In a folder that was written with the same arguments, only days that are missing are added. `force`
    replaces all days of one, whatever wrote it. `orders_per_day` is the average at the start of 2024; a tenth
    of that is added each year. `on_day` is called after each day with the number of all days to write.

    Raises:
        UserError: `last` is before `first`, `first` before the shop's first day, `orders_per_day` below 1, or
            `out` is a file or has anything else in it.
    """
    if last < first:
        raise UserError(f"--to {last} is before --from {first}: swap them")
    if first < shop.FIRST_DAY:
        raise UserError(f"--from {first} is before {shop.FIRST_DAY}, the day the first store opened")
    if orders_per_day < 1:
        raise UserError(f"--orders-per-day {orders_per_day} is below 1")
    record = ExportRecord("demo-data", file_format, last.isoformat(), seed, orders_per_day)
    found = read_record(out)
    if force:
        found = None
    if found is not None:
        if found.source != "demo-data":
            raise UserError(f"{out} has an export from {found.source}: {_INSTEAD}")
        _same_arguments(out, found, orders_per_day, seed, file_format)
        record = dataclasses.replace(found, last=max(found.last, record.last))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    present = set() if found is None else whole_days(out)
    missing = [day for day in days if day.isoformat() not in present]
    with staged_export(out, replace=force) as (con, staged):
        _open_shop(con, record)
        summary = _write_days(con, missing, record, staged, partial(on_day, len(missing)))
        for table in REFERENCE_TABLES:
            copy_reference_table(con, table, staged, file_format)
        record.save(staged)
    return dataclasses.replace(summary, files=summary.files + len(REFERENCE_TABLES))


def revise_demo_day(
    out: Path,
    day: date,
    *,
    orders_per_day: int | None = None,
    seed: int | None = None,
    file_format: FileFormat | None = None,
) -> ExportSummary:
    """Write `day` of a demo export again, with late orders added: one fiftieth of the day's, three at least.

    The former rows are in the new files as they were; tweets stay. Each call adds further late orders: the
    n-th revision of a day is the same in every folder of the same seed and orders a day.

    Raises:
        UserError: `out` is no folder that `write_demo_data` wrote, or has no such day.
    """
    record = read_record(out)
    if record is None or record.source != "demo-data":
        raise UserError(f"{out} has no demo data to revise: write it first, without --revise")
    _same_arguments(out, record, orders_per_day, seed, file_format)
    if day.isoformat() not in whole_days(out):
        raise UserError(f"--revise {day}: {out} has no such day; write it first, without --revise")
    revisions = record.revisions | {day.isoformat(): record.revisions.get(day.isoformat(), 0) + 1}
    record = dataclasses.replace(record, revisions=dict(sorted(revisions.items())))
    with staged_export(out) as (con, staged):
        _open_shop(con, record)
        _take_orders(con, day, day)
        summary = copy_days(con, [day], staged, record.file_format, on_day=lambda: None, tables=("items", "orders"))
        record.save(staged)
    return summary


def _open_shop(con: duckdb.DuckDBPyConnection, record: ExportRecord) -> None:
    con.execute("set variable seed = $seed", {"seed": record.seed})
    con.execute("set variable orders_per_day = $number", {"number": record.orders_per_day})
    con.execute("set variable day_of_customers = $day", {"day": date.fromisoformat(record.last)})
    con.execute("create table revisions (day date, waves integer)")
    for day, waves in record.revisions.items():
        con.execute("insert into revisions values ($day, $waves)", {"day": day, "waves": waves})
    con.execute(shop.MACROS)
    con.execute(shop.REFERENCE_TABLES)


def _take_orders(con: duckdb.DuckDBPyConnection, first: date, last: date) -> None:
    con.execute("set variable first_day = $day", {"day": first})
    con.execute("set variable last_day = $day", {"day": last})
    con.execute(orders.EVENT_TABLES)


def _write_days(
    con: duckdb.DuckDBPyConnection,
    days: list[date],
    record: ExportRecord,
    staged: Path,
    on_day: Callable[[], object],
) -> ExportSummary:
    orders = items = files = 0
    for some in _batches(days, max(1, _ORDERS_AT_A_TIME // (record.orders_per_day or 1))):
        _take_orders(con, some[0], some[-1])
        part = copy_days(con, some, staged, record.file_format, on_day=on_day)
        orders, items, files = orders + part.orders, items + part.items, files + part.files
    return ExportSummary(len(days), files, orders, items)


def _batches(days: list[date], size: int) -> Iterator[list[date]]:
    """Cut sorted days into runs without gaps, of at most `size` days each."""
    batch: list[date] = []
    for day in days:
        if batch and (len(batch) == size or day - batch[-1] > timedelta(days=1)):
            yield batch
            batch = []
        batch.append(day)
    if batch:
        yield batch


def _same_arguments(
    out: Path,
    record: ExportRecord,
    orders_per_day: int | None,
    seed: int | None,
    file_format: FileFormat | None,
) -> None:
    for option, was, now in (
        ("--orders-per-day", record.orders_per_day, orders_per_day),
        ("--seed", record.seed, seed),
        ("--format", record.file_format, file_format),
    ):
        if now is not None and now != was:
            raise UserError(f"{out} was written with {option} {was}, not {now}: {_INSTEAD}")

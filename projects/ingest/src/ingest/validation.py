"""Decides whether the text of an export may become a partition of the lake."""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from ingest.exports import Export, ExportError
from ingest.lines import place, short
from ingest.parsing import parsed, quoted, unparsable
from ingest.reading import TEXT
from ingest.tables import Table


@dataclass(frozen=True)
class Window:
    """The time `[start, end)` of a partition, in UTC and without zone, as the lake's timestamps are."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Rule:
    """An SQL condition on a row of `TEXT` that no row may meet, and what is said of a value that does."""

    column: str
    condition: str
    message: str


def validate(connection: duckdb.DuckDBPyConnection, export: Export, table: Table, window: Window | None) -> int:
    """Return the number of rows in `TEXT`.

    Raises `ExportError` for the first row, in the file's order, with a value that is not of its column's
    type, a required one that is null or empty, or an event time outside `window`; then for the first repeated key.
    """
    rules = rules_of(table, window)
    text = connection.table(TEXT)
    counts = ", ".join(
        f"min(rowid) filter (where {rule.condition}), count(*) filter (where {rule.condition})" for rule in rules
    )
    found = text.aggregate(f"count(*), {counts}").fetchone()
    assert found is not None  # noqa: S101 - an aggregate without groups has one row
    rows, faults = found[0], list(zip(found[1::2], found[2::2], rules, strict=True))
    broken = [(row, count, rule) for row, count, rule in faults if row is not None]
    if broken:
        row, count, rule = min(broken, key=lambda fault: fault[0])
        value = text.filter(f"rowid = {row}").project(quoted(rule.column)).fetchone()
        shown = "null" if value is None or value[0] is None else repr(short(value[0]))
        more = f" (the first of {count} such rows)" if count > 1 else ""
        where = place(export, row, rule.column)
        raise ExportError(f"{export.path}, {where}, column {rule.column}: {shown} {rule.message}{more}")
    _require_unique_keys(connection, export, table)
    return int(rows)


def rules_of(table: Table, window: Window | None) -> list[Rule]:
    """Return what each row of `TEXT` has to keep by itself; that keys are unique is of all rows together."""
    rules = [
        Rule(column.name, unparsable(column), f"is not a {_words(column.type)}")
        for column in table.columns
        if column.type != "varchar"
    ]
    rules += [
        Rule(column.name, f"contains({quoted(column.name)}, chr(0))", "has a NUL in it, which is no text")
        for column in table.columns
        if column.type == "varchar"
    ]
    rules += [
        Rule(column.name, f"{parsed(column)} < {column.minimum}", f"is below {column.minimum}")
        for column in table.columns
        if column.minimum is not None
    ]
    rules += [
        Rule(name, f"coalesce({quoted(name)}, '') = ''", "is not a key: every row needs one") for name in table.key
    ]
    # That of an event time says more: where it has to be.
    rules += [
        Rule(name, f"coalesce({quoted(name)}, '') = ''", "is no value: the column is required")
        for name in sorted(table.required.difference(table.key, [table.event_time or ""]))
    ]
    if table.event_time is not None and window is not None:
        column = next(column for column in table.columns if column.name == table.event_time)
        inside = f"{parsed(column)} >= '{window.start}' and {parsed(column)} < '{window.end}'"
        # A time that does not parse meets the rule above already, an empty one only this.
        outside = f"not coalesce({inside}, {quoted(column.name)} <> '', false)"
        rules.append(Rule(column.name, outside, f"is outside [{window.start}, {window.end})"))
    return rules


def _words(type_: str) -> str:
    return "timestamp in UTC without offset, to the microsecond" if type_ == "timestamp" else type_


def _require_unique_keys(connection: duckdb.DuckDBPyConnection, export: Export, table: Table) -> None:
    columns = [column for column in table.columns if column.name in table.key]
    keys = ", ".join(f"{parsed(column)} as {quoted(column.name)}" for column in columns)
    names = ", ".join(quoted(column.name) for column in columns)
    repeated = (
        connection.table(TEXT)
        .project(f"{keys}, rowid as position")
        .aggregate(f"{names}, min(position, 2) as positions, count(*) as repeats", names)
        .filter("repeats > 1")
        .order("positions[2]")
        .limit(1)
        .fetchone()
    )
    if repeated is None:
        return
    *key, (first, second), _ = repeated
    name = ", ".join(column.name for column in columns)
    noun = "column" if len(columns) == 1 else "columns"
    shown = short(", ".join(repr(value) for value in key))
    again, before = (place(export, row, columns[0].name) for row in (second, first))
    raise ExportError(f"{export.path}, {again}, {noun} {name}: {shown} is already the key of {before}")

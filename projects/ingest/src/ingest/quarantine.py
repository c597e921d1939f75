"""Sets rows of an export aside that break a rule, where the table says that some may: the others are loaded.

What is set aside is a row by itself. A file whose rows cannot be told apart, or that lacks a column, is refused whole.
"""

from pathlib import Path

import duckdb

from ingest.exports import Export, ExportError
from ingest.lines import first_lines
from ingest.parsing import parsed, quoted
from ingest.reading import TEXT
from ingest.tables import Table
from ingest.validation import Rule, Window, rules_of, validate

LINE, PROBLEM = "quarantine_line", "quarantine_problem"
"""What a file of the quarantine has beside the table's columns: where a row begins in the export, and what is wrong."""

# Like `TEXT`, of one connection alone.
_SET_ASIDE, _LINES = "export_set_aside", "export_lines"
_ROW, _REPEATS = "quarantine_row", "quarantine_repeats"


def quarantine_name(table: Table, day: str | None) -> str:
    """Return the lake's name for the rows that were set aside of a table's export, for a daily table that of `day`."""
    folder = f"quarantine/{table.name}" if day is None else f"quarantine/{table.name}/day={day}"
    return f"{folder}/rows.parquet"


def set_aside(connection: duckdb.DuckDBPyConnection, export: Export, table: Table, window: Window | None) -> int:
    """Move the rows that break a rule out of `TEXT`, and return how many they are.

    Of rows with one key, all are moved: which one counts is the source's to say.

    Raises `ExportError`, for the first of them, where they are more than `table.max_quarantined_rows`.
    """
    rules = rules_of(table, window)
    keys = ", ".join(parsed(column) for column in table.columns if column.name in table.key)
    problems = ", ".join(f"case when {rule.condition} then {_literal(rule)} end" for rule in rules)
    columns = ", ".join(quoted(column.name) for column in table.columns)
    repeated = f"case when {_REPEATS} > 1 then 'the key is that of ' || {_REPEATS} || ' rows' end"
    connection.execute(
        f"create or replace temp table {_SET_ASIDE} as "  # noqa: S608 - names and rules of the declaration
        f"select {_ROW}, concat_ws('; ', {problems}, {repeated}) as {PROBLEM}, {columns} "
        f"from (select rowid as {_ROW}, *, count(*) over (partition by {keys}) as {_REPEATS} from {TEXT}) "
        f"where {_REPEATS} > 1 or {' or '.join(f'({rule.condition})' for rule in rules)}"
    )
    rows = [row for (row,) in connection.table(_SET_ASIDE).project(_ROW).fetchall()]
    if len(rows) > table.max_quarantined_rows:
        try:
            validate(connection, export, table, window)
        except ExportError as error:
            most = f"{len(rows)} rows are wrong, of which {table.max_quarantined_rows} at most are set aside"
            raise ExportError(f"{error}; {most}") from error
    if not rows:
        return 0
    lines = first_lines(export, rows)
    connection.execute(
        f"create or replace temp table {_LINES} as select unnest($rows) as {_ROW}, unnest($lines) as {LINE}",
        {"rows": list(lines), "lines": list(lines.values())},
    )
    connection.execute(f"delete from {TEXT} where rowid in (select {_ROW} from {_SET_ASIDE})")  # noqa: S608
    return len(rows)


def write_set_aside(connection: duckdb.DuckDBPyConnection, table: Table, path: Path) -> None:
    """Write what `set_aside` moved as Parquet, in the export's order: `LINE`, `PROBLEM`, and the columns as text."""
    columns = ", ".join(quoted(column.name) for column in table.columns)
    rows = connection.sql(
        f"select {LINE}, {PROBLEM}, {columns} from {_SET_ASIDE} join {_LINES} using ({_ROW}) order by {_ROW}"  # noqa: S608
    )
    rows.write_parquet(str(path), compression="zstd", use_tmp_file=False)


def _literal(rule: Rule) -> str:
    text = f"{rule.column} {rule.message}".replace("'", "''")
    return f"'{text}'"

"""Keeps the raw tables in a Postgres too, whose readers cannot read the lake: its schema `raw`, by libpq's variables.

Rows are loaded, and not read through a foreign table: no wrapper of Parquet comes with Postgres, and each join would
read the files anew. https://www.postgresql.org/docs/current/libpq-envars.html
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psycopg2
import psycopg2.extensions

from ingest.parsing import quoted
from ingest.tables import Table

SCHEMA = "raw"
# Half of the text "headrace" as a number: two makers of one schema or table would fail.
_LOCK = 1751474532
_CONNECT_SECONDS = 10
_TYPES = {"double": "double precision"}
# What stands for a null: with a backslash a text is quoted, and then is none.
_NULL = "\\N"


def replace(rows: duckdb.DuckDBPyRelation, table: Table, day: str | None) -> None:
    """Put rows in place of a table's, or of those of its day, in one transaction.

    Args:
        rows: with the table's columns.
        table: the table.
        day: the day, as an ISO date; None for a table without days.

    Raises:
        OSError: Postgres cannot be reached, or refuses the rows.
    """
    name = f"{SCHEMA}.{quoted(table.name)}"
    names = [column.name for column in table.columns]
    values = ", ".join(quoted(column) for column in names)
    if day is not None:
        rows = rows.project(f"{values}, date '{day}' as day")
        names, values = [*names, "day"], f"{values}, day"
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        path = Path(folder) / "rows.csv"
        rows.to_csv(str(path), header=False, na_rep=_NULL, quotechar='"', escapechar='"')
        with _transaction() as cursor:
            cursor.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
            cursor.execute(f"create schema if not exists {SCHEMA}")
            cursor.execute(f"create table if not exists {name} ({_columns(table)})")
            cursor.execute(f"lock table {name} in share row exclusive mode")
            # The day is one that Dagster's partitions have.
            cursor.execute(f"delete from {name}" + (f" where day = '{day}'" if day is not None else ""))  # noqa: S608
            with path.open("rb") as file:
                cursor.copy_expert(f"copy {name} ({values}) from stdin (format csv, null '{_NULL}')", file)


def _columns(table: Table) -> str:
    columns = [f"{quoted(column.name)} {_TYPES.get(column.type, column.type)}" for column in table.columns]
    return ", ".join([*columns, *(["day date not null"] if table.daily else [])])


@contextmanager
def _transaction() -> Iterator[psycopg2.extensions.cursor]:
    try:
        # As `dbt/profiles.yml` has it; else libpq would take a socket of its own.
        connection = psycopg2.connect(host=os.environ.get("PGHOST") or "localhost", connect_timeout=_CONNECT_SECONDS)
    except psycopg2.Error as error:
        raise OSError(f"postgres: {_first_line(error)}") from error
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    except psycopg2.Error as error:
        raise OSError(f"postgres: {_first_line(error)}") from error
    finally:
        connection.close()


def _first_line(error: psycopg2.Error) -> str:
    return str(error).strip().partition("\n")[0]

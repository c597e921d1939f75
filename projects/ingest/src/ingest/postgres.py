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
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED

from ingest.parsing import quoted
from ingest.tables import Table

SCHEMA = "raw"
LOADED = "loaded_exports"
"""The table that says which export each table, or each of its days, has the rows of; `headrace run` reads it."""
# Half of the text "headrace" as a number: two makers of one schema or table would fail.
_LOCK = 1751474532
_CONNECT_SECONDS = 10
# Whoever holds a table for longer fails this load, which is made again, and not all loads after it.
_LOCK_TIMEOUT = "60s"
# What stands for a null: a text of the same two characters is quoted, and is none.
_NULL = "\\N"
_TYPES = {"double": "double precision"}
_NAMES = {"varchar": "character varying", "timestamp": "timestamp without time zone"}
_COLUMNS = "select column_name, data_type from information_schema.columns where (table_schema, table_name) = (%s, %s)"


class OtherColumnsError(Exception):
    """A table in Postgres has other columns than its declaration: one line that says what to do."""


def prepare(table: Table) -> None:
    """Make a table where it is missing.

    Raises:
        OSError: Postgres cannot be reached.
        OtherColumnsError: it is there, with other columns.
    """
    expected = {column.name: _TYPES.get(column.type, column.type) for column in table.columns}
    expected |= {"day": "date"} if table.daily else {}
    name = f"{SCHEMA}.{quoted(table.name)}"
    with _transaction() as cursor:
        if not _columns(cursor, table.name) or not _columns(cursor, LOADED):
            cursor.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
            cursor.execute(f"create schema if not exists {SCHEMA}")
            declared = ", ".join(f"{quoted(column)} {type_}" for column, type_ in expected.items())
            cursor.execute(f"create table if not exists {name} ({declared})")
            cursor.execute(
                f"create table if not exists {SCHEMA}.{LOADED} "
                "(table_name text, day text, source_sha256 text not null, primary key (table_name, day))"
            )
        found = _columns(cursor, table.name)
    if found != {column: _NAMES.get(type_, type_) for column, type_ in expected.items()}:
        raise OtherColumnsError(
            f"{name} in Postgres has other columns than its declaration: `drop table {name} cascade`, then headrace run"
        )


def replace(rows: duckdb.DuckDBPyRelation, table: Table, day: str | None, source_sha256: str) -> None:
    """Put rows in place of a table's, or of those of its day, in one transaction.

    Args:
        rows: with the table's columns.
        table: the table, which is there.
        day: the day, as an ISO date; None for a table without days.
        source_sha256: the hash of the export that they are of.

    Raises:
        OSError: Postgres cannot be reached, or refuses the rows.
    """
    name = f"{SCHEMA}.{quoted(table.name)}"
    values = ", ".join(quoted(column.name) for column in table.columns)
    if day is not None:
        rows = rows.project(f"{values}, date '{day}' as day")
        values += ", day"
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        path = Path(folder) / "rows.csv"
        rows.to_csv(str(path), header=False, na_rep=_NULL, quotechar='"', escapechar='"')
        with _transaction() as cursor:
            # A second writer waits, and then deletes what this one wrote.
            cursor.execute(f"lock table {name} in share row exclusive mode")
            # The day is one that Dagster's partitions have.
            cursor.execute(f"delete from {name}" + (f" where day = '{day}'" if day is not None else ""))  # noqa: S608
            with path.open("rb") as file:
                cursor.copy_expert(
                    f"copy {name} ({values}) from stdin (format csv, encoding 'UTF8', null '{_NULL}')", file
                )
            cursor.execute(
                f"insert into {SCHEMA}.{LOADED} values (%s, %s, %s) "  # noqa: S608 - names of this module
                "on conflict (table_name, day) do update set source_sha256 = excluded.source_sha256",
                [table.name, day or "", source_sha256],
            )


def _columns(cursor: psycopg2.extensions.cursor, table: str) -> dict[str, str]:
    cursor.execute(_COLUMNS, [SCHEMA, table])
    return dict(cursor.fetchall())


@contextmanager
def _transaction() -> Iterator[psycopg2.extensions.cursor]:
    try:
        # As `dbt/profiles.yml` has it; else libpq would take a socket of its own.
        connection = psycopg2.connect(host=os.environ.get("PGHOST") or "localhost", connect_timeout=_CONNECT_SECONDS)
    except psycopg2.Error as error:
        raise OSError(f"postgres: {_first_line(error)}") from error
    try:
        # After the lock each statement sees what the one before had written.
        connection.set_session(isolation_level=ISOLATION_LEVEL_READ_COMMITTED)
        with connection, connection.cursor() as cursor:
            cursor.execute("select set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            yield cursor
    except psycopg2.Error as error:
        raise OSError(f"postgres: {_first_line(error)}") from error
    finally:
        connection.close()


def _first_line(error: psycopg2.Error) -> str:
    return str(error).strip().partition("\n")[0]

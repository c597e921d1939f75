"""A Postgres that is dbt's target, by the variables of its own clients, such as PGHOST."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as connection_type

from headrace.cli.user_errors import UserError

# Tables, views and materialized views, of which `information_schema` has no word.
_TABLES = """
select lower(nspname || '.' || relname) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relkind in ('r', 'p', 'v', 'm', 'f')
"""
_LOADED = "raw.loaded_exports"
_WRITTEN = """
select lower(schemaname || '.' || stats.relname), concat_ws(' ', relid, relfilenode, n_tup_ins, n_tup_upd, n_tup_del)
from pg_stat_user_tables as stats join pg_class on oid = relid
"""


@dataclass(frozen=True)
class PostgresTables:
    """What a database has.

    Args:
        database: its name, in lower case.
        names: its tables and views, as `schema.name` in lower case.
        exports: the hash of the export that each raw table, or each of its days, has the rows of, by the table's name
            and the day, which is empty for a table without days.
    """

    database: str
    names: frozenset[str]
    exports: Mapping[tuple[str, str], str]


def postgres_tables() -> PostgresTables:
    """Return what the database has.

    Raises:
        UserError: it cannot be reached.
    """
    with connected() as connection, closing(connection.cursor()) as cursor:
        cursor.execute(_TABLES)
        names = frozenset(str(name) for (name,) in cursor.fetchall())
        exports: dict[tuple[str, str], str] = {}
        if _LOADED in names:
            cursor.execute(f"select table_name, day, source_sha256 from {_LOADED}")  # noqa: S608 - a name of ours
            exports = {(table, day): digest for table, day, digest in cursor.fetchall()}
        return PostgresTables(str(connection.info.dbname).lower(), names, exports)


def last_written(connection: connection_type) -> Mapping[str, str]:
    """Return what is another one when a row of a table was written since, or it was made anew or truncated.

    It is by `schema.name` in lower case. The counters are the server's own, and begin again after its crash: https://www.postgresql.org/docs/current/
    monitoring-stats.html#MONITORING-PG-STAT-ALL-TABLES-VIEW.
    """
    with closing(connection.cursor()) as cursor:
        cursor.execute(_WRITTEN)
        return {str(table): str(state) for table, state in cursor.fetchall()}


@contextmanager
def connected() -> Iterator[connection_type]:
    """Connect to the database.

    Raises:
        UserError: it cannot be reached, or refuses what is asked of it.
    """
    try:
        # https://www.postgresql.org/docs/current/libpq-envars.html, and the host as `dbt/profiles.yml` has it.
        with closing(psycopg2.connect(host=os.environ.get("PGHOST") or "localhost", connect_timeout=10)) as connection:
            yield connection
    except psycopg2.Error as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(f"postgres, the target: {said} (PGHOST, PGPORT, PGUSER, PGDATABASE say where it is)") from None

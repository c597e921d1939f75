"""A Postgres that is dbt's target, by the variables of its own clients, such as PGHOST."""

import os
from collections.abc import Collection
from contextlib import closing

import psycopg2

from headrace.cli.user_errors import UserError

_TABLES = "select table_schema || '.' || table_name from information_schema.tables"


def postgres_tables() -> tuple[str, Collection[str]]:
    """Return the name of the database, and what tables and views it has, as `schema.name`; in lower case.

    Raises:
        UserError: it cannot be reached.
    """
    try:
        # https://www.postgresql.org/docs/current/libpq-envars.html, and the host as `dbt/profiles.yml` has it.
        made = psycopg2.connect(host=os.environ.get("PGHOST") or "localhost", connect_timeout=10)
        with closing(made) as connection, connection.cursor() as cursor:
            cursor.execute(_TABLES)
            return str(connection.info.dbname).lower(), {str(name).lower() for (name,) in cursor.fetchall()}
    except psycopg2.Error as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(f"postgres, the target: {said} (PGHOST, PGPORT, PGUSER, PGDATABASE say where it is)") from None

"""What is in a DuckLake, and in a DuckDB file beside it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# What says when a snapshot was taken.
OF_THE_CLOCK = "columns(c -> c not in ('dbt_scd_id', 'dbt_updated_at', 'dbt_valid_from', 'dbt_valid_to'))"


@contextmanager
def attached(
    catalog: str, extensions: Path, options: str = "(read_only)", store: Mapping[str, str] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to a database in memory, with a DuckLake attached as `lake`.

    Args:
        catalog: the database of its catalog, as libpq has it.
        extensions: the folder of DuckDB's extensions.
        options: of the attachment.
        store: the variables of the object store that its files are in.
    """
    with duckdb.connect(config={"extension_directory": str(extensions)}) as connection:
        for extension in ("ducklake", "postgres_scanner", *(("httpfs", "aws") if store else ())):
            connection.load_extension(extension)
        if store:
            address = store["AWS_ENDPOINT_URL"].removeprefix("http://")
            keys = "key_id 'k', secret 's', url_style 'path', use_ssl false"
            connection.execute(f"create secret (type s3, endpoint '{address}', {keys})")
        connection.execute(f"attach 'ducklake:postgres:{catalog}' as lake {options}")
        yield connection


def create_database(catalog: str, name: str, extensions: Path) -> str:
    """Create a database beside that of a catalog, and return how it is named."""
    with duckdb.connect(config={"extension_directory": str(extensions)}) as connection:
        connection.load_extension("postgres_scanner")
        connection.execute(f"attach '{catalog}' as server (type postgres)")
        connection.execute(f"call postgres_execute('server', 'create database {name}', use_transaction := false)")
    before, _, after = catalog.partition("dbname=postgres")
    return f"{before}dbname={name}{after}"


def contents(connection: duckdb.DuckDBPyConnection, database: str) -> Mapping[str, tuple[Any, Any]]:
    """Return names and types of the columns, and the rows, of each table of a database."""
    found = {}
    tables = "select table_name from duckdb_tables() where database_name = ? and schema_name = 'main'"
    for (name,) in connection.execute(tables, [database]).fetchall():
        columns = connection.execute(f"describe select {OF_THE_CLOCK} from {database}.main.{name}").fetchall()
        rows = connection.execute(f"select {OF_THE_CLOCK} from {database}.main.{name} order by all").fetchall()
        found[name] = ([column[:2] for column in columns], rows)
    return found

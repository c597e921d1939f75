"""DuckLake with its catalog in Postgres: many processes on many machines write one warehouse.

https://ducklake.select/docs/stable/duckdb/usage/choosing_a_catalog_database. DuckDB's extensions come in wheels of
PyPI, signed as those of DuckDB's own server are, so that nothing is downloaded when a build begins.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from headrace.cli.user_errors import UserError
from headrace.tools.duckdb_extensions import OF_S3, connected, install_extensions
from headrace.workspace import Workspace

CATALOG = "HEADRACE_DUCKLAKE_CATALOG"
_EXTENSIONS = ("ducklake", "postgres_scanner")
# The key of the lock, which nobody else takes by chance, is half of the text "ducklake" as a number.
_LOCKED = "select 1 from pg_advisory_xact_lock(3619400644549457330)"
_WORDS = {
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "passfile",
    "service",
}
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class DuckLake:
    """A warehouse of many writers.

    Args:
        catalog: the database of its catalog, as libpq has it: `host=db dbname=lake user=etl`.
        data: the folder of its files, or a URL in an object store; the same for all who write.
        extensions: the folder of this machine's extensions of DuckDB.
    """

    catalog: str
    data: str
    extensions: Path

    @classmethod
    def of(cls, workspace: Workspace, environment: Mapping[str, str] = os.environ) -> "DuckLake":
        """Return the DuckLake that the environment names.

        Raises:
            UserError: a variable is missing, or says what would be seen in logs or is not supported.
        """
        catalog, data = environment.get(CATALOG, ""), workspace.ducklake_data
        if not catalog:
            raise UserError(
                f"{CATALOG} is not set: give the database of the catalog, like 'host=db dbname=lake user=etl'"
            )
        words = {word.partition("=")[0].strip().lower() for word in catalog.split()}
        if "://" in catalog or not words <= _WORDS:
            raise UserError(
                f"{CATALOG}: write it like 'host=db dbname=lake user=etl', of {', '.join(sorted(_WORDS))}, "
                "and a password into PGPASSWORD or ~/.pgpass: what stands here is in logs"
            )
        if "://" in data and not data.startswith("s3://"):
            raise UserError(f"HEADRACE_DUCKLAKE_DATA: {data}: give a folder, or a URL like s3://bucket/folder")
        return cls(catalog, data.rstrip("/"), workspace.duckdb_extensions)

    @property
    def _names(self) -> Sequence[str]:
        """The extensions that its files and its catalog need."""
        return (*_EXTENSIONS, *OF_S3) if self.data.startswith("s3://") else _EXTENSIONS

    def install_extensions(self) -> Sequence[str]:
        """Copy the extensions from their packages to where DuckDB looks for them, and return their versions.

        Raises:
            UserError: a package is missing, or made for another DuckDB.
        """
        return install_extensions(self.extensions, self._names)

    def create(self, schemas: Sequence[str]) -> None:
        """Make the catalog and schemas where they are missing, one caller after another.

        24 of 30 first attaches at once fail, and 20 of 24 `create schema if not exists` (DuckLake 1.5.5): so they wait
        for a lock of the database.

        Raises:
            UserError: the database cannot be reached, a name is none, or the files of the catalog are elsewhere, or
                those in the folder are of another one.
        """
        for schema in schemas:
            if not _NAME.fullmatch(schema):
                raise UserError(f"{schema}: no name of a schema: take lower-case letters, digits and _")
        with self._reached() as connection:
            connection.execute(f"attach {_text(self.catalog)} as catalog (type postgres)")
            connection.execute("begin")
            connection.execute("from postgres_query('catalog', ?)", [_LOCKED])
            known = "select 1 from information_schema.tables where table_name = 'ducklake_metadata'"
            if not connection.execute("from postgres_query('catalog', ?)", [known]).fetchall():
                if self._holds_files(connection):
                    raise UserError(
                        f"{self.data}: it holds files, and the catalog is new: give HEADRACE_DUCKLAKE_DATA a folder of "
                        "its own for each catalog"
                    )
                if "://" not in self.data:
                    Path(self.data).mkdir(parents=True, exist_ok=True)
            with self._reached() as other:
                other.execute(self._attached("true"))
                for schema in schemas:
                    other.execute(f"create schema if not exists lake.{schema}")
            connection.execute("commit")

    def tables(self) -> Collection[str]:
        """Return what tables and views there are, as `schema.name` in lower case.

        Raises:
            UserError: the extensions or the catalog are not there.
        """
        with self.opened() as connection:
            found = connection.execute(
                "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'lake' union all "
                "select schema_name || '.' || view_name from duckdb_views() where database_name = 'lake'"
            ).fetchall()
            return {str(name).lower() for (name,) in found}

    @contextmanager
    def opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Connect to a database in memory, with the lake attached as `lake`.

        Raises:
            UserError: the extensions or the catalog are not there, or DuckDB refuses what is asked of it.
        """
        with self._reached() as connection:
            connection.execute(self._attached("false"))
            yield connection

    def _holds_files(self, connection: duckdb.DuckDBPyConnection) -> bool:
        if "://" in self.data:
            return bool(connection.execute("select 1 from glob(?) limit 1", [f"{self.data}/**"]).fetchall())
        return Path(self.data).is_dir() and any(Path(self.data).iterdir())

    def _attached(self, create: str) -> str:
        address, data = _text(f"ducklake:postgres:{self.catalog}"), _text(self.data)
        return f"attach {address} as lake (data_path {data}, create_if_not_exists {create})"

    @contextmanager
    def _reached(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Connect with the extensions loaded; what goes wrong is one line."""
        with connected(self.extensions) as connection:
            try:
                for name in self._names:
                    connection.load_extension(name)
                if self.data.startswith("s3://"):
                    connection.execute(_secret(os.environ))
                yield connection
            except duckdb.Error as error:
                said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
                raise UserError(
                    f"ducklake at {self.catalog}: {said[:300]} (`headrace engine init ducklake` makes what is missing)"
                ) from None


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _secret(environment: Mapping[str, str]) -> str:
    """Return the statement by which DuckDB finds the object store, as `dbt/profiles.yml` says it to dbt."""
    own = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    address = _text((own or "//s3.amazonaws.com").rpartition("//")[2])
    return (
        f"create secret (type s3, provider credential_chain, region {_text(region)}, endpoint {address}, "
        f"url_style '{'path' if own else 'vhost'}', use_ssl {not own.startswith('http://')})"
    )

"""DuckLake with its catalog in Postgres: many processes on many machines write one warehouse.

https://ducklake.select/docs/stable/duckdb/usage/choosing_a_catalog_database. DuckDB's extensions come in wheels of
PyPI, signed as those of DuckDB's own server are, so that nothing is downloaded when a build begins.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

import duckdb

from headrace.cli.user_errors import UserError

CATALOG = "HEADRACE_DUCKLAKE_CATALOG"
_EXTENSIONS = ("ducklake", "postgres_scanner")
# The key of the lock, which nobody else takes by chance, is half of the text "ducklake" as a number.
_LOCKED = "select 1 from pg_advisory_xact_lock(3619400644549457330)"
_LEAST = {"host", "user", "dbname", "port"}
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class DuckLake:
    """A warehouse of many writers.

    Args:
        catalog: the database of its catalog, as libpq has it: `host=db dbname=lake user=etl`.
        data: the folder or the URL of its files, the same for all who write.
        extensions: the folder of this machine's extensions of DuckDB.
    """

    catalog: str
    data: str
    extensions: Path

    @property
    def shown(self) -> str:
        """Return where the catalog is, and nothing secret."""
        return " ".join(word for word in self.catalog.split() if word.partition("=")[0] in _LEAST)

    def install_extensions(self) -> Sequence[str]:
        """Copy the extensions from their packages to where DuckDB looks for them, and return their versions.

        Raises:
            UserError: a package is missing, or made for another DuckDB.
        """
        found = []
        for name in _EXTENSIONS:
            package = f"duckdb-extension-{name.replace('_', '-')}"
            try:
                version = metadata.version(package)
            except metadata.PackageNotFoundError:
                raise UserError(f"{package} is not installed: install the extra `ducklake` of analytics") from None
            if version != duckdb.__version__:
                raise UserError(
                    f"{package} {version} does not fit duckdb {duckdb.__version__}: install equal versions of both"
                )
            folder = resources.files(f"duckdb_extension_{name}") / "extensions" / f"v{version}"
            with resources.as_file(folder / f"{name}.duckdb_extension") as file, self._connected() as connection:
                # DuckDB checks the signature when it loads it.
                connection.install_extension(str(file))
                connection.load_extension(name)
            found.append(f"{name} {version}")
        return found

    def create(self, schemas: Sequence[str]) -> None:
        """Make the catalog and schemas where they are missing, one caller after another.

        24 of 30 first attaches at once fail, and 20 of 24 `create schema if not exists` (DuckLake 1.5.5): so they wait
        for a lock of the database.

        Raises:
            UserError: the database cannot be reached, a name is none, or the catalog has its files elsewhere.
        """
        for schema in schemas:
            if not _NAME.fullmatch(schema):
                raise UserError(f"{schema}: no name of a schema: take lower-case letters, digits and _")
        with self._connected() as connection:
            for name in _EXTENSIONS:
                connection.load_extension(name)
            try:
                connection.execute(f"attach {_text(self.catalog)} as catalog (type postgres)")
                connection.execute("begin")
                connection.execute("from postgres_query('catalog', ?)", [_LOCKED])
                self._create(schemas)
                connection.execute("commit")
            except duckdb.Error as error:
                raise UserError(f"ducklake at {self.shown}: {str(error).splitlines()[0]}") from None

    def _create(self, schemas: Sequence[str]) -> None:
        if "://" not in self.data:
            Path(self.data).mkdir(parents=True, exist_ok=True)
        with self._connected() as connection:
            for name in _EXTENSIONS:
                connection.load_extension(name)
            address, data = _text(f"ducklake:postgres:{self.catalog}"), _text(self.data)
            connection.execute(f"attach {address} as lake (data_path {data})")
            for schema in schemas:
                connection.execute(f"create schema if not exists lake.{schema}")

    @contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Connect to a database in memory, with this machine's extensions and no others."""
        self.extensions.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(
            config={"extension_directory": str(self.extensions), "autoinstall_known_extensions": False}
        ) as connection:
            yield connection


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"

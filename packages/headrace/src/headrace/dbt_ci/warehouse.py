"""Production and what CI builds beside it, in one connection of DuckDB's: in a file, or in schemas of the database."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from headrace.cli.user_errors import UserError
from headrace.dbt_ci.profile import Target
from headrace.tools.duckdb_extensions import connected, install_extensions
from headrace.tools.ducklake import DuckLake

SCRATCH = "headrace_ci"
"""The name of the database that CI builds in, and that with which its schemas begin in a database that has others."""

_TRIES = 3
_LOCK_SECONDS = 60
# What dbt's profile of a Postgres may say of it; a secret of DuckDB's knows none of it.
_OF_TLS = ("sslmode", "sslcert", "sslkey", "sslrootcert")


@dataclass(frozen=True)
class Warehouse(ABC):
    """An open production, and where CI builds beside it.

    Args:
        connection: a connection with production attached.
    """

    connection: duckdb.DuckDBPyConnection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(sql).fetchall()

    def columns(self, relation: str) -> Mapping[str, str] | None:
        """Return the type of each column of a relation, None where there is no such relation."""
        try:
            return {row[0]: row[1] for row in self.rows(f"describe from {relation}")}
        except (duckdb.CatalogException, duckdb.BinderException):
            return None

    @property
    @abstractmethod
    def may_write_production(self) -> bool:
        """Return whether what CI runs could write production; else that is attached read-only."""

    @abstractmethod
    def holds(self, node: Mapping[str, Any]) -> bool:
        """Return whether the relation of a node or a source is one that CI builds."""

    @abstractmethod
    def written(self) -> AbstractContextManager[None]:
        """Let this connection write where CI builds, while the context lasts."""

    @abstractmethod
    def read(self) -> AbstractContextManager[None]:
        """Let this connection read what CI has built, while the context lasts."""

    def copy(self, source: str, node: Mapping[str, Any]) -> None:
        """Copy a table of production to where CI builds a node, with what may not be null in it."""
        self._schema_of(node)
        target = relation_of(node)
        self.connection.execute(f"create table {target} as from {source}")
        # A table that is made by a query has no constraints, and would take what production refuses.
        for column, _, nullable, *_ in self.rows(f"describe {source}"):
            if nullable == "NO":
                self.connection.execute(f"alter table {target} alter {quoted(column)} set not null")

    def look_through(self, source: str, node: Mapping[str, Any]) -> None:
        """Make a view of a table of production where CI looks for a source."""
        self._schema_of(node)
        self.connection.execute(f"create view {relation_of(node)} as from {source}")

    def _schema_of(self, node: Mapping[str, Any]) -> None:
        names = quoted(node["database"]), quoted(node["schema"])
        self.connection.execute(f"create schema if not exists {'.'.join(names)}")


@dataclass(frozen=True)
class BesideFile(Warehouse):
    """Production in a DuckDB file, and a file that CI builds in.

    Production stays open for reading until the end: no writer comes between the build and the comparison.

    Args:
        connection: a connection with production attached.
        scratch: the file that CI builds in.
    """

    scratch: Path

    @property
    def may_write_production(self) -> bool:
        """Return that it cannot."""
        return False

    def holds(self, node: Mapping[str, Any]) -> bool:
        """Return whether it is in that file."""
        return bool(node["database"] == SCRATCH)

    def written(self) -> AbstractContextManager[None]:
        """Attach the file for writing."""
        return self._attached("")

    def read(self) -> AbstractContextManager[None]:
        """Attach the file for reading."""
        return self._attached("(read_only)")

    @contextmanager
    def _attached(self, options: str) -> Iterator[None]:
        self.connection.execute(f"attach {literal(self.scratch)} as {SCRATCH} {options}")
        try:
            yield
        finally:
            self.connection.execute(f"detach {SCRATCH}")


@dataclass(frozen=True)
class BesideSchemas(Warehouse):
    """Production in a DuckLake, and schemas there that CI builds in.

    Args:
        connection: a connection with the lake attached.
        database: its name.
        schema: that with which the names of CI's schemas begin.
    """

    database: str
    schema: str

    @property
    def may_write_production(self) -> bool:
        """Return that it could."""
        return True

    def holds(self, node: Mapping[str, Any]) -> bool:
        """Return whether it is in one of those schemas: dbt puts the one of a model's config behind the target's."""
        return node["database"] == self.database and self._is_of_ci(str(node["schema"]))

    def written(self) -> AbstractContextManager[None]:
        """Change nothing: many may write."""
        return nullcontext()

    def read(self) -> AbstractContextManager[None]:
        """Change nothing: what was written is seen."""
        return nullcontext()

    def drop(self, say: Callable[[str], None]) -> None:
        """Drop what CI has built, and say what stays where that cannot be done.

        Args:
            say: takes a line.
        """
        said = ""
        for _ in range(_TRIES):
            try:
                for schema in self._schemas():
                    if self._is_of_ci(schema):
                        self._drop(schema)
            except duckdb.Error as error:  # another transaction was as fast, or the connection is cut
                said = " ".join(str(error).split())
                time.sleep(1)
            else:
                return
        say(f"{self.database}: drop the schema {self.schema} and those behind {self.schema}_ yourself: {said}")

    def _is_of_ci(self, schema: str) -> bool:
        return schema == self.schema or schema.startswith(f"{self.schema}_")

    def _drop(self, schema: str) -> None:
        self._execute(f"drop schema if exists {quoted(self.database)}.{quoted(schema)} cascade")

    def _schemas(self) -> Sequence[str]:
        found = self.connection.execute(
            "select schema_name from duckdb_schemas() where database_name = ?", [self.database]
        )
        return [str(name) for (name,) in found.fetchall()]

    def _execute(self, statement: str) -> None:
        self.connection.execute(statement)


@dataclass(frozen=True)
class BesidePostgres(BesideSchemas):
    """Production in a Postgres, and schemas there that CI builds in; the rows that are compared are read by DuckDB."""

    def read(self) -> AbstractContextManager[None]:
        """Forget which tables there were."""
        self.connection.execute("call pg_clear_cache()")
        return nullcontext()

    def copy(self, source: str, node: Mapping[str, Any]) -> None:
        """Copy a table as Postgres does, with its types, constraints and indexes.

        Not with its defaults: those of a `serial` column would count production's sequence on.
        """
        self._schema_of(node)
        kept = "including constraints including indexes"
        self._execute(f"create table {relation_of(node)} (like {source} {kept})")
        self._execute(f"insert into {relation_of(node)} select * from {source}")  # noqa: S608

    def look_through(self, source: str, node: Mapping[str, Any]) -> None:
        """Make a view."""
        self._schema_of(node)
        self._execute(f"create view {relation_of(node)} as select * from {source}")  # noqa: S608

    def _drop(self, schema: str) -> None:
        # A statement of a dbt that was killed may still have its table.
        wait = f"set local lock_timeout = '{_LOCK_SECONDS}s'"
        self._execute(f"{wait}; drop schema if exists {quoted(schema)} cascade")

    def _schema_of(self, node: Mapping[str, Any]) -> None:
        self._execute(f"create schema if not exists {quoted(node['schema'])}")

    def _schemas(self) -> Sequence[str]:
        found = self.connection.execute(
            "from postgres_query(?, ?)", [self.database, "select nspname from pg_namespace"]
        )
        return [str(name) for (name,) in found.fetchall()]

    def _execute(self, statement: str) -> None:
        self.connection.execute("call postgres_execute(?, ?)", [self.database, statement])


@contextmanager
def _dropped(warehouse: BesideSchemas, say: Callable[[str], None]) -> Iterator[None]:
    """Drop what CI has built when the context ends, also where a signal comes while it is dropped."""
    try:
        yield
    finally:
        try:
            warehouse.drop(say)
        except SystemExit:  # the signal, and further ones are ignored
            warehouse.drop(say)
            raise


@contextmanager
def open_ducklake(lake: DuckLake, schema: str, say: Callable[[str], None]) -> Iterator[Warehouse]:
    """Open a production in a DuckLake, and drop at the end what CI has built there.

    Args:
        lake: the lake.
        schema: that with which the names of CI's schemas begin.
        say: takes a line.

    Raises:
        UserError: the lake cannot be reached.
    """
    with lake.opened() as connection:
        connection.execute("set TimeZone = 'UTC'")
        warehouse = BesideSchemas(connection, "lake", schema)
        with _dropped(warehouse, say):
            yield warehouse


@contextmanager
def open_postgres(
    target: Target, extensions: Path, database: str, schema: str, say: Callable[[str], None]
) -> Iterator[Warehouse]:
    """Open a production in a Postgres, and drop at the end what CI has built there.

    Args:
        target: the target of the profile that says where it is.
        extensions: the folder of this machine's extensions of DuckDB.
        database: its name.
        schema: that with which the names of CI's schemas begin.
        say: takes a line.

    Raises:
        UserError: DuckDB's extension is not installed, the server does not let it in, or the profile has a role.
    """
    if target.output.get("role"):
        raise UserError(
            f"{target.file}: target {target.name} takes a role, which `headrace dbt ci` cannot: leave it out"
        )
    keys = {"host": ("host",), "port": ("port",), "user": ("user",), "password": ("password", "pass")}
    said = {name: text for name, names in keys.items() if (text := target.rendered(*names))}
    install_extensions(extensions, ["postgres_scanner"])
    with connected(extensions) as connection:
        connection.load_extension("postgres_scanner")
        connection.execute("set TimeZone = 'UTC'")
        words = ", ".join(f"{name} {literal(text)}" for name, text in {**said, "database": database}.items())
        connection.execute(f"create secret headrace_ci (type postgres, {words})")
        more = " ".join(f"{name}={_of_libpq(text)}" for name in _OF_TLS if (text := target.rendered(name)))
        try:
            connection.execute(f"attach {literal(more)} as {quoted(database)} (type postgres, secret headrace_ci)")
        except duckdb.Error as error:
            line = " ".join(str(error).split())
            for secret in filter(None, [said.get("password")]):
                line = line.replace(secret, "***")
            raise UserError(f"{target.file}: target {target.name}: {line}") from None
        warehouse = BesidePostgres(connection, database, schema)
        with _dropped(warehouse, say):
            yield warehouse


@contextmanager
def open_warehouse(
    production: Path, database: str, scratch: Path, *, wait: int, say: Callable[[str], None]
) -> Iterator[Warehouse]:
    """Open production for reading, waiting for a writer to end.

    Args:
        production: the DuckDB file.
        database: the name under which it is read.
        scratch: the file that CI builds in.
        wait: how many seconds to wait for a writer.
        say: takes a line of progress.

    Raises:
        UserError: there is no such file, it is none of DuckDB, or a writer has it for longer.
    """
    if not production.is_file():
        raise UserError(f"{production}: no production file: give it with --warehouse, or set HEADRACE_WAREHOUSE")
    until = time.monotonic() + wait
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        told = False
        while True:
            try:
                connection.execute(f"attach {literal(production)} as {quoted(database)} (read_only)")
                break
            except duckdb.IOException as error:
                if "lock" not in str(error):
                    raise UserError(f"{production}: {str(error).splitlines()[0]}") from None
                if time.monotonic() > until:
                    raise UserError(
                        f"{production}: another process has been writing it for {wait} s: "
                        "allow more time with --wait, or give a copy with --warehouse"
                    ) from None
                if not told:
                    say(f"{production}: another process is writing it: waiting up to {wait} s")
                    told = True
                time.sleep(1)
        yield BesideFile(connection, scratch)


def _of_libpq(text: str) -> str:
    """Return a value of a connection string: https://www.postgresql.org/docs/current/libpq-connect.html."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def relation_of(node: Mapping[str, Any]) -> str:
    """Return the quoted name of a node's or a source's relation."""
    name = node.get("alias") or node.get("identifier") or node["name"]
    return ".".join(quoted(part) for part in (node["database"], node["schema"], name))


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """Return a text as SQL writes it."""
    return "'" + str(text).replace("'", "''") + "'"

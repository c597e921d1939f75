"""Production and what CI builds beside it: two DuckDB files in one connection, of which production is read-only."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from headrace.cli.user_errors import UserError

SCRATCH = "headrace_ci"
"""The name of the database that CI builds in."""


@dataclass(frozen=True)
class Warehouse:
    """An open production, and the file that CI builds in.

    Production stays open for reading until the end: no writer comes between the build and the comparison.

    Args:
        connection: a connection with production attached.
        scratch: the file that CI builds in.
    """

    connection: duckdb.DuckDBPyConnection
    scratch: Path

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(sql).fetchall()

    def columns(self, relation: str) -> Mapping[str, str] | None:
        """Return the type of each column of a relation, None where there is no such relation."""
        try:
            return {row[0]: row[1] for row in self.rows(f"describe from {relation}")}
        except (duckdb.CatalogException, duckdb.BinderException):
            return None

    @contextmanager
    def written(self) -> Iterator[None]:
        """Attach the file that CI builds in for writing, while the context lasts."""
        with self._attached(""):
            yield

    @contextmanager
    def read(self) -> Iterator[None]:
        """Attach the file that CI builds in for reading, while the context lasts."""
        with self._attached("(read_only)"):
            yield

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
        self.connection.execute(f"create schema if not exists {SCRATCH}.{quoted(node['schema'])}")

    @contextmanager
    def _attached(self, options: str) -> Iterator[None]:
        self.connection.execute(f"attach {literal(self.scratch)} as {SCRATCH} {options}")
        try:
            yield
        finally:
            self.connection.execute(f"detach {SCRATCH}")


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
        yield Warehouse(connection, scratch)


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

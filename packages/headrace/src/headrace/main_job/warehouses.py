"""Warehouses that can be asked cheaply whether they have changed, and at which times a table has rows.

A Spark cannot: its tables have no number that each write changes, and to read them takes a job of the cluster.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Protocol

import duckdb
import psycopg2
from psycopg2.extensions import connection as PostgresConnection  # noqa: N812 - a class

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.server_tables import ServerTables
from headrace.tools.ducklake import DuckLake
from headrace.tools.postgres import connected, last_written
from headrace.workspace import Workspace


class Warehouse(Protocol):
    """A warehouse."""

    def name_of(self, node: AssetNode) -> str:
        """Return what the state of an asset's table is kept under."""

    def state(self, node: AssetNode) -> object:
        """Return what is another one when its table was written since; None where it cannot be asked.

        JSON has it as it is.
        """

    def times(self, node: AssetNode, seconds: int, bounds: Sequence[date]) -> Sequence[tuple[int, bool]] | None:
        """Return the times at which a table has rows; None where it cannot be read now.

        Args:
            node: the asset, whose `event_time` is the column.
            seconds: how many of them a time is.
            bounds: the first day (UTC) that is asked for, and the one after the last.

        Returns:
            The number of each time since the epoch, and whether the column has dates.
        """

    def close(self) -> None:
        """Close what was opened."""


_DUCKDB = (
    "select distinct floor(epoch({column}) / {seconds})::bigint, typeof({column}) = 'DATE' from {table} "
    "where {column} >= cast(? as date) and {column} < cast(? as date)"
)
_POSTGRES = (
    "select distinct floor(extract(epoch from {column}) / {seconds})::bigint, pg_typeof({column}) = 'date'::regtype "
    "from {table} where {column} >= cast(%s as date) and {column} < cast(%s as date)"
)


@dataclass
class DuckDBFile:
    """A DuckDB file.

    Args:
        file: the file.
    """

    file: Path
    _connection: duckdb.DuckDBPyConnection | None = field(default=None, init=False)

    def name_of(self, node: AssetNode) -> str:  # noqa: ARG002 - a file has one state
        """Return the file."""
        return str(self.file)

    def state(self, node: AssetNode) -> object:  # noqa: ARG002
        """Return what changes when somebody writes the file: what was committed may be in its log."""
        states = []
        for each in (self.file, self.file.with_name(f"{self.file.name}.wal")):
            with suppress(OSError):
                found = each.stat()
                states.append([each.name, found.st_mtime_ns, found.st_size])
        return states

    def times(self, node: AssetNode, seconds: int, bounds: Sequence[date]) -> Sequence[tuple[int, bool]] | None:
        """Read the column; None for a file that another process writes."""
        with suppress(duckdb.Error):
            self._connection = self._connection or duckdb.connect(self.file, read_only=True)
            return _duckdb_times(self._connection, node, seconds, bounds)
        return None

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()


@dataclass
class OfDuckLake:
    """A DuckLake, which numbers what is written.

    Args:
        lake: the lake.
    """

    lake: DuckLake
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return self._stack.enter_context(self.lake.opened())

    def name_of(self, node: AssetNode) -> str:  # noqa: ARG002 - a lake has one state
        """Return its catalog."""
        return f"ducklake {self.lake.catalog}"

    def state(self, node: AssetNode) -> object:  # noqa: ARG002
        """Return its last snapshot."""
        with suppress(duckdb.Error):
            return self._connection.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchall()[0][0]
        return None

    def times(self, node: AssetNode, seconds: int, bounds: Sequence[date]) -> Sequence[tuple[int, bool]] | None:
        """Read the column; None where DuckDB cannot."""
        with suppress(duckdb.Error):
            return _duckdb_times(self._connection, node, seconds, bounds)
        return None

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()


@dataclass
class OfPostgres:
    """A Postgres, which counts the rows that are written."""

    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    @cached_property
    def _connection(self) -> PostgresConnection:
        return self._stack.enter_context(connected())

    @cached_property
    def _written(self) -> Mapping[str, str]:
        return last_written(self._connection)

    def name_of(self, node: AssetNode) -> str:
        """Return the table."""
        return f"postgres {node.table}"

    def state(self, node: AssetNode) -> object:
        """Return the table's counters, which are up to ten seconds late."""
        with suppress(psycopg2.Error):
            return self._written.get((node.table or "").lower().partition(".")[2])
        return None

    def times(self, node: AssetNode, seconds: int, bounds: Sequence[date]) -> Sequence[tuple[int, bool]] | None:
        """Read the column; None where it may not be read."""
        with suppress(psycopg2.Error), self._connection, closing(self._connection.cursor()) as cursor:
            cursor.execute(_query(_POSTGRES, node, seconds), list(bounds))
            return [(int(number), bool(is_date)) for number, is_date in cursor.fetchall()]
        return None

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()


class Warehouses:
    """The warehouses of a workspace's assets.

    Args:
        workspace: the workspace.
        server: the tables of the target; None for that of a file.
    """

    def __init__(self, workspace: Workspace | None = None, server: ServerTables | None = None) -> None:
        self._server = server
        self._files: dict[str, DuckDBFile] = {}
        self._of_server = _server(workspace) if workspace and server else None

    def of(self, node: AssetNode) -> Warehouse | None:
        """Return the warehouse that has the table of an asset; None for one that cannot be asked."""
        if node.duckdb_file:
            # A table of an attached database is in another file.
            if (node.table or "").partition(".")[0].lower() != Path(node.duckdb_file).stem.lower():
                return None
            return self._files.setdefault(node.duckdb_file, DuckDBFile(Path(node.duckdb_file)))
        return self._of_server if self._server and self._server.is_of(node) else None

    def close(self) -> None:
        """Close all that was opened."""
        for file in self._files.values():
            file.close()
        if self._of_server:
            self._of_server.close()


def _server(workspace: Workspace) -> OfDuckLake | OfPostgres | None:
    if workspace.target == "ducklake":
        return OfDuckLake(DuckLake.of(workspace))
    return OfPostgres() if workspace.target == "postgres" else None


def _duckdb_times(
    connection: duckdb.DuckDBPyConnection, node: AssetNode, seconds: int, bounds: Sequence[date]
) -> Sequence[tuple[int, bool]]:
    found: Sequence[tuple[int, bool]] = connection.execute(_query(_DUCKDB, node, seconds), bounds).fetchall()
    return found


def _query(text: str, node: AssetNode, seconds: int) -> str:
    table = ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in (node.table or "").split("."))
    return text.format(column=node.event_time, seconds=seconds, table=table)

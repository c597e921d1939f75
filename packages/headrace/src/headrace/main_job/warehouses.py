"""Warehouses that can be asked cheaply whether they have changed, and at which times a table has rows.

A Spark cannot: its tables have no number that each write changes, and to read them takes a job of the cluster.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Protocol

import duckdb
import psycopg2

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.server_tables import ServerTables
from headrace.tools.ducklake import DuckLake
from headrace.tools.postgres import connected, last_written
from headrace.workspace import Workspace


class Warehouse(Protocol):
    """A warehouse."""

    @property
    def name(self) -> str:
        """Return what its state is kept under."""

    def state(self) -> object:
        """Return what is another one when something was written since; JSON has it as it is."""

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

    @property
    def name(self) -> str:
        """Return the file."""
        return str(self.file)

    def state(self) -> object:
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
            found: Sequence[tuple[int, bool]] = self._connection.execute(
                _query(_DUCKDB, node, seconds), bounds
            ).fetchall()
            return found
        return None

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()


@dataclass
class Server:
    """A warehouse that is asked by a connection of its own.

    Args:
        name: the target, and which one.
        query: a `select` of the times, in its SQL.
        open_: connects, and says how what was written is asked and how a query is.
    """

    name: str
    query: str
    open_: "Callable[[ExitStack], tuple[Callable[[], object], _Execute]]"
    _stack: ExitStack = field(default_factory=ExitStack, init=False)
    _opened: "tuple[Callable[[], object], _Execute] | None" = field(default=None, init=False)

    def state(self) -> object:
        """Return what the server says that it has written."""
        return self._open()[0]()

    def times(self, node: AssetNode, seconds: int, bounds: Sequence[date]) -> Sequence[tuple[int, bool]] | None:
        """Ask for the column; None where it cannot be read."""
        return self._open()[1](_query(self.query, node, seconds), bounds)

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()

    def _open(self) -> "tuple[Callable[[], object], _Execute]":
        self._opened = self._opened or self.open_(self._stack)
        return self._opened


_Execute = Callable[[str, Sequence[date]], Sequence[tuple[int, bool]] | None]


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


def _server(workspace: Workspace) -> Server | None:
    if workspace.target == "ducklake":
        lake = DuckLake.of(workspace)
        return Server(f"ducklake {lake.catalog}", _DUCKDB, lambda stack: _ducklake(lake, stack))
    if workspace.target == "postgres":
        return Server("postgres", _POSTGRES, _postgres)
    return None


def _ducklake(lake: DuckLake, stack: ExitStack) -> tuple[Callable[[], object], _Execute]:
    connection = stack.enter_context(lake.opened())

    def execute(query: str, bounds: Sequence[date]) -> Sequence[tuple[int, bool]] | None:
        with suppress(duckdb.Error):
            found: Sequence[tuple[int, bool]] = connection.execute(query, bounds).fetchall()
            return found
        return None

    snapshot = "select max(snapshot_id) from ducklake_snapshots('lake')"
    return lambda: connection.execute(snapshot).fetchone(), execute


def _postgres(stack: ExitStack) -> tuple[Callable[[], object], _Execute]:
    connection = stack.enter_context(connected())
    database = str(connection.info.dbname)

    def execute(query: str, bounds: Sequence[date]) -> Sequence[tuple[int, bool]] | None:
        with suppress(psycopg2.Error), connection, closing(connection.cursor()) as cursor:
            cursor.execute(query, list(bounds))
            return [(int(number), bool(is_date)) for number, is_date in cursor.fetchall()]
        return None

    return lambda: [database, last_written(connection)], execute


def _query(text: str, node: AssetNode, seconds: int) -> str:
    table = ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in (node.table or "").split("."))
    return text.format(column=node.event_time, seconds=seconds, table=table)

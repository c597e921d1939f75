"""The tables of a target that is no file: what a DuckLake or a Postgres has, asked once."""

from collections.abc import Collection
from dataclasses import dataclass

from headrace.local_dagster.asset_node import AssetNode
from headrace.tools.ducklake import DuckLake
from headrace.tools.postgres import postgres_tables
from headrace.workspace import Workspace


@dataclass(frozen=True)
class ServerTables:
    """What tables and views there are.

    Args:
        kind: the kind of asset that is stored there.
        database: the database.
        names: `schema.name` of each, in lower case.
    """

    kind: str
    database: str
    names: Collection[str]

    def has(self, node: AssetNode) -> bool:
        """Return whether the table of an asset is there, or is to be looked for elsewhere."""
        database, _, table = (node.table or "").lower().partition(".")
        return self.kind not in node.kinds or database != self.database or table in self.names


def tables_of_target(workspace: Workspace) -> ServerTables | None:
    """Return the tables of the target; None for that of a file, and for one that nothing is known of.

    Raises:
        UserError: it cannot be reached, or was not made.
    """
    if workspace.target == "ducklake":
        return ServerTables("duckdb", "lake", DuckLake.of(workspace).tables())
    if workspace.target == "postgres":
        database, names = postgres_tables()
        return ServerTables("postgres", database, names)
    return None

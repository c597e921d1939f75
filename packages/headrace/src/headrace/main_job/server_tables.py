"""The tables of a target that is no file: what a DuckLake, a Postgres or a Spark has, asked once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from headrace.local_dagster.asset_node import AssetNode
from headrace.tools.ducklake import DuckLake
from headrace.tools.postgres import postgres_tables
from headrace.tools.spark import spark_tables
from headrace.workspace import Workspace
from headrace_staleness import Partition


@dataclass(frozen=True)
class ServerTables:
    """What tables and views there are.

    Args:
        kind: the kind of asset that is stored there.
        database: the database; empty where the target knows none.
        names: `schema.name` of each, in lower case.
        exports: of raw tables that are loaded there, the hash of the export that each day has the rows of.
    """

    kind: str
    database: str
    names: Collection[str]
    exports: Mapping[tuple[str, str], str] | None = None

    def has(self, node: AssetNode) -> bool:
        """Return whether the table of an asset is there, or is to be looked for elsewhere."""
        return not self.is_of(node) or self._name_in_database(node)[1] in self.names

    def is_of(self, node: AssetNode) -> bool:
        """Return whether the table of an asset is to be looked for here."""
        return self.kind in node.kinds and self._name_in_database(node)[0] == self.database

    def holds(self, node: AssetNode, partition: Partition, source: str | None) -> bool:
        """Return whether the rows of a partition of a raw table are there, of the export that was recorded.

        It may have been recorded when another target was built, or its load was cut off there.
        """
        if self.exports is None or not self.is_of(node):
            return True
        schema, _, name = (node.table or "").partition(".")[2].partition(".")
        return schema != "raw" or self.exports.get((name, partition or "")) == source

    def _name_in_database(self, node: AssetNode) -> tuple[str, str]:
        name = (node.table or "").lower()
        database, _, table = name.partition(".") if self.database else ("", "", name)
        return database, table


def tables_of_target(workspace: Workspace) -> ServerTables | None:
    """Return the tables of the target; None for that of a file, and for one that nothing is known of.

    Raises:
        UserError: it cannot be reached, or was not made.
    """
    if workspace.target == "ducklake":
        return ServerTables("duckdb", "lake", DuckLake.of(workspace).tables())
    if workspace.target == "postgres":
        found = postgres_tables()
        return ServerTables("postgres", found.database, found.names, found.exports)
    if workspace.target == "spark":
        return ServerTables("spark", "", spark_tables())
    return None

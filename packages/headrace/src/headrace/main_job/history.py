"""What Dagster has recorded of the assets, and whether it is still there."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from dagster import AssetKey, DagsterEventType, DagsterInstance

from headrace.local_dagster.asset_node import AssetNode
from headrace.local_dagster.failed_checks import failed_checks
from headrace.main_job.details import Details
from headrace.main_job.plan import History
from headrace.main_job.server_tables import ServerTables, tables_of_target
from headrace.main_job.stored_rows import StoredRows
from headrace.main_job.warehouses import Warehouses
from headrace.workspace import Workspace
from headrace_staleness import Beginning, Partition


class RecordedHistory:
    """Reads the history of an instance.

    Args:
        workspace: where lake and warehouse are.
        instance: the instance.
        differing: partitions of assets whose rows are not those that were recorded; they count as missing.
    """

    def __init__(
        self,
        workspace: Workspace,
        instance: DagsterInstance,
        differing: Mapping[AssetKey, Collection[Partition]] = MappingProxyType({}),
    ) -> None:
        self._workspace = workspace
        self._instance = instance
        self._differing = differing
        self._tables_of: dict[Path, Collection[str] | None] = {}

    def of(self, nodes: Sequence[AssetNode]) -> Mapping[AssetKey, History]:
        """Return what is recorded of assets, and there.

        Raises:
            UserError: the target is a DuckLake or a Postgres that cannot be reached, or was not made.
        """
        # Asked before anything is built: else each model would fail by it.
        server = tables_of_target(self._workspace)
        failed = self._failed_partitions(nodes)
        details = Details(self._instance, self._workspace.dagster_home)
        entries = [record.asset_entry for record in self._instance.get_asset_records([node.key for node in nodes])]
        last = {entry.asset_key: record for entry in entries if (record := entry.last_materialization_record)}
        history = {}
        with StoredRows(self._workspace.dagster_home, Warehouses(self._workspace, server)) as stored:
            for node in nodes:
                if node.key not in last:
                    continue
                ids = self._ids(node, last[node.key].storage_id)
                has_table = self._has_table(node, server)
                gone = self._differing.get(node.key, ())
                there = {
                    partition: id_
                    for partition, id_ in ids.items()
                    if has_table and partition not in gone and self._has_file(node, partition)
                }
                found = details.of(node.key, last[node.key], there, is_view=node.is_virtual)
                if server:
                    for partition, detail in found.items():
                        if partition in there and not server.holds(node, partition, detail.source):
                            del there[partition]
                for emptied in stored.emptied(node, {partition: detail.rows for partition, detail in found.items()}):
                    there.pop(emptied, None)
                history[node.key] = History(
                    storage_ids=there,
                    began={
                        partition: Beginning(detail.read_up_to, detail.run)
                        for partition, detail in found.items()
                        if detail.read_up_to is not None
                    },
                    code_versions={partition: detail.code_version for partition, detail in found.items()},
                    code_since=found[None].code_since if node.is_virtual and found else None,
                    sources={partition: detail.source for partition, detail in found.items()},
                    failed=failed.get(node.key, ()),
                )
        details.keep()
        return history

    def _ids(self, node: AssetNode, last: int) -> Mapping[Partition, int]:
        """Return the storage id of the last materialization of each partition."""
        if node.partitions_def is None:
            return {None: last}
        kind = DagsterEventType.ASSET_MATERIALIZATION
        return dict(self._instance.get_latest_storage_id_by_partition(node.key, kind).items())

    def _has_table(self, node: AssetNode, server: ServerTables | None = None) -> bool:
        """Return whether an asset's table or view still exists, as far as this machine can see: tables are dropped.

        What is in another warehouse, or in a file that the profile does not name by environment variables, is there.
        """
        if node.duckdb_file is None:
            return server is None or server.has(node)
        file = Path(node.duckdb_file)
        if not file.is_file():
            return False
        database, _, table = (node.table or "").lower().partition(".")
        # A table of an attached database is in another file.
        tables = self._tables(file) if database == file.stem.lower() and table.count(".") == 1 else None
        return tables is None or table in tables

    def _tables(self, file: Path) -> Collection[str] | None:
        """Return the tables and views of a DuckDB file; None for one that another process writes now."""
        if file not in self._tables_of:
            import duckdb  # noqa: PLC0415 - a workspace may have no such file

            self._tables_of[file] = None
            with suppress(duckdb.Error), duckdb.connect(file, read_only=True) as connection:
                found = connection.execute(
                    "select table_schema || '.' || table_name from information_schema.tables"
                ).fetchall()
                self._tables_of[file] = {str(name).lower() for (name,) in found}
        return self._tables_of[file]

    def _has_file(self, node: AssetNode, partition: Partition) -> bool:
        """Return whether the file of a raw table's partition still exists, where the lake is on this machine."""
        if node.key.path[0] == "raw" and "://" not in self._workspace.lake:
            day = [f"day={partition}"] if partition else []
            return Path(self._workspace.lake, *node.key.path, *day, "data.parquet").is_file()
        return True

    def _failed_partitions(self, nodes: Sequence[AssetNode]) -> Mapping[AssetKey, Collection[Partition]]:
        """Return the partitions that were materialized by the run whose blocking check of them failed."""
        failed: dict[AssetKey, set[Partition]] = defaultdict(set)
        for key, run_id in failed_checks(self._instance, nodes):
            stored = self._instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
            for record in stored.records:
                event = record.event_log_entry.dagster_event
                if event and event.asset_key == key:
                    failed[key].add(event.partition)
        return failed

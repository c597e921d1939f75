"""What Dagster has recorded of the assets, and whether it is still there."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dagster import AssetKey, DagsterEventType, DagsterInstance

from headrace.local_dagster.asset_node import AssetNode
from headrace.local_dagster.failed_checks import failed_checks
from headrace.main_job.details import Details
from headrace.main_job.plan import History, Partition
from headrace.workspace import Workspace


class RecordedHistory:
    """Reads the history of an instance.

    Args:
        workspace: where lake and warehouse are.
        instance: the instance.
    """

    def __init__(self, workspace: Workspace, instance: DagsterInstance) -> None:
        self._workspace = workspace
        self._instance = instance

    def of(self, nodes: Sequence[AssetNode]) -> Mapping[AssetKey, History]:
        """Return what is recorded of assets, and there."""
        failed = self._failed_partitions(nodes)
        details = Details(self._instance, self._workspace.dagster_home)
        entries = [record.asset_entry for record in self._instance.get_asset_records([node.key for node in nodes])]
        last = {entry.asset_key: record for entry in entries if (record := entry.last_materialization_record)}
        history = {}
        for node in nodes:
            if node.key not in last:
                continue
            ids = self._ids(node, last[node.key].storage_id)
            there = {partition: id_ for partition, id_ in ids.items() if self._is_there(node, partition)}
            found = details.of(node.key, last[node.key], there, is_view=node.is_virtual)
            history[node.key] = History(
                storage_ids=there,
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

    def _is_there(self, node: AssetNode, partition: Partition) -> bool:
        """Return whether what Dagster has recorded still exists, as far as this machine can see: files do go away."""
        if "duckdb" in node.kinds:
            return self._workspace.warehouse.is_file()
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

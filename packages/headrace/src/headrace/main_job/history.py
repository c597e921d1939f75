"""What Dagster has recorded of the assets, and whether it is still there."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance

from headrace.local_dagster.daemon import AssetNode, LocalDaemon
from headrace.main_job.plan import History, Partition
from headrace.workspace import Workspace

_CODE_VERSION_TAG = "dagster/code_version"


class RecordedHistory:
    """Reads the history of an instance.

    Args:
        workspace: where lake and warehouse are.
        instance: the instance.
        daemon: its daemon, which knows the checks of all locations.
    """

    def __init__(self, workspace: Workspace, instance: DagsterInstance, daemon: LocalDaemon) -> None:
        self._workspace = workspace
        self._instance = instance
        self._daemon = daemon

    def of(self, nodes: Sequence[AssetNode]) -> Mapping[AssetKey, History]:
        """Return what is recorded of assets, and there."""
        failed = self._failed_partitions()
        history = {}
        for node in nodes:
            ids: dict[Partition, int] = {}
            if node.partitions_def:
                ids.update(
                    self._instance.get_latest_storage_id_by_partition(node.key, DagsterEventType.ASSET_MATERIALIZATION)
                )
            else:
                ids.update(
                    (None, record.storage_id)
                    for record in self._instance.fetch_materializations(node.key, limit=1).records
                )
            there = {partition: id_ for partition, id_ in ids.items() if self._is_there(node, partition)}
            history[node.key] = self._read_back(node, there, failed.get(node.key, ()))
        return history

    def _is_there(self, node: AssetNode, partition: Partition) -> bool:
        """Return whether what Dagster has recorded still exists, as far as this machine can see: files do go away."""
        if "duckdb" in node.kinds:
            return self._workspace.warehouse.is_file()
        if node.key.path[0] == "raw" and "://" not in self._workspace.lake:
            day = [f"day={partition}"] if partition else []
            return Path(self._workspace.lake, *node.key.path, *day, "data.parquet").is_file()
        return True

    def _read_back(self, node: AssetNode, ids: Mapping[Partition, int], failed: Collection[Partition]) -> History:
        """Read materializations, newest first, until the last one of each partition, and of a view its code's first."""
        versions: dict[Partition, str] = {}
        sources: dict[Partition, str] = {}
        code_since, cursor = None, None
        while len(versions) < len(ids) or node.is_virtual:
            page = self._instance.fetch_materializations(AssetRecordsFilter(node.key), limit=1000, cursor=cursor)
            for record in page.records:
                materialization = record.asset_materialization
                if materialization is None:
                    continue
                partition = materialization.partition
                version = (materialization.tags or {}).get(_CODE_VERSION_TAG, "")
                if partition not in versions:
                    versions[partition] = version
                    source = materialization.metadata.get("source_sha256")
                    sources[partition] = str(source.value) if source else ""
                if node.is_virtual:
                    if version != versions[partition]:
                        return History(ids, versions, code_since, sources, failed)
                    code_since = record.storage_id
            if not page.has_more:
                break
            cursor = page.cursor
        return History(ids, versions, code_since, sources, failed)

    def _failed_partitions(self) -> Mapping[AssetKey, Collection[Partition]]:
        """Return the partitions that were materialized by the run whose blocking check of them failed."""
        failed: dict[AssetKey, set[Partition]] = defaultdict(set)
        for key, run_id in self._daemon.failed_checks():
            stored = self._instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
            for record in stored.records:
                event = record.event_log_entry.dagster_event
                if event and event.asset_key == key:
                    failed[key].add(event.partition)
        return failed

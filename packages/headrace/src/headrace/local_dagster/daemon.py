"""Dagster's own daemons of backfills, of the run queue and of retries, ticked by a command instead of by the clock.

Adapter of private Dagster modules. `dagster-daemon` looks at backfills every 30 seconds, a constant of its code, and a
backfill over two locations has about five steps: minutes of waiting for seconds of work. Nothing public ticks them
faster. What runs is Dagster's code; only when it runs is ours. A backfill is requested and canceled here as Dagster's
GraphQL does it, which would need a webserver. `tests/local_dagster/test_daemon.py` fails if it moves.
"""

import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dagster import AssetKey, DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.definitions.selector import (
    PartitionRangeSelector,
    PartitionsByAssetSelector,
    PartitionsSelector,
)
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.utils import make_new_backfill_id
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import consume_new_runs_for_automatic_reexecution
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon
from dagster_shared.error import SerializableErrorInfo

from headrace.cli.user_errors import full_disk
from headrace.local_dagster.asset_node import AssetNode
from headrace.locations.duckdb_files import METADATA as DUCKDB_FILE

_TABLE = "dagster/table_name"
_EVENT_TIME = "dagster_dbt_common/event_time"
_KIND_TAG = "dagster/kind/"
_HOST_TAG = "headrace/host"
_BACKFILL_TAG = "dagster/backfill"
_LOG = logging.getLogger(__name__)


def _without_stack_of_a_full_disk(record: logging.LogRecord) -> bool:
    """Let a message pass without its stack where a disk is full: the command says that in a line, and ends."""
    if record.exc_info and full_disk(record.exc_info[1]):
        record.exc_info = record.exc_text = None
    return True


_LOG.addFilter(_without_stack_of_a_full_disk)


class LocalDaemon:
    """The backfill daemon and the run queue's, over code servers that run.

    Args:
        context: the workspace of the code servers.
    """

    def __init__(self, context: WorkspaceProcessContext) -> None:
        self._context = context
        self._run_queue = QueuedRunCoordinatorDaemon(interval_seconds=1)
        self._considered: set[str] = set()

    @classmethod
    @contextmanager
    def over(cls, instance: DagsterInstance, workspace_file: Path) -> Iterator["LocalDaemon"]:
        """Connect to the code servers that a workspace file names."""
        target = WorkspaceFileTarget(paths=[str(workspace_file)])
        with WorkspaceProcessContext(instance, target) as context:
            daemon = cls(context)
            with daemon._run_queue:
                yield daemon

    def load_errors(self) -> Sequence[str]:
        """Return what keeps a code location from loading, a line each."""
        entries = self._context.create_request_context().get_code_location_entries().values()
        return [
            f"{entry.origin.location_name}: {entry.load_error.message.strip().splitlines()[-1]}"
            for entry in entries
            if entry.load_error
        ]

    def assets(self) -> Sequence[AssetNode]:
        """Return the assets that the locations can materialize, parents before children."""
        graph = self._context.create_request_context().asset_graph
        nodes = []
        for key in graph.toposorted_asset_keys:
            node = graph.get(key)
            if node.is_materializable:
                file, table, column = (node.metadata.get(name) for name in (DUCKDB_FILE, _TABLE, _EVENT_TIME))
                checks = [graph.get(check) for check in graph.get_check_keys_for_assets({key})]
                handle = node.resolve_to_singular_repo_scoped_node().repository_handle
                nodes.append(
                    AssetNode(
                        key=key,
                        location=handle.location_name,
                        parents=frozenset(node.parent_keys - {key}),
                        partitions_def=node.partitions_def,
                        code_version=node.code_version,
                        is_virtual=node.is_virtual,
                        kinds=frozenset(tag.removeprefix(_KIND_TAG) for tag in node.tags if tag.startswith(_KIND_TAG)),
                        duckdb_file=str(file.value) if file else None,
                        table=str(table.value) if table else None,
                        event_time=str(column.value) if column else None,
                        blocking_checks=frozenset(check.key.name for check in checks if check.blocking),
                        mappings={
                            parent: mapping
                            for parent in node.parent_keys
                            if (mapping := node.partition_mappings.get(parent))
                        },
                    )
                )
        return nodes

    def request_backfill(self, title: str, ranges: Mapping[AssetKey, Sequence[tuple[str, str]]]) -> str:
        """Ask for a backfill and return its id.

        Args:
            title: what the UI calls it.
            ranges: the partitions of each asset, as first and last keys; none for an asset without partitions.
        """
        context = self._context.create_request_context()
        backfill = PartitionBackfill.from_partitions_by_assets(
            backfill_id=make_new_backfill_id(),
            asset_graph=context.asset_graph,
            backfill_timestamp=time.time(),
            tags={_HOST_TAG: socket.gethostname()},
            dynamic_partitions_store=context.instance,
            partitions_by_assets=[
                PartitionsByAssetSelector(
                    asset_key=key,
                    partitions=PartitionsSelector([PartitionRangeSelector(start, end) for start, end in parts])
                    if parts
                    else None,
                )
                for key, parts in ranges.items()
            ],
            title=title,
            description=None,
            run_config=None,
        )
        context.instance.add_backfill(backfill)
        return str(backfill.backfill_id)

    def end_abandoned_backfills(self) -> None:
        """Cancel what commands of this host had requested and not brought to its end, with the runs that are queued.

        They were killed, since one command at a time is active. Else what they requested would be built beside what
        this command requests, now or weeks later.
        """
        instance = self._context.instance
        unfinished = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
        for backfill in instance.get_backfills(filters=unfinished):
            if backfill.tags.get(_HOST_TAG) == socket.gethostname():
                statuses = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED]
                waiting = RunsFilter(tags={_BACKFILL_TAG: backfill.backfill_id}, statuses=statuses)
                for run in instance.get_runs(waiting):
                    instance.report_run_canceled(run)
                canceled = backfill.with_status(BulkActionStatus.CANCELED)  # type: ignore[no-untyped-call]
                instance.update_backfill(canceled)

    def cancel_backfill(self, backfill_id: str) -> None:
        """Ask for the end of a backfill and its runs; `advance_backfills` then brings it about."""
        instance = self._context.instance
        backfill = instance.get_backfill(backfill_id)
        if backfill is not None:
            instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELING))  # type: ignore[no-untyped-call]

    def advance_backfills(self) -> None:
        """Let the backfill daemon look once at what was built, and ask for the runs that this makes possible."""
        for error in execute_backfill_iteration(self._context, _LOG):
            if error:
                _LOG.warning("backfill daemon: %s", error.message)

    def retry_runs(self, backfill_id: str) -> None:
        """Begin the runs of a backfill again that failed and that `run_retries` of the instance is for; each once.

        The backfill daemon waits for that without an end.
        """
        instance = self._context.instance
        if not instance.run_retries_enabled:
            return
        failed = RunsFilter(tags={_BACKFILL_TAG: backfill_id}, statuses=[DagsterRunStatus.FAILURE])
        records = [each for each in instance.get_run_records(failed) if each.dagster_run.run_id not in self._considered]
        self._considered |= {record.dagster_run.run_id for record in records}
        for _ in consume_new_runs_for_automatic_reexecution(self._context, records, _LOG):
            pass

    def launch_queued_runs(self) -> None:
        """Let the run queue's daemon launch the runs for which there is room."""
        for outcome in self._run_queue.run_iteration(self._context):
            if isinstance(outcome, SerializableErrorInfo):
                _LOG.warning("run queue: %s", outcome.message)

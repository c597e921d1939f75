"""The main job: raw export files become tested dbt marts, by one backfill over all code locations."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import click
import requests
from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from headrace.cli.interrupts import Interrupts
from headrace.cli.user_errors import UserError
from headrace.local_dagster.daemon import AssetNode, LocalDaemon
from headrace.local_dagster.dead_runs import DeadRuns
from headrace.locations.duckdb_files import shared_files
from headrace.main_job.plan import BuildPlan, History, Partition, plan_build
from headrace.main_job.progress import Progress
from headrace.main_job.report import BACKFILL_TAG, RunReport
from headrace.workspace import Workspace

_DAY_FILE = re.compile(r"(\d{4}-\d{2}-\d{2})\.(csv|csv\.gz|parquet|jsonl|empty)")
_TABLE_FILE = re.compile(r"(\w+)\.(csv|csv\.gz|parquet|jsonl)")
_ENDED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_TICK_SECONDS = 0.5
_CODE_VERSION_TAG = "dagster/code_version"

_LAUNCH = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
  }
}
"""
_CANCEL = "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
_FAILED_CHECKS = """
{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks {
  checks { blocking executionForLatestMaterialization { status runId } } } } } }
"""


@dataclass(frozen=True)
class ExportFiles:
    """The export files of a folder, by table.

    Args:
        tables: the file of each reference table.
        days: the file, or the marker of an empty day, of each day of each event table.
    """

    tables: Mapping[str, Path]
    days: Mapping[str, Mapping[str, Path]]

    @classmethod
    def of(cls, folder: Path) -> "ExportFiles":
        """List a folder in the layout of exports; other files are nobody's."""
        tables, days = {}, {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_dir():
                files = {match[1]: file for file in path.iterdir() if (match := _DAY_FILE.fullmatch(file.name))}
                if files:
                    days[path.name] = files
            elif match := _TABLE_FILE.fullmatch(path.name):
                tables[match[1]] = path
        return cls(tables, days)

    def bounds(self) -> tuple[date, date] | None:
        """Return the first and the last day of any table; None where there is none."""
        days = sorted(day for files in self.days.values() for day in files)
        return (date.fromisoformat(days[0]), date.fromisoformat(days[-1])) if days else None

    def hashes(self, first: date, last: date) -> Mapping[AssetKey, Mapping[Partition, str]]:
        """Return what `ingest` records as the source of each raw partition of the days: the file's hash, or `empty`."""
        wanted = {(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)}
        hashes: dict[AssetKey, Mapping[Partition, str]] = {}
        for table, path in self.tables.items():
            hashes[AssetKey(["raw", table])] = {None: _hash(path)}
        for table, files in self.days.items():
            hashes[AssetKey(["raw", table])] = {day: _hash(path) for day, path in files.items() if day in wanted}
        return hashes


def _hash(path: Path) -> str:
    if path.suffix == ".empty":
        return "empty"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class MainJob:
    """One run of the main job, over servers that run.

    Args:
        workspace: the workspace.
        instance: its Dagster instance.
        daemon: the daemons that move the backfill on.
        url: the webserver's address.
    """

    def __init__(self, workspace: Workspace, instance: DagsterInstance, daemon: LocalDaemon, url: str) -> None:
        self._workspace = workspace
        self._instance = instance
        self._daemon = daemon
        self._url = url
        self._dead_runs = DeadRuns(instance)

    def plan(self, first: date, last: date, *, everything: bool) -> BuildPlan:
        """Return what has to be built for the days from `first` to `last`, both included.

        Raises:
            click.ClickException: a code location does not load.
            UserError: two locations write one DuckDB file.
        """
        errors = self._daemon.load_errors()
        if errors:
            raise click.ClickException("; ".join(errors))
        nodes = self._daemon.assets()
        written: dict[str, set[str]] = defaultdict(set)
        for node in nodes:
            written[node.location] |= {node.duckdb_file} if node.duckdb_file else set()
        for file in shared_files(written):
            raise UserError(str(file))
        sources = ExportFiles.of(self._workspace.exports).hashes(first, last)
        history = {} if everything else self._history(nodes)
        return plan_build(nodes, history, sources, first, last, everything=everything)

    def build(self, plan: BuildPlan, progress: Progress, interrupts: Interrupts) -> RunReport:
        """Launch one backfill of the plan and move it to its end; an interruption cancels its runs.

        The backfill moves on when none of its runs is going: in the middle of a run over a range it would find some
        of its partitions built, and ask for their children in as many runs as there were looks.

        Raises:
            KeyboardInterrupt: it was interrupted, and its runs have ended, or did not within half a minute, or it was
                interrupted again.
            click.ClickException: Dagster refuses the backfill.
        """
        with interrupts.deferred():
            backfill_id = self._launch(plan)
            report = RunReport(self._instance, backfill_id, plan)
            try:
                while not self._has_ended(backfill_id, report, progress):
                    interrupts.raise_if_wanted(within=_TICK_SECONDS)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    progress.tell("canceling the runs; a second Ctrl-C does not wait for them")
                self._cancel(backfill_id)
                raise
            return report

    def _has_ended(self, backfill_id: str, report: RunReport, progress: Progress) -> bool:
        """Move the backfill on, and return whether it has ended."""
        self._dead_runs.mend({BACKFILL_TAG: backfill_id})
        if not self._unfinished_runs(backfill_id):
            self._daemon.advance_backfills()
        self._daemon.launch_queued_runs()
        backfill = self._instance.get_backfill(backfill_id)
        report.update()
        progress.show(report)
        return backfill is None or backfill.status.value in _ENDED

    def _launch(self, plan: BuildPlan) -> str:
        params = {
            "title": "headrace run",
            "partitionsByAssets": [
                {
                    "assetKey": {"path": key.path},
                    "partitions": {"ranges": [{"start": start, "end": end} for start, end in ranges]}
                    if ranges
                    else None,
                }
                for key, ranges in plan.ranges.items()
            ],
        }
        answer = self._graphql(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        if "backfillId" not in answer:
            raise click.ClickException(f"Dagster refused the backfill: {answer.get('message', answer['__typename'])}")
        return str(answer["backfillId"])

    def _cancel(self, backfill_id: str) -> None:
        self._graphql(_CANCEL, {"id": backfill_id})
        for _ in range(60):
            self._daemon.advance_backfills()
            if not self._unfinished_runs(backfill_id):
                return
            sleep(_TICK_SECONDS)

    def _unfinished_runs(self, backfill_id: str) -> Sequence[str]:
        return self._instance.get_run_ids(RunsFilter(tags={BACKFILL_TAG: backfill_id}, statuses=_UNFINISHED))

    def _history(self, nodes: Sequence[AssetNode]) -> Mapping[AssetKey, History]:
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
        for node in self._graphql(_FAILED_CHECKS, {})["assetNodes"]:
            key = AssetKey(node["assetKey"]["path"])
            for check in node["assetChecksOrError"].get("checks", []):
                execution = check["executionForLatestMaterialization"]
                if check["blocking"] and execution and execution["status"] != "SUCCEEDED":
                    stored = self._instance.get_records_for_run(
                        execution["runId"], of_type=DagsterEventType.ASSET_MATERIALIZATION
                    )
                    for record in stored.records:
                        event = record.event_log_entry.dagster_event
                        if event and event.asset_key == key:
                            failed[key].add(event.partition)
        return failed

    def _graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        response = requests.post(f"{self._url}/graphql", json={"query": query, "variables": variables}, timeout=60)
        answer: dict[str, Any] = response.json()
        if answer.get("errors"):
            raise click.ClickException(f"Dagster's GraphQL: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data

"""From what the locations define, what is recorded and what is in the exports to what has to be built."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from dagster import AssetKey, DagsterInstance

from headrace.cli.user_errors import UserError
from headrace.local_dagster.asset_node import AssetNode
from headrace.locations.duckdb_files import shared_files
from headrace.main_job.days import days_to_build
from headrace.main_job.exports import ExportFiles
from headrace.main_job.history import RecordedHistory
from headrace.main_job.plan import BuildPlan, plan_build
from headrace.workspace import Workspace
from headrace_staleness import Partition


class Wanted(NamedTuple):
    """What the caller of the main job wants.

    Args:
        first: the first day; the first of the exports where it is None.
        last: the last day; the last of the exports where it is None.
        everything: build all partitions of the days, fresh or not.
        differing: the partitions of each asset whose rows are not those that were recorded: they count as missing.
    """

    first: date | None
    last: date | None
    everything: bool
    differing: Mapping[AssetKey, Collection[Partition]] = {}


class PlanOfDays(NamedTuple):
    """A plan, and the days that it is of."""

    first: date
    last: date
    plan: BuildPlan


def plan_days(
    workspace: Workspace,
    instance: DagsterInstance,
    nodes: Sequence[AssetNode],
    wanted: Wanted,
    tell: Callable[[str], object] = lambda _line: None,
) -> PlanOfDays:
    """Return what has to be built.

    Args:
        workspace: the workspace.
        instance: its Dagster instance.
        nodes: the assets that its locations define, parents before children.
        wanted: the days, and whether all of them.
        tell: is told of a last day that is not over.

    Raises:
        UserError: two locations write one DuckDB file, or the days cannot be.
    """
    written: dict[str, set[str]] = defaultdict(set)
    for node in nodes:
        written[node.location] |= {node.duckdb_file} if node.duckdb_file else set()
    for file in shared_files(written):
        raise UserError(str(file))
    paths = [node.key.path for node in nodes if node.partitions_def]
    tables = {path[1] for path in paths if path[0] == "raw" and len(path) > 1}
    first, last = days_to_build(workspace, wanted.first, wanted.last, tables, tell)
    hashes = ExportFiles.of(workspace.exports).hashes(first, last)
    sources = {AssetKey(["raw", table]): of_table for table, of_table in hashes.items()}
    history = {} if wanted.everything else RecordedHistory(workspace, instance, wanted.differing).of(nodes)
    return PlanOfDays(first, last, plan_build(nodes, history, sources, first, last, everything=wanted.everything))

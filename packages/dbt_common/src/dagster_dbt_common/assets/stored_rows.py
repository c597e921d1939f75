"""Whether the warehouse has what Dagster has recorded: a check `stored_rows` of each model with partitions.

A build records how many rows each of its partitions has. Rows that went away since, by hand, by another tool or with a
table that was dropped, are found here; so are rows that nobody recorded. It is one scan of one column for each model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetRecordsFilter,
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    Definitions,
    RunsFilter,
    ScheduleDefinition,
    define_asset_job,
    in_process_executor,
    multi_asset_check,
)

from dagster_dbt_common.assets.group_build import PARTITION_ROWS, GroupBuild, write_pool
from dagster_dbt_common.automation.reconcile import Calendar
from dagster_dbt_common.engine.partition_rows import PartitionRows, has_table
from dagster_dbt_common.engine.resource import DbtResource  # noqa: TC001 - as in group_build

if TYPE_CHECKING:
    from dbt.adapters.base.impl import BaseAdapter

STORED_ROWS = "__stored_rows"
"""The end of the name of the job that runs the checks."""

CHECK = "stored_rows"
"""The name of the check; `headrace reconcile` reads its evaluations."""

_PAGE = 1000
_UNFINISHED = [
    status
    for status in DagsterRunStatus
    if status not in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
]


@dataclass(frozen=True)
class Differences:
    """Where a table and what was recorded of it differ, as partitions.

    Args:
        gone: recorded with rows, and there are none; of a table that is missing all that was recorded.
        fewer: recorded with more rows than there are.
        more: recorded with fewer rows than there are.
        unrecorded: there are rows, and nothing was recorded.
    """

    gone: Sequence[str] = ()
    fewer: Sequence[str] = ()
    more: Sequence[str] = ()
    unrecorded: Sequence[str] = ()

    @classmethod
    def between(cls, recorded: Mapping[str, int | None], stored: Mapping[str, int], *, is_there: bool = True) -> Self:
        """Compare two counts by partition.

        Args:
            recorded: the rows of each partition that was recorded; None where its record does not say.
            stored: those in the table.
            is_there: whether there is a table.
        """
        known = {key: rows for key, rows in recorded.items() if rows is not None}
        if not is_there:
            return cls(gone=sorted(recorded))
        return cls(
            gone=sorted(key for key, rows in known.items() if rows and not stored.get(key, 0)),
            fewer=sorted(key for key, rows in known.items() if 0 < stored.get(key, 0) < rows),
            more=sorted(key for key, rows in known.items() if stored.get(key, 0) > rows),
            unrecorded=sorted(key for key, rows in stored.items() if rows and key not in recorded),
        )

    def by_kind(self) -> Mapping[str, Sequence[str]]:
        """Return the kinds that there are."""
        return {kind: keys for kind, keys in vars(self).items() if keys}


def stored_rows_definitions(name: str, builds: Sequence[GroupBuild], cron: str | None) -> Definitions:
    """Return the checks of the models with partitions, the job `<name>__stored_rows`, and its schedule if one is given.

    Args:
        name: the prefix of the names, and the key of the `DbtResource`.
        builds: the project's groups.
        cron: when the schedule ticks, in UTC; it is on from the start.
    """
    models = {
        build.translator.get_asset_spec(build.plan.manifest, unique_id, build.project).key: (build, unique_id)
        for build in builds
        if build.group.is_partitioned
        for unique_id in sorted(build.group.assets)
        if build.plan.manifest["nodes"][unique_id]["config"].get("event_time")
    }
    if not models:
        return Definitions()

    @multi_asset_check(
        name=f"{name}{STORED_ROWS}_op",
        specs=[
            AssetCheckSpec(CHECK, asset=key, description="Each partition has the rows that its build recorded.")
            for key in models
        ],
        can_subset=True,
        required_resource_keys={name},
        pool=write_pool(builds[0].project, builds[0].plan),
    )
    def stored_rows(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        dbt: DbtResource = getattr(context.resources, name)
        chosen = {key: models[key] for key in models if (key, CHECK) in set(context.selected_asset_check_keys)}
        first, unique_id = next(iter(chosen.values()))
        # dbt makes its adapter when it lists a node.
        invocation = dbt.cli(["list"], manifest=first.plan.manifest, unique_ids=[unique_id])
        invocation.wait()
        try:
            for key, (build, node) in chosen.items():
                yield _result(context, key, build, node, cast("BaseAdapter", invocation.adapter))
        finally:
            invocation.close()

    job = define_asset_job(
        f"{name}{STORED_ROWS}",
        selection=AssetSelection.checks(stored_rows),
        description="Compares the rows of each partition with what was recorded when it was built.",
        executor_def=in_process_executor,
    )
    schedules = []
    if cron is not None:
        schedules.append(
            ScheduleDefinition(name=job.name, job=job, cron_schedule=cron, default_status=DefaultScheduleStatus.RUNNING)
        )
    return Definitions(asset_checks=[stored_rows], jobs=[job], schedules=schedules)


def _result(
    context: AssetCheckExecutionContext, key: AssetKey, build: GroupBuild, unique_id: str, adapter: "BaseAdapter"
) -> AssetCheckResult:
    definition = build.group.partitions_def
    assert definition is not None  # noqa: S101 - only models with partitions have the check
    if _is_being_built(context.instance, key, context.run.run_id):
        return _said(key, "It is being built now: not looked at.")
    before = _newest(context.instance, key)
    props = build.plan.manifest["nodes"][unique_id]
    counted = PartitionRows(definition, [str(each) for each in Calendar(definition).keys])
    is_there = has_table(adapter, props)
    stored = counted.of(adapter, props) if is_there else {}
    if stored is None:
        return _said(key, "Its rows cannot be counted by partition: see the log.")
    recorded = _recorded(context.instance, key, before)
    if _newest(context.instance, key) != before:
        return _said(key, "It was built meanwhile: not looked at.")
    found = Differences.between(recorded, stored, is_there=is_there).by_kind()
    lost = "gone" in found or "fewer" in found
    return AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not found,
        severity=AssetCheckSeverity.ERROR if lost else AssetCheckSeverity.WARN,
        description=", ".join(f"{len(keys)} {kind}" for kind, keys in found.items()) or f"{len(recorded)} as recorded",
        metadata={kind: [*keys] for kind, keys in found.items()},
    )


def _said(key: AssetKey, why: str) -> AssetCheckResult:
    return AssetCheckResult(asset_key=key, check_name=CHECK, passed=True, description=why)


def _is_being_built(instance: DagsterInstance, key: AssetKey, own_run: str) -> bool:
    runs = instance.get_runs(RunsFilter(statuses=_UNFINISHED))
    return any(run.run_id != own_run and key in (run.asset_selection or ()) for run in runs)


def _newest(instance: DagsterInstance, key: AssetKey) -> Mapping[str, int]:
    """Return the storage id of the last materialization of each partition."""
    return instance.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)


def _recorded(instance: DagsterInstance, key: AssetKey, newest: Mapping[str, int]) -> Mapping[str, int | None]:
    ids = sorted(newest.values())
    found: dict[str, int | None] = dict.fromkeys(newest)
    for start in range(0, len(ids), _PAGE):
        wanted = AssetRecordsFilter(key, storage_ids=ids[start : start + _PAGE])
        for record in instance.fetch_materializations(wanted, limit=_PAGE).records:
            if materialization := record.asset_materialization:
                rows = materialization.metadata.get(PARTITION_ROWS)
                found[str(materialization.partition)] = int(str(rows.value)) if rows else None
    return found

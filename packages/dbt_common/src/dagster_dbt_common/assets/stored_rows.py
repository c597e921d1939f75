"""Whether the warehouse has what Dagster has recorded: a job that looks at each model with partitions.

A build records how many rows each of its partitions has. Rows that went away since, by hand, by another tool or with a
table that was dropped, are found here; so are rows that nobody recorded. It is one scan of one column for each model.

What is found is an observation of the model, and no asset check: Dagster 1.13 runs the checks of an asset in each run
that builds it, as a step of its own, and this one reads the whole history.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from dagster import (
    AssetKey,
    AssetObservation,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    Definitions,
    Failure,
    MetadataValue,
    OpExecutionContext,
    RunsFilter,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from dagster_dbt_common.assets.group_build import PARTITION_ROWS, GroupBuild, write_pool
from dagster_dbt_common.automation.reconcile import Calendar
from dagster_dbt_common.engine.partition_rows import PartitionRows, has_table
from dagster_dbt_common.engine.resource import DbtResource  # noqa: TC001 - as in group_build

if TYPE_CHECKING:
    from dbt.adapters.base.impl import BaseAdapter

STORED_ROWS = "__stored_rows"
"""The end of the name of the job and its schedule; `headrace reconcile` runs it, and reads its observations."""

DIFFERENCES = "dagster_dbt_common/stored_rows"
"""The metadata of an observation: lists of partitions, by what of them differs."""

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
    """Return the job `<name>__stored_rows` over the models with partitions, and its schedule where one is given.

    The job fails where something differs.

    Args:
        name: the prefix of the names, and the key of the `DbtResource`.
        builds: the project's groups.
        cron: when the schedule ticks, in UTC; it is on from the start.
    """
    partitioned = [build for build in builds if build.group.is_partitioned and _models(build)]
    if not partitioned:
        return Definitions()

    @op(
        name=f"{name}{STORED_ROWS}_op",
        required_resource_keys={name},
        pool=write_pool(builds[0].project, builds[0].plan),
    )
    def compare(context: OpExecutionContext) -> None:
        dbt: DbtResource = getattr(context.resources, name)
        # dbt makes its adapter when it lists a node.
        invocation = dbt.cli(
            ["list"], manifest=partitioned[0].plan.manifest, unique_ids=[_models(partitioned[0])[0]["unique_id"]]
        )
        invocation.wait()
        differing = []
        try:
            for build in partitioned:
                adapter = cast("BaseAdapter", invocation.adapter)
                for key, said, found in _compared(context.instance, build, adapter):
                    metadata = {DIFFERENCES: MetadataValue.json(found)}
                    context.log_event(AssetObservation(key, description=said, metadata=metadata))
                    if found:
                        differing.append(f"{key.to_user_string()}: {said}")
        finally:
            invocation.close()
        if differing:
            raise Failure("\n".join(differing), allow_retries=False)

    @job(
        name=f"{name}{STORED_ROWS}",
        executor_def=in_process_executor,
        description="Compares the rows of each partition with what was recorded when it was built.",
    )
    def stored_rows() -> None:
        compare()

    if cron is None:
        return Definitions(jobs=[stored_rows])
    schedule = ScheduleDefinition(
        name=stored_rows.name, job=stored_rows, cron_schedule=cron, default_status=DefaultScheduleStatus.RUNNING
    )
    return Definitions(jobs=[stored_rows], schedules=[schedule])


def _models(build: GroupBuild) -> Sequence[Mapping[str, Any]]:
    """Return the models of a group whose rows can be counted by partition, in an order of their own."""
    nodes = (build.plan.manifest["nodes"][unique_id] for unique_id in sorted(build.group.assets))
    return [props for props in nodes if props["config"].get("event_time")]


def _compared(
    instance: DagsterInstance, build: GroupBuild, adapter: "BaseAdapter"
) -> Iterator[tuple[AssetKey, str, Mapping[str, Sequence[str]]]]:
    """Yield what is to be said of each model of a group, and which of its partitions differ, by kind."""
    definition = build.group.partitions_def
    assert definition is not None  # noqa: S101 - only groups with partitions are compared
    counted = PartitionRows(definition, [str(each) for each in Calendar(definition).keys])
    for props in _models(build):
        key = build.translator.get_asset_key(props)
        if _is_being_built(instance, key):
            yield key, "it is being built now: not looked at", {}
            continue
        before = _newest(instance, key)
        is_there = has_table(adapter, props)
        stored = counted.of(adapter, props) if is_there else {}
        recorded = _recorded(instance, key, before)
        if stored is None:
            yield key, "its rows cannot be counted by partition: see the log", {}
        elif _newest(instance, key) != before:
            yield key, "it was built meanwhile: not looked at", {}
        else:
            found = Differences.between(recorded, stored, is_there=is_there).by_kind()
            said = ", ".join(f"{len(keys)} {kind}" for kind, keys in found.items())
            yield key, said or f"{len(recorded)} as recorded", found


def _is_being_built(instance: DagsterInstance, key: AssetKey) -> bool:
    runs = instance.get_runs(RunsFilter(statuses=_UNFINISHED))
    return any(key in (run.asset_selection or ()) for run in runs)


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

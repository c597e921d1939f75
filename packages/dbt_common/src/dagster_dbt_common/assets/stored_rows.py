"""Whether the warehouse has what Dagster has recorded: a job that looks at each asset of a dbt project.

A build records how many rows each of its partitions has. Rows that went away since, by hand, by another tool or with a
table that was dropped, are found here; so are rows that nobody recorded, and those of no partition, as a first day that
moves forward leaves them. It is one scan of one column for each model.

What is found is an observation of the asset, and no asset check: Dagster 1.13 runs the checks of an asset in each run
that builds it, as a step of its own, and this one reads the whole history.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dagster import (
    AssetKey,
    AssetObservation,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DefaultScheduleStatus,
    Definitions,
    Failure,
    MetadataValue,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from dagster_dbt_common.assets.group_build import PARTITION_ROWS, GroupBuild, write_pool
from dagster_dbt_common.automation.reconcile_sensor import in_flight
from dagster_dbt_common.engine.partition_rows import PartitionRows, can_count, tables
from dagster_dbt_common.engine.resource import DbtResource  # noqa: TC001 - as in group_build
from dagster_dbt_common.partitions.run_tags import FULL_REFRESH

if TYPE_CHECKING:
    from dbt.adapters.base.impl import BaseAdapter

STORED_ROWS = "__stored_rows"
"""The end of the name of the job and its schedule; `headrace reconcile` runs it, and reads its observations."""

FOUND = "dagster_dbt_common/stored_rows"
"""The metadata of an observation: `{"compared": bool, "partitions": {kind: [key]}, "outside": rows, "mend": job}`.

A key is null where none is; `mend` names the job that rebuilds the table without the rows outside of its partitions.
"""

Partition = str | None
"""A partition's key; None for an asset without partitions."""

_PAGE = 1000


@dataclass(frozen=True)
class Differences:
    """Where a table and what was recorded of it differ, as partitions.

    Args:
        gone: recorded with rows, and there are none; of a table that is missing all that was recorded.
        fewer: recorded with more rows than there are.
        more: recorded with fewer rows than there are.
        unrecorded: there are rows, and nothing was recorded.
    """

    gone: Sequence[Partition] = ()
    fewer: Sequence[Partition] = ()
    more: Sequence[Partition] = ()
    unrecorded: Sequence[Partition] = ()

    @classmethod
    def between(cls, recorded: Mapping[Partition, int | None], stored: Mapping[str, int]) -> Self:
        """Compare two counts by partition, of a table that is there.

        Args:
            recorded: the rows of each partition that was recorded; None where its record does not say.
            stored: those of each partition that there is by now.
        """
        known = {key: rows for key, rows in recorded.items() if rows is not None and key in stored}
        return cls(
            gone=[key for key, rows in known.items() if rows and not stored[str(key)]],
            fewer=[key for key, rows in known.items() if 0 < stored[str(key)] < rows],
            more=[key for key, rows in known.items() if stored[str(key)] > rows],
            unrecorded=[key for key, rows in stored.items() if rows and key not in recorded],
        )

    def by_kind(self) -> Mapping[str, Sequence[Partition]]:
        """Return the kinds that there are."""
        return {kind: keys for kind, keys in vars(self).items() if keys}


class Look(NamedTuple):
    """What was found of an asset.

    Args:
        key: the asset.
        says: it in words.
        compared: whether it could be compared.
        differing: the partitions that differ, by kind.
        outside: how many rows are in no partition.
        mend: the job that rebuilds all of the table.
    """

    key: AssetKey
    says: str
    compared: bool = True
    differing: Mapping[str, Sequence[Partition]] = {}
    outside: int = 0
    mend: str | None = None


def stored_rows_definitions(name: str, builds: Sequence[GroupBuild], cron: str | None) -> Definitions:
    """Return the job `<name>__stored_rows` over the assets of a project, and its schedule where one is given.

    The job fails where something differs.

    Args:
        name: the prefix of the names, and the key of the `DbtResource`.
        builds: the project's groups.
        cron: when the schedule ticks, in UTC; it is on from the start.
    """
    if not any(build.group.assets for build in builds):
        return Definitions()
    pool = write_pool(builds[0].project, builds[0].plan)

    @op(name=f"{name}{STORED_ROWS}_op", required_resource_keys={name}, pool=pool)
    def compare(context: OpExecutionContext) -> None:
        dbt: DbtResource = getattr(context.resources, name)
        # dbt makes its adapter when it lists a node.
        first = min(unique_id for build in builds for unique_id in build.group.assets)
        invocation = dbt.cli(["list"], manifest=builds[0].plan.manifest, unique_ids=[first])
        invocation.wait()
        differing = []
        try:
            for look in _looks(context.instance, builds, invocation.adapter):
                found = {
                    "compared": look.compared,
                    "partitions": look.differing,
                    "outside": look.outside,
                    "mend": look.mend,
                }
                metadata = {FOUND: MetadataValue.json(found)}
                context.log_event(AssetObservation(look.key, description=look.says, metadata=metadata))
                if look.differing or look.outside:
                    differing.append(f"{look.key.to_user_string()}: {look.says}")
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


def _looks(instance: DagsterInstance, builds: Sequence[GroupBuild], adapter: "BaseAdapter | None") -> Iterator[Look]:
    """Look at each asset that was recorded, or may have rows that were not."""
    is_known = adapter is not None and can_count(adapter)
    there = tables(adapter) if adapter is not None and is_known else ()
    for build in builds:
        definition = build.group.partitions_def
        counted = PartitionRows(definition, definition.get_partition_keys()) if definition and is_known else None
        for unique_id in sorted(build.group.assets):
            props = build.plan.manifest["nodes"][unique_id]
            key = build.translator.get_asset_key(props)
            if adapter is None or not is_known:
                kind = adapter.type() if adapter else "this dbt"
                yield Look(key, f"not compared: {kind} is not known here", compared=False)
                continue
            before = _newest(instance, key, has_partitions=definition is not None)
            look = _look(instance, key, props, before, counted, adapter, there)
            if look.outside:
                mend = f"{build.name}{FULL_REFRESH}"
                said = f"{look.outside} rows of no partition: {mend} rebuilds the table"
                look = look._replace(mend=mend, says=f"{look.says}, {said}" if look.differing else said)
            # What is being built has rows that are not recorded yet.
            if look.differing and (
                _newest(instance, key, has_partitions=definition is not None) != before
                or {key, None} & set(in_flight(instance))
            ):
                look = Look(key, "not compared: it is being built now", compared=False)
            yield look


def _look(  # noqa: PLR0917 - what is known of one asset
    instance: DagsterInstance,
    key: AssetKey,
    props: Mapping[str, Any],
    newest: Mapping[Partition, int],
    counted: PartitionRows | None,
    adapter: "BaseAdapter",
    there: Collection[tuple[str, str, str]],
) -> Look:
    names = tuple(str(props[part] or "").lower() for part in ("database", "schema", "alias"))
    if names not in there:
        by_now = {None, *counted.keys} if counted else set(newest)
        gone = [partition for partition in newest if partition in by_now]
        return Look(key, "its table is gone" if gone else "not built", differing=Differences(gone=gone).by_kind())
    if counted is None or not props["config"].get("event_time"):
        return Look(key, "there")
    counts = counted.of_all(adapter, props)
    if counts is None:
        return Look(key, "not compared: its rows could not be counted, see the run's log", compared=False)
    stored, outside = counts
    recorded = _recorded(instance, key, newest)
    found = Differences.between(recorded, stored).by_kind()
    known = sum(rows is not None for rows in recorded.values())
    unknown = f", {len(recorded) - known} without a number" if known < len(recorded) else ""
    said = ", ".join(f"{len(keys)} {kind}" for kind, keys in found.items())
    return Look(key, said or f"{known} as recorded{unknown}", differing=found, outside=outside)


def _newest(instance: DagsterInstance, key: AssetKey, *, has_partitions: bool) -> Mapping[Partition, int]:
    """Return the storage id of the last materialization of each partition, in the order of their keys."""
    if not has_partitions:
        records = instance.fetch_materializations(key, limit=1).records
        return {None: records[0].storage_id} if records else {}
    ids = instance.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
    return dict(sorted(ids.items()))


def _recorded(
    instance: DagsterInstance, key: AssetKey, newest: Mapping[Partition, int]
) -> Mapping[Partition, int | None]:
    """Return the rows of each partition, as its last materialization says; None where it does not."""
    ids = sorted(newest.values())
    found: dict[Partition, int | None] = dict.fromkeys(newest)
    for start in range(0, len(ids), _PAGE):
        wanted = AssetRecordsFilter(key, storage_ids=ids[start : start + _PAGE])
        for record in instance.fetch_materializations(wanted, limit=_PAGE).records:
            if materialization := record.asset_materialization:
                rows = materialization.metadata.get(PARTITION_ROWS)
                found[materialization.partition] = rows.value if rows and isinstance(rows.value, int) else None
    return found

"""How one partition group is built: as assets, partition by partition, and as a job that rebuilds all of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    DagsterInstance,
    JobDefinition,
    OpExecutionContext,
    Output,
    TableSchema,
    in_process_executor,
    job,
    op,
)
from dagster_dbt import DbtProject, dbt_assets

from dagster_dbt_common.assets.column_lineage import ColumnLineages
from dagster_dbt_common.assets.conflicts import retried_conflicts
from dagster_dbt_common.assets.event_batches import in_one_batch
from dagster_dbt_common.assets.partition_metadata import add_partition_metadata
from dagster_dbt_common.assets.translator import PartitionedDbtTranslator
from dagster_dbt_common.engine.invocation import DbtInvocation
from dagster_dbt_common.engine.partition_rows import PartitionRows
from dagster_dbt_common.engine.resource import DbtResource  # noqa: TC001 - the module evaluates its annotations
from dagster_dbt_common.errors import config_error
from dagster_dbt_common.partitions.groups import PartitionGroup, PartitionPlan
from dagster_dbt_common.partitions.run_tags import FULL_REFRESH, READ_UP_TO
from dagster_dbt_common.partitions.window import Window, is_by_date
from dagster_dbt_common.project.duckdb_file import is_ducklake

PARTITION_ROWS = "dagster/partition_row_count"
"""Dagster's metadata of a materialization that says how many rows its partition has."""

_CODE_VERSION_TAG = "dagster/code_version"
_SCHEMA = "dagster/column_schema"


def write_pool(project: DbtProject, plan: PartitionPlan, group: str | None = None) -> str | None:
    """Return the pool of runs that wait for one another, or None for those that need not.

    A DuckDB file has one writer: a project has one pool. A DuckLake has many, but two that replace rows of one table
    end in a conflict, and so do two that make or append to one table of files on Spark: each group has a pool. Other
    warehouses have locks of their own.

    Args:
        project: the prepared project.
        plan: its partition plan.
        group: the name of the group that is written; None where nothing is.
    """
    adapter = plan.manifest["metadata"].get("adapter_type")
    if adapter == "duckdb" and not is_ducklake(project, plan.manifest):
        return f"duckdb_{project.name}"
    lake = {"duckdb": "ducklake", "spark": "spark"}.get(adapter or "")
    return f"{lake}_{project.name}_{group}" if lake and group else None


@dataclass(frozen=True)
class GroupBuild:
    """A partition group with all that its runs need.

    Args:
        project: the prepared dbt project.
        plan: the project's partition plan.
        group: the group.
        name: the name of its op.
        translator: the translator of its assets.
        resource_key: the key of the `DbtResource`.
        dbt_flags: flags that every `dbt build` gets.
        partitions_per_run: the most partitions of one run of a backfill; all of them where None.
    """

    project: DbtProject
    plan: PartitionPlan
    group: PartitionGroup
    name: str
    translator: PartitionedDbtTranslator
    resource_key: str
    dbt_flags: Sequence[str]
    partitions_per_run: int | None = None

    @property
    def pool(self) -> str | None:
        """Return the pool of its runs."""
        return write_pool(self.project, self.plan, self.group.name)

    @property
    def several_writers(self) -> bool:
        """Return whether the warehouse takes several writers at once, as all but a DuckDB file do."""
        of_duckdb = self.plan.manifest["metadata"].get("adapter_type") == "duckdb"
        return not of_duckdb or is_ducklake(self.project, self.plan.manifest)

    def column_lineages(self, instance: DagsterInstance) -> ColumnLineages:
        """Return the column lineage of its models."""
        return ColumnLineages(self.plan, self.translator, self.project, instance)

    def arguments(self, window: Window | None) -> Sequence[str]:
        """Return dbt's command for a window of partitions, or for a group without partitions."""
        flags = ["--vars", json.dumps(window.vars()), *window.event_time_flags()] if window else []
        return ["build", *flags, *self.dbt_flags]

    def partition_rows(self, keys: Sequence[str]) -> PartitionRows | None:
        """Return what counts the rows of partitions; None in a group without."""
        return PartitionRows(self.group.partitions_def, keys) if self.group.partitions_def else None

    def rows_of(
        self, event: Output[Any] | AssetMaterialization, counted: PartitionRows | None, invocation: DbtInvocation
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the metadata that says how many rows each partition of a model has; none where it is not to be told.

        Args:
            event: what was built.
            counted: what counts; None in a group without partitions.
            invocation: the dbt that built it.
        """
        if counted is None or invocation.adapter is None:
            return {}
        props = self.plan.manifest["nodes"][str(event.metadata["unique_id"].value)]
        rows = counted.of(invocation.adapter, props) or {}
        return {key: {PARTITION_ROWS: count} for key, count in rows.items()}

    def assets(self) -> AssetsDefinition:
        """Return the group's `@dbt_assets`."""

        @dbt_assets(
            manifest=self.plan.manifest,
            project=self.project,
            select=self.group.select,
            name=self.name,
            partitions_def=self.group.partitions_def,
            dagster_dbt_translator=self.translator,
            required_resource_keys={self.resource_key},
            pool=self.pool,
            backfill_policy=BackfillPolicy.multi_run(self.partitions_per_run) if self.partitions_per_run else None,
        )
        def build(context: AssetExecutionContext) -> Iterator[Any]:
            dbt: DbtResource = getattr(context.resources, self.resource_key)
            window = Window.from_context(context)
            arguments = self.arguments(window)
            read = read_up_to(context.instance)
            invocation = dbt.cli(arguments, context=context)
            lineages = self.column_lineages(context.instance)
            counted = self.partition_rows(context.partition_keys) if window else None
            with retried_conflicts(context.op_execution_context, several_writers=self.several_writers):
                for event in invocation.stream().fetch_row_counts().fetch_column_metadata(with_column_lineage=False):
                    if window and not window.by_date:
                        _refuse_date_of_hours(event, self.plan.manifest)
                    known = lineages.added_to(event, invocation)
                    if isinstance(known, Output):
                        key = context.asset_key_for_output(known.output_name)
                        add_partition_metadata(context, key, self.rows_of(known, counted, invocation))
                        known = _tagged(known, read)
                    yield known
            invocation.close()

        return build


def full_refresh_job(build: GroupBuild) -> JobDefinition:
    """Return the job `<group>__full_refresh`: one run of `dbt build --full-refresh` over all partitions there are.

    It is not a run of partitions, which a user would have to pick, and of which one too few would lose its rows: the
    table is made again from the first partition to the last. Each partition of each model is recorded.
    """
    partitions_def = build.group.partitions_def

    @op(name=f"{build.name}{FULL_REFRESH}_op", required_resource_keys={build.resource_key}, pool=build.pool, out={})
    def refresh(context: OpExecutionContext) -> Iterator[Any]:
        keys: Sequence[str | None] = [None]
        window = None
        if partitions_def is not None:
            keys = partitions_def.get_partition_keys()
            if not keys:
                context.log.info("there is no partition yet")
                return
            first, last = (partitions_def.time_window_for_partition_key(str(key)) for key in (keys[0], keys[-1]))
            window = Window(first.start, last.end, by_date=is_by_date(partitions_def))
        dbt: DbtResource = getattr(context.resources, build.resource_key)
        read = read_up_to(context.instance)
        invocation = dbt.cli(
            [*build.arguments(window), "--full-refresh"],
            context=context,
            manifest=build.plan.manifest,
            dagster_dbt_translator=build.translator,
            unique_ids=sorted(build.group.assets | build.group.tests),
        )
        lineages = build.column_lineages(context.instance)
        counted = build.partition_rows([str(key) for key in keys]) if window else None
        with retried_conflicts(context, several_writers=build.several_writers):
            for event in invocation.stream().fetch_row_counts().fetch_column_metadata(with_column_lineage=False):
                known = lineages.added_to(event, invocation)
                if isinstance(known, AssetMaterialization):
                    rows = build.rows_of(known, counted, invocation)
                    yield from in_one_batch(context, [*_of_each_partition(build, known, keys, read, rows)])
                else:
                    # A check's evaluation is taken, and missing in the annotation.
                    context.log_event(cast("Any", event))
        invocation.close()

    @job(name=f"{build.name}{FULL_REFRESH}", executor_def=in_process_executor)
    def full_refresh() -> None:
        refresh()

    return full_refresh


def read_up_to(instance: DagsterInstance) -> Mapping[str, str]:
    """Return the tag that says which materializations a build could have read: those up to now.

    An upstream may be loaded while a build goes on. What the build then records is the newer of the two, and holds the
    older rows; by this tag the sensor that heals sees it.
    """
    return {READ_UP_TO: str(instance.event_log_storage.get_maximum_record_id() or 0)}


def _refuse_date_of_hours(event: object, manifest: Mapping[str, Any]) -> None:
    """Refuse a model that was built by a date where partitions do not begin at midnight: its rows have no hour.

    The macros do so where they replace rows, and where the window is of that column; a first build does neither.

    Raises:
        DbtConfigError: the model's event_time is a date in the warehouse.
    """
    if not isinstance(event, Output) or _SCHEMA not in event.metadata:
        return
    schema = event.metadata[_SCHEMA].value
    props = manifest["nodes"].get(event.metadata["unique_id"].value, {})
    column = str(props.get("config", {}).get("event_time")).lower()
    for each in schema.columns if isinstance(schema, TableSchema) else ():
        if each.name.lower() == column and each.type.upper() == "DATE":
            said = f"{each.name} is a date, and its partitions do not begin at midnight: take a timestamp"
            raise config_error(props, "event_time", said)


def _tagged(output: Output[Any], tags: Mapping[str, str]) -> Output[Any]:
    return Output(
        output.value, output.output_name, output.metadata, output.data_version, tags={**(output.tags or {}), **tags}
    )


def _of_each_partition(
    build: GroupBuild,
    event: AssetMaterialization,
    keys: Sequence[str | None],
    read: Mapping[str, str],
    rows: Mapping[str, Mapping[str, Any]],
) -> Iterator[AssetMaterialization]:
    unique_id = str(event.metadata["unique_id"].value)
    version = build.translator.get_asset_spec(build.plan.manifest, unique_id, build.project).code_version
    tags = {**read, **({_CODE_VERSION_TAG: version} if version else {})}
    for key in keys:
        metadata = {**event.metadata, **rows.get(str(key), {})}
        yield AssetMaterialization(event.asset_key, metadata=metadata, partition=key, tags=tags)

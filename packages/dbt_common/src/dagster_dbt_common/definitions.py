"""`dbt_definitions(project_dir)`: a whole dbt project as Dagster definitions."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Definitions, in_process_executor
from dagster_dbt import DbtProject, dbt_assets
from dagster_dbt.dbt_manifest import validate_manifest

from dagster_dbt_common.engine import DbtResource
from dagster_dbt_common.project import prepared_project
from dagster_dbt_common.selectors import PartitionGroup, PartitionPlan, plan_partitions
from dagster_dbt_common.translator import PartitionedDbtTranslator
from dagster_dbt_common.window import Window


def dbt_definitions(
    project_dir: Path | str,
    *,
    target: str | None = None,
    profile: str | None = None,
    name: str | None = None,
    translator: type[PartitionedDbtTranslator] = PartitionedDbtTranslator,
    dbt_flags: Sequence[str] = (),
) -> Definitions:
    """Return the assets, checks and resource of a dbt project, partitioned by the project's own config.

    Models, seeds and snapshots without partitions are one `@dbt_assets`, and each distinct partitions definition is
    another. A run of partitions is one `dbt build` over their window: as the variables `min_date` and `max_date`, and
    for microbatch models as dbt's event-time flags.

    Args:
        project_dir: the folder of `dbt_project.yml`.
        target: a target other than the profile's default.
        profile: a profile other than the project's.
        name: the name of the unpartitioned group's op and the prefix of the others'; `dbt_<project>` by default.
        translator: a subclass that says what this project's specs are.
        dbt_flags: flags that every `dbt build` gets, such as `["--fail-fast"]`.

    Raises:
        DbtConfigError: the project can not be parsed, or a model's partition config can not be run.
        StaleManifestError: a packaged project's manifest does not fit it.
    """
    project = prepared_project(project_dir, profile=profile, target=target)
    plan = plan_partitions(validate_manifest(project.manifest_path))
    prefix = name or f"dbt_{project.name}"
    return Definitions(
        assets=[
            _group_assets(project, plan, group, prefix=prefix, translator=translator(plan, group), dbt_flags=dbt_flags)
            for group in plan.groups
        ],
        resources={"dbt": DbtResource.of(project)},
        executor=in_process_executor,
    )


def _group_assets(
    project: DbtProject,
    plan: PartitionPlan,
    group: PartitionGroup,
    *,
    prefix: str,
    translator: PartitionedDbtTranslator,
    dbt_flags: Sequence[str],
) -> AssetsDefinition:
    adapter_type = plan.manifest["metadata"].get("adapter_type")

    @dbt_assets(
        manifest=plan.manifest,
        project=project,
        select=group.select,
        name=f"{prefix}_{group.name}" if group.is_partitioned else prefix,
        partitions_def=group.partitions_def,
        dagster_dbt_translator=translator,
        # A DuckDB file has one writer: runs that came together wait for a slot instead of failing for the lock.
        pool=f"duckdb_{project.name}" if adapter_type == "duckdb" else None,
    )
    def build(context: AssetExecutionContext, dbt: DbtResource) -> Iterator[Any]:
        window = Window.from_context(context)
        flags = ["--vars", json.dumps(window.vars()), *window.event_time_flags()] if window else []
        invocation = dbt.cli(["build", *flags, *dbt_flags], context=context)
        yield from invocation.stream().fetch_row_counts().fetch_column_metadata(with_column_lineage=False)

    return build

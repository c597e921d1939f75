"""`dbt_definitions(project_dir)`: a whole dbt project as Dagster definitions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dagster import AssetKey, AutomationCondition, Definitions
from dagster_dbt.dbt_manifest import validate_manifest

from dagster_dbt_common.assets.all_rows import all_rows_definitions
from dagster_dbt_common.assets.freshness import freshness_definitions
from dagster_dbt_common.assets.group_build import GroupBuild, full_refresh_job
from dagster_dbt_common.assets.maintenance import maintenance_definitions
from dagster_dbt_common.assets.sources import source_specs
from dagster_dbt_common.assets.stored_rows import stored_rows_definitions
from dagster_dbt_common.assets.translator import PartitionedDbtTranslator
from dagster_dbt_common.automation.sensors import automation_sensors
from dagster_dbt_common.engine.resource import DbtResourceOfRuns
from dagster_dbt_common.errors import DbtConfigError
from dagster_dbt_common.partitions.groups import plan_partitions
from dagster_dbt_common.project.code_version import project_variables
from dagster_dbt_common.project.collector import long_lived_objects
from dagster_dbt_common.project.duckdb_extensions import install_packaged_extensions
from dagster_dbt_common.project.duckdb_file import DUCKDB_FILE, duckdb_file, is_ducklake
from dagster_dbt_common.project.prepared import prepared_project


def dbt_definitions(
    project_dir: Path | str,
    *,
    target: str | None = None,
    profile: str | None = None,
    name: str | None = None,
    translator: type[PartitionedDbtTranslator] = PartitionedDbtTranslator,
    automation: str | AutomationCondition[AssetKey] | None = None,
    dbt_flags: Sequence[str] = (),
    partitions_per_run: int | None = None,
    test_all_rows: str | None = None,
    ducklake_keep_days: int | None = None,
) -> Definitions:
    """Return the assets, checks, jobs and resource of a dbt project, partitioned by the project's own config.

    Models, seeds and snapshots without partitions are one `@dbt_assets`, and each distinct partitions definition is
    another. A run of partitions is one `dbt build` over their window: as the variables `min_date` and `max_date`, and
    for microbatch models as dbt's event-time flags. Each group has a job `<group>__full_refresh`. A run of partitions
    tests its own window; the job `<name>__all_rows` tests all rows, and `<name>__stored_rows` compares the rows of each
    partition with what its build recorded.

    Args:
        project_dir: the folder of `dbt_project.yml`.
        target: a target other than the profile's default.
        profile: a profile other than the project's.
        name: the name of the unpartitioned group, of its op and of the dbt resource, and the prefix of the other
            groups'; `dbt_<project>` by default.
        translator: a subclass that says what this project's specs are.
        automation: when what has no `meta.dagster.automation` of its own follows its upstreams: `eager`, `none`, or
            `cron '0 6 * * *'` with an IANA time zone behind it where it is not UTC; or a condition of your own, for
            models. Two sensors then evaluate the conditions and heal what they miss; both run unless somebody stops
            them.
        dbt_flags: flags that every `dbt build` gets, such as `["--fail-fast"]`.
        partitions_per_run: the most partitions of one run of a backfill; all of them by default. Each dbt project after
            the first one needs a number of its own, more than it has partitions: Dagster 1.13 puts assets of two
            locations into one run where their partitions and their backfill policies are equal, and cannot launch it.
        test_all_rows: a cron schedule in UTC on which these two jobs run; by default they run when somebody runs them.
        ducklake_keep_days: where the target is a DuckLake, a job `<name>__maintenance` merges its small files each day,
            and removes what is older than so many days; one of the projects that write there should have it. None for
            no such job.

    Raises:
        DbtConfigError: the project cannot be parsed, a model's config under `meta.dagster` cannot be run, or an
            argument is out of its range.
        StaleManifestError: a packaged project's manifest does not fit it.
    """
    for argument, value in (("partitions_per_run", partitions_per_run), ("ducklake_keep_days", ducklake_keep_days)):
        if value is not None and value < 1:
            raise DbtConfigError(f"dbt_definitions({argument}={value}): give a number from 1, or None")
    with long_lived_objects():
        project = prepared_project(project_dir, profile=profile, target=target)
        plan = plan_partitions(validate_manifest(project.manifest_path))
        install_packaged_extensions(project, plan.manifest)
        plan = replace(plan, variables=project_variables(project.project_dir, dbt_flags))
        if file := duckdb_file(project, plan.manifest):
            plan = replace(plan, metadata={DUCKDB_FILE: str(file)})
        prefix = name or f"dbt_{project.name}"
        builds = []
        for group in plan.groups:
            build = GroupBuild(
                project=project,
                plan=plan,
                group=group,
                name=f"{prefix}_{group.name}" if group.is_partitioned else prefix,
                translator=translator(plan, group, automation=automation),
                resource_key=prefix,
                dbt_flags=dbt_flags,
                partitions_per_run=partitions_per_run,
            )
            builds.append(build)
        assets = [build.assets() for build in builds]
        defs = Definitions(
            assets=[*assets, *source_specs(project, plan, translator)],
            jobs=[full_refresh_job(build) for build in builds],
            sensors=automation_sensors(
                prefix,
                assets,
                translator(plan, plan.groups[0], automation=automation).followers() if plan.groups else (),
            ),
            resources={prefix: DbtResourceOfRuns.of(project)},
        )
        return Definitions.merge(
            defs,
            freshness_definitions(project, plan, translator, name=prefix),
            all_rows_definitions(prefix, builds, test_all_rows),
            stored_rows_definitions(prefix, builds, test_all_rows),
            maintenance_definitions(prefix, ducklake_keep_days)
            if ducklake_keep_days and is_ducklake(project, plan.manifest)
            else Definitions(),
        )

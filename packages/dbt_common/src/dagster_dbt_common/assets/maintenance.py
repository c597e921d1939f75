"""A DuckLake's upkeep, as a job with a schedule: each build leaves files and a snapshot, which nobody else removes."""

import json

from dagster import (
    DefaultScheduleStatus,
    Definitions,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from dagster_dbt_common.assets.conflicts import retried_conflicts
from dagster_dbt_common.engine.resource import DbtResource  # noqa: TC001 - the module evaluates its annotations

MAINTENANCE = "__maintenance"
"""The end of the name of the job and its schedule."""
_DAILY = "30 2 * * *"


def maintenance_definitions(name: str, keep_days: int) -> Definitions:
    """Return the job `<name>__maintenance`, and its schedule, each day at 02:30 UTC, which is on from the start.

    It is the macro `maintain_ducklake`, which `dbt run-operation` calls by hand, and is of the whole lake: one of the
    projects that write there has it.

    Args:
        name: the prefix of the names, the key of the `DbtResource`, and that of the job's pool.
        keep_days: how many days back the lake can be read as it was; 1 at least.
    """

    @op(name=f"{name}{MAINTENANCE}_op", required_resource_keys={name}, pool=f"{name}{MAINTENANCE}")
    def maintain(context: OpExecutionContext) -> None:
        dbt: DbtResource = getattr(context.resources, name)
        arguments = json.dumps({"keep_days": keep_days})
        with retried_conflicts(context):
            dbt.cli(["run-operation", "maintain_ducklake", "--args", arguments]).wait()

    @job(
        name=f"{name}{MAINTENANCE}",
        executor_def=in_process_executor,
        description="Merges small files of the DuckLake, and removes what is older than its snapshots.",
    )
    def maintenance() -> None:
        maintain()

    schedule = ScheduleDefinition(
        name=maintenance.name, job=maintenance, cron_schedule=_DAILY, default_status=DefaultScheduleStatus.RUNNING
    )
    return Definitions(jobs=[maintenance], schedules=[schedule])

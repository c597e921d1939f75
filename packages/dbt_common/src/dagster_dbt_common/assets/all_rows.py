"""The tests of the models with partitions over all of their rows, as a job with a schedule.

In a run of partitions a test with `where: __window__` or `__keys_in_window__`, or with `in_window_or_all`, looks at the
run's window. What somebody has changed in other partitions, by hand or by another tool, is found here.
"""

from collections.abc import Sequence
from typing import Any, cast

from dagster import (
    DefaultScheduleStatus,
    Definitions,
    JobDefinition,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from dagster_dbt_common.assets.group_build import GroupBuild, write_pool
from dagster_dbt_common.engine.resource import DbtResource  # noqa: TC001 - as in group_build

ALL_ROWS = "__all_rows"
"""The end of the name of the job and its schedule."""


def all_rows_definitions(name: str, builds: Sequence[GroupBuild], cron: str | None) -> Definitions:
    """Return the job `<name>__all_rows` over the groups that have partitions, and its schedule where one is given.

    Args:
        name: the prefix of the names, and the key of the `DbtResource`.
        builds: the project's groups.
        cron: when the schedule ticks, in UTC; it is on from the start.
    """
    tested = [build for build in builds if build.group.is_partitioned and build.group.tests]
    if not tested:
        return Definitions()
    test_all = _job(name, tested)
    if cron is None:
        return Definitions(jobs=[test_all])
    schedule = ScheduleDefinition(
        name=test_all.name, job=test_all, cron_schedule=cron, default_status=DefaultScheduleStatus.RUNNING
    )
    return Definitions(jobs=[test_all], schedules=[schedule])


def _job(name: str, builds: Sequence[GroupBuild]) -> JobDefinition:
    @op(name=f"{name}{ALL_ROWS}_op", required_resource_keys={name}, pool=write_pool(builds[0].project, builds[0].plan))
    def test_all_rows(context: OpExecutionContext) -> None:
        dbt: DbtResource = getattr(context.resources, name)
        errors = []
        for build in builds:
            invocation = dbt.cli(
                ["test", *build.dbt_flags],
                context=context,
                manifest=build.plan.manifest,
                dagster_dbt_translator=build.translator,
                unique_ids=sorted(build.group.tests),
                raise_on_error=False,
            )
            for event in invocation.stream():
                context.log_event(cast("Any", event))  # a check's evaluation is taken, and missing in the annotation
            invocation.close()
            if error := invocation.get_error():
                errors.append(error)
        if errors:  # of the first group that failed, once all have been tested
            raise errors[0]

    @job(
        name=f"{name}{ALL_ROWS}",
        executor_def=in_process_executor,
        description="Tests all rows of the models with partitions, whose runs test their own windows.",
    )
    def all_rows() -> None:
        test_all_rows()

    return all_rows

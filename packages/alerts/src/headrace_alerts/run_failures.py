"""The sensor that tells of failed runs: one message for each run and owner, and none for a run that is tried again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dagster import DagsterEventType, RunsFilter

from headrace_alerts.outbox import Message
from headrace_alerts.run_history import (
    REPEATS,
    Retry,
    attempts,
    check_results,
    failed_assets,
    partitions_of,
    reason_of,
    retry_of,
)
from headrace_alerts.sensor import Memory, alert_sensor
from headrace_alerts.wording import by_route, check_line, listed, location_of, run_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dagster import DagsterInstance, DagsterRun, DefaultSensorStatus, SensorDefinition, SensorEvaluationContext

    from headrace_alerts.destinations import Destinations

_PATIENCE = 300.0  # Seconds in which Dagster's daemon, which looks each five, has started a retry.


def run_failure_sensor(
    *, severities: Collection[str], interval: int, default_status: DefaultSensorStatus
) -> SensorDefinition:
    """Return the sensor `alert_run_failures`.

    A run that Dagster tries again (`run_retries`) is not told; its last attempt is, with the number of attempts. A run
    whose retry does not come within five minutes, as when its backfill was canceled, is told then.

    The message has the checks that failed in the run, so that a blocking check that fails its run is told once.

    Args:
        severities: of the checks that it names.
        interval: the least number of seconds between two ticks.
        default_status: whether it is on from the start.
    """

    def read(
        context: SensorEvaluationContext, ended: Sequence[DagsterRun], memory: Memory, destinations: Destinations
    ) -> Sequence[Message]:
        return [
            message
            for run, is_overdue in _due(context.instance, ended, memory, time.time())
            for message in _messages(context, run, destinations, severities, is_overdue=is_overdue)
        ]

    return alert_sensor(
        "alert_run_failures",
        ends=[DagsterEventType.RUN_FAILURE],
        read=read,
        description="Alerts the owners of the assets of a failed run, once no retry is to come.",
        interval=interval,
        default_status=default_status,
    )


def _due(
    instance: DagsterInstance, ended: Sequence[DagsterRun], memory: Memory, now: float
) -> Sequence[tuple[DagsterRun, bool]]:
    """Return the runs to tell now, and of each whether its retry did not come; remember those that may be retried."""
    waiting: dict[str, float] = memory.get("waiting", {})
    again = instance.get_run_records(RunsFilter(run_ids=list(waiting))) if waiting else []
    due = []
    still: dict[str, float] = {}
    for run in [*(record.dagster_run for record in again), *ended]:
        if REPEATS in run.tags:
            continue
        since = min(waiting.get(run.run_id, now), now)
        match retry_of(instance, run):
            case Retry.NONE:
                due.append((run, False))
            case Retry.EXPECTED if now - since >= _PATIENCE:
                due.append((run, True))
            case Retry.EXPECTED:
                still[run.run_id] = since
            case Retry.STARTED:
                pass
    memory["waiting"] = still
    return due


def _messages(
    context: SensorEvaluationContext,
    run: DagsterRun,
    destinations: Destinations,
    severities: Collection[str],
    *,
    is_overdue: bool,
) -> Sequence[Message]:
    tried = attempts(context.instance, run)
    results = check_results(context.instance, tried, severities).values()
    checks = [check for check in results if check]
    failed = failed_assets(context.instance, run, checks)
    routes = by_route(context, destinations, {*failed, *(check.key.asset_key for check in checks)})
    if not routes and not failed and not checks:  # A job without assets is nobody's.
        routes = dict.fromkeys(destinations.routes(()), ())
    reason = reason_of(context.instance, run)
    messages = []
    for route, keys in routes.items():
        # Of assets that were made and are here for their checks alone, the lines of the checks speak.
        named = [key.to_user_string() for key in keys if key in failed] or [key.to_user_string() for key in keys]
        assets = listed(named) or f"job {run.job_name}"
        partitions = partitions_of(run)
        lines = [
            f"{assets}: {partitions}" if partitions else assets,
            reason,
            *(check_line(check) for check in checks if check.key.asset_key in keys),
            *([f"tried {len(tried)} times"] if len(tried) > 1 else []),
            *(["Dagster was to retry it, and did not within five minutes"] if is_overdue else []),
            run_line(run),
        ]
        messages.append(Message(route, f"{location_of(context)}run of {assets} failed", "\n".join(lines)))
    return messages

"""The sensor that tells of failed checks: one message for each owner and tick, of what has failed since."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from dagster import DagsterEventType, DagsterRunStatus

from headrace_alerts.outbox import Message
from headrace_alerts.run_history import Retry, attempts, check_results, retry_of
from headrace_alerts.sensor import Memory, alert_sensor
from headrace_alerts.wording import by_route, check_line, listed, location_of, run_line

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dagster import DagsterInstance, DagsterRun, DefaultSensorStatus, SensorDefinition, SensorEvaluationContext

    from headrace_alerts.destinations import Destinations
    from headrace_alerts.run_history import FailedCheck


def check_failure_sensor(
    *, severities: Collection[str], interval: int, default_status: DefaultSensorStatus
) -> SensorDefinition:
    """Return the sensor `alert_check_failures`.

    A check is told when its run has ended, so of the checks that this location runs, on whosever asset; what was
    reported without a run is not seen. A check that failed in a failed run is in the message of the run, and not in one
    of this sensor's.

    A failure is told when it is new: the check fails on partitions (or, without any, at all) on which it passed before
    or never was. While it fails there again and again it is the same failure. A WARN that becomes an ERROR is new.

    Args:
        severities: of the checks that are told, `ERROR` and maybe `WARN`.
        interval: the least number of seconds between two ticks.
        default_status: whether it is on from the start.
    """

    def read(
        context: SensorEvaluationContext, ended: Sequence[DagsterRun], memory: Memory, destinations: Destinations
    ) -> Sequence[Message]:
        failing: dict[str, str] = memory.setdefault("failing", {})
        news = [check for run in ended for check in _news(context.instance, run, failing, severities)]
        return _messages(context, news, destinations)

    return alert_sensor(
        "alert_check_failures",
        ends=[DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_CANCELED, DagsterEventType.RUN_FAILURE],
        read=read,
        description="Alerts the owners of the checked assets when a check begins to fail.",
        interval=interval,
        default_status=default_status,
    )


def _news(
    instance: DagsterInstance, run: DagsterRun, failing: dict[str, str], severities: Collection[str]
) -> Sequence[FailedCheck]:
    """Return the failures that a run has found first; remember what fails now."""
    if retry_of(instance, run) != Retry.NONE:
        return []  # The last attempt has the results of all.
    news = []
    for name, check in check_results(instance, attempts(instance, run), severities).items():
        if check is None:
            failing.pop(name, None)
        elif failing.get(name) not in (check.severity, "ERROR"):
            failing[name] = check.severity
            if run.status != DagsterRunStatus.FAILURE:
                news.append(check)
    return news


def _messages(
    context: SensorEvaluationContext, news: Sequence[FailedCheck], destinations: Destinations
) -> Sequence[Message]:
    by_run: Mapping[str, list[FailedCheck]]
    messages = []
    for route, keys in by_route(context, destinations, {check.key.asset_key for check in news}).items():
        own = [check for check in news if check.key.asset_key in keys]
        by_run = defaultdict(list)
        for check in own:
            by_run[check.run_id].append(check)
        blocks = [
            "\n".join([listed([check_line(check) for check in checks], "\n"), run_line(run_id)])
            for run_id, checks in by_run.items()
        ]
        what = f"check {own[0].key.name} of {listed([key.to_user_string() for key in keys])}"
        title = what if len(own) == 1 else f"{len(own)} checks of {listed([key.to_user_string() for key in keys])}"
        messages.append(Message(route, f"{location_of(context)}{title} failed", listed(blocks, "\n\n")))
    return messages

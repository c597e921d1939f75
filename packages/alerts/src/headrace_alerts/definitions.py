"""`alert_definitions()`: the alert sensors of a code location."""

from dagster import DefaultSensorStatus, Definitions

from headrace_alerts.check_failures import check_failure_sensor
from headrace_alerts.destinations import Destinations
from headrace_alerts.run_failures import run_failure_sensor


def alert_definitions(
    *,
    warnings: bool = False,
    interval: int = 30,
    default_status: DefaultSensorStatus = DefaultSensorStatus.RUNNING,
) -> Definitions:
    """Return the sensors `alert_run_failures` and `alert_check_failures`, of the code location that includes them.

    They tell the owners of assets, by `AssetSpec.owners`, at the destinations that `HEADRACE_ALERTS` names when they
    tick. Where it names none, nothing is sent, and what failed meanwhile is not sent later.

    Each message goes once to each destination, and stays in the sensor's cursor until it has arrived; it goes twice
    only where the daemon dies after the sending and before it has stored the cursor.

    Args:
        warnings: whether checks that fail with severity WARN are told too.
        interval: the least number of seconds between two ticks.
        default_status: whether the sensors are on from the start: on, since alerts that somebody has to switch on are
            missing when they are needed, and a tick without failures is two or three small queries.

    Raises:
        AlertSettingError: `HEADRACE_ALERTS` is a text that is unusable, or `HEADRACE_URL` is.
    """
    Destinations.check()
    severities = ("ERROR", "WARN") if warnings else ("ERROR",)
    return Definitions(
        sensors=[
            run_failure_sensor(severities=severities, interval=interval, default_status=default_status),
            check_failure_sensor(severities=severities, interval=interval, default_status=default_status),
        ]
    )

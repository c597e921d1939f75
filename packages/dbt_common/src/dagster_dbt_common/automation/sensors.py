"""The sensors by which a project's assets follow their upstreams by themselves."""

from collections.abc import Sequence

from dagster import (
    AssetsDefinition,
    AssetSelection,
    AutomationConditionSensorDefinition,
    DefaultSensorStatus,
    SensorDefinition,
)

from dagster_dbt_common.automation.reconcile import Follower
from dagster_dbt_common.automation.reconcile_sensor import finer_sensor, reconcile_sensor

SOONEST, _LATEST = 3, 30
"""Dagster's daemon looks at its sensors each 5 seconds: one that says 5 is looked at every second time, as a rule."""

_ASSETS_A_SECOND = 10
"""An evaluation takes 12 ms an asset: at this pace it takes an eighth of the daemon's time."""


def automation_sensors(
    name: str, assets: Sequence[AssetsDefinition], followers: Sequence[Follower]
) -> Sequence[SensorDefinition]:
    """Return the sensors `<name>__automation` of the assets that have a condition, `__reconcile`, and `__finer`.

    Without them Dagster's own sensor would evaluate the conditions, which is off until somebody turns it on.

    Args:
        name: the name of the dbt resource.
        assets: the project's assets.
        followers: those of them that the second sensor heals; a condition of a user's own is his own to heal.
    """
    keys = [spec.key for each in assets for spec in each.specs if spec.automation_condition is not None]
    if not keys and not followers:
        return []
    sensors: list[SensorDefinition] = []
    if keys:
        conditions = AutomationConditionSensorDefinition(
            name=f"{name}__automation",
            target=AssetSelection.assets(*keys),
            minimum_interval_seconds=interval_for(len(keys)),
            default_status=DefaultSensorStatus.RUNNING,
        )
        sensors.append(conditions)
    if followers:
        sensors.append(reconcile_sensor(f"{name}__reconcile", followers))
    if any(follower.is_finer for follower in followers):
        sensors.append(finer_sensor(f"{name}__finer", followers, SOONEST))
    return sensors


def interval_for(assets: int) -> int:
    """Return how often the conditions of so many assets are evaluated, in seconds: each 3, which is at each of the
    daemon's looks, to 30, which is Dagster's."""
    return min(max(SOONEST, assets // _ASSETS_A_SECOND), _LATEST)

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
from dagster_dbt_common.automation.reconcile_sensor import reconcile_sensor

_SOONEST, _LATEST = 5, 30
_ASSETS_A_SECOND = 10
"""An evaluation takes 12 ms an asset: at this pace it takes an eighth of the daemon's time."""


def automation_sensors(
    name: str, assets: Sequence[AssetsDefinition], followers: Sequence[Follower]
) -> Sequence[SensorDefinition]:
    """Return the sensor `<name>__automation` of the assets that have a condition, and `<name>__reconcile`.

    Without them Dagster's own sensor would evaluate the conditions, which is off until somebody turns it on.

    Args:
        name: the name of the dbt resource.
        assets: the project's assets.
        followers: those of them that the second sensor heals; a condition of a user's own is his own to heal.
    """
    keys = [spec.key for each in assets for spec in each.specs if spec.automation_condition is not None]
    if not keys:
        return []
    conditions = AutomationConditionSensorDefinition(
        name=f"{name}__automation",
        target=AssetSelection.assets(*keys),
        minimum_interval_seconds=interval_for(len(keys)),
        default_status=DefaultSensorStatus.RUNNING,
    )
    return [conditions, *([reconcile_sensor(f"{name}__reconcile", followers)] if followers else [])]


def interval_for(assets: int) -> int:
    """Return how often the conditions of so many assets are evaluated, in seconds: each 5 to 30, which is Dagster's."""
    return min(max(_SOONEST, assets // _ASSETS_A_SECOND), _LATEST)

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
        default_status=DefaultSensorStatus.RUNNING,
    )
    return [conditions, *([reconcile_sensor(f"{name}__reconcile", followers)] if followers else [])]

"""How often the sensors look."""

from dagster_dbt_common.automation.sensors import interval_for


def test_the_more_assets_there_are_the_less_often_their_conditions_are_evaluated() -> None:
    assert [interval_for(assets) for assets in (1, 50, 100, 300, 2_000)] == [3, 5, 10, 30, 30]

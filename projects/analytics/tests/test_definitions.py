"""The code location as Dagster loads it, with the dbt project that it claims."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
import yaml

from analytics.definitions import defs

# The first test parses the dbt project, without what an earlier parse has left.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[3]
START = "2024-02-15"


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    folder = tmp_path_factory.mktemp("analytics")
    shutil.copytree(ROOT / "dbt", folder / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEADRACE_DBT_PROJECT", str(folder / "dbt"))
        environment.setenv("HEADRACE_LAKE", str(folder / "lake"))
        environment.setenv("HEADRACE_WAREHOUSE", str(folder / "warehouse.duckdb"))
        environment.setenv("HEADRACE_START", START)
        yield defs()


def test_every_source_is_an_asset_of_another_location_by_its_name(definitions: dg.Definitions) -> None:
    declared = yaml.safe_load((ROOT / "dbt" / "models" / "sources" / "raw.yml").read_text())["sources"]
    graph = definitions.resolve_asset_graph()
    (source,) = declared
    tables = {dg.AssetKey(["raw", table["name"]]) for table in source["tables"]}
    assert source["name"] == "raw"
    assert tables
    assert graph.external_asset_keys == tables


def test_every_model_seed_and_snapshot_is_an_asset_of_its_name(definitions: dg.Definitions) -> None:
    files = [*(ROOT / "dbt" / "models").rglob("*.sql"), *(ROOT / "dbt" / "seeds").rglob("*.csv")]
    snapshots = yaml.safe_load((ROOT / "dbt" / "snapshots" / "product_prices.yml").read_text())["snapshots"]
    names = {file.stem for file in files} | {snapshot["name"] for snapshot in snapshots}
    made = definitions.resolve_asset_graph().materializable_asset_keys
    assert made == {dg.AssetKey(name) for name in names}


def test_a_mart_has_the_partitions_of_its_folder(definitions: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    grains = {
        "daily": dg.DailyPartitionsDefinition("2024-01-01"),
        "microbatch": dg.DailyPartitionsDefinition("2024-01-01"),
        "hourly": dg.HourlyPartitionsDefinition("2024-01-01-00:00"),
        "monthly": dg.MonthlyPartitionsDefinition("2024-01-01"),
    }
    first = {"monthly": date.fromisoformat(START).replace(day=1)}
    for folder in (ROOT / "dbt" / "models" / "marts").iterdir():
        for file in folder.glob("*.sql"):
            partitions = specs[file.stem].partitions_def
            if folder.name in grains:
                assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
                assert partitions.schedule_type is grains[folder.name].schedule_type
                assert partitions.start.date() == first.get(folder.name, date.fromisoformat(START))
            else:
                assert partitions is None


def test_runs_stay_in_their_own_process_and_write_one_file_at_a_time(definitions: dg.Definitions) -> None:
    executor = definitions.executor
    assert isinstance(executor, dg.ExecutorDefinition)
    assert executor.name == dg.in_process_executor.name
    graph = definitions.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        assert graph.get(key).pools == {"duckdb_jaffle_shop"}


def test_models_follow_what_they_read_and_failures_are_told(definitions: dg.Definitions) -> None:
    assert {sensor.name for sensor in definitions.sensors or ()} == {
        "alert_check_failures",
        "alert_run_failures",
        "dbt_analytics__automation",
        "dbt_analytics__finer",
        "dbt_analytics__reconcile",
    }

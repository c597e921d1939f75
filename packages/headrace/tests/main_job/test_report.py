"""What the main job tells of a backfill, page by page of its events."""

import time

import dagster as dg

from headrace.main_job.plan import BuildPlan
from headrace.main_job.report import BACKFILL_TAG, RunReport

HOURS = dg.HourlyPartitionsDefinition("2024-01-01-00:00", end_date="2024-01-22-00:00")
KEYS = HOURS.get_partition_keys()
ROWS = {key: number % 7 for number, key in enumerate(KEYS)}


@dg.asset(partitions_def=HOURS)
def hours(context: dg.AssetExecutionContext) -> None:
    time.sleep(0.01)
    for key in context.partition_keys:
        context.add_asset_metadata({"dagster/partition_row_count": ROWS[key]}, partition_key=key)


def test_a_run_of_many_partitions_is_read_in_pages_with_its_rows_and_its_time() -> None:
    plan = BuildPlan(partitions={hours.key: KEYS}, ranges={})
    with dg.DagsterInstance.ephemeral() as instance:
        for last in (KEYS[-1], KEYS[9]):  # ten of them again
            keys = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": last}
            assert dg.materialize([hours], instance=instance, tags={**keys, BACKFILL_TAG: "it"}).success
        report = RunReport(instance, "it", plan)
        looks = 1
        while report.update():
            looks += 1
        assert not report.update()
    asset = report.assets[hours.key]
    assert looks > 1
    assert (len(asset.partitions), asset.rows, asset.done) == (len(KEYS), sum(ROWS.values()), True)
    assert asset.seconds > 0

"""Runs in several processes at once, on partitions of tables that no run has made yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

if TYPE_CHECKING:
    from conftest import Minimal

pytestmark = pytest.mark.slow

TABLES = ("events_daily", "large_events", "slow_events")
DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")


@pytest.mark.some_of("what keeps runs apart", 1)
@pytest.mark.parametrize(
    "config",
    [
        pytest.param("", id="the_lock_of_the_file_and_retries"),
        pytest.param("concurrency: {pools: {granularity: op, default_limit: 1}}", id="a_pool_of_one"),
    ],
)
def test_trap_first_partitions_at_once_do_not_overwrite_each_other(minimal: Minimal, config: str) -> None:
    """Each would create the table: https://github.com/dagster-io/dagster/issues/18733."""
    minimal.write_events(
        *[(f"{day}-{hour}", f"{day} {hour}:00:00", "oslo", "100") for day in DAYS for hour in range(5)]
    )
    minimal.run_upstream()
    minimal.write_delay(8_000)  # the first to come is in its transaction when the others want to begin
    with minimal.open_history(config) as history:
        processes = [minimal.start(*TABLES, partition=day) for day in DAYS]
        output = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], output

        runs = history.get_run_records()
        assert len(runs) == len(DAYS)
        assert max(run.start_time or 0 for run in runs) < min(run.end_time or 0 for run in runs), "not at once"
        for table in TABLES:
            found = minimal.rows(f"select id, count(*) from {table} group by id order by id")
            assert found == [(f"{day}-{hour}", 1) for day in DAYS for hour in range(5)], table
            records = history.fetch_materializations(dg.AssetKey(table), limit=10).records
            assert sorted(record.partition_key or "" for record in records) == list(DAYS), table

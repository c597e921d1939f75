"""A process that records a range of hours in one run, with nothing behind them: what Dagster's event log costs."""

import os
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from bench.child import say

STORAGES = {
    "ours": "event_log_storage: {module: headrace.event_log, class: BatchingSqliteEventLogStorage}\n",
    "dagster": "",
}
_HOURS = dg.HourlyPartitionsDefinition("2023-01-01-00:00")


@dg.asset(partitions_def=_HOURS, backfill_policy=dg.BackfillPolicy.single_run())
def hourly() -> dg.MaterializeResult:  # type: ignore[type-arg] # Dagster reads the annotation
    """Record what a model of dbt records."""
    return dg.MaterializeResult(metadata={"dagster/row_count": 400, "unique_id": "model.bench.hourly"})


def main(storage: str, hours: int) -> None:
    """Say the seconds of a run of one hour, and those of a run of so many."""
    keys = _HOURS.get_partition_keys()[:hours]
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        Path(home, "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{STORAGES[storage]}")
        os.environ["DAGSTER_HOME"] = home
        with dg.DagsterInstance.get() as instance:
            for name, last in (("first", keys[0]), ("one", keys[0]), ("range", keys[-1])):
                began = time.perf_counter()
                ends = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": last}
                dg.materialize([hourly], instance=instance, tags=ends)
                say({name: time.perf_counter() - began})
            assert len(instance.get_materialized_partitions(hourly.key)) == hours  # noqa: S101 - else no time counts


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

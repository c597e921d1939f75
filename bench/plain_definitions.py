"""Dagster's own cost: as many assets, checks and partitions as the daily group has, and nothing behind them."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from bench.generate import DAILY, FIRST_DAY

_COLUMNS = dg.TableSchema(columns=[dg.TableColumn(f"column_{number}", "bigint") for number in range(6)])


@dg.multi_asset(
    specs=[dg.AssetSpec(name) for name in DAILY],
    check_specs=[dg.AssetCheckSpec("is_tested", asset=name) for name in DAILY],
    partitions_def=dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat()),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def plain() -> Iterator[Any]:
    """Record each asset and its check, with metadata as those of a dbt model."""
    for name in DAILY:
        metadata: dict[str, Any] = {
            "dagster/row_count": 400,
            "dagster/column_schema": _COLUMNS,
            "unique_id": f"model.bench.{name}",
        }
        yield dg.MaterializeResult(name, metadata=metadata)
        yield dg.AssetCheckResult(passed=True, asset_key=name, check_name="is_tested", metadata={"status": "pass"})


defs = dg.Definitions(assets=[plain], executor=dg.in_process_executor)

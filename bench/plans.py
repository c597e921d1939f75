"""A process that plans years of days, hours and months of which all is fresh, as `headrace run` does."""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import dagster as dg

from bench.child import say
from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.plan import History, plan_build

_FIRST = date(2014, 1, 1)
_DAY = dg.DailyPartitionsDefinition(_FIRST.isoformat())
_HOUR = dg.HourlyPartitionsDefinition(f"{_FIRST}-00:00")
_MONTH = dg.MonthlyPartitionsDefinition(_FIRST.isoformat())
# The shape of the demo: by its name the partitions and what it is made from.
_ASSETS: Mapping[str, tuple[dg.PartitionsDefinition[str] | None, Sequence[str]]] = {
    "raw_orders": (_DAY, []),
    "raw_items": (_DAY, []),
    "stg_orders": (None, ["raw_orders"]),
    "stg_items": (None, ["raw_items"]),
    "order_items": (_DAY, ["stg_orders", "stg_items"]),
    "orders": (_DAY, ["stg_orders", "order_items"]),
    "customer_days": (_DAY, ["orders"]),
    "store_hours": (_HOUR, ["orders"]),
    "store_months": (_MONTH, ["orders"]),
    "customers": (None, ["orders", "customer_days"]),
}


def main(years: int) -> None:
    """Say how many partitions there are, and in how many seconds they are found fresh."""
    last = date(_FIRST.year + years, 1, 1) - timedelta(1)
    nodes, history, storage_id = [], {}, 0
    for name, (partitions, parents) in _ASSETS.items():
        is_view = name.startswith("stg_")
        key, above = dg.AssetKey(name), frozenset(map(dg.AssetKey, parents))
        nodes.append(AssetNode(key, "location", above, partitions, "1", is_virtual=is_view))
        every: list[str | None] = [*partitions.get_partition_keys()] if partitions else [None]
        keys = [each for each in every if each is None or each[:10] <= last.isoformat()]
        ids = {each: storage_id + number for number, each in enumerate(keys, 1)}
        storage_id += len(keys)
        history[key] = History(
            storage_ids=ids,
            code_versions=dict.fromkeys(keys, "1"),
            code_since=storage_id if is_view else None,
        )
    began = time.perf_counter()
    plan = plan_build(nodes, history, {}, _FIRST, last)
    seconds = time.perf_counter() - began
    assert plan.size == 0  # noqa: S101 - else it is not this that was measured
    say({"partitions": storage_id, "seconds": seconds})


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""A year of the public generator's files goes through the main job, and no cent is lost.

Its first 32 days, where `HEADRACE_THOROUGH` is not set: the year takes minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

if TYPE_CHECKING:
    from tests.conftest import OpenShop

# The main job loads a year (HEADRACE_THOROUGH), or two days more than a month, of what the generator makes.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.some_of("proofs at the row of the demo", 1),
    pytest.mark.timeout(1200),
]

FIRST = date(2018, 9, 1)
DAYS = 400 if os.environ.get("HEADRACE_THOROUGH") else 32


def test_a_year_of_jafgen(tmp_path: Path, open_shop: OpenShop) -> None:
    source = tmp_path / "jafgen"
    source.mkdir()
    subprocess.run([Path(sys.executable).parent / "jafgen", "1"], check=True, cwd=source, capture_output=True)
    (source,) = {file.parent for file in source.rglob("raw_orders.csv")}
    shop = open_shop(tmp_path / "shop", FIRST.isoformat())
    shop.demo_data("--jafgen", str(source))
    exported = sorted(file.stem for file in (shop.exports / "orders").iterdir())
    assert 365 <= len(exported) <= 367
    last = min(exported[-1], (FIRST + timedelta(DAYS - 1)).isoformat())
    days = exported.index(last) + 1
    report = shop.run("--to", last)
    assert report["raw/orders"]["partitions"] == report["customer_days"]["partitions"] == days
    assert report["store_hours"]["partitions"] == 24 * days

    with duckdb.connect() as connection:
        connection.execute(f"attach '{shop.warehouse}' as warehouse (read_only)")
        files = {table: f"read_csv('{source}/raw_{table}.csv', sample_size = -1)" for table in ("orders", "items")}
        connection.execute(f"create view orders as from {files['orders']} where ordered_at::date <= '{last}'")
        connection.execute(f"create view items as from {files['items']} where order_id in (select id from orders)")

        def query(sql: str) -> list[tuple[object, ...]]:
            return connection.execute(f"{sql} group by all order by all").fetchall()

        for period, time, orders, cents, mart in (
            ("day", "date_trunc('day', ordered_at)", "count(*)", "order_total_cents", "orders"),
            ("hour", "hour", "sum(orders)", "revenue_cents", "store_hours"),
            ("month", "month", "sum(orders)", "revenue_cents", "store_months"),
        ):
            start = f"date_trunc('{period}', ordered_at)::timestamp"
            expected = query(f"select store_id, {start}, count(*), sum(order_total)::bigint from orders")
            assert len(expected) >= 2
            found = query(
                f"select store_id, {time}::timestamp, {orders}::bigint, sum({cents})::bigint from warehouse.{mart}"
            )
            assert found == expected
        assert query("select count(*), count(distinct item_id) from warehouse.order_items") == query(
            "select count(*), count(distinct id) from items"
        )

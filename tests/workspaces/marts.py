"""Whether the marts of a shop are what its exports say, worked out from the files themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.conftest import Shop

BY = "select {}, {} as period, count(*), sum({})::bigint from {} group by all order by all"
AT = "date_trunc('{}', ordered_at)::timestamp"
MART = "select {}, {}::timestamp, orders, revenue_cents from {} order by all"


def assert_marts_equal_exports(shop: Shop, days: Collection[str] | None = None) -> None:
    """Compare each mart of the demo with the exports, which have orders of these days where they are given."""
    exported = {
        grain: shop.exported(BY.format("store_id", AT.format(grain), "order_total", "orders"))
        for grain in ("day", "hour", "month")
    }
    assert exported["day"]
    if days is not None:
        assert {row[1].date().isoformat() for row in exported["day"]} == set(days)
    assert shop.query(BY.format("store_id", AT.format("day"), "order_total_cents", "orders")) == exported["day"]
    assert shop.query(MART.format("store_id", "hour", "store_hours")) == exported["hour"]
    assert shop.query(MART.format("store_id", "month", "store_months")) == exported["month"]
    assert shop.query(MART.format("customer_id", "ordered_on", "customer_days")) == shop.exported(
        BY.format("customer", AT.format("day"), "order_total", "orders")
    )
    items = "select {}, order_id, count(*) from {} group by all order by all"
    assert shop.query(items.format("item_id", "order_items")) == shop.exported(items.format("id", "items"))
    everything = shop.exported("select sum(order_total)::bigint from orders")
    for mart in ("customers", "locations"):
        assert shop.query(f"select sum(revenue_cents)::bigint from {mart}") == everything
    assert shop.query("select sum(units_sold)::bigint from products") == shop.exported("select count(*) from items")


def assert_target_is_proved(shop: Shop) -> None:
    """Call `headrace engine check`, which builds in each way what equals a full build."""
    proved = shop.call("engine", "check")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    lines = proved.stdout.splitlines()
    assert len(lines) == 24
    assert all(line.endswith(": equal") for line in lines), lines

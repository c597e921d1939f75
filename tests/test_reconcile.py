"""Rows that went away from the warehouse, or came without a record: told and healed by `headrace reconcile`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.conftest import OpenShop, Shop

pytestmark = [
    pytest.mark.slow("two main jobs and three looks at the warehouse, one after another"),
    pytest.mark.timeout(600),
]

FIRST, SECOND = "2024-01-01", "2024-01-02"


def change(shop: Shop, *statements: str) -> None:
    with duckdb.connect(shop.warehouse) as connection:
        for statement in statements:
            connection.execute(statement)


def looked(shop: Shop, *options: str) -> tuple[int, Mapping[str, Any]]:
    """Return the exit code, and what differs by asset."""
    done = shop.call("reconcile", "--format", "json", *options)
    assert done.stderr
    found = {each["key"]: each["partitions"] for each in json.loads(done.stdout)}
    return done.returncode, {key: kinds for key, kinds in found.items() if kinds}


def test_rows_that_went_away_come_back(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = open_shop(tmp_path / "shop", FIRST)
    shop.demo_data("--from", FIRST, "--to", SECOND, "--orders-per-day", "30")
    shop.run()
    before = everything(shop)

    change(
        shop,
        f"delete from orders where order_id = (select min(order_id) from orders where ordered_at::date = '{FIRST}')",
        f"insert into order_items from order_items where ordered_at::date = '{SECOND}'",
        "drop table customer_days",
        "drop table customers",
    )
    differing = {
        "orders": {"fewer": [FIRST]},
        "order_items": {"more": [SECOND]},
        "customer_days": {"gone": [FIRST, SECOND]},
        "customers": {"gone": [None]},
    }
    assert looked(shop) == (1, differing)
    assert looked(shop, "--heal") == (0, differing)
    assert everything(shop) == before


def everything(shop: Shop) -> Mapping[str, Any]:
    """Return all rows of the tables with partitions, and of one that has none."""
    tables = ("order_items", "orders", "customer_days", "store_hours", "store_months", "customers")
    return {table: shop.query(f"from {table} order by all") for table in tables}

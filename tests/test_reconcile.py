"""Rows that went away from the warehouse, or came without a record: told and healed by `headrace reconcile`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import OpenShop, Shop

pytestmark = [
    pytest.mark.slow("two main jobs and three looks at the warehouse, one after another"),
    pytest.mark.timeout(900),
    pytest.mark.some_of("lives of minutes", 1),
]

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
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


def test_a_first_day_that_moves_forward_and_back(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = open_shop(tmp_path / "shop", FIRST)
    shop.demo_data("--from", FIRST, "--to", SECOND, "--orders-per-day", "30")
    shop.run()
    before = everything(shop)
    assert looked(shop) == (0, {})

    later = replace(shop, start=SECOND)
    assert "everything is fresh" in later.call("run").stderr
    told = later.call("reconcile")
    assert told.returncode == 1
    (rows,) = shop.query(f"select count(*) from orders where ordered_at::date = '{FIRST}'")[0]
    mend = "the job dbt_analytics_daily__full_refresh rebuilds it without them"
    assert f"orders: {rows} rows are of no partition: {mend}" in told.stderr.splitlines()
    assert told.stderr.splitlines()[-1].endswith(" have rows of no partition")
    for group in ("daily", "hourly"):
        launched = subprocess.run(
            [BIN / "dg", "launch", "--job", f"dbt_analytics_{group}__full_refresh"],
            check=False,
            cwd=ROOT / "projects/analytics",
            env={**later.environment, **init(later)},
            capture_output=True,
            text=True,
        )
        assert launched.returncode == 0, launched.stderr
    from_nothing = replace(open_shop(tmp_path / "other", SECOND), more={"HEADRACE_EXPORTS": str(shop.exports)})
    from_nothing.run()
    for table in ("order_items", "orders", "store_hours"):
        assert everything(later)[table] == everything(from_nothing)[table]

    shop.run()
    assert everything(shop) == before
    assert looked(shop) == (0, {})


def init(shop: Shop) -> Mapping[str, str]:
    """Return the variables that `headrace init` prints."""
    lines = [line.removeprefix("export ") for line in shop.call("init").stdout.splitlines() if "=" in line]
    return {name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines) if value}


def everything(shop: Shop) -> Mapping[str, Any]:
    """Return all rows of the tables with partitions, and of one that has none."""
    tables = ("order_items", "orders", "customer_days", "store_hours", "store_months", "customers")
    return {table: shop.query(f"from {table} order by all") for table in tables}

"""A failed run of the served workspace, executed again as the UI does it: only what is missing is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from dagster import DagsterEventType, DagsterRunStatus
from served import serving

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from served import Served
    from tests.conftest import OpenShop, Shop

# The first test builds a shop and serves it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DAY = "2024-01-31"
DAILY = ("order_items", "orders", "customer_days")
REEXECUTE = """
mutation($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, open_shop: OpenShop) -> Iterator[Served]:
    shop = open_shop(tmp_path_factory.mktemp("reexecution") / "shop", DAY)
    shop.demo_data("--from", DAY, "--to", DAY, "--orders-per-day", "20")
    with serving(shop) as it:
        yield it


@pytest.fixture
def failed(served: Served) -> str:
    """Run all daily models of a day on which an order has no total, and mend the lake after it: `orders` has failed."""
    file = served.shop.lake / "raw" / "orders" / f"day={DAY}" / "data.parquet"
    good = file.read_bytes()
    with duckdb.connect() as connection:
        connection.execute(f"create table orders as from read_parquet('{file}', hive_partitioning = false)")
        connection.execute("update orders set order_total = null where id = (select min(id) from orders)")
        connection.execute(f"copy orders to '{file}' (format parquet)")
    run_id, status = ended(served, served.launch("analytics", DAILY, {"dagster/partition": DAY}))
    file.write_bytes(good)
    assert status is DagsterRunStatus.FAILURE
    assert built_by(run_id, served.shop) == {"order_items": {DAY}}
    return run_id


def reexecuted(served: Served, run_id: str, strategy: str) -> tuple[str, DagsterRunStatus]:
    """Execute a run again, and return the new run's id and how it ended."""
    params = {"parentRunId": run_id, "strategy": strategy}
    return ended(served, served.ask(REEXECUTE, params=params)["launchRunReexecution"])


def ended(served: Served, launched: Mapping[str, Any]) -> tuple[str, DagsterRunStatus]:
    """Return the id of a run that was launched, and how it ended."""
    assert launched["__typename"] == "LaunchRunSuccess", launched
    ((run_id, status),) = served.ended([launched["run"]["runId"]]).items()
    return run_id, status


def built_by(run_id: str, shop: Shop) -> Mapping[str, Collection[str | None]]:
    """Return what a run built; the daemon may build marts at the same time."""
    found: dict[str, set[str | None]] = {}
    with shop.instance() as instance:
        for record in instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records:
            event = record.event_log_entry.get_dagster_event()
            assert event.asset_key is not None
            found.setdefault(event.asset_key.to_user_string(), set()).add(event.partition)
    return found


def assert_equals_the_exports(shop: Shop) -> None:
    assert shop.query("select count(*), sum(order_total_cents)::bigint from orders") == shop.exported(
        "select count(*), sum(order_total)::bigint from orders"
    )
    assert shop.query("select sum(orders)::bigint from customer_days") == shop.query("select count(*) from orders")
    assert shop.query("select count(*) from order_items") == shop.exported("select count(*) from items")


@pytest.mark.some_of("runs that are executed again", 1)
def test_from_asset_failure_builds_what_failed_and_what_was_skipped(served: Served, failed: str) -> None:
    assert_equals_the_exports(served.shop)  # a failed model leaves the rows of its last build
    again, status = reexecuted(served, failed, "FROM_ASSET_FAILURE")
    assert status is DagsterRunStatus.SUCCESS
    assert built_by(again, served.shop) == {"orders": {DAY}, "customer_days": {DAY}}
    assert_equals_the_exports(served.shop)


@pytest.mark.some_of("runs that are executed again", 1)
def test_from_failure_builds_the_whole_step_again(served: Served, failed: str) -> None:
    """Dagster's older strategy knows steps alone, and the daily models are one: more work, the same rows."""
    again, status = reexecuted(served, failed, "FROM_FAILURE")
    assert status is DagsterRunStatus.SUCCESS
    assert built_by(again, served.shop) == {name: {DAY} for name in DAILY}
    assert_equals_the_exports(served.shop)

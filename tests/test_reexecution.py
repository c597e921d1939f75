"""A failed run of the served workspace, executed again as the UI does it: only what is missing is built."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import requests
from dagster import DagsterEventType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tests.conftest import OpenShop, Shop

# The first test builds a shop and serves it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DAY = "2024-01-31"
DAILY = ("order_items", "orders", "customer_days")
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}

LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
REEXECUTE = """
mutation($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class Served:
    """A shop that is built and served: the webserver, the code servers and the daemon.

    Args:
        shop: the shop.
        url: the webserver's address.
    """

    def __init__(self, shop: Shop, url: str) -> None:
        self.shop = shop
        self._url = url

    def launch(self, assets: Sequence[str]) -> tuple[str, str]:
        """Materialize a day of assets, and return the run's id and how it ended."""
        params = {
            "selector": {
                "repositoryLocationName": "analytics",
                "repositoryName": "__repository__",
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": [name]} for name in assets],
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": DAY}]},
        }
        return self._ended(self._ask(LAUNCH, {"params": params})["launchRun"])

    def reexecute(self, run_id: str, strategy: str) -> tuple[str, str]:
        """Execute a run again, and return the new run's id and how it ended."""
        params = {"parentRunId": run_id, "strategy": strategy}
        return self._ended(self._ask(REEXECUTE, {"params": params})["launchRunReexecution"])

    def _ended(self, answer: Mapping[str, Any]) -> tuple[str, str]:
        assert answer["__typename"] == "LaunchRunSuccess", answer
        run_id = answer["run"]["runId"]
        deadline = time.monotonic() + 300
        while (status := self._ask(STATUS, {"id": run_id})["runOrError"]["status"]) not in ENDED:
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
        return run_id, status

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        response = requests.post(f"{self._url}/graphql", json={"query": query, "variables": variables}, timeout=60)
        answer: dict[str, Any] = response.json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, open_shop: OpenShop) -> Iterator[Served]:
    shop = open_shop(tmp_path_factory.mktemp("reexecution") / "shop", DAY)
    shop.demo_data("--from", DAY, "--to", DAY, "--orders-per-day", "20")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [Path(sys.executable).parent / "headrace", "run", "--serve", "--port", str(port)],
        cwd=Path(__file__).parents[1],
        env=shop.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("serving "):
                break
        else:
            pytest.fail("".join(said))
        yield Served(shop, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def failed(served: Served) -> str:
    """Run all daily models of a day on which an order has no total, and mend the lake after it: `orders` has failed."""
    file = served.shop.lake / "raw" / "orders" / f"day={DAY}" / "data.parquet"
    good = file.read_bytes()
    with duckdb.connect() as connection:
        connection.execute(f"create table orders as from read_parquet('{file}', hive_partitioning = false)")
        connection.execute("update orders set order_total = null where id = (select min(id) from orders)")
        connection.execute(f"copy orders to '{file}' (format parquet)")
    run_id, status = served.launch(DAILY)
    file.write_bytes(good)
    assert status == "FAILURE"
    assert built_by(run_id, served.shop) == {"order_items": {DAY}}
    return run_id


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


def test_from_asset_failure_builds_what_failed_and_what_was_skipped(served: Served, failed: str) -> None:
    assert_equals_the_exports(served.shop)  # a failed model leaves the rows of its last build
    again, status = served.reexecute(failed, "FROM_ASSET_FAILURE")
    assert status == "SUCCESS"
    assert built_by(again, served.shop) == {"orders": {DAY}, "customer_days": {DAY}}
    assert_equals_the_exports(served.shop)


def test_from_failure_builds_the_whole_step_again(served: Served, failed: str) -> None:
    """Dagster's older strategy knows steps alone, and the daily models are one: more work, the same rows."""
    again, status = served.reexecute(failed, "FROM_FAILURE")
    assert status == "SUCCESS"
    assert built_by(again, served.shop) == {name: {DAY} for name in DAILY}
    assert_equals_the_exports(served.shop)

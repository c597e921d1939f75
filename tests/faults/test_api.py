"""What comes in by Dagster's API: many runs at once that want one warehouse, and names that are no names.

A real webserver, its daemon, the code servers and the runs that they start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from dagster import DagsterRunStatus
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from marts import assert_marts_equal_exports
from served import serving

from dagster_dbt_common import MACROS_DIR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from served import Served
    from tests.conftest import OpenShop, Shop

pytestmark = [
    pytest.mark.slow("servers, and two dozen runs one after another"),
    pytest.mark.timeout(900),
]

DAYS = ("2024-01-29", "2024-01-30", "2024-01-31", "2024-02-01")
DAILY = ("order_items", "orders", "customer_days")
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
HOSTILE = (
    "'; drop table orders; --",
    '2024-01-29"; drop table orders; --',
    "2024-01-29' or '1' = '1",
    "{{ 1 / 0 }}",
    "{% raw %}",
    "$(touch taken)",
    "`touch taken`; touch taken | touch taken",
    "../../../taken",
    "/taken",
    "2024-01-29/../../taken",
    "2024-01-29\n2024-01-30",
    "2024-01-29\x00",
    "",
)
LAUNCH = """
mutation Launch($location: String!, $assets: [AssetKeyInput!], $tags: [ExecutionTag!], $config: RunConfigData) {
  launchPipelineExecution(executionParams: {
    selector: {repositoryLocationName: $location, repositoryName: "__repository__", pipelineName: "__ASSET_JOB",
               assetSelection: $assets},
    runConfigData: $config, executionMetadata: {tags: $tags} }) {
      __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


REPORT = """
mutation ($key: AssetKeyInput!, $keys: [String!]) { reportRunlessAssetEvents(eventParams: {
  eventType: ASSET_MATERIALIZATION, assetKey: $key, partitionKeys: $keys }) {
    __typename ... on PythonError { message } } }
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, open_shop: OpenShop) -> Shop:
    shop = open_shop(tmp_path_factory.mktemp("api") / "shop", DAYS[0])
    shop.demo_data("--from", DAYS[0], "--to", DAYS[-1], "--orders-per-day", "40")
    shop.run()
    return shop


def launch(
    served: Served, location: str, assets: Sequence[str], tags: Mapping[str, str], config: object = None
) -> Mapping[str, Any]:
    """Launch a run through the API, and return its answer."""
    answer = served.ask(
        LAUNCH,
        location=location,
        assets=[{"path": asset.split("/")} for asset in assets],
        tags=[{"key": key, "value": value} for key, value in tags.items()],
        config=config or {},
    )
    found: Mapping[str, Any] = answer["launchPipelineExecution"]
    return found


def ended(served: Served, runs: Sequence[str], seconds: float) -> Mapping[str, DagsterRunStatus]:
    """Return how runs ended, once all of them have."""

    def statuses() -> Mapping[str, DagsterRunStatus]:
        return {run: found.status for run in runs if (found := served.instance.get_run_by_id(run))}

    served.wait_until(lambda: all(status.value in ENDED for status in statuses().values()), "all runs", seconds)
    return statuses()


@pytest.mark.some_of("disturbances", 1)
def test_ten_runs_at_once_that_want_the_warehouse(shop: Shop) -> None:
    """Each day twice, as first partitions of tables that are missing, all of them as a range, and what reads them."""
    with duckdb.connect(shop.warehouse) as warehouse:
        for table in DAILY:
            warehouse.execute(f"drop table {table}")
    wanted: list[Mapping[str, str]] = [{"dagster/partition": day} for day in DAYS] * 2
    wanted.append({"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]})
    # Nothing is built by the command: the event log knows nothing of the tables that are gone.
    with serving(shop, "--from", DAYS[-1]) as served:
        answers = [launch(served, "analytics", DAILY, tags) for tags in wanted]
        answers.append(launch(served, "analytics", ["customers"], {}))
        assert [answer["__typename"] for answer in answers] == ["LaunchRunSuccess"] * 10
        found = ended(served, [answer["run"]["runId"] for answer in answers], 600)
    # What reads the tables may come before they are there.
    assert set(list(found.values())[:-1]) == {DagsterRunStatus.SUCCESS}
    shop.run()
    assert_marts_equal_exports(shop, DAYS)


@pytest.mark.some_of("disturbances", 1)
def test_what_is_no_key_reaches_neither_sql_nor_jinja_nor_shell_nor_disk(shop: Shop) -> None:
    """As a partition, a name, run config, an event that somebody reports, the name of a file, and a variable of dbt."""
    shop.run()
    tables = stored(shop)
    for text in HOSTILE:
        if "\0" not in text:
            (shop.exports / "orders" / f"{text.replace('/', '_')}.csv").write_text("id\n1\n")
    files = kept(shop)
    with serving(shop) as served:

        @settings(max_examples=40, deadline=None)
        @given(text=st.sampled_from(HOSTILE) | st.text(max_size=40) | st.text(max_size=20).map(DAYS[0].__add__))
        def assert_refused(text: str) -> None:
            assume(text not in DAYS)
            for location, asset in (("ingest", "raw/orders"), ("analytics", "orders")):
                for tags in (
                    {"dagster/partition": text},
                    {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": text},
                ):
                    assert launch(served, location, [asset], tags)["__typename"] == "PythonError"
            assert launch(served, "analytics", [text], {})["__typename"] == "InvalidSubsetError"
            config = {"ops": {"dbt_analytics_daily": {"config": {text: text}}}}
            answer = launch(served, "analytics", ["orders"], {"dagster/partition": DAYS[0]}, config)
            assert answer["__typename"] == "RunConfigValidationInvalid"

        assert_refused()
        # Dagster takes any text as the partition of an event that is reported.
        for asset in ("orders", "store_hours", "raw/orders"):
            answer = served.ask(REPORT, key={"path": asset.split("/")}, keys=HOSTILE)
            assert answer["reportRunlessAssetEvents"]["__typename"] == "ReportRunlessAssetEventsSuccess"
        reported = time.time()
        served.wait_until(lambda: served.at_rest(reported), "rest", 300)
    assert shop.run() == {}
    for text in HOSTILE[:1] + HOSTILE[3:4]:
        said = by_hand(shop, text)
        assert (said.returncode, "Invalid isoformat string" in said.stdout) == (1, True), said.stdout
    assert kept(shop) == files
    assert stored(shop) == tables


def by_hand(shop: Shop, text: str) -> subprocess.CompletedProcess[str]:
    """Build a model by dbt alone, from a text that should be a date."""
    places = {
        "HEADRACE_WAREHOUSE": str(shop.warehouse),
        "HEADRACE_LAKE": str(shop.lake),
        "DAGSTER_DBT_COMMON_MACROS": str(MACROS_DIR),
    }
    command = (Path(sys.executable).with_name("dbt"), "--quiet", "build", "--select", "orders")
    variables = ("--vars", json.dumps({"min_date": text, "max_date": DAYS[1]}))
    written = ("--target-path", shop.folder / "target", "--log-path", shop.folder / "logs")
    return subprocess.run(
        [*command, *variables, *written],
        cwd=shop.folder / "dbt",
        env=shop.environment | places,
        capture_output=True,
        text=True,
        check=False,
    )


def kept(shop: Shop) -> Collection[Path]:
    """Return the files beside and in a shop, without what Dagster and dbt write of a run."""
    of_runs = {"dagster", "target", "logs", "headrace.log"}
    return {path for path in shop.folder.parent.rglob("*") if not of_runs.intersection(path.parts)}


def stored(shop: Shop) -> object:
    """Return the tables of a shop, with their columns and rows."""
    tables = shop.query("select table_name, column_count from duckdb_tables() order by all")
    return [(name, columns, shop.query(f"select count(*) from {name}")) for name, columns in tables]

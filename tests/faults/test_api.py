"""What comes in by Dagster's API: many runs at once that want one warehouse, and names that are no names.

A real webserver, its daemon, the code servers and the runs that they start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from dagster import DagsterRunStatus
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from marts import assert_marts_equal_exports
from served import serving

from dagster_dbt_common import MACROS_DIR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tests.conftest import OpenShop, Shop

pytestmark = [
    pytest.mark.slow("servers, and two dozen runs one after another"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
DAYS = ("2024-01-29", "2024-01-30", "2024-01-31", "2024-02-01")
DAILY = ("order_items", "orders", "customer_days")
FUTURE, WRITTEN_OTHERWISE = "2099-01-01", "2024-1-30"
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
    # A day of a partition that will be, one written otherwise, and one that no month has.
    FUTURE,
    WRITTEN_OTHERWISE,
    "2024-02-30",
)
# Of a text that is no date, of one that Jinja refuses or reads, and of a day that no month has.
REFUSALS = ("Invalid isoformat string", "division by zero", "Could not render", "day is out of range for month")
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


@pytest.mark.some_of("disturbances", 1)
def test_ten_runs_at_once_that_want_the_warehouse(shop: Shop) -> None:
    """Each day twice, as first partitions of tables that are missing, all of them as a range, and what reads them."""
    wanted: list[Mapping[str, str]] = [{"dagster/partition": day} for day in DAYS] * 2
    wanted.append({"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]})
    began = time.time()
    with serving(shop) as served:
        served.wait_until(lambda: served.at_rest(began), "rest", 300)
        with duckdb.connect(shop.warehouse) as warehouse:
            for table in DAILY:
                warehouse.execute(f"drop table {table}")
        answers = [served.launch("analytics", DAILY, tags) for tags in wanted]
        answers.append(served.launch("analytics", ["customers"], {}))
        assert [answer["__typename"] for answer in answers] == ["LaunchRunSuccess"] * 10
        found = served.ended([answer["run"]["runId"] for answer in answers], 600)
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

        @settings(max_examples=40)
        @given(text=st.sampled_from(HOSTILE) | st.text(max_size=40) | st.text(max_size=20).map(DAYS[0].__add__))
        def assert_refused(text: str) -> None:
            assume(text not in {*DAYS, WRITTEN_OTHERWISE})  # which Dagster takes for the day
            for location, asset in (("ingest", "raw/orders"), ("analytics", "orders")):
                for tags in (
                    {"dagster/partition": text},
                    {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": text},
                ):
                    answer = served.launch(location, [asset], tags)
                    if text == FUTURE and answer["__typename"] == "LaunchRunSuccess":
                        launched.append(answer["run"]["runId"])
                    else:
                        assert answer["__typename"] == "PythonError"
            assert served.launch("analytics", [text], {})["__typename"] == "InvalidSubsetError"
            config = {"ops": {"dbt_analytics_daily": {"config": {text: text}}}}
            answer = served.launch("analytics", ["orders"], {"dagster/partition": DAYS[0]}, config)
            assert answer["__typename"] == "RunConfigValidationInvalid"

        launched: list[str] = []
        assert_refused()
        assert set(served.ended(launched, 300).values()) == {DagsterRunStatus.FAILURE}
        # Dagster takes any text as the partition of an event that is reported.
        for asset in ("orders", "store_hours", "raw/orders"):
            answer = served.ask(REPORT, key={"path": asset.split("/")}, keys=HOSTILE)
            assert answer["reportRunlessAssetEvents"]["__typename"] == "ReportRunlessAssetEventsSuccess"
        reported = time.time()
        served.wait_until(lambda: served.at_rest(reported), "rest", 300)
    assert shop.run() == {}
    # Jinja in a variable is rendered by dbt's own `var`, for whoever may call dbt: what comes out has to be a date too.
    for text in (text for text in HOSTILE if "\0" not in text and text and text not in {FUTURE, WRITTEN_OTHERWISE}):
        said = by_hand(shop, text)
        assert (said.returncode, any(words in said.stdout for words in REFUSALS)) == (1, True), said.stdout
    assert kept(shop) == files
    # Where a command of that text would have written it.
    assert not any(Path(folder, "taken").exists() for folder in ("/", ROOT, Path.cwd(), shop.folder))
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
    tables = shop.query("select table_name from duckdb_tables() order by all")
    columns = "select table_name, column_name, data_type from duckdb_columns() order by all"
    return shop.query(columns), [shop.query(f"select * from {name} order by all") for (name,) in tables]

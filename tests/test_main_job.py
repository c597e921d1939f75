"""The main job end to end: real processes, real files, and sums that an independent query of the exports confirms."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from dagster import AssetKey, TableColumnLineageMetadataValue
from marts import assert_marts_equal_exports

if TYPE_CHECKING:
    from tests.conftest import OpenShop, Shop

pytestmark = [pytest.mark.slow("ten calls of `headrace run`, each with servers of its own"), pytest.mark.timeout(900)]

# Each of these is two or three main jobs.
MAKES_UP = pytest.mark.some_of("what a main job makes up for", 1)

# Neither the partitions nor the days begin with a month, and the days cross the end of one.
START = "2024-01-15"
DAYS = ["2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02"]
MONTHS = ["2024-01-01", "2024-02-01"]
DAILY = ("order_items", "orders", "customer_days")
LIFETIME = ("customers", "products", "locations")


@dataclass(frozen=True)
class FirstRun:
    """A shop after its first run, and what that said."""

    shop: Shop
    result: subprocess.CompletedProcess[str]
    kept: Path


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory, open_shop: OpenShop) -> FirstRun:
    folder = tmp_path_factory.mktemp("main_job")
    shop = open_shop(folder / "shop", START)
    shop.demo_data("--from", DAYS[0], "--to", DAYS[-1], "--orders-per-day", "400")
    result = shop.call("run", "--from", DAYS[0])
    assert result.returncode == 0, result.stderr
    shutil.copytree(shop.folder, folder / "kept")
    return FirstRun(shop, result, folder / "kept")


@pytest.fixture
def shop(first_run: FirstRun) -> Shop:
    """Return the shop as it was after the first run: the same paths, since views name the lake's."""
    shutil.rmtree(first_run.shop.folder)
    shutil.copytree(first_run.kept, first_run.shop.folder)
    return first_run.shop


def hours(*days: str) -> set[str]:
    return {f"{day}-{hour:02}:00" for day in days for hour in range(24)}


def test_it_ends_with_a_table(first_run: FirstRun) -> None:
    lines = first_run.result.stdout.splitlines()
    assert lines[0].split() == ["asset", "partitions", "rows", "seconds", "checks", "passed"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["raw/orders"][:3] == ["4", "of", "4"]
    assert float(rows["raw/orders"][4]) > 0, "its own time, which no statement of dbt says"
    assert rows["store_hours"][:3] == ["96", "of", "96"]
    assert rows["store_months"][:3] == ["2", "of", "2"]
    for words in rows.values():
        if words[-2:-1] == ["of"]:
            assert words[-3] == words[-1]
    assert re.search(r"^done in \d+ s$", first_run.result.stderr, re.MULTILINE)
    assert first_run.shop.left() == []


def test_marts_equal_the_exports_to_the_cent(shop: Shop) -> None:
    assert_marts_equal_exports(shop, DAYS)


def test_the_columns_of_marts_lead_to_those_of_the_other_location(shop: Shop) -> None:
    with shop.instance() as instance:

        def made_of(key: str, column: str) -> set[tuple[str, str]]:
            event = instance.get_latest_materialization_event(AssetKey(key.split("/")))
            assert event, key
            assert event.asset_materialization
            lineage = event.asset_materialization.metadata.get("dagster/column_lineage")
            if lineage is None:
                return {(key, column)}
            assert isinstance(lineage, TableColumnLineageMetadataValue)
            deps = lineage.value.deps_by_column[column]
            return {leaf for dep in deps for leaf in made_of("/".join(dep.asset_key.path), dep.column_name)}

        assert made_of("orders", "order_total_cents") == {("raw/orders", "order_total")}
        assert made_of("store_months", "revenue_cents") == {("raw/orders", "order_total")}
        assert made_of("order_items", "item_id") == {("raw/items", "id")}
        assert ("raw/customers", "name") in made_of("customers", "customer_name")


def test_a_range_is_one_invocation_of_dbt_for_each_group(shop: Shop) -> None:
    events = shop.events(after=0)
    invocations = {name: {invocation for _, _, invocation in events[name]} for name in events}
    assert {len(invocations[name]) for name in (*DAILY, "store_hours", "store_months")} == {1}
    assert "" not in invocations["orders"]
    # Daily models of one chain, in one go: the microbatch model too.
    assert invocations["order_items"] == invocations["orders"] == invocations["customer_days"]
    assert {name: {partition for _, partition, _ in events[name]} for name in (*DAILY, "store_hours")} == {
        **{name: set(DAYS) for name in DAILY},
        "store_hours": hours(*DAYS),
    }


def test_a_second_run_finds_everything_fresh_and_loads_nothing(shop: Shop) -> None:
    before = shop.last_id()
    # The first run had dbt parse the project, and what another program says is not remembered.
    assert shop.run() == {}
    logs = {log: log.stat().st_mtime_ns for log in (shop.folder / "state" / "dagster" / "processes").iterdir()}
    result = shop.call("run")
    assert {log: log.stat().st_mtime_ns for log in logs} == logs
    assert result.returncode == 0, result.stderr
    assert f"{DAYS[0]} to {DAYS[-1]}: everything is fresh" in result.stderr
    assert result.stdout == ""
    assert shop.events(after=before) == {}
    assert json.loads(shop.call("run", "--format", "json").stdout) == {"assets": [], "failures": []}


@MAKES_UP
def test_what_is_remembered_is_compared_with_what_is_served(shop: Shop) -> None:
    """As if a model were edited after its definition was recalled, and before it is served."""
    assert shop.run() == {}
    file = shop.folder / "state" / "dagster" / "headrace-definitions.json"
    content = json.loads(file.read_text())
    nodes = json.loads(content["nodes"])
    (orders,) = [node for node in nodes["nodes"] if node["key"] == ["orders"]]
    orders["code_version"] = "of another text"
    file.write_text(json.dumps({**content, "nodes": json.dumps(nodes)}))
    before = shop.last_id()
    assert shop.run() == {}
    assert shop.events(after=before) == {}
    assert json.loads(file.read_text())["nodes"] == content["nodes"]


@MAKES_UP
def test_a_model_that_is_new_is_built_although_everything_was_fresh(shop: Shop) -> None:
    (shop.folder / "dbt" / "macros").mkdir()
    (shop.folder / "dbt" / "macros" / "size.sql").write_text("{% macro size() %}1{% endmacro %}")
    (shop.folder / "dbt" / "models" / "marts" / "lifetime" / "sizes.sql").write_text(
        "{{ config(contract={'enforced': false}) }} select {{ size() }} as size"
    )
    report = json.loads(shop.call("run", "--format", "json", "--profile").stdout)
    assert [asset["key"] for asset in report["assets"]] == ["sizes"]
    stages = ["start", "plan", "build", "end"]
    parts = [f"build.{part}" for part in ("idle", "launch", "steps", "statements", "finish")]
    assert set(report["profile"]) == {*stages, *parts}
    assert all(report["profile"][stage] > 0 for stage in [*stages, "build.launch", "build.steps", "build.statements"])
    assert sum(report["profile"][part] for part in parts) == pytest.approx(report["profile"]["build"], abs=1)
    # A macro that it calls is part of its code.
    (shop.folder / "dbt" / "macros" / "size.sql").write_text("{% macro size() %}2{% endmacro %}")
    assert list(shop.run()) == ["sizes"]
    assert shop.query("select size from sizes") == [(2,)]


@MAKES_UP
def test_a_revised_day_is_built_with_its_hours_its_month_and_the_marts(shop: Shop) -> None:
    day, before = DAYS[1], shop.last_id()
    orders = shop.query("select count(*) from orders")
    shop.demo_data("--revise", day)
    report = shop.run()
    built = shop.built(after=before)
    expected = {
        **{name: {day} for name in ("raw/orders", "raw/items", *DAILY)},
        "store_hours": hours(day),
        "store_months": {"2024-01-01"},
        **{name: {None} for name in LIFETIME},
    }
    assert {name: partitions for name, partitions in built.items() if not name.startswith("stg_")} == expected
    assert set(report) == set(built)
    assert built.keys() - expected.keys() <= {"stg_orders", "stg_items"}
    assert shop.query("select count(*) from orders") > orders
    assert_marts_equal_exports(shop, DAYS)


@MAKES_UP
def test_a_broken_day_fails_alone_and_is_made_up_for(shop: Shop) -> None:
    good, broken = DAYS[1], DAYS[2]
    for day in (good, broken):
        shop.demo_data("--revise", day)
    file = shop.exports / "orders" / f"{broken}.csv"
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    fields = lines[6].split(",")
    fields[4] = "12.50"
    file.write_text("".join([*lines[:6], ",".join(fields), *lines[7:]]))
    lake = {day: (shop.lake / "raw" / "orders" / f"day={day}" / "data.parquet") for day in (good, broken)}
    before = {day: path.read_bytes() for day, path in lake.items()}
    revenue = f"select count(*), sum(order_total_cents) from orders where ordered_at::date = '{broken}'"
    of_broken_day, last_id = shop.query(revenue), shop.last_id()

    result = shop.call("run", "--format", "json")
    assert result.returncode == 1
    assert f"{file}, line 7, column subtotal: '12.50' is not a bigint" in result.stderr
    failures = json.loads(result.stdout)["failures"]
    assert any("1 of 2 partitions failed, 1 loaded" in failure["reason"] for failure in failures)
    assert lake[broken].read_bytes() == before[broken]
    assert lake[good].read_bytes() != before[good]
    built = shop.built(after=last_id)
    assert built["raw/orders"] == built["orders"] == built["customer_days"] == {good}
    assert (built["store_hours"], built["store_months"]) == (hours(good), {f"{good[:7]}-01"})
    assert not built.keys() & set(LIFETIME), "they read all days"
    assert "something failed: building what does not read it, " in result.stderr
    assert shop.query(revenue) == of_broken_day

    file.write_text(whole)
    last_id = shop.last_id()
    shop.run()
    built = shop.built(after=last_id)
    assert built["raw/orders"] == {broken}
    assert "raw/items" not in built
    assert built["orders"] == {broken}
    assert (built["store_hours"], built["store_months"]) == (hours(broken), {f"{broken[:7]}-01"})
    assert_marts_equal_exports(shop, DAYS)
    assert "everything is fresh" in shop.call("run").stderr


@MAKES_UP
def test_a_range_is_cut_into_runs_of_as_many_partitions_as_are_configured(shop: Shop) -> None:
    last_id = shop.last_id()
    cut = replace(shop, more={"HEADRACE_PARTITIONS_PER_RUN": "25"})
    cut.run("--all", "--from", DAYS[1], "--to", DAYS[2])
    built = shop.events(after=last_id)
    of_runs = Counter(invocation for _, _, invocation in built["store_hours"])
    assert sorted(of_runs.values()) == [24, 24]
    assert {partition for _, partition, _ in built["store_hours"]} == hours(*DAYS[1:3])
    assert len({invocation for _, _, invocation in built["orders"]}) == 1
    assert_marts_equal_exports(shop, DAYS)


@MAKES_UP
def test_changed_code_is_built_with_what_is_below(shop: Shop) -> None:
    """The SQL of a mart and of a view; a comment in the daily models means nothing."""
    for name in DAILY:
        (commented,) = (shop.folder / "dbt" / "models" / "marts").glob(f"*/{name}.sql")
        commented.write_text(f"{commented.read_text()}-- and that is all\n")
    model = shop.folder / "dbt" / "models" / "marts" / "monthly" / "store_months.sql"
    model.write_text(model.read_text().replace("count(*) as orders", "count(*) + 0 as orders"))
    view = shop.folder / "dbt" / "models" / "staging" / "stg_stores.sql"
    view.write_text(view.read_text().replace("trim(name) as store_name", "upper(trim(name)) as store_name"))
    before = shop.last_id()
    shop.run()
    assert shop.built(after=before) == {
        "store_months": set(MONTHS),
        "stg_stores": {None},
        "locations": {None},
    }
    assert shop.query("select bool_and(store_name = upper(store_name)) from locations") == [(True,)]
    assert_marts_equal_exports(shop, DAYS)


TRAILING = """\
{{ config(
    event_time='day',
    contract={'enforced': false},
    meta={'dagster': {'partitions': {'grain': 'day', 'start': env_var('HEADRACE_START'), 'lookback': 2}}},
) }}

with orders as (
    select cast(ordered_at as date) as day, ordered_at, order_total_cents from {{ ref('orders') }}
),

days as (
    select distinct day from orders where {{ in_window('ordered_at') }}
)

select days.day, cast(sum(orders.order_total_cents) as bigint) as cents
from days
inner join orders on orders.day > days.day - interval 3 day and orders.day <= days.day
group by days.day
"""


@MAKES_UP
def test_a_revised_day_is_in_the_rows_of_the_days_that_look_back_at_it(shop: Shop) -> None:
    model = shop.folder / "dbt" / "models" / "marts" / "daily" / "trailing_days.sql"
    model.write_text(TRAILING)
    shop.run()

    def rows() -> list[tuple[object, ...]]:
        return shop.query("select day, cents from trailing_days order by day")

    full = """
        select day, sum(cents) over (order by day rows between 2 preceding and current row)::bigint
        from (select ordered_at::date as day, sum(order_total) as cents from orders group by day) order by day
    """
    first = rows()
    assert first == shop.exported(full)
    assert len(first) == len(DAYS)
    shop.demo_data("--revise", DAYS[1])
    before = shop.last_id()
    shop.run()
    assert rows() == shop.exported(full) != first
    built = shop.built(after=before)
    assert (built["orders"], built["trailing_days"]) == ({DAYS[1]}, set(DAYS[1:]))
    assert shop.call("run", "--format", "json").stderr.count("everything is fresh") == 1


@MAKES_UP
def test_a_table_and_a_view_that_were_dropped_are_missing(shop: Shop) -> None:
    last = shop.last_id()
    with duckdb.connect(shop.warehouse) as connection:
        connection.execute("drop table products")
        connection.execute("drop view stg_tweets")
    shop.run()
    built = shop.built(after=last)
    assert {"products", "stg_tweets"} <= built.keys() <= {"products", "stg_tweets", "customers"}
    assert shop.run() == {}
    assert_marts_equal_exports(shop, DAYS)


@MAKES_UP
def test_what_was_deleted_is_missing(shop: Shop) -> None:
    last = shop.last_id()
    shop.warehouse.unlink()
    shutil.rmtree(shop.lake / "raw" / "tweets" / f"day={DAYS[1]}")
    shop.run()
    built = shop.built(after=last)
    assert built["raw/tweets"] == {DAYS[1]}
    assert "raw/orders" not in built
    assert built["orders"] == set(DAYS)
    assert_marts_equal_exports(shop, DAYS)


@MAKES_UP
def test_a_day_that_was_emptied_by_hand_is_missing(shop: Shop) -> None:
    last = shop.last_id()
    with duckdb.connect(shop.warehouse) as connection:
        connection.execute(f"delete from orders where ordered_at::date = '{DAYS[1]}'")
    shop.run()
    built = shop.built(after=last)
    assert built["orders"] == {DAYS[1]}
    assert "order_items" not in built
    assert_marts_equal_exports(shop, DAYS)
    assert shop.run() == {}


def test_the_unit_tests_of_dbt_pass(shop: Shop) -> None:
    state = {"HEADRACE_LAKE": str(shop.lake), "HEADRACE_WAREHOUSE": str(shop.warehouse)}
    macros = {
        "DAGSTER_DBT_COMMON_MACROS": str(
            Path(__file__).parents[1] / "packages/dbt_common/src/dagster_dbt_common/macros"
        )
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("dbt"), "test", "--select", "test_type:unit"],
        check=False,
        cwd=shop.folder / "dbt",
        env=shop.environment | state | macros,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"PASS=6 ", done.stdout)

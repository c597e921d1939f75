"""Row-level proofs: however its partitions were built, an incremental mart is what a full build makes of the exports.

The demo's own locations and dbt project, materialized in this process; whole tables are compared by content.
"""

import gc
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.factory import cleanup_connections

from analytics.definitions import defs as analytics_definitions
from headrace.demo.export import revise_demo_day, write_demo_data
from ingest.definitions import defs as ingest_definitions

# What the minimal project proves in each run (`packages/dbt_common/tests/test_row_level.py`), of the demo's models.
pytestmark = [
    pytest.mark.slow("fifty builds by dbt in this process, and a full one to compare with for each proof"),
    pytest.mark.some_of("proofs at the row of the demo", 1),
]

ROOT = Path(__file__).parents[1]
MARTS = ("order_items", "orders", "customer_days", "store_hours", "store_months")
DAILY = ("order_items", "orders", "customer_days")
VIEWS = ("stg_items", "stg_orders", "stg_products", "stg_supplies", "int_product_catalog")
# A leap day and the end of its month are among them.
DAYS = [date(2024, 2, 28) + timedelta(days=number) for number in range(5)]
MONTHS = (date(2024, 2, 1), date(2024, 3, 1))
ORDERS_A_DAY, SEED = 40, 11
# Each day is built alike: a whole month of them, which takes most of a minute, is the nightly job's.
DAYS_OF_A_MONTH = 29 if os.environ.get("HEADRACE_THOROUGH") else 9


@dataclass
class Shop:
    """The demo in one folder: exports, lake and warehouse, and the locations that work on them.

    Args:
        folder: the folder; the environment names what is in it.
        ingest: the location of the raw tables.
        analytics: the location of the marts.
    """

    folder: Path
    ingest: dg.Definitions
    analytics: dg.Definitions

    def __post_init__(self) -> None:
        self.exports, self.lake, self.warehouse = (self.folder / name for name in ("exports", "lake", "w.duckdb"))

    def open(self, first: date, last: date) -> None:
        """Write fresh exports of the days, load them, and make an empty warehouse with the views on them."""
        for folder in (self.exports, self.lake):
            shutil.rmtree(folder, ignore_errors=True)
        self.forget_marts()
        write_demo_data(self.exports, first, last, ORDERS_A_DAY, SEED)
        self.materialize(self.ingest, ["raw/products", "raw/supplies"])
        self.load(first, last)
        self.materialize(self.analytics, ["product_types", *VIEWS])

    def put_away(self) -> None:
        """Keep exports, lake and warehouse as they are now."""
        _let_go()
        for path in (self.exports, self.lake):
            shutil.copytree(path, self.folder / "kept" / path.name)
        shutil.copyfile(self.warehouse, self.folder / "kept" / self.warehouse.name)

    def bring_back(self) -> None:
        """Put in place what was kept: the paths are the same, since the views name the lake's."""
        self.forget_marts()
        for path in (self.exports, self.lake):
            shutil.rmtree(path)
            shutil.copytree(self.folder / "kept" / path.name, path)
        shutil.copyfile(self.folder / "kept" / self.warehouse.name, self.warehouse)

    def forget_marts(self) -> None:
        """Remove the warehouse."""
        _let_go()
        self.warehouse.unlink(missing_ok=True)

    def load(self, first: date, last: date) -> None:
        """Load the raw partitions of the days."""
        self.materialize(self.ingest, ["raw/orders", "raw/items"], first, last)

    def build(self, first: date, last: date) -> None:
        """Build the marts' partitions of the days, one range for each grain."""
        self.build_days(first, last)
        self.build_hours(first, last)
        self.build_months(first.replace(day=1), last.replace(day=1))

    def build_days(self, first: date, last: date) -> None:
        self.materialize(self.analytics, DAILY, first, last)

    def build_hours(self, first: date, last: date) -> None:
        self.materialize(self.analytics, ["store_hours"], f"{first}-00:00", f"{last}-23:00")

    def build_months(self, first: date, last: date) -> None:
        self.materialize(self.analytics, ["store_months"], first, last)

    def full_build(self, first: date, last: date) -> Path:
        """Build all from an empty warehouse, in a file of its own, and return it."""
        kept = self.keep("incremental")
        self.materialize(self.analytics, ["product_types", *VIEWS])
        self.build(first, last)
        full = self.keep("full")
        kept.rename(self.warehouse)
        return full

    def keep(self, name: str) -> Path:
        """Put the warehouse away under another name."""
        _let_go()
        return self.warehouse.rename(self.folder / f"{name}.duckdb")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query of the warehouse."""
        _let_go()
        with duckdb.connect(self.warehouse, read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def assert_equal(self, full: Path) -> None:
        """Compare all marts, row by row and as often as a row is there, with those of another file."""
        _let_go()
        with duckdb.connect() as connection:
            connection.execute(f"attach '{self.warehouse}' as built (read_only)")
            connection.execute(f"attach '{full}' as whole (read_only)")
            differences = {
                f"{mart}: {one} without {other}": rows
                for mart in MARTS
                for one, other in (("built", "whole"), ("whole", "built"))
                if (rows := connection.execute(f"from {one}.{mart} except all from {other}.{mart}").fetchall())
            }
            assert differences == {}
            for mart in MARTS:
                assert connection.execute(f"select count(*) > 1 from whole.{mart}").fetchall() == [(True,)]

    def materialize(
        self,
        location: dg.Definitions,
        names: Sequence[str],
        first: date | str | None = None,
        last: date | str | None = None,
    ) -> None:
        """Materialize assets of a location in this process, all the partitions between two in one run."""
        tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [asset for asset in location.assets or () if isinstance(asset, dg.AssetsDefinition)],
                selection=list(names),
                instance=instance,
                resources=location.resources,
                tags=tags if first else None,
            )
        assert result.success
        assert {event.asset_key for event in result.get_asset_materialization_events()} == {
            dg.AssetKey(name.split("/")) for name in names
        }
        assert [check.check_name for check in result.get_asset_check_evaluations() if not check.passed] == []


def _let_go() -> None:
    """Close what dbt in this process still holds open, so that a file can be moved, removed or read by itself."""
    cleanup_connections()
    with suppress(Exception):
        DuckDBConnectionManager.env().close()
    DuckDBConnectionManager.close_all_connections()
    gc.collect()


@pytest.fixture(scope="module")
def locations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(ROOT / "dbt", folder / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_START", MONTHS[0].isoformat())
        patch.setenv("HEADRACE_EXPORTS", str(folder / "exports"))
        patch.setenv("HEADRACE_LAKE", str(folder / "lake"))
        patch.setenv("HEADRACE_WAREHOUSE", str(folder / "w.duckdb"))
        patch.setenv("HEADRACE_DBT_PROJECT", str(folder / "dbt"))
        yield Shop(folder, ingest_definitions(), analytics_definitions())
        _let_go()


@pytest.fixture(scope="module")
def opened(locations: Shop) -> Shop:
    """Return the shop, with what `bring_back` brings: five days in the lake, views, and no mart."""
    locations.open(DAYS[0], DAYS[-1])
    locations.put_away()
    return locations


@pytest.fixture(scope="module")
def full(opened: Shop) -> Path:
    """Return a full build of the five days, which span two months."""
    opened.bring_back()
    opened.build(DAYS[0], DAYS[-1])
    return opened.keep("five_days")


@pytest.fixture
def shop(opened: Shop) -> Shop:
    """Return the shop with five days in the lake and no mart."""
    opened.bring_back()
    return opened


def test_the_same_partition_twice(shop: Shop, full: Path) -> None:
    shop.build(DAYS[0], DAYS[-1])
    shop.build(DAYS[1], DAYS[1])
    shop.build(DAYS[1], DAYS[1])
    shop.assert_equal(full)


@pytest.mark.parametrize("seed", [1, 2])
def test_days_in_shuffled_order(shop: Shop, full: Path, seed: int) -> None:
    shuffled = random.Random(seed).sample(DAYS, len(DAYS))  # noqa: S311 - an order, not a secret
    assert shuffled != DAYS
    for day in shuffled:
        shop.build_days(day, day)
    for day in reversed(shuffled):
        shop.build_hours(day, day)
    for month in reversed(MONTHS):
        shop.build_months(month, month)
    shop.assert_equal(full)


def test_overlapping_ranges(shop: Shop, full: Path) -> None:
    for first, last in ((2, 4), (0, 2), (1, 3)):
        shop.build(DAYS[first], DAYS[last])
    shop.assert_equal(full)


def test_a_late_row_then_its_day_again(shop: Shop, full: Path) -> None:
    shop.build(DAYS[0], DAYS[-1])
    day = DAYS[2]
    before = shop.query(f"select count(*) from orders where ordered_at::date = '{day}'")
    revise_demo_day(shop.exports, day)
    shop.load(day, day)
    shop.build(day, day)
    assert shop.query(f"select count(*) from orders where ordered_at::date = '{day}'") > before
    shop.assert_equal(shop.full_build(DAYS[0], DAYS[-1]))
    with pytest.raises(AssertionError):
        shop.assert_equal(full)


def test_rows_that_the_source_took_back_then_their_day_again(shop: Shop) -> None:
    shop.build(DAYS[0], DAYS[-1])
    day = DAYS[3]
    orders = shop.exports / "orders" / f"{day}.csv"
    lines = orders.read_text().splitlines(keepends=True)
    orders.write_text("".join(lines[: len(lines) // 2]))
    kept = {line.split(",")[0] for line in lines[1 : len(lines) // 2]}
    items = shop.exports / "items" / f"{day}.csv"
    header, *rows = items.read_text().splitlines(keepends=True)
    items.write_text("".join([header, *(row for row in rows if row.split(",")[1] in kept)]))
    shop.load(day, day)
    shop.build(day, day)
    assert shop.query(f"select count(*) from orders where ordered_at::date = '{day}'") == [(len(kept),)]
    shop.assert_equal(shop.full_build(DAYS[0], DAYS[-1]))


def test_a_day_that_became_empty_on_purpose(shop: Shop) -> None:
    shop.build(DAYS[0], DAYS[-1])
    day = DAYS[0]
    for table in ("orders", "items"):
        (shop.exports / table / f"{day}.csv").unlink()
        (shop.exports / table / f"{day}.empty").touch()
    shop.load(day, day)
    shop.build(day, day)
    assert shop.query("select min(ordered_at)::date from orders") == [(DAYS[1],)]
    shop.assert_equal(shop.full_build(DAYS[0], DAYS[-1]))


def test_a_month_by_days_and_as_one_range(locations: Shop) -> None:
    days = [date(2024, 2, 1) + timedelta(days=number) for number in range(DAYS_OF_A_MONTH)]
    locations.open(days[0], days[-1])
    for day in days:
        locations.build_days(day, day)
    locations.build_hours(days[0], days[-1])
    locations.build_months(days[0], days[0])
    locations.assert_equal(locations.full_build(days[0], days[-1]))


def test_the_first_partition_of_missing_tables_builds_that_partition_alone(shop: Shop, full: Path) -> None:
    day = DAYS[2]
    shop.build_days(day, day)
    shop.build_hours(day, day)
    shop.build_months(day, day)
    columns = {
        "order_items": "ordered_at",
        "orders": "ordered_at",
        "customer_days": "ordered_on",
        "store_hours": "hour",
    }
    for mart, column in columns.items():
        assert shop.query(f"select distinct {column}::date from {mart}") == [(day,)]
    # What the month sees is the one day that the mart above it has.
    assert shop.query("select sum(orders) from store_months") == shop.query("select count(*) from orders")
    for other in DAYS:
        if other != day:
            shop.build_days(other, other)
    shop.build_hours(DAYS[0], DAYS[-1])
    shop.build_months(*MONTHS)
    shop.assert_equal(full)


def test_one_hour_of_a_missing_table_is_built_alone(shop: Shop) -> None:
    shop.build_days(DAYS[0], DAYS[-1])
    day = DAYS[1]
    shop.materialize(shop.analytics, ["store_hours"], f"{day}-12:00", f"{day}-12:00")
    assert shop.query("select distinct hour from store_hours") == [(datetime(day.year, day.month, day.day, 12),)]  # noqa: DTZ001 - DuckDB's UTC without zone


def test_rows_at_midnight_belong_to_one_day(shop: Shop, full: Path) -> None:
    day = DAYS[2]
    midnight = f"ordered_at = timestamp '{day} 00:00:00'"
    last_moment = f"ordered_at = timestamp '{day} 23:59:59.999999'"
    shop.build_days(DAYS[1], DAYS[1])
    assert shop.query(f"select count(*) from orders where {midnight}") == [(0,)]
    shop.build_days(DAYS[3], DAYS[3])
    assert shop.query(f"select count(*) from orders where {midnight} or {last_moment}") == [(0,)]
    shop.build_days(day, day)
    rows = f"""
        select bool_or({midnight}), bool_or({last_moment}), count(*) = count(distinct order_id)
        from orders
    """
    assert shop.query(rows) == [(True, True, True)]
    # The neighbours once more: neither takes nor doubles them.
    shop.build_days(DAYS[1], DAYS[1])
    shop.build_days(DAYS[3], DAYS[3])
    assert shop.query(rows) == [(True, True, True)]
    shop.build_hours(day, day)
    by_store = "select store_id, sum({}) from {} group by all order by all"
    assert shop.query(by_store.format("revenue_cents", "store_hours")) == shop.query(
        by_store.format("order_total_cents", f"orders where ordered_at::date = '{day}'")
    )
    shop.build_days(DAYS[0], DAYS[0])
    shop.build_days(DAYS[4], DAYS[4])
    shop.build_hours(DAYS[0], DAYS[-1])
    shop.build_months(*MONTHS)
    shop.assert_equal(full)

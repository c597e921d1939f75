from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headrace.demo.export import write_demo_data
from headrace.demo.export_folder import EVENT_TABLES, REFERENCE_TABLES

FIRST, LAST = date(2024, 1, 29), date(2024, 3, 3)
DAYS = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if not file.is_dir()}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "exports"
    write_demo_data(folder, FIRST, LAST, 400, 7)
    return folder


@pytest.fixture(scope="module")
def con(export: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        for table, columns in (REFERENCE_TABLES | EVENT_TABLES).items():
            path = f"{export}/{table}.csv" if table in REFERENCE_TABLES else f"{export}/{table}/*.csv"
            con.execute(
                f"create table {table} as from read_csv('{path}', header = true, types = {columns}, "
                "quote = '\"', escape = '\"', delim = ',', filename = true, strict_mode = true)"
            )
        yield con


def rows(con: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return con.execute(query).fetchall()


def test_layout_is_one_file_a_day_for_events_and_one_for_references(export: Path) -> None:
    expected = {f"{table}.csv" for table in REFERENCE_TABLES} | {
        f"{table}/{day}.csv" for table in EVENT_TABLES for day in DAYS
    }
    assert set(contents(export)) - {".headrace-export.json"} == expected
    assert list(export.parent.iterdir()) == [export]


@pytest.mark.parametrize("table", REFERENCE_TABLES | EVENT_TABLES)
def test_columns_are_those_of_jafgen(con: duckdb.DuckDBPyConnection, table: str) -> None:
    columns = rows(con, f"from (describe {table}) select column_name, lower(column_type)")
    assert dict(columns) == {**(REFERENCE_TABLES | EVENT_TABLES)[table], "filename": "varchar"}


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("customers", "id"),
        ("products", "sku"),
        ("stores", "id"),
        ("supplies", "(id, sku)"),
        ("orders", "id"),
        ("items", "id"),
        ("tweets", "id"),
    ],
)
def test_keys_are_unique_and_no_value_is_missing(con: duckdb.DuckDBPyConnection, table: str, key: str) -> None:
    assert rows(con, f"from {table} select count(*) - count(distinct {key}), count(*) > 0") == [(0, True)]
    assert rows(con, f"from {table} select count(*) where columns(*) is null") == [(0,)]


def test_a_supply_is_repeated_for_its_products(con: duckdb.DuckDBPyConnection) -> None:
    assert rows(con, "select count(*) > count(distinct id) from supplies") == [(True,)]
    assert rows(con, "from products anti join supplies using (sku)") == []


def test_references_between_tables_hold(con: duckdb.DuckDBPyConnection) -> None:
    for child, parent in {
        "items.order_id": "orders.id",
        "items.sku": "products.sku",
        "orders.customer": "customers.id",
        "orders.store_id": "stores.id",
        "tweets.user_id": "customers.id",
        "supplies.sku": "products.sku",
    }.items():
        (table, column), (other, key) = child.split("."), parent.split(".")
        assert rows(con, f"from {table} anti join {other} on {other}.{key} = {table}.{column}") == [], child


def test_each_row_is_in_the_file_of_its_day(con: duckdb.DuckDBPyConnection) -> None:
    day = "parse_filename({}.filename, true)::date"
    assert rows(con, f"from orders where ordered_at::date <> {day.format('orders')}") == []
    assert rows(con, f"from tweets where tweeted_at::date <> {day.format('tweets')}") == []
    item_days = f"{day.format('items')} <> {day.format('orders')}"
    assert rows(con, f"from items join orders on orders.id = order_id where {item_days}") == []


def test_every_day_has_orders_at_midnight_and_in_its_last_second(con: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        con,
        """
        select
            count(*) filter (ordered_at = date_trunc('day', ordered_at)),
            count(*) filter (ordered_at::time = '23:59:59'),
            count(*) filter (ordered_at::time = '23:59:59.999999')
        from orders group by ordered_at::date
        """,
    )
    assert len(found) == len(DAYS)
    assert all(midnight >= 2 and second == 1 and microsecond == 1 for midnight, second, microsecond in found)


def test_an_order_has_one_to_five_items_and_costs_their_prices(con: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        con,
        """
        select count(*), sum(price), any_value(subtotal)
        from items join products using (sku) join orders on orders.id = order_id
        group by orders.id
        """,
    )
    assert {items for items, _, _ in found} == {1, 2, 3, 4, 5}
    assert all(prices == subtotal for _, prices, subtotal in found)
    assert len(found) == rows(con, "select count(*) from orders")[0][0]


def test_tax_is_of_the_store_and_the_same_however_it_is_rounded(con: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        con,
        """
        select distinct subtotal, tax_rate::varchar, tax_paid, order_total
        from orders join stores on stores.id = store_id
        """,
    )
    assert len({rate for _, rate, _, _ in found}) == 5
    for subtotal, rate, tax, total in found:
        assert tax == int((subtotal * Decimal(rate)).quantize(Decimal(1), ROUND_HALF_UP))
        assert tax == round(subtotal * float(rate))
        assert total == subtotal + tax


def test_stores_open_over_time_and_one_never_sells(con: duckdb.DuckDBPyConnection) -> None:
    stores = rows(
        con,
        """
        select opened_at, min(ordered_at), count(orders.id)
        from stores left join orders on orders.id is not null and store_id = stores.id
        group by all order by opened_at
        """,
    )
    assert len(stores) == 7
    assert all(first is None or first >= opened for opened, first, _ in stores)
    by_opening = {opened.date(): number for opened, _, number in stores}
    assert [opened for opened, number in by_opening.items() if opened < FIRST and not number] == [date(2023, 11, 6)]
    assert by_opening[date(2024, 2, 12)] > 0
    assert sum(opened < FIRST for opened in by_opening) >= 4


def test_weekdays_and_hours_differ(con: duckdb.DuckDBPyConnection) -> None:
    by_day = dict(rows(con, "select isodow(ordered_at), count(*) from orders group by all"))
    assert by_day[6] > 1.2 * by_day[1]
    by_hour = dict(rows(con, "select hour(ordered_at), count(*) from orders group by all"))
    assert {0, *range(7, 21), 23} == set(by_hour)
    assert min(by_hour[8], by_hour[12]) > 1.5 * by_hour[15]


def test_customers_come_back_and_some_more_than_others(con: duckdb.DuckDBPyConnection) -> None:
    orders = [number for (number,) in rows(con, "select count(*) n from orders group by customer order by n")]
    assert orders[len(orders) // 2] >= 2
    assert orders[-1] > 8 * sum(orders) / len(orders)
    assert sum(orders[-len(orders) // 10 :]) < 0.6 * sum(orders)


def test_texts_have_what_breaks_parsers(con: duckdb.DuckDBPyConnection) -> None:
    for table, column in [("customers", "name"), ("stores", "name"), ("tweets", "content")]:
        for part in [",", '"', "''"]:
            found = rows(con, f"from {table} select count(*) > 0 where contains({column}, '{part}')")
            assert found == [(True,)], (table, part)
        non_ascii = rows(con, f"from {table} select count(*) > 0 where strlen({column}) > length({column})")
        assert non_ascii == [(True,)], table
        newlines = rows(con, f"from {table} select count(*) where regexp_matches({column}, '[\\n\\r]')")
        assert newlines == [(0,)], table
    assert rows(con, "select count(*) > 0 from tweets where contains(content, '🥪')") == [(True,)]
    assert rows(con, "select count(*) from tweets where contains(content, '{')") == [(0,)]


def test_tweets_are_fewer_than_orders_and_follow_one(con: duckdb.DuckDBPyConnection) -> None:
    orders, tweets = rows(con, "select (select count(*) from orders), (select count(*) from tweets)")[0]
    assert 0.1 * orders < tweets < 0.3 * orders
    unexplained = """
        from tweets where not exists (
            from orders
            where customer = user_id
                and tweeted_at - ordered_at between interval 1 minute and interval 30 minutes
        )
    """
    assert rows(con, unexplained) == []


def test_the_number_of_orders_is_about_what_was_asked_for_and_grows(tmp_path: Path) -> None:
    orders = [
        write_demo_data(tmp_path / str(year), date(year, 5, 1), date(year, 5, 28), 400, 7).orders
        for year in (2016, 2024, 2026)
    ]
    assert orders[0] < 0.3 * orders[1]
    assert 400 * 28 < orders[1] < 1.15 * 400 * 28
    assert orders[2] > 1.15 * orders[1]


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, export: Path) -> None:
    write_demo_data(tmp_path / "again", FIRST, LAST, 400, 7)
    assert contents(tmp_path / "again") == contents(export)


def test_another_seed_gives_other_rows(tmp_path: Path, export: Path) -> None:
    write_demo_data(tmp_path / "other", FIRST, FIRST, 400, 8)
    other = (tmp_path / "other" / "orders" / f"{FIRST}.csv").read_text().splitlines()
    former = (export / "orders" / f"{FIRST}.csv").read_text().splitlines()
    assert set(other) & set(former) == {former[0]}


def test_a_day_does_not_depend_on_the_range(tmp_path: Path, export: Path) -> None:
    some = date(2024, 2, 14)
    write_demo_data(tmp_path / "one", some, some, 400, 7)
    for table in EVENT_TABLES:
        file = Path(table, f"{some}.csv")
        assert (tmp_path / "one" / file).read_bytes() == (export / file).read_bytes()


def test_extending_adds_days_at_both_ends_and_touches_no_other(tmp_path: Path, export: Path) -> None:
    folder = tmp_path / "grown"
    write_demo_data(folder, date(2024, 2, 10), date(2024, 2, 12), 400, 7)
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/*")}
    summary = write_demo_data(folder, FIRST, LAST, 400, 7)
    assert summary.days == len(DAYS) - 3
    assert contents(folder) == contents(export)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_writing_again_changes_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    write_demo_data(folder, FIRST, LAST, 40, 7)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    write_demo_data(folder, FIRST, FIRST, 40, 7)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()} == {
        file: time for file, time in before.items() if file.is_file()
    }


def test_a_lost_day_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    write_demo_data(folder, FIRST, LAST, 40, 7)
    before = contents(folder)
    (folder / "items" / f"{DAYS[3]}.csv").unlink()
    assert write_demo_data(folder, FIRST, LAST, 40, 7).days == 1
    assert contents(folder) == before


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_midway_changes_nothing(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "exports"
    if existing:
        write_demo_data(out, FIRST, FIRST, 40, 7)
    before = contents(tmp_path)
    days = iter(DAYS[:3])
    with pytest.raises(StopIteration):
        write_demo_data(out, FIRST, LAST, 40, 7, on_day=lambda _days: next(days))
    assert contents(tmp_path) == before
    assert out.exists() == existing


def test_a_day_without_tweets_has_an_empty_marker(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "small", FIRST, FIRST, 1, 7)
    assert not (tmp_path / "small" / "tweets" / f"{FIRST}.csv").exists()
    assert (tmp_path / "small" / "tweets" / f"{FIRST}.empty").read_bytes() == b""


@pytest.mark.parametrize("file_format", ["csv.gz", "parquet", "jsonl"])
def test_other_formats_have_the_same_rows(tmp_path: Path, export: Path, file_format: Any) -> None:
    write_demo_data(tmp_path / "other", FIRST, DAYS[1], 400, 7, file_format=file_format)
    reader = {"csv.gz": "read_csv", "parquet": "read_parquet", "jsonl": "read_json"}[file_format]
    for table, columns in (REFERENCE_TABLES | EVENT_TABLES).items():
        if table == "customers":  # has more rows where the range ends later
            continue
        name = table if table in REFERENCE_TABLES else f"{table}/{FIRST}"
        other = f"{reader}('{tmp_path}/other/{name}.{file_format}')"
        if file_format == "parquet":
            described = duckdb.execute(f"describe from {other}").fetchall()
            assert {column[0]: column[1].lower() for column in described} == columns
        select = ", ".join(f"{column}::{kind}" for column, kind in columns.items())
        former = f"read_csv('{export}/{name}.csv')"
        assert (
            duckdb.execute(f"from {other} select {select}").fetchall()
            == duckdb.execute(f"from {former} select {select}").fetchall()
        )


def test_times_are_written_as_jafgen_writes_them(export: Path) -> None:
    header, *lines = (export / "orders" / f"{FIRST}.csv").read_text().splitlines()
    assert header == "id,customer,ordered_at,store_id,subtotal,tax_paid,order_total"
    times = [line.split(",")[2] for line in lines]
    assert times[0] == f"{FIRST}T00:00:00"
    assert times == sorted(times)
    assert all(datetime.fromisoformat(time).tzinfo is None for time in times)

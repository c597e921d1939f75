from collections import Counter
from datetime import date
from pathlib import Path

import duckdb
import pytest

from headrace.cli.user_errors import UserError
from headrace.demo.export import revise_demo_day, write_demo_data

FIRST, DAY, LAST = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    write_demo_data(tmp_path / "exports", FIRST, LAST, 400, 7)
    return tmp_path / "exports"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if not file.is_dir()}


def lines(export: Path, table: str) -> list[str]:
    return (export / table / f"{DAY}.csv").read_text().splitlines()


def test_former_rows_stay_and_late_ones_join_them(export: Path) -> None:
    former = {table: lines(export, table) for table in ("orders", "items")}
    summary = revise_demo_day(export, DAY)
    for table, was in former.items():
        assert not Counter(was) - Counter(lines(export, table))
    assert len(lines(export, "orders")) == summary.orders + 1 == len(former["orders"]) + 6
    late = set(lines(export, "orders")) - set(former["orders"])
    times = sorted(line.split(",")[2] for line in late)
    assert times[0] == f"{DAY}T00:00:00"
    assert times[-1] == f"{DAY}T23:59:59.999999"
    late_ids = {line.split(",")[0] for line in late}
    late_items = set(lines(export, "items")) - set(former["items"])
    assert {line.split(",")[1] for line in late_items} == late_ids


def test_late_orders_keep_the_rules_of_the_others(export: Path) -> None:
    revise_demo_day(export, DAY)
    broken = f"""
        with orders as (from '{export}/orders/{DAY}.csv'),
        baskets as (
            from '{export}/items/{DAY}.csv' join '{export}/products.csv' using (sku)
            select order_id, sum(price) as prices group by order_id
        )
        select count(*), count(distinct orders.id), count(*) filter (
            prices is distinct from subtotal
            or tax_paid is distinct from round(subtotal * tax_rate)
            or order_total is distinct from subtotal + tax_paid
            or customers.id is null
        )
        from orders
        left join baskets on order_id = orders.id
        left join '{export}/stores.csv' as stores on stores.id = store_id
        left join '{export}/customers.csv' as customers on customers.id = customer
    """
    orders, different, faults = duckdb.execute(broken).fetchall()[0]
    assert orders == different == len(lines(export, "orders")) - 1
    assert faults == 0


def test_only_that_day_changes(export: Path) -> None:
    before = contents(export)
    revise_demo_day(export, DAY)
    changed = {name for name, content in contents(export).items() if before[name] != content}
    assert changed == {f"orders/{DAY}.csv", f"items/{DAY}.csv", ".headrace-export.json"}


def test_each_revision_adds_the_same_rows_wherever_it_is_made(export: Path, tmp_path: Path) -> None:
    write_demo_data(tmp_path / "other", DAY, DAY, 400, 7)
    seen = [set(lines(export, "orders"))]
    for _ in range(2):
        revise_demo_day(export, DAY)
        revise_demo_day(tmp_path / "other", DAY)
        assert lines(export, "orders") == lines(tmp_path / "other", "orders")
        assert lines(export, "items") == lines(tmp_path / "other", "items")
        assert seen[-1] < set(lines(export, "orders"))
        seen.append(set(lines(export, "orders")))


def test_writing_further_days_keeps_a_revision(export: Path) -> None:
    for _ in range(5):
        revise_demo_day(export, DAY)
    revised = contents(export)
    write_demo_data(export, FIRST, date(2024, 1, 5), 400, 7)
    assert lines(export, "orders") == revised[f"orders/{DAY}.csv"].decode().splitlines()
    for table in ("orders", "tweets"):
        (export / table / f"{DAY}.csv").unlink()
    write_demo_data(export, FIRST, LAST, 400, 7)
    for table in ("orders", "items", "tweets"):
        assert (export / table / f"{DAY}.csv").read_bytes() == revised[f"{table}/{DAY}.csv"]


def test_replacing_an_export_forgets_its_revisions(export: Path) -> None:
    before = contents(export)
    revise_demo_day(export, DAY)
    write_demo_data(export, FIRST, LAST, 400, 7, force=True)
    assert contents(export) == before


def test_a_day_that_is_not_there_is_refused(export: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2024-01-04: .* has no such day"):
        revise_demo_day(export, date(2024, 1, 4))
    with pytest.raises(UserError, match="has no demo data to revise"):
        revise_demo_day(tmp_path / "nowhere", DAY)

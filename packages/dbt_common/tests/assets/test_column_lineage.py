"""Which columns a column is made of: by the SQL, and as builds record it, once for each code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dagster_dbt_common.assets.column_lineage import CODE, LINEAGE, column_deps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conftest import Minimal

FILE = "read_parquet('/lake/b.parquet')"
LOST = dg.TableColumnLineage({"id": [dg.TableColumnDep(dg.AssetKey("planted"), "planted")]})


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select id, x + 1 as z, 'c' as k from db.main.a", {"id": ["a.id"], "z": ["a.x"], "k": []}),
        (
            f"with q as (select * from db.main.a) select q.*, b.y from q join {FILE} b on b.id = q.id",
            {"id": ["a.id"], "x": ["a.x"], "y": ["b.y"]},
        ),
        (
            f"select * from db.main.a union all select id, y from {FILE}",
            {"id": ["a.id", "b.id"], "x": ["a.x", "b.y"]},
        ),
        (
            f"with __dbt__cte__e as (select id, y from {FILE}) select e.y * a.x as p from db.main.a, __dbt__cte__e e",
            {"p": ["a.x", "b.y"]},
        ),
        ("select sum(x) over (partition by id) as s from db.main.a", {"s": ["a.id", "a.x"]}),
        ("select * exclude (x) from db.main.a", {"id": ["a.id"]}),
        ("select x as Amount from db.main.a", {"amount": ["a.x"]}),
        (
            f"select a.x, t.y from db.main.a as t2 join {FILE} as t on t.id = t2.id, db.main.a",
            {"x": ["a.x"], "y": ["b.y"]},
        ),
    ],
)
def test_the_columns_of_a_query(sql: str, found: Mapping[str, Sequence[str]]) -> None:
    deps = column_deps(sql, "duckdb", ["db.main.a", FILE], [["id", "x"], ["id", "y"]])
    assert {column: [f"{'ab'[number]}.{name}" for number, name in read] for column, read in deps.items()} == found


@pytest.mark.parametrize(
    "sql",
    [
        "select * from db.main.c",  # nobody knows its columns
        "pivot db.main.a on x using count(*)",
        "select columns('x.*') from db.main.a",
    ],
)
def test_what_is_not_understood_is_left_out(sql: str) -> None:
    """An empty list would say that a column is made of nothing."""
    deps = column_deps(sql, "duckdb", ["db.main.a", "db.main.c"], [["id", "x"], []])
    assert not {"id", "x"} & deps.keys()


def test_a_union_by_name_is_not_taken_for_one_by_position() -> None:
    with pytest.raises(ValueError, match="by name"):
        column_deps(
            f"select * from db.main.a union all by name from {FILE}", "duckdb", ["db.main.a", FILE], [["x"], ["x"]]
        )


def test_names_are_spelled_as_the_parent_spells_them() -> None:
    assert column_deps("select amount from db.main.a", "duckdb", ["db.main.a"], [["Amount"]]) == {
        "amount": [(0, "Amount")]
    }
    upper = column_deps("select amount from DB.MAIN.A", "snowflake", ["DB.MAIN.A"], [["AMOUNT"]])
    assert upper == {"amount": [(0, "AMOUNT")]}


def test_a_column_that_nobody_has_declared_is_read_from_the_only_table() -> None:
    assert column_deps("select x from db.main.a", "duckdb", ["db.main.a"], [[]]) == {"x": [(0, "x")]}


def lineages(result: dg.ExecuteInProcessResult) -> Mapping[str, Mapping[str, Sequence[str]]]:
    found = {}
    for event in result.get_asset_materialization_events():
        metadata = event.materialization.metadata
        if LINEAGE in metadata:
            lineage = metadata[LINEAGE].value
            assert isinstance(lineage, dg.TableColumnLineage)
            found[event.materialization.asset_key.to_user_string()] = {
                column: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps]
                for column, deps in lineage.deps_by_column.items()
            }
    return found


@pytest.mark.slow
def test_each_build_records_it_and_it_is_worked_out_once(minimal: Minimal) -> None:
    upstream = lineages(minimal.run("stg_events", "stg_stores", "store_names"))
    # A source is the asset of whoever loads it; a seed is made of nothing.
    assert upstream["stg_events"]["id"] == ["raw/events.id"]
    assert "store_names" not in upstream
    first = minimal.run("events_daily", "store_days", start="2024-01-01", end="2024-01-02")
    assert lineages(first)["events_daily"]["id"] == ["stg_events.id"]
    assert lineages(first)["store_days"] == {
        "store": ["events_daily.store"],
        "day": ["events_daily.occurred_at"],
        "events": [],
        "amount": ["events_daily.amount"],
    }

    # What is recorded of the same code is repeated, and what is recorded of another code is not.
    for key in ("events_daily", "store_days"):
        last = minimal.instance.get_latest_materialization_event(dg.AssetKey(key))
        assert last is not None
        assert last.asset_materialization is not None
        code = last.asset_materialization.metadata[CODE] if key == "events_daily" else "of another code"
        planted = dg.AssetMaterialization(key, partition="2024-01-02", metadata={CODE: code, LINEAGE: LOST})
        minimal.instance.report_runless_asset_event(planted)
    again = lineages(minimal.run("events_daily", "store_days", start="2024-01-01", end="2024-01-01"))
    assert again["events_daily"] == {"id": ["planted.planted"]}
    assert again["store_days"] == lineages(first)["store_days"]

"""Incremental builds equal a full one, row by row, whatever the order in which partitions came.

A month is ten days long where `HEADRACE_THOROUGH` is not set.
"""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Event, Minimal

pytestmark = pytest.mark.slow

TABLES = ("events_daily", "large_events", "slow_events", "store_days", "store_hours")
DAILY = TABLES[:4]
FIRST = date(2024, 1, 1)
WEEKS, SINGLE_DAYS = (4, 3) if os.environ.get("HEADRACE_THOROUGH") else (1, 3)


def day(number: int) -> str:
    """Return a day of January 2024, by its number from 1."""
    return (FIRST + timedelta(days=number - 1)).isoformat()


def events(days: int, *, without: Sequence[str] = ()) -> list[Event]:
    """Return four events a day: at both of its edges, at noon, and one with its twin at the same moment."""
    found: list[Event] = []
    for number in range(1, days + 1):
        times = ("00:00:00", "12:00:00", "12:00:00", "23:59:59.999999")
        for position, time in enumerate(times):
            name = f"{number}-{position}"
            if name not in without:
                found.append(
                    (name, f"{day(number)} {time}", "oslo" if position else "paris", str(number * position * 40))
                )
    return found


def build(minimal: Minimal, first: int, last: int) -> None:
    """Build the days from `first` to `last` and their hours, each group in one run."""
    assert minimal.run(*DAILY, start=day(first), end=day(last)).success
    assert minimal.run("store_hours", start=f"{day(first)}-00:00", end=f"{day(last)}-23:00").success


def assert_equals_a_full_build(minimal: Minimal, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Build all `days` at once into another file, and compare whole tables, counting equal rows."""
    folder = minimal.root / "full"
    folder.mkdir(exist_ok=True)
    full = folder / minimal.warehouse.name  # of the same name: it is the database's name in the manifest
    full.unlink(missing_ok=True)
    end = day(days + 1)
    incremental = minimal.warehouse
    with monkeypatch.context() as patch:
        patch.setenv("MINIMAL_WAREHOUSE", str(full))
        window = ["--vars", json.dumps({"min_date": day(1), "max_date": end})]
        times = ["--event-time-start", day(1), "--event-time-end", end]
        select = ["--select", " ".join(["stg_events", *TABLES])]
        minimal.dbt.cli(["run", "--full-refresh", *window, *times, *select]).wait()
    with duckdb.connect() as connection:
        connection.execute(f"attach '{incremental}' as one (read_only)")
        connection.execute(f"attach '{full}' as other (read_only)")
        for table in TABLES:
            one, other = f"one.main.{table}", f"other.main.{table}"
            difference = f"(from {one} except all from {other}) union all (from {other} except all from {one})"
            assert connection.sql(difference).fetchall() == [], table
            assert connection.sql(f"select count(*) > 0 from {other}").fetchall() == [(True,)], table


@pytest.mark.some_of("orders of windows", 1)
@pytest.mark.parametrize(
    "ranges",
    [
        pytest.param([(1, 3), (2, 2), (2, 2)], id="the_same_partition_twice"),
        pytest.param([(3, 3), (1, 1), (4, 4), (2, 2)], id="days_in_shuffled_order"),
        pytest.param([(1, 3), (2, 4), (1, 4)], id="overlapping_ranges"),
    ],
)
def test_any_order_equals_a_full_build(
    minimal: Minimal, monkeypatch: pytest.MonkeyPatch, ranges: Sequence[tuple[int, int]]
) -> None:
    days = max(last for _, last in ranges)
    minimal.write_events(*events(days))
    minimal.run_upstream()
    for first, last in ranges:
        build(minimal, first, last)
    assert_equals_a_full_build(minimal, monkeypatch, days)


def test_a_month_in_one_range_equals_weeks_and_days(minimal: Minimal, monkeypatch: pytest.MonkeyPatch) -> None:
    days = 7 * WEEKS + SINGLE_DAYS
    minimal.write_events(*events(days))
    minimal.run_upstream()
    for week in range(WEEKS):
        build(minimal, 7 * week + 1, 7 * week + 7)
    for single in range(7 * WEEKS + 1, days + 1):
        build(minimal, single, single)
    by_parts = minimal.rows("from events_daily order by all")
    build(minimal, 1, days)
    assert minimal.rows("from events_daily order by all") == by_parts
    assert_equals_a_full_build(minimal, monkeypatch, days)


def test_a_late_row_and_a_removed_row_are_in_when_their_day_is_built_again(
    minimal: Minimal, monkeypatch: pytest.MonkeyPatch
) -> None:
    minimal.write_events(*events(3, without=["2-0"]))
    minimal.run_upstream()
    build(minimal, 1, 3)
    minimal.write_events(*events(3, without=["1-3"]))
    build(minimal, 2, 2)
    assert minimal.rows("select count(*) from events_daily where id = '1-3'") == [(1,)], "no other day was touched"
    build(minimal, 1, 1)
    assert_equals_a_full_build(minimal, monkeypatch, 3)


def test_a_day_that_became_empty_is_emptied(minimal: Minimal, monkeypatch: pytest.MonkeyPatch) -> None:
    minimal.write_events(*events(3))
    minimal.run_upstream()
    build(minimal, 1, 3)
    minimal.write_events(*events(3, without=[f"2-{position}" for position in range(4)]))
    build(minimal, 2, 2)
    assert_equals_a_full_build(minimal, monkeypatch, 3)

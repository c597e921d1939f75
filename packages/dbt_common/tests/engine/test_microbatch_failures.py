"""A microbatch model of which some batches fail: dbt's `partial success`, of which nothing false is recorded."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Event, Minimal

pytestmark = pytest.mark.slow

DAYS = (1, 2, 3)
TOO_MUCH = str(2**63 - 1)  # two of them are more than the model's bigint


def events(amount: int, *, bad: int | None = None) -> list[Event]:
    """Return two events a day of an amount each, on the bad day of amounts that the model cannot add up."""
    return [
        (f"{day}-{hour}", f"2024-01-0{day} {hour}:00:00", "oslo", TOO_MUCH if day == bad else str(amount))
        for day in DAYS
        for hour in (10, 11)
    ]


def build(minimal: Minimal) -> dg.ExecuteInProcessResult:
    """Build what the model reads, and the model, over all days."""
    assert minimal.run("events_daily", start="2024-01-01", end="2024-01-03").success
    return minimal.run("store_days", start="2024-01-01", end="2024-01-03")


def amounts(minimal: Minimal) -> Sequence[tuple[object, ...]]:
    return minimal.rows("select day, amount from store_days order by day")


@pytest.mark.parametrize("bad", [2, 3])
def test_trap_a_partial_success_fails_the_step_and_records_no_partition(minimal: Minimal, bad: int) -> None:
    minimal.write_events(*events(1, bad=bad))
    minimal.run_upstream()
    result = build(minimal)
    assert not result.success
    (failure,) = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert f"Batch {bad} of 3 ERROR creating batch 2024-01-0{bad} of main.store_days" in str(failure)
    assert minimal.instance.fetch_materializations(dg.AssetKey("store_days"), limit=10).records == []
    # The good batches are there, and each is replaced when its partition is built.
    assert amounts(minimal) == [(date(2024, 1, day), 2) for day in DAYS if day != bad]

    minimal.write_events(*events(5))
    assert build(minimal).success
    assert amounts(minimal) == [(date(2024, 1, day), 10) for day in DAYS]


def test_a_failed_batch_leaves_its_rows_as_they_were(minimal: Minimal) -> None:
    minimal.write_events(*events(1))
    minimal.run_upstream()
    assert build(minimal).success
    minimal.write_events(*events(5, bad=2))
    assert not build(minimal).success
    records = minimal.instance.fetch_materializations(dg.AssetKey("store_days"), limit=10).records
    assert sorted(record.partition_key or "" for record in records) == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert amounts(minimal) == [(date(2024, 1, 1), 10), (date(2024, 1, 2), 2), (date(2024, 1, 3), 10)]


def test_a_failed_first_batch_fails_the_model_before_the_others(minimal: Minimal) -> None:
    minimal.write_events(*events(1, bad=1))
    minimal.run_upstream()
    assert not build(minimal).success
    assert minimal.rows("select 1 from duckdb_tables() where table_name = 'store_days'") == []
    assert minimal.instance.fetch_materializations(dg.AssetKey("store_days"), limit=10).records == []

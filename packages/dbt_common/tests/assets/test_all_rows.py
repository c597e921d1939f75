"""Uniqueness: a run of partitions judges its own rows against all, and the job over all rows what runs do not see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conftest import Minimal

pytestmark = pytest.mark.slow

UNIQUE = "unique_events_daily_id"


@pytest.fixture
def built(minimal: Minimal) -> Minimal:
    minimal.run_upstream()
    assert minimal.run("events_daily", start="2024-01-01", end="2024-01-02").success
    return minimal


def checks(result: dg.ExecuteInProcessResult) -> Mapping[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def test_a_key_that_another_day_has_fails_the_day_that_brings_it(built: Minimal) -> None:
    built.write_events(("a", "2024-01-03 10:00:00", "oslo", "1"), ("e", "2024-01-03 11:00:00", "oslo", "2"))
    result = built.run("events_daily", start="2024-01-03")
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == UNIQUE]
    assert not found.passed
    assert found.metadata["dagster_dbt/failed_row_count"].value == 1


def test_a_key_twice_in_one_window_fails(built: Minimal) -> None:
    built.write_events(("e", "2024-01-03 10:00:00", "oslo", "1"), ("e", "2024-01-03 11:00:00", "oslo", "2"))
    assert not checks(built.run("events_daily", start="2024-01-03"))[UNIQUE]


def test_a_key_twice_in_another_day_is_found_by_the_job_over_all_rows(built: Minimal) -> None:
    job = built.definitions.resolve_job_def("dbt_minimal__all_rows")
    assert job.execute_in_process(instance=built.instance).success
    assert latest(built) == "SUCCEEDED"
    with duckdb.connect(built.warehouse) as connection:
        connection.execute("insert into events_daily from events_daily where id = 'a'")
    assert checks(built.run("events_daily", start="2024-01-02"))[UNIQUE]
    assert not job.execute_in_process(instance=built.instance, raise_on_error=False).success
    assert latest(built) == "FAILED"


def latest(built: Minimal) -> str:
    key = dg.AssetCheckKey(dg.AssetKey("events_daily"), UNIQUE)
    record = built.instance.get_latest_asset_check_evaluation_record(key)
    assert record
    return record.status.value

"""Uniqueness: a run of partitions judges its own rows against all, and the job over all rows what runs do not see."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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


def test_the_job_has_a_schedule_where_one_is_asked_for(minimal: Minimal) -> None:
    assert not minimal.definitions.schedules
    definitions = dbt_definitions(minimal.root / "project", test_all_rows="0 3 * * *")
    schedule = definitions.resolve_schedule_def("dbt_minimal__all_rows")
    assert (schedule.cron_schedule, schedule.default_status) == ("0 3 * * *", dg.DefaultScheduleStatus.RUNNING)
    assert schedule.job_name == "dbt_minimal__all_rows"


def latest(built: Minimal) -> str:
    key = dg.AssetCheckKey(dg.AssetKey("events_daily"), UNIQUE)
    record = built.instance.get_latest_asset_check_evaluation_record(key)
    assert record
    return record.status.value


PAIRS = {
    "dbt_project.yml": """
        name: pairs
        config-version: 2
        profile: pairs
        macro-paths: ["{{ env_var('DAGSTER_DBT_COMMON_MACROS', '') }}"]
        flags: {require_generic_test_arguments_property: true}
    """,
    "profiles.yml": """
        pairs:
          target: duckdb
          outputs:
            duckdb: {type: duckdb, path: "{{ env_var('PAIRS_WAREHOUSE') }}"}
    """,
    "models/pairs.sql": """
        {{ config(
            materialized='incremental',
            incremental_strategy='delete_window+insert',
            event_time='seen_at',
            meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-01-01'}}},
        ) }}
        select 1 as a, 2 as b, timestamp '{{ var('min_date') }}' as seen_at where {{ in_window('seen_at') }}
    """,
    "tests/generic/unique_pair.sql": """
        {% test unique_pair(model, columns) %}
        select {{ columns | join(', ') }} from {{ model }} group by all having count(*) > 1
        {% endtest %}
        {% test no_key(model) %} select * from {{ model }} {% endtest %}
    """,
    "models/pairs.yml": """
        models:
          - name: pairs
            data_tests:
              - unique_pair: {name: pair, arguments: {columns: [a, b]}, config: {where: "__keys_in_window__ and a > 0"}}
              - no_key: {name: no_key, config: {where: __keys_in_window__}}
    """,
}


def test_a_key_of_several_columns_and_a_test_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRS_WAREHOUSE", str(tmp_path / "pairs.duckdb"))
    for name, text in PAIRS.items():
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
    definitions = dbt_definitions(tmp_path / "project")
    for day, is_unique in (("2024-01-01", True), ("2024-01-02", False)):
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)],
                resources=definitions.resources,
                instance=instance,
                partition_key=day,
                raise_on_error=False,
            )
            key = dg.AssetCheckKey(dg.AssetKey("pairs"), "pair")
            record = instance.get_latest_asset_check_evaluation_record(key)
            assert record
            assert (record.status.value == "SUCCEEDED") is is_unique
            (failure,) = [event for event in result.all_events if event.is_step_failure]
            assert "it stands below no column and has no argument `columns`" in str(failure.step_failure_data.error)

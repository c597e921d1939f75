"""Real runs of the minimal project: what dbt builds, and what Dagster hears of it."""

from __future__ import annotations

import gc
import json
import threading
import time
from typing import TYPE_CHECKING, Literal, cast

import dagster as dg
import pytest
from dagster_dbt import DagsterDbtCliRuntimeError

from dagster_dbt_common import DbtResource, prepared_project
from dagster_dbt_common.assets.group_build import READ_UP_TO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conftest import Minimal

    from dagster_dbt_common.engine.process import InProcessDbt

pytestmark = pytest.mark.slow

DAILY = ("events_daily", "large_events", "slow_events", "store_days")
UNKNOWN_STORE = ("e", "2024-01-02 01:00:00", "atlantis", "1")
NOT_A_NUMBER = ("f", "2024-01-02 01:00:00", "oslo", "a lot")


def built(result: dg.ExecuteInProcessResult) -> set[tuple[str, str | None]]:
    """Return what was materialized, with its partition."""
    events = result.get_asset_materialization_events()
    return {(event.materialization.asset_key.to_user_string(), event.partition) for event in events}


def checks(result: dg.ExecuteInProcessResult) -> Mapping[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def invocations(result: dg.ExecuteInProcessResult) -> set[object]:
    materializations = [event.materialization for event in result.get_asset_materialization_events()]
    return {materialization.metadata["invocation_id"].value for materialization in materializations}


def failures(result: dg.ExecuteInProcessResult) -> str:
    """Return all that Dagster says about the failed steps."""
    return "".join(str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure)


def test_a_fresh_project_is_built_group_by_group(minimal: Minimal) -> None:
    first = minimal.run("stg_events", "stg_stores", "store_names", "main/store_history")
    assert first.success
    assert built(first) == {(name, None) for name in ("stg_events", "stg_stores", "store_names", "main/store_history")}
    assert checks(first) == {"source_not_null_raw_events_id": True, "stores_have_events": True}

    # A range is one invocation of dbt; every partition of every model is recorded.
    daily = minimal.run(*DAILY, start="2024-01-01", end="2024-01-03")
    assert daily.success
    assert built(daily) == {(name, f"2024-01-0{day}") for name in DAILY for day in (1, 2, 3)}
    assert len(invocations(daily)) == 1
    assert checks(daily) == {
        "unique_events_daily_id": True,
        "not_null_events_daily_store": True,
        "relationships_events_daily_store__store__ref_store_names_": True,
    }
    hourly = minimal.run("store_hours", start="2024-01-01-00:00", end="2024-01-03-23:00")
    assert len(built(hourly)) == 72
    assert len(invocations(hourly)) == 1

    last = minimal.run("totals")
    assert checks(last) == {"not_null_totals_store": True, "not_null_totals_name": True, "totals_agree": True}
    assert minimal.rows("from totals order by store") == [("oslo", "Oslo", 3, 357), ("paris", "Paris", 1, 5)]
    assert minimal.rows("select sum(events) from store_hours") == [(4,)]

    (materialization,) = [event.materialization for event in last.get_asset_materialization_events()]
    assert materialization.metadata["dagster/row_count"].value == 2
    schema = materialization.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchemaMetadataValue)
    assert [column.name for column in schema.schema.columns] == ["store", "name", "events", "amount"]


def test_trap_a_single_partition_run_has_its_window_and_no_unit_test_runs(minimal: Minimal) -> None:
    minimal.run_upstream()
    result = minimal.run(*DAILY, start="2024-01-02")
    assert result.success, "a unit test of large_events would fail under a window"
    assert built(result) == {(name, "2024-01-02") for name in DAILY}
    # Microbatch included: without its flags dbt would build every day from `begin` until today.
    assert minimal.rows("select distinct day::text from store_days") == [("2024-01-02",)]


def test_trap_the_first_partition_of_a_missing_table_builds_that_alone(minimal: Minimal) -> None:
    minimal.run_upstream()
    assert minimal.run("events_daily", "large_events", start="2024-01-02", end="2024-01-02").success
    assert minimal.rows("select id from events_daily order by all") == [("c",), ("d",)]
    assert minimal.rows("select id from large_events") == [("c",)]


def test_trap_midnight_belongs_to_one_day(minimal: Minimal) -> None:
    minimal.run_upstream()
    assert minimal.run("events_daily", start="2024-01-01").success
    assert minimal.rows("select id from events_daily order by id") == [("a",), ("b",)]
    assert minimal.run("events_daily", start="2024-01-02").success
    assert minimal.rows("select id, count(*) from events_daily group by id order by id") == [
        (name, 1) for name in "abcd"
    ]


def test_trap_an_ephemeral_model_has_the_window_of_its_own_run(minimal: Minimal) -> None:
    """The manifest is loaded once: what dbt injected for the first window must not stay for the second."""
    minimal.run_upstream()
    assert minimal.run("events_daily", start="2024-01-01").success
    assert minimal.rows("select id from events_daily order by all") == [("a",), ("b",)]
    assert minimal.run("events_daily", start="2024-01-02").success
    assert minimal.rows("select id from events_daily order by all") == [("a",), ("b",), ("c",), ("d",)]


def test_a_failed_test_blocks_children_and_not_siblings(minimal: Minimal) -> None:
    minimal.run_upstream()
    minimal.write_events(("a", "2024-01-02 01:00:00", "oslo", "100"), ("e", "2024-01-02 01:00:00", None, "1"))
    result = minimal.run(*DAILY, start="2024-01-02")
    assert not result.success
    assert {name for name, _ in built(result)} == {"events_daily", "large_events", "slow_events"}
    evaluations = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    failed = evaluations["not_null_events_daily_store"]
    assert not failed.passed
    assert failed.severity == dg.AssetCheckSeverity.ERROR
    assert failed.blocking
    assert evaluations["unique_events_daily_id"].passed


def test_a_failed_model_skips_its_children_and_the_next_run_builds_what_is_missing(minimal: Minimal) -> None:
    minimal.run_upstream()
    minimal.write_events(NOT_A_NUMBER)
    broken = minimal.run(*DAILY, start="2024-01-02")
    assert not broken.success
    assert {name for name, _ in built(broken)} == {"slow_events"}, "it does not read the amount"
    assert "Conversion Error" in failures(broken)

    minimal.write_events(("a", "2024-01-02 01:00:00", "oslo", "100"))
    missing = [name for name in DAILY if name not in {name for name, _ in built(broken)}]
    again = minimal.run(*missing, start="2024-01-02")
    assert again.success
    assert {name for name, _ in built(again)} == {"events_daily", "large_events", "store_days"}


def test_a_test_of_severity_warn_does_not_fail_the_run(minimal: Minimal) -> None:
    minimal.run_upstream()
    minimal.write_events(UNKNOWN_STORE)
    minimal.run("events_daily", start="2024-01-02")
    assert minimal.run("store_days", start="2024-01-02").success
    result = minimal.run("totals")
    assert result.success
    (warned,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "not_null_totals_name"]
    assert not warned.passed
    assert warned.severity == dg.AssetCheckSeverity.WARN


def test_a_test_of_two_siblings_waits_for_the_second_and_is_recorded_then(minimal: Minimal) -> None:
    def evaluations() -> Sequence[str]:
        logs = [
            log
            for run in minimal.instance.get_runs()
            for log in minimal.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        ]
        events = [log.dagster_event for log in logs if log.dagster_event is not None]
        return [event.asset_check_evaluation_data.check_name for event in events]

    first = minimal.run("stg_events")
    assert first.success, failures(first)
    assert "stores_have_events" not in evaluations()
    second = minimal.run("stg_stores")
    assert second.success, failures(second)
    assert evaluations().count("stores_have_events") == 1


def test_events_arrive_while_dbt_still_runs(minimal: Minimal) -> None:
    minimal.run_upstream()
    minimal.write_delay(12_000)
    result = minimal.run("large_events", "slow_events", start="2024-01-01")
    logs = minimal.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    times = {log.dagster_event.asset_key.to_user_string(): log.timestamp for log in logs if log.dagster_event}  # type: ignore[union-attr]
    (slow,) = [
        event.materialization.metadata["Execution Duration"].value
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key.to_user_string() == "slow_events"
    ]
    assert isinstance(slow, float)
    assert slow > 0.5, "too quick to say anything: write a longer delay"
    assert times["slow_events"] - times["large_events"] > slow / 2


def test_the_warehouse_can_be_opened_by_another_process_after_a_run(minimal: Minimal) -> None:
    minimal.run_upstream()
    assert minimal.can_be_opened()
    assert minimal.run(*DAILY, start="2024-01-01").success
    assert minimal.can_be_opened()


def test_the_warehouse_can_be_opened_by_another_process_after_a_failed_run(minimal: Minimal) -> None:
    minimal.run_upstream()
    minimal.write_events(NOT_A_NUMBER)
    result = minimal.run(*DAILY, start="2024-01-02")
    assert not result.success
    assert minimal.can_be_opened()


def test_artifacts_are_written_when_they_are_asked_for(minimal: Minimal) -> None:
    minimal.run_upstream()
    invocation = minimal.dbt.cli(["run", "--select", "stg_stores"]).wait()
    assert invocation.is_successful()
    assert not (invocation.target_path / "manifest.json").exists()
    assert not (invocation.target_path / "run_results.json").exists()
    results = invocation.get_artifact("run_results.json")["results"]
    assert [result["unique_id"] for result in results] == ["model.minimal.stg_stores"]
    with pytest.raises(FileNotFoundError):
        invocation.get_artifact("catalog.json")
    written = minimal.dbt.cli(["run", "--write-json", "--select", "stg_stores"]).wait()
    assert (written.target_path / "manifest.json").exists()


def test_a_missing_window_is_a_clear_error(minimal: Minimal) -> None:
    minimal.run_upstream()
    with pytest.raises(DagsterDbtCliRuntimeError, match=r"in_window\(occurred_at\) needs the window of a partition"):
        minimal.dbt.cli(["run", "--select", "large_events"]).wait()


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("{min_date: 2024-01-02, max_date: 2024-01-02}", "is empty: max_date must be after min_date"),
        ("{min_date: '2024-01-01 06:00:00', max_date: 2024-01-02}", "is inside a day partition of large_events"),
    ],
)
def test_a_wrong_window_is_a_clear_error(minimal: Minimal, window: str, message: str) -> None:
    minimal.run_upstream()
    with pytest.raises(DagsterDbtCliRuntimeError, match=message):
        minimal.dbt.cli(["run", "--select", "large_events", "--vars", window]).wait()


def test_wrong_arguments_are_a_clear_error(minimal: Minimal) -> None:
    invocation = minimal.dbt.cli(["build", "--no-such-flag"])
    with pytest.raises(DagsterDbtCliRuntimeError, match="No such option '--no-such-flag'"):
        invocation.wait()
    # Where an error came from may be a frame that has opened the file of the warehouse.
    result = cast("InProcessDbt", invocation.process).result
    assert result is not None
    assert result.exception is not None
    assert result.exception.__traceback__ is None


def test_each_partition_of_a_range_says_what_its_build_could_have_read(minimal: Minimal) -> None:
    """What is loaded after the beginning of a build is newer than what the build records, though its id is smaller."""
    minimal.run_upstream()
    before = minimal.instance.event_log_storage.get_maximum_record_id()
    assert before is not None
    assert minimal.run(*DAILY, start="2024-01-01", end="2024-01-02").success
    read = set()
    for name in DAILY:
        for record in minimal.instance.fetch_materializations(dg.AssetKey(name), limit=2).records:
            assert record.asset_materialization is not None
            tags = record.asset_materialization.tags or {}
            assert before <= int(tags[READ_UP_TO]) < record.storage_id
            read.add(tags[READ_UP_TO])
    assert len(read) == 1, "one build has one beginning"


def is_free_soon(minimal: Minimal) -> bool:
    """Return whether the warehouse is free in a moment, in which one of dbt's threads hears that it was interrupted."""
    deadline = time.monotonic() + 60
    while not (free := minimal.can_be_opened()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return free


def test_dbt_ends_with_a_step_that_dagster_fails(minimal: Minimal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event log refuses what is built first; `slow_events` is in its hook for hours when that is found."""
    minimal.run_upstream()
    minimal.write_delay(3_000_000)
    storage = minimal.instance.event_log_storage
    store = storage.store_event

    def refuse(event: dg.EventLogEntry) -> None:
        if event.dagster_event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            raise OSError("no space is left for it")
        store(event)

    monkeypatch.setattr(storage, "store_event", refuse)
    result = minimal.run("events_daily", "slow_events", start="2024-01-01", end="2024-01-01")
    assert "no space is left for it" in failures(result)
    assert [thread for thread in threading.enumerate() if thread.name == "dbt"] == []
    assert is_free_soon(minimal)
    assert minimal.rows("select table_name from information_schema.tables where table_name like 'slow%'") == []
    gc.collect()  # the end of the reader is no error either


@pytest.mark.some_of("a dbt that nobody reads", 1)
@pytest.mark.parametrize("engine", ["in_process", "subprocess"])
def test_a_dbt_that_nobody_reads_is_ended(minimal: Minimal, engine: Literal["in_process", "subprocess"]) -> None:
    minimal.run_upstream()
    minimal.write_delay(3_000_000)
    project = prepared_project(minimal.root / "project")
    window = json.dumps({"min_date": "2024-01-01", "max_date": "2024-01-02"})
    # Its log is more than a pipe takes.
    flags = ["--log-level", "debug"] if engine == "subprocess" else []
    invocation = DbtResource.of(project, engine=engine).cli(
        [*flags, "run", "--select", "slow_events", "--vars", window], manifest=project.manifest_path
    )
    deadline = time.monotonic() + 90
    while minimal.can_be_opened() and time.monotonic() < deadline:
        time.sleep(1)
    assert invocation.process.poll() is None
    invocation.end()
    assert invocation.process.poll() is not None
    assert is_free_soon(minimal)

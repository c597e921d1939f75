"""The event log that writes in batches: the same log as Dagster's own, which either of the two can read."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterInvariantViolationError
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow

OURS = "event_log_storage: {module: headrace.event_log, class: BatchingSqliteEventLogStorage}\n"
HOURS = dg.HourlyPartitionsDefinition("2024-01-01-00:00")
RANGE = {
    "dagster/asset_partition_range_start": "2024-01-02-03:00",
    "dagster/asset_partition_range_end": "2024-01-04-02:00",
}
# What no two builds have in common.
VOLATILE = {"run_id", "timestamp", "create_timestamp", "event_timestamp"}


@dg.asset(partitions_def=HOURS, code_version="7")
def hourly() -> dg.MaterializeResult:  # type: ignore[type-arg] # Dagster reads the annotation
    return dg.MaterializeResult(metadata={"rows": 3}, tags={"read": "5"})


@dg.asset(deps=[hourly], check_specs=[dg.AssetCheckSpec("adds_up", asset="total")])
def total() -> dg.MaterializeResult:  # type: ignore[type-arg] # Dagster reads the annotation
    dg.get_dagster_logger().info("adding up")
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="adds_up")])


@dg.asset_check(asset=hourly)
def is_right() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


ASSETS: Sequence[Any] = [hourly, is_right]


def home(folder: Path, more: str = "") -> Path:
    folder.mkdir()
    (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{more}")
    return folder


def instance_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> DagsterInstance:
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return DagsterInstance.get()


def build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build a range, and one asset that has no partitions; return the id of the first run."""
    with instance_of(folder, monkeypatch) as instance:
        run = dg.materialize(ASSETS, instance=instance, tags=RANGE, raise_on_error=False)
        dg.materialize([total], instance=instance)
        return run.run_id


def said(folder: Path, run_id: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[tuple[Any, ...]]:
    """Return the events of a run, in the order of their ids."""
    with instance_of(folder, monkeypatch) as instance:
        return [
            (record.event_log_entry.dagster_event.event_type_value, event.asset_key, event.partition, event.step_key)
            for record in instance.get_records_for_run(run_id, limit=10_000).records
            if (event := record.event_log_entry.dagster_event)
        ]


def table(folder: Path, name: str) -> Sequence[Sequence[Any]]:
    """Return a table of the index, without what is of one build alone and the serialized events."""
    with closing(sqlite3.connect(folder / "history" / "runs" / "index.db")) as index:
        columns = [row[1] for row in index.execute(f"pragma table_info({name})")]
        kept = [
            column
            for column in columns
            if not column.endswith(("timestamp", "run_id", "event", "materialization")) and column not in VOLATILE
        ]
        rows = index.execute(f"select {', '.join(kept)} from {name} order by 1").fetchall()
    # What stands for the data is of the run.
    return [row[:-1] if "dagster/data_version" in row else row for row in rows]


@pytest.mark.parametrize("batch", ["0", "7", "1000"])
def test_the_log_is_that_of_dagsters_own_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: str) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch)
    ours, dagsters = home(tmp_path / "ours", OURS), home(tmp_path / "dagsters")
    runs = {folder: build(folder, monkeypatch) for folder in (ours, dagsters)}
    assert len(said(ours, runs[ours], monkeypatch)) > 48
    assert said(ours, runs[ours], monkeypatch) == said(dagsters, runs[dagsters], monkeypatch)
    for name in ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"):
        assert table(ours, name) == table(dagsters, name), name
        assert table(ours, name), name


def test_the_planned_checks_of_a_range_are_the_rows_that_dagster_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.job
    def work() -> None: ...

    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    rows = {}
    for name, config in (("ours", OURS), ("dagsters", "")):
        folder = home(tmp_path / name, config)
        with instance_of(folder, monkeypatch) as instance:
            run = instance.create_run_for_job(work, run_id="4c4a3a5e-8f0e-4a0c-b1a5-0d6f1c2b3a49")
            some = HOURS.subset_with_partition_keys(["2024-01-01-05:00", "2024-01-02-03:00"])
            for subset in (some.to_serializable_subset(), None):
                event = dg.DagsterEvent(
                    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
                    job_name="work",
                    event_specific_data=AssetCheckEvaluationPlanned(
                        asset_key=hourly.key, check_name="is_right", partitions_subset=subset
                    ),
                )
                instance.handle_new_event(
                    dg.EventLogEntry(None, 10, "", run.run_id, 1704067200.5, job_name="work", dagster_event=event)
                )
        with closing(sqlite3.connect(folder / "history" / "runs" / "index.db")) as index:
            columns = [row[1] for row in index.execute("pragma table_info(asset_check_executions)")]
            kept = ", ".join(column for column in columns if column != "create_timestamp")
            rows[name] = index.execute(f"select {kept} from asset_check_executions order by id").fetchall()
    assert rows["ours"] == rows["dagsters"]
    assert len(rows["ours"]) == 3


def test_either_storage_reads_and_continues_what_the_other_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    folder = home(tmp_path / "home", OURS)
    ids: list[int] = []
    for config in (OURS, "", OURS):
        (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{config}")
        run_id = build(folder, monkeypatch)
        with instance_of(folder, monkeypatch) as instance:
            by_partition = instance.get_latest_storage_id_by_partition(
                hourly.key, dg.DagsterEventType.ASSET_MATERIALIZATION
            )
            assert len(by_partition) == 48
            # In the order of the partitions, and after all that was there.
            assert list(by_partition) == sorted(by_partition)
            assert [*by_partition.values()] == sorted(by_partition.values())
            assert min(by_partition.values()) > max(ids, default=0)
            ids += by_partition.values()
            (record,) = instance.get_asset_records([hourly.key])
            entry = record.asset_entry
            assert (entry.last_materialization_storage_id, entry.last_run_id) == (max(ids), run_id)
            (newest, *_) = instance.fetch_materializations(hourly.key, limit=1).records
            assert newest.asset_materialization
            assert (newest.partition_key, newest.asset_materialization.tags or {}) == (
                "2024-01-04-02:00",
                {**(newest.asset_materialization.tags or {}), "read": "5", "dagster/code_version": "7"},
            )


def test_the_file_of_each_run_has_the_tables_of_dagsters_own_and_its_own_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.job
    def work() -> None: ...

    made: dict[str, set[str]] = {}
    for name, config in (("ours", OURS), ("dagsters", "")):
        folder = home(tmp_path / name, config)
        with instance_of(folder, monkeypatch) as instance:
            runs = [instance.create_run_for_job(work) for _ in range(3)]
            for number, run in enumerate(runs):
                instance.report_engine_event(f"event {number}", run)
            for number, run in enumerate(runs):
                assert [entry.message for entry in instance.all_logs(run.run_id)] == [f"event {number}"]
        files = folder / "history" / "runs"
        assert {file.stem for file in files.glob("*.db")} == {"index", *(run.run_id for run in runs)}
        assert not [file for file in files.iterdir() if file.name.startswith(".")], "nothing is left"
        assert len({file.stat().st_mode for file in files.glob("*.db")}) == 1
        made[name] = {schema_of(files / f"{run.run_id}.db") for run in runs}
    assert made["ours"] == made["dagsters"]
    assert len(made["ours"]) == 1


def schema_of(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(
            [
                connection.execute(sql).fetchall()
                for sql in (
                    "select sql from sqlite_master order by name",
                    "select * from alembic_version",
                    "pragma journal_mode",
                    "pragma integrity_check",
                )
            ]
        )


def test_a_file_that_another_process_has_made_by_then_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.job
    def work() -> None: ...

    folder = home(tmp_path / "home", OURS)
    with instance_of(folder, monkeypatch) as ours, DagsterInstance.get() as other:
        for instance in (ours, other):
            instance.create_run_for_job(work)  # each has an empty file to copy
            instance.report_engine_event("first", instance.get_runs(limit=1)[0])
        run = other.create_run_for_job(work)
        other.report_engine_event("of the other", run)
        ours.report_engine_event("of ours", run)
        other.report_engine_event("of the other again", run)
        told = [entry.message for entry in ours.all_logs(run.run_id)]
    assert told == ["of the other", "of ours", "of the other again"]


KILLED = """
import os, signal
import dagster as dg
from test_event_log import RANGE, hourly
with dg.DagsterInstance.get() as instance:
    run = dg.materialize([hourly], instance=instance, tags=RANGE)
    print(run.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_loses_nothing_that_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home(tmp_path / "home", OURS)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        check=False,
        env={
            **os.environ,
            "DAGSTER_HOME": str(folder),
            "DAGSTER_EVENT_BATCH_SIZE": "1000",
            "PYTHONPATH": str(Path(__file__).parent),
        },
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with instance_of(folder, monkeypatch) as instance:
        assert len(instance.get_materialized_partitions(hourly.key)) == 48
        run = instance.get_run_by_id(killed.stdout.strip())
        assert run is not None
        assert run.is_success


def test_it_says_where_its_folder_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    folder = home(tmp_path / "home", OURS)
    with pytest.raises(DagsterInvariantViolationError, match="has no base_dir, and DAGSTER_HOME is not set"):
        DagsterInstance.from_config(str(folder))

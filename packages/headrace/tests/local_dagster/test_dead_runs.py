"""A run whose process was killed is ended and told, and its pool is free again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from headrace.deployed.run_process import this_machine
from headrace.local_dagster.dead_runs import DeadRuns
from headrace.main_job.plan import BuildPlan
from headrace.main_job.report import BACKFILL_TAG, Failure, RunReport

NOBODY = 2**22 + 1
"""A number that no process has: one more than the most of Linux."""

LOCATION = """
import time
import dagster as dg

@dg.op(pool="one")
def sleeps():
    time.sleep(300)

@dg.job(executor_def=dg.in_process_executor)
def sleep():
    sleeps()

defs = dg.Definitions(jobs=[sleep])
"""


@pytest.mark.slow
def test_a_killed_run_is_failed_and_its_slot_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/dagster.yaml").write_text(
        "telemetry: {enabled: false}\nconcurrency: {pools: {granularity: op, default_limit: 1}}\n"
    )
    (tmp_path / "location.py").write_text(LOCATION)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    command = [sys.executable, "-m", "dagster", "job", "execute", "-f", str(tmp_path / "location.py"), "-j", "sleep"]
    command += ["--tags", json.dumps({BACKFILL_TAG: "of-the-test"})]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with DagsterInstance.get() as instance:
        deadline = time.monotonic() + 60
        while not instance.event_log_storage.get_concurrency_run_ids():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (run,) = instance.get_runs()
        DeadRuns(instance).mend()
        assert instance.get_run_by_id(run.run_id).status == DagsterRunStatus.STARTED  # type: ignore[union-attr]

        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        DeadRuns(instance).mend()
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status == DagsterRunStatus.FAILURE
        report = RunReport(instance, "of-the-test", BuildPlan({}, {}))
        report.update()
        assert report.failures == [
            Failure(f"run {run.run_id[:8]}", f"its process, {process.pid}, is gone: it was killed")
        ]
        assert not instance.event_log_storage.get_concurrency_run_ids()


def test_a_run_whose_number_is_another_process_by_now_is_failed_and_its_slot_is_free(tmp_path: Path) -> None:
    """After a reboot the number of a dead run is that of some process, which then stood for it for ever."""
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nconcurrency: {pools: {granularity: op, default_limit: 1}}\n"
    )

    @dg.job
    def sleep() -> None:
        pass

    other = subprocess.Popen(["/bin/sleep", "60"])
    try:
        with DagsterInstance.from_config(str(tmp_path)) as instance:
            run = instance.create_run_for_job(sleep, status=DagsterRunStatus.STARTED)
            before_the_reboot = time.time() - 3600
            instance.handle_new_event(_started(run.run_id, other.pid, before_the_reboot))
            instance.event_log_storage.initialize_concurrency_limit_to_default("one")
            instance.event_log_storage.claim_concurrency_slot("one", run.run_id, "sleeps")
            assert instance.event_log_storage.get_concurrency_run_ids() == {run.run_id}

            DeadRuns(instance).mend()
            ended = instance.get_run_by_id(run.run_id)
            assert ended is not None
            assert ended.status == DagsterRunStatus.FAILURE
            assert not instance.event_log_storage.get_concurrency_run_ids()
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    ("machine", "status"),
    [
        ("another/{namespace}/{boot}", DagsterRunStatus.STARTED),
        ("{host}/1/{boot}", DagsterRunStatus.FAILURE),  # a container that was started again
        ("{host}/{namespace}/before-the-reboot", DagsterRunStatus.FAILURE),
        ("{host}/{namespace}/{boot}", DagsterRunStatus.FAILURE),
    ],
)
def test_a_run_of_another_machine_is_left_alone(tmp_path: Path, machine: str, status: DagsterRunStatus) -> None:
    """Of an instance that machines share, the number of another one's process is nobody's here, or somebody else's."""
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nconcurrency: {pools: {granularity: op, default_limit: 1}}\n"
        "run_launcher: {module: headrace.deployed.launcher, class: LocalRunLauncher}\n"
    )

    @dg.job
    def sleep() -> None:
        pass

    host, namespace, boot = this_machine().split("/")
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.create_run_for_job(sleep, status=DagsterRunStatus.STARTED)
        where = machine.format(host=host, namespace=namespace, boot=boot)
        instance.handle_new_event(_started(run.run_id, NOBODY, time.time(), where))
        instance.event_log_storage.initialize_concurrency_limit_to_default("one")
        instance.event_log_storage.claim_concurrency_slot("one", run.run_id, "sleeps")

        DeadRuns(instance).mend()
        known = instance.get_run_by_id(run.run_id)
        assert known is not None
        assert known.status == status
        assert bool(instance.event_log_storage.get_concurrency_run_ids()) is (status is DagsterRunStatus.STARTED)
        health = instance.run_launcher.check_run_worker_health(run)
        assert health.status == (WorkerStatus.RUNNING if status is DagsterRunStatus.STARTED else WorkerStatus.FAILED)


def test_a_run_of_a_worker_is_left_to_its_launcher(tmp_path: Path) -> None:
    """The number of its process is of another machine, and where the broker is away nobody knows more."""
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nrun_launcher: {module: headrace.celery_runs, class: WatchedCeleryRunLauncher, "
        "config: {broker: 'redis://127.0.0.1:9/0'}}\n"
    )

    @dg.job
    def sleep() -> None:
        pass

    with DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.create_run_for_job(sleep, status=DagsterRunStatus.STARTED)
        instance.handle_new_event(_started(run.run_id, NOBODY, time.time()))
        DeadRuns(instance).mend()
        known = instance.get_run_by_id(run.run_id)
        assert known is not None
        assert known.status is DagsterRunStatus.STARTED
        health = instance.run_launcher.check_run_worker_health(run)
        assert (health.status, "Redis cannot be asked for it" in (health.msg or "")) == (WorkerStatus.RUNNING, True)


def _started(run_id: str, pid: int, at: float, machine: str | None = None) -> dg.EventLogEntry:
    """Return the event by which a run says what process it is, and its launcher where."""
    said = {"pid": str(pid), **({"headrace/machine": machine} if machine else {})}
    event = dg.DagsterEvent(
        event_type_value="ENGINE_EVENT", job_name="sleep", event_specific_data=EngineEventData(said)
    )
    return dg.EventLogEntry(
        error_info=None, level=20, user_message="", run_id=run_id, timestamp=at, job_name="sleep", dagster_event=event
    )

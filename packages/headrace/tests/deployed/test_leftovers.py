"""What is left of a run that no guard watches ends when its process is found gone, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
import psutil
import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from headrace.deployed.launcher import LocalRunLauncher
from headrace.deployed.leftovers import end_leftovers
from headrace.local_dagster.dead_runs import DeadRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import KillingTail

pytestmark = pytest.mark.slow

INSTANCE = """
telemetry: {enabled: false}
run_launcher: {module: headrace.deployed.launcher, class: LocalRunLauncher}
"""
LOCATION = """
import subprocess
import dagster as dg

@dg.op
def sleeps():
    subprocess.run(["/bin/sleep", "3600"])

@dg.job(executor_def=dg.EXECUTOR)
def sleep():
    sleeps()

defs = dg.Definitions(jobs=[sleep])
"""


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_there(process: psutil.Process) -> bool:
    """Return whether a process lives; one that is dead, and not yet waited for, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def executed(folder: Path, executor: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Execute a run whose step sleeps."""
    (folder / "location.py").write_text(LOCATION.replace("EXECUTOR", executor))
    command = [sys.executable, "-m", "dagster", "job", "execute", "-f", str(folder / "location.py"), "-j", "sleep"]
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/dagster.yaml").write_text(INSTANCE)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with DagsterInstance.get() as found:
        yield found


@pytest.mark.slow
def test_what_copies_the_output_of_a_killed_run_ends_and_what_reads_it_stays(
    tmp_path: Path, instance: DagsterInstance, killing_tail: KillingTail
) -> None:
    with executed(tmp_path, "in_process_executor", PATH=killing_tail.path) as process:
        process.wait(90)
    wait_until(killing_tail.has_started)
    assert killing_tail.lives(), "Dagster itself ends it by now: the product need not"
    (run,) = instance.get_runs()
    (file,) = (tmp_path / "home").glob(f"storage/{run.run_id}/compute_logs/*.out")
    with subprocess.Popen(["tail", "-F", "-c", "+0", file], stdout=subprocess.DEVNULL) as reader:  # noqa: S607
        try:
            DeadRuns(instance).mend()
            wait_until(lambda: not killing_tail.lives())
            assert reader.poll() is None
        finally:
            reader.kill()
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is DagsterRunStatus.FAILURE


@pytest.mark.slow
def test_a_step_of_a_killed_run_ends_with_what_it_started(tmp_path: Path, instance: DagsterInstance) -> None:
    def steps() -> list[psutil.Process]:
        return [
            psutil.Process(int(str(record.event_log_entry.dagster_event.engine_event_data.metadata["pid"].value)))  # type: ignore[union-attr]
            for run in instance.get_runs()
            for record in instance.get_records_for_run(run.run_id, of_type=DagsterEventType.STEP_WORKER_STARTED).records
        ]

    with executed(tmp_path, "multiprocess_executor") as process:
        wait_until(lambda: any("/bin/sleep" in child.cmdline() for step in steps() for child in step.children()))
        (step,) = steps()
        left = [step, *step.children(recursive=True)]
        process.kill()
        process.wait()
        (run,) = instance.get_runs()
        assert is_there(step), "Dagster itself ends it by now: the product need not"
        launcher = instance.run_launcher
        assert isinstance(launcher, LocalRunLauncher)
        assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    wait_until(lambda: not any(map(is_there, left)))


def test_a_run_that_was_asked_to_end_and_is_gone_is_canceled(instance: DagsterInstance) -> None:
    run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job(), status=DagsterRunStatus.STARTED)
    with subprocess.Popen(["/bin/true"]) as gone:
        gone.wait()
    instance.report_engine_event("It is a process.", run, EngineEventData.in_process(gone.pid))
    instance.report_run_canceling(run)
    DeadRuns(instance).mend()
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is DagsterRunStatus.CANCELED


def test_a_run_that_never_was_leaves_nothing(instance: DagsterInstance) -> None:
    end_leftovers(instance, "00000000-0000-0000-0000-000000000000")


def test_only_who_leads_a_group_is_guarded() -> None:
    code = "from headrace.deployed.leftovers import guard_group; guard_group()"
    done = subprocess.run(["/bin/sh", "-c", f'"{sys.executable}" -c "{code}"; true'], check=False, capture_output=True)
    assert done.returncode == 0
    assert b"not in one of its own" in done.stderr


def test_a_guard_keeps_nothing_open_and_ends() -> None:
    code = "from headrace.deployed.leftovers import guard_group; guard_group(); print('ends')"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        # Reading ends when nobody has the other end of the pipe open.
        assert process.communicate()[0] == b"ends\n"
        assert process.returncode == 0
    wait_until(lambda: not any(_group(one) == process.pid and is_there(one) for one in psutil.process_iter()))


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None

"""Whose process a number is, and what the launcher takes of Dagster."""

import os
import subprocess
import time
from pathlib import Path

from dagster import DagsterInstance, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

from headrace.deployed.launcher import LocalRunLauncher
from headrace.deployed.run_process import RunProcess


def test_a_number_is_the_process_that_had_it_when_it_said_so() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert RunProcess(child.pid, time.time()).lives()
        assert not RunProcess(child.pid, time.time() - 3600).lives(), "a later process has got the number"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not RunProcess(child.pid, time.time()).lives(), "a zombie is gone"
    finally:
        child.kill()
        child.wait()
    assert not RunProcess(child.pid, time.time()).lives()


def test_what_the_launcher_takes_of_dagster_is_there(tmp_path: Path) -> None:
    assert issubclass(LocalRunLauncher, DefaultRunLauncher)
    assert CheckRunHealthResult(WorkerStatus.FAILED, "gone").status == WorkerStatus.FAILED
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nrun_launcher: {module: headrace.deployed.launcher, class: LocalRunLauncher}\n"
    )
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, LocalRunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health

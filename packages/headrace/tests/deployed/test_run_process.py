"""Whose process a number is, and what the launcher takes of Dagster."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DefaultRunLauncher
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

from headrace.deployed.launcher import LocalRunLauncher
from headrace.deployed.run_process import RunProcess, says_machine, this_machine, uptime


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


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_ends_no_run(tmp_path: Path, hours: int) -> None:
    """What a launcher and a run said an hour ago, or in an hour, by the clock of now: the process is the same."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    said = EngineEventData({"pid": str(os.getpid()), **says_machine()})
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
        event = DagsterEvent(DagsterEventType.ENGINE_EVENT.value, run.job_name, message="", event_specific_data=said)
        instance.report_dagster_event(event, run.run_id, timestamp=time.time() + 3600 * hours)
        process = RunProcess.of(instance, run.run_id)
        assert process is not None
        assert process.lives()
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        assert began < uptime()
        assert not replace(process, said_in=began - 60).lives(), "a later process has got the number"


def test_another_machine_and_another_start_of_this_one_are_told_apart() -> None:
    host, namespace, boot = this_machine().split("/")
    here = RunProcess(os.getpid(), time.time(), this_machine())
    assert (here.host, here.lives()) == (None, True)
    assert RunProcess(os.getpid(), time.time()).host is None, "nobody said so: it counts as started here"
    rebooted = RunProcess(os.getpid(), time.time(), f"{host}/{namespace}/another-start")
    assert (rebooted.host, rebooted.lives()) == (None, False)
    assert RunProcess(os.getpid(), time.time(), f"another/{namespace}/{boot}").host == "another"
    restarted = RunProcess(os.getpid(), time.time(), f"{host}/1/{boot}")
    assert (restarted.host, restarted.lives()) == (None, False), "a container that was started again"


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace is made, which needs root")
def test_a_process_of_a_container_is_of_another_machine() -> None:
    code = "from headrace.deployed.run_process import this_machine; print(this_machine())"
    script = 'hostname another && exec "$0" -c "$1"'
    namespaces = ["unshare", "--pid", "--uts", "--fork", "--mount-proc"]
    command = [*namespaces, "sh", "-c", script, sys.executable, code]
    inside = subprocess.run(command, check=False, capture_output=True, text=True)
    if inside.returncode:
        pytest.skip(f"this root may not make a namespace, as in many containers: {inside.stderr.strip()}")
    assert RunProcess(os.getpid(), time.time(), inside.stdout.strip()).host == "another"
    host, namespace, boot = inside.stdout.strip().split("/")
    assert (host, boot) == ("another", this_machine().split("/")[2])
    assert namespace != this_machine().split("/")[1]


def test_what_the_launcher_takes_of_dagster_is_there(tmp_path: Path) -> None:
    assert issubclass(LocalRunLauncher, DefaultRunLauncher)
    assert CheckRunHealthResult(WorkerStatus.FAILED, "gone").status == WorkerStatus.FAILED
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nrun_launcher: {module: headrace.deployed.launcher, class: LocalRunLauncher}\n"
    )
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, LocalRunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health

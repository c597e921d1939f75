"""Runs that are forks: what they are forks of, how they end, and where the launcher stays Dagster's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus

from headrace.deployed.run_process import RunProcess, this_machine
from headrace.local_dagster.dead_runs import DeadRuns
from headrace.local_dagster.storage import create_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import KillingTail

pytestmark = pytest.mark.slow("a code server and a run that is launched, a dozen times")

BIN = Path(sys.executable).parent
# The command that launches a run is what a run queue's daemon is elsewhere.
INSTANCE = """
telemetry: {enabled: false}
run_launcher: {module: headrace.forked_runs, class: ForkedRunLauncher}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""
LOCATION = """
import os
import subprocess
import time
from pathlib import Path

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs

HERE = Path(__file__).parent
(HERE / f"imported {os.getpid()}").touch()


@dg.op
def works():
    if (HERE / "program").exists():
        subprocess.Popen(["/bin/sleep", "3600"])
    (HERE / "run").write_text(f"{os.getpid()} {os.getppid()} {os.getsid(0)}")
    for _ in range(600 if (HERE / "slow").exists() else 1):
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def work():
    works()


@dg.op
def steps():
    (HERE / "step").write_text(f"{os.getpid()} {os.getppid()}")


@dg.job(executor_def=dg.multiprocess_executor)
def several():
    steps()


class Stored(dg.StateBackedComponent):
    defs_state_config = DefsStateConfig.from_args(DefsStateConfigArgs.legacy_code_server_snapshots(), "stored")

    def write_state_to_path(self, state_path):
        state_path.write_text("made")

    def build_defs_from_state(self, context, state_path):
        return dg.Definitions(assets=[dg.AssetSpec(state_path.read_text())])


@dg.definitions
def defs():
    (HERE / f"defined {os.getpid()}").touch()
    stored = dg.build_defs_for_component(Stored()) if (HERE / "stored").exists() else dg.Definitions()
    return dg.Definitions.merge(dg.Definitions(jobs=[work, several]), stored)
"""

FORKS = """
import multiprocessing
from multiprocessing import forkserver

import duckdb


def query():
    duckdb.sql("create table t as select range as i, repeat('x', 50) as x from range(100000)")
    assert duckdb.sql("select count(distinct x || i) from t").fetchall() == [(100000,)]


if __name__ == "__main__":
    forkserver.set_forkserver_preload(["duckdb", "dbt.adapters.duckdb"])
    context = multiprocessing.get_context("forkserver")
    for _ in range(20):
        several = [context.Process(target=query) for _ in range(4)]
        for process in several:
            process.start()
        for process in several:
            process.join(30)
            assert process.exitcode == 0, process
"""


@dataclass(frozen=True)
class Served:
    """A location whose server runs.

    Args:
        home: the folder of everything.
        server: the server's process.
    """

    home: Path
    server: int

    @contextmanager
    def launching(self, job: str = "work", **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Launch a run as a daemon would; the command ends with its run."""
        command = [BIN / "dagster", "job", "launch", "-w", self.home / "workspace.yaml", "-l", "shop", "-j", job]
        with (self.home / "launch.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.home, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()

    @property
    def forking(self) -> dict[str, str]:
        """Return the environment of a process that forks its runs."""
        return {
            "HEADRACE_PRELOADED_LOCATIONS": json.dumps({"shop": "shop"}),
            "HEADRACE_FORKED_RUNS_LOG": str(self.home / "runs.log"),
        }

    def run(self) -> tuple[int, int, int]:
        """Return the process, the parent and the session of the run, once it works."""
        wait_until((self.home / "run").exists)
        wait_until(lambda: len((self.home / "run").read_text().split()) == 3)
        pid, parent, session = map(int, (self.home / "run").read_text().split())
        return pid, parent, session

    def imported(self, pid: int) -> bool:
        """Return whether a process itself imported the location."""
        return (self.home / f"imported {pid}").exists()

    def defined(self, pid: int) -> bool:
        """Return whether a process itself made the definitions."""
        return (self.home / f"defined {pid}").exists()


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def of_session(number: int) -> list[str]:
    """Return the command lines of the processes of a session; one that is dead, and not yet waited for, has none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if command and os.getsid(int(process.name)) == number:
                found.append(command)
    return found


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serving(tmp_path, monkeypatch, "-m", "shop") as served:
        yield served


@contextmanager
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *target: str, stored: bool = False) -> Iterator[Served]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(INSTANCE)
    (tmp_path / "shop.py").write_text(LOCATION)
    if stored:
        (tmp_path / "stored").touch()
    create_storage()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    entry = {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": "shop"}}
    (tmp_path / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [entry]}))
    command = [*(BIN / "dagster", "api", "grpc", *target), *("--host", "127.0.0.1", "--port", str(port))]
    served = Served(tmp_path, 0)
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--location-name", "shop"],
            cwd=tmp_path,
            env={**os.environ, **served.forking},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: answers(port))
        yield replace(served, server=server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def only_status() -> DagsterRunStatus:
    with DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        return run.status


def only_machine() -> str | None:
    """Return where the only run was started, as it says."""
    with DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        process = RunProcess.of(instance, run.run_id)
        return process and process.machine


def test_a_run_is_a_fork_of_a_process_that_has_loaded_the_location(served: Served) -> None:
    with served.launching(**served.forking) as command:
        pid, parent, session = served.run()
    assert only_status() is DagsterRunStatus.SUCCESS
    assert parent not in (command.pid, served.server)
    assert (served.imported(parent), served.imported(pid)) == (True, False)
    assert only_machine() == this_machine()
    # The terminal's Ctrl-C is for the command alone.
    assert session == pid
    assert "RUN_SUCCESS" in (served.home / "runs.log").read_text()
    assert "RUN_SUCCESS" not in (served.home / "launch.log").read_text()
    wait_until(lambda: not Path(f"/proc/{parent}").exists())


LOADED = ("-m", "headrace.deployed.loaded_definitions", "-a", "shop")
"""What the servers of `headrace run` serve."""


def test_a_fork_takes_the_definitions_that_were_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch, *LOADED) as served:
        with served.launching(**served.forking):
            pid, parent, _ = served.run()
        assert only_status() is DagsterRunStatus.SUCCESS
        assert (served.defined(parent), served.defined(pid)) == (True, False)


@pytest.mark.some_of("what happens to a fork", 2)
def test_a_step_that_is_a_process_of_its_own_loads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch, *LOADED) as served:
        with served.launching("several", **served.forking):
            pass
        assert only_status() is DagsterRunStatus.SUCCESS
        pid, parent = map(int, (served.home / "step").read_text().split())
        assert (served.defined(pid), served.defined(parent)) == (True, False)


@pytest.mark.some_of("what happens to a fork", 2)
def test_definitions_made_from_a_state_are_made_again_by_who_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a fork shares would be another state than that which its server knows."""
    with serving(tmp_path, monkeypatch, *LOADED, stored=True) as served:
        with served.launching(**served.forking):
            pid, parent, _ = served.run()
        assert only_status() is DagsterRunStatus.SUCCESS
        assert (served.defined(parent), served.defined(pid)) == (True, True)


@pytest.mark.some_of("what happens to a fork", 2)
def test_a_fork_is_terminated_as_any_run(served: Served) -> None:
    (served.home / "slow").touch()
    with served.launching(**served.forking), DagsterInstance.get() as instance:
        served.run()
        (run,) = instance.get_runs()
        assert instance.run_launcher.terminate(run.run_id)
    assert only_status() is DagsterRunStatus.CANCELED


@pytest.mark.some_of("what happens to a fork", 2)
def test_nothing_outlives_a_fork_that_is_killed(served: Served) -> None:
    (served.home / "slow").touch()
    (served.home / "program").touch()
    with served.launching(**served.forking), DagsterInstance.get() as instance:
        pid, _, session = served.run()
        commands = " ".join(of_session(session))
        assert all(started in commands for started in ("tail -F", "watch_orphans.py", "/bin/sleep 3600"))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not of_session(session))
        DeadRuns(instance).mend()
    assert only_status() is DagsterRunStatus.FAILURE


@pytest.mark.some_of("what happens to a fork", 2)
def test_nothing_outlives_a_fork_that_ends(served: Served) -> None:
    (served.home / "program").touch()
    with served.launching(**served.forking):
        _, _, session = served.run()
    wait_until(lambda: not of_session(session))
    assert only_status() is DagsterRunStatus.SUCCESS


@pytest.mark.some_of("what happens to a fork", 2)
def test_nothing_outlives_a_fork_that_is_killed_while_it_starts_to_copy_its_output(
    served: Served, killing_tail: KillingTail
) -> None:
    with served.launching(PATH=killing_tail.path, **served.forking), DagsterInstance.get() as instance:
        wait_until(killing_tail.has_started)
        wait_until(lambda: not killing_tail.lives())
        DeadRuns(instance).mend()
    assert only_status() is DagsterRunStatus.FAILURE


@pytest.mark.some_of("what happens to a fork", 2)
def test_a_fork_that_is_killed_before_its_first_word_is_found(served: Served) -> None:
    """It cannot open its log, and dies before it can write anything to the history."""
    (served.home / "runs.log").mkdir()
    with served.launching(**served.forking), DagsterInstance.get() as instance:
        wait_until(lambda: instance.get_runs_count() == 1)
        dead_runs = DeadRuns(instance)

        def is_failed() -> bool:
            dead_runs.mend()
            return only_status() is DagsterRunStatus.FAILURE

        wait_until(is_failed)


def test_a_fork_of_a_process_that_has_imported_duckdb_can_query(tmp_path: Path) -> None:
    """The library starts a thread at its import, which no fork has."""
    (tmp_path / "forks.py").write_text(FORKS)
    subprocess.run([sys.executable, tmp_path / "forks.py"], check=True, timeout=100)


@pytest.mark.some_of("what happens to a fork", 2)
def test_elsewhere_the_server_of_the_location_starts_the_run(served: Served) -> None:
    with served.launching():
        pid, parent, _ = served.run()
    assert (parent, served.imported(pid)) == (served.server, True)
    wait_until(lambda: only_status() is DagsterRunStatus.SUCCESS)
    assert only_machine() == this_machine()


@pytest.mark.some_of("what happens to a fork", 2)
def test_a_location_that_does_not_load_any_more_fails_its_run(served: Served) -> None:
    (served.home / "shop.py").write_text("raise ValueError('no such thing')\n")
    with served.launching(**served.forking):
        pass
    assert only_status() is DagsterRunStatus.FAILURE
    with DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        said = "".join(str(record.dagster_event) for record in instance.all_logs(run.run_id))
    assert "no such thing" in said

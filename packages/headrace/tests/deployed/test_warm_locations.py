"""Runs of a daemon that keeps its locations loaded: over a real `dagster dev`, its code servers, its terminal."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.instance.ref import InstanceRef

from headrace.deployed.run_process import RunProcess, this_machine
from headrace.deployed.warm_locations import CodeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.slow("a `dagster dev` and the runs that it launches"),
    pytest.mark.timeout(300),
]

BIN = Path(sys.executable).parent
INSTANCE = """
telemetry: {enabled: false}
run_launcher: {module: headrace.forked_runs, class: ForkedRunLauncher, config: CONFIG}
run_queue: {dequeue_interval_seconds: 1}
"""
LOCATION = """
import os
import time
from pathlib import Path

import dagster as dg
from dagster.components import DefsStateConfig, DefsStateConfigArgs

HERE = Path(__file__).parent / "state"
(HERE / f"imported {os.getpid()}").touch()
VERSION = "first"


def tell(what):
    (HERE / "telling").write_text(f"{os.getpid()} {os.getppid()} {what} {os.environ.get('FROM_FILE')}")
    (HERE / "telling").rename(HERE / "told")


@dg.op
def works():
    tell(VERSION)


@dg.op
def waits():
    tell(VERSION)
    for _ in range(1200):
        if (HERE / "go").exists():
            return
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def work():
    works()


@dg.job(executor_def=dg.in_process_executor)
def wait():
    waits()


@dg.job(executor_def=dg.multiprocess_executor)
def several():
    works()


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
    return dg.Definitions.merge(dg.Definitions(jobs=[work, wait, several]), stored)
"""
LAUNCH = """
mutation ($job: String!) { launchRun(executionParams: {
  selector: {repositoryLocationName: "shop.py", repositoryName: "__repository__", jobName: $job}, runConfigData: {} }) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
VARIABLES = {"DAGSTER_PROJECT_ENV_FILE_PATHS": '{"shop.py": "variables"}'}
"""As `dg dev` names the `.env` file of each project."""
RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "shop.py") { __typename } }"""


@dataclass(frozen=True)
class Told:
    """What a step said of its process."""

    pid: int
    parent: int
    version: str
    variable: str


@dataclass(frozen=True)
class Dev:
    """A `dagster dev` that serves.

    Args:
        home: its folder; in `state` is what the location writes, since a folder whose files it reads is looked at.
        port: that of its webserver.
        process: its number.
    """

    home: Path
    port: int
    process: int

    @property
    def state(self) -> Path:
        return self.home / "state"

    def ask(self, query: str, **variables: str) -> dict[str, Any]:
        asked = {"query": query, "variables": variables}
        answer = requests.post(f"http://127.0.0.1:{self.port}/graphql", json=asked, timeout=60).json()
        assert answer.get("data"), answer
        found: dict[str, Any] = answer["data"]
        return found

    def launch(self, job: str = "work") -> str:
        """Launch a run; return its id."""
        (self.state / "told").unlink(missing_ok=True)
        answer = self.ask(LAUNCH, job=job)["launchRun"]
        return str(answer["run"]["runId"])

    def status(self, run_id: str) -> DagsterRunStatus:
        with self.instance() as instance:
            run = instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        with DagsterInstance.from_ref(InstanceRef.from_dir(str(self.home / "dagster"))) as instance:
            yield instance

    def told(self) -> Told:
        wait_until((self.state / "told").exists)
        pid, parent, version, variable = (self.state / "told").read_text().split()
        return Told(int(pid), int(parent), version, variable)

    def run(self, job: str = "work") -> Told:
        """Run a job to its end; return what its step said."""
        run_id = self.launch(job)
        wait_until(lambda: self.status(run_id).value in ("SUCCESS", "FAILURE", "CANCELED"))
        assert self.status(run_id) is DagsterRunStatus.SUCCESS
        return self.told()

    def warm(self) -> list[psutil.Process]:
        """Return the processes that keep a location loaded."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                # A run has the command line of what it was forked from.
                of_us = str(self.home) == process.cwd() and "warm_location.py" in " ".join(process.cmdline())
                if of_us and "warm_location.py" not in " ".join(process.parent().cmdline()):  # type: ignore[union-attr]
                    found.append(process)
        return found

    def wait_until_warm(self) -> int:
        """Wait until the location is loaded as it is now; return the process."""

        def is_warm() -> bool:
            said = (self.home / "dev.log").read_text()
            return any(f"its runs are forks of process {each.pid}" in said for each in self.warm())

        wait_until(is_warm)
        (process,) = self.warm()
        return process.pid

    def times_loaded(self) -> int:
        return (self.home / "dev.log").read_text().count("its runs are forks of process")

    def has(self, what: str, pid: int) -> bool:
        return (self.state / f"{what} {pid}").exists()


def wait_until(true: Callable[[], bool], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def developing(home: Path, *, terminal: bool = False, config: str = "{}") -> Iterator[Dev]:
    """Run `dagster dev`, in a session of its own; with a terminal, as somebody who types; with a launcher's config."""
    for folder in ("dagster", "state", "variables"):
        (home / folder).mkdir()
    (home / "dagster" / "dagster.yaml").write_text(INSTANCE.replace("CONFIG", config))
    (home / "shop.py").write_text(LOCATION)
    (home / "variables" / ".env").write_text("FROM_FILE=one\n")
    port = free_port()
    command = [str(BIN / "dagster"), "dev", "-f", "shop.py", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(home / "dagster"), **VARIABLES}
    log = home / "dev.log"
    if terminal:
        pid, ours = pty.fork()
        if pid == 0:
            os.chdir(home)
            os.execve(command[0], command, environment)  # noqa: S606 - Dagster's own command
        dev = Dev(home, port, pid)
        with log.open("wb") as out:
            copying = subprocess.Popen(["/bin/cat"], stdin=ours, stdout=out, stderr=subprocess.DEVNULL)
    else:
        ours, copying = -1, None
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=home, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        dev = Dev(home, port, process.pid)
    try:
        wait_until(lambda: answers(port))
        yield dev
    finally:
        if terminal:
            os.write(ours, b"\x03")
            os.waitpid(dev.process, 0)
            os.close(ours)
        else:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        if copying:
            copying.wait(60)
        wait_until(lambda: not dev.warm())


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with developing(tmp_path_factory.mktemp("warm")) as dev:
        yield dev


def test_the_first_run_does_not_wait_and_the_next_ones_are_forks(dev: Dev) -> None:
    first = dev.run()
    warm = dev.wait_until_warm()
    assert first.parent != warm
    assert dev.has("imported", first.pid)
    second = dev.run()
    assert second.parent == warm
    assert not dev.has("imported", second.pid)
    # Dagster makes the definitions of a run twice; these are those that were loaded.
    assert not dev.has("defined", second.pid)
    # Of the `.env` file, which the code server took.
    assert {first.variable, second.variable} == {"one"}
    # What it prints is where the code server's is.
    assert f" {second.pid} - RUN_SUCCESS" in (dev.home / "dev.log").read_text()


def test_what_is_edited_is_loaded_again(dev: Dev) -> None:
    dev.run()
    former = dev.wait_until_warm()
    location = dev.home / "shop.py"
    location.write_text(location.read_text().replace('VERSION = "first"', 'VERSION = "second"'))
    told = dev.run()
    assert (told.version, told.parent == former) == ("second", False)
    wait_until(lambda: former not in [process.pid for process in dev.warm()])
    warm = dev.wait_until_warm()
    told = dev.run()
    assert (told.version, told.parent) == ("second", warm)
    (dev.home / "variables" / ".env").write_text("FROM_FILE=two\n")
    assert dev.ask(RELOAD)["reloadRepositoryLocation"]["__typename"] == "WorkspaceLocationEntry"
    assert dev.run().variable == "two"
    dev.wait_until_warm()
    assert dev.run().variable == "two"


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_a_step_that_is_a_process_of_its_own_loads_the_definitions(dev: Dev) -> None:
    dev.run()
    warm = dev.wait_until_warm()
    told = dev.run("several")
    assert psutil.pid_exists(warm)
    assert told.parent != warm
    assert (dev.has("defined", told.pid), dev.has("defined", told.parent)) == (True, False)


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_definitions_made_from_a_state_are_made_again(dev: Dev) -> None:
    """What a fork shares would be another state than that which its server knows."""
    dev.run()
    dev.wait_until_warm()
    (dev.state / "stored").touch()
    try:
        # Nothing that was read has changed, and whoever reloads knows why.
        dev.ask(RELOAD)
        before = dev.times_loaded()
        for _ in range(4):
            assert dev.has("defined", dev.run().pid)
            wait_until(lambda: not dev.warm())
        # It is in a file that is made for each load: so it is of no use to have loaded it.
        assert dev.times_loaded() == before
        assert "headrace: shop.py is not kept loaded" in (dev.home / "dev.log").read_text()
    finally:
        (dev.state / "stored").unlink()
        dev.ask(RELOAD)
    dev.run()
    warm = dev.wait_until_warm()
    assert dev.run().parent == warm


def test_a_fork_is_terminated_as_any_run(dev: Dev) -> None:
    dev.run()
    dev.wait_until_warm()
    run_id = dev.launch("wait")
    told = dev.told()
    with dev.instance() as instance:
        process = RunProcess.of(instance, run_id)
        assert process is not None
        assert (process.pid, process.machine) == (told.pid, this_machine())
        assert instance.run_launcher.terminate(run_id)
    wait_until(lambda: dev.status(run_id) is DagsterRunStatus.CANCELED)
    wait_until(lambda: not psutil.pid_exists(told.pid))


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_a_location_that_is_killed_takes_no_run_with_it(dev: Dev) -> None:
    dev.run()
    warm = dev.wait_until_warm()
    run_id = dev.launch("wait")
    told = dev.told()
    assert told.parent == warm
    os.kill(warm, signal.SIGKILL)
    try:
        assert dev.run().parent != warm
    finally:
        (dev.state / "go").touch()
    wait_until(lambda: dev.status(run_id) is DagsterRunStatus.SUCCESS)
    (dev.state / "go").unlink()


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_a_location_that_hangs_keeps_no_run_waiting(dev: Dev) -> None:
    dev.run()
    warm = dev.wait_until_warm()
    os.kill(warm, signal.SIGSTOP)
    assert dev.run().parent != warm
    wait_until(lambda: not psutil.pid_exists(warm))


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_a_daemon_that_is_killed_takes_no_run_with_it(tmp_path: Path) -> None:
    with developing(tmp_path) as dev:
        dev.run()
        warm = dev.wait_until_warm()
        run_id = dev.launch("wait")
        assert dev.told().parent == warm
        daemon = psutil.Process(warm).parent()
        assert daemon is not None
        daemon.kill()
        wait_until(lambda: not psutil.pid_exists(warm))
        (dev.state / "go").touch()
        wait_until(lambda: dev.status(run_id) is DagsterRunStatus.SUCCESS)


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_ctrl_c_at_a_terminal_ends_the_runs(tmp_path: Path) -> None:
    """As it ends those that code servers start."""
    with developing(tmp_path, terminal=True) as dev:
        dev.run()
        warm = dev.wait_until_warm()
        run_id = dev.launch("wait")
        told = dev.told()
        assert told.parent == warm
    wait_until(lambda: not psutil.pid_exists(told.pid))
    assert dev.status(run_id) in (DagsterRunStatus.CANCELED, DagsterRunStatus.FAILURE)


def test_nothing_listens_at_the_socket_of_a_server_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    assert CodeServer.at(None) is None
    assert CodeServer.at(str(path)) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        found = CodeServer.at(str(path))
        assert found is not None
        assert found.pid == os.getpid()
        assert found.folder() == str(Path.cwd())
    assert CodeServer.at(str(path)) is None


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_a_run_that_is_killed_has_failed(dev: Dev) -> None:
    """Its code server does not know it, and `dagster dev` monitors no runs: its pool would be taken for ever."""
    dev.run()
    dev.wait_until_warm()
    run_id = dev.launch("wait")
    os.kill(dev.told().pid, signal.SIGKILL)
    wait_until(lambda: dev.status(run_id) is DagsterRunStatus.FAILURE)
    with dev.instance() as instance:
        said = [event.message for event in instance.all_logs(run_id)]
    assert any("was ended by signal 9 before the run had ended" in (text or "") for text in said)


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_a_location_of_which_no_run_is_launched_for_long_is_forgotten(tmp_path: Path) -> None:
    with developing(tmp_path, config="{keep_loaded_seconds: 2}") as dev:
        dev.run()
        wait_until(lambda: dev.times_loaded() == 1)
        wait_until(lambda: not dev.warm())
        # The next run does not wait for it, and it is loaded for those after that.
        assert dev.has("imported", dev.run().pid)
        wait_until(lambda: dev.times_loaded() == 2)


@pytest.mark.some_of("what happens to a location that is kept loaded", 1)
def test_where_no_more_locations_may_be_loaded_dagster_launches_the_run(tmp_path: Path) -> None:
    with developing(tmp_path, config="{most_loaded_locations: 0}") as dev:
        for _ in range(2):
            assert dev.has("imported", dev.run().pid)
        assert dev.warm() == []
        assert dev.times_loaded() == 0

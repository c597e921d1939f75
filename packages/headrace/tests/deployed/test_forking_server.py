"""A deployed code server that forks its runs: real servers of a location, and runs that are launched into them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus, serialize_value
from dagster._core.instance.ref import InstanceRef
from dagster._core.utils import make_new_run_id

from headrace.deployed import warm_location
from headrace.deployed.warm_locations import CodeServer, fork_at
from headrace.local_dagster.storage import create_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow("a code server and the runs that are launched into it")

BIN = Path(sys.executable).parent
SCRIPT = Path(warm_location.__file__)
INSTANCE = """
telemetry: {enabled: false}
run_launcher: {module: headrace.forked_runs, class: ForkedRunLauncher}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""
LOCATION = """
import os
import time
from pathlib import Path

import dagster as dg

HERE = Path(__file__).parent


@dg.op
def works():
    (HERE / "telling").write_text(f"{os.getpid()} {os.getppid()} {os.getpgid(0)}")
    (HERE / "telling").rename(HERE / "told")
    while (HERE / "slow").exists():
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def work():
    works()


@dg.definitions
def defs():
    (HERE / f"defined {os.getpid()}").touch()
    return dg.Definitions(jobs=[work])
"""
# What only another version of Dagster lacks; the server that takes its place has it.
WITHOUT = """
import sys

class Lacks:
    def find_spec(self, name, path=None, target=None):
        if name == "dagster._utils.interrupts":
            raise ImportError(name)

if "--serve" in sys.orig_argv:
    sys.meta_path.insert(0, Lacks())
"""


@dataclass(frozen=True)
class Server:
    """A server that was started.

    Args:
        home: the folder of everything.
        process: what was started.
    """

    home: Path
    process: subprocess.Popen[bytes]

    @property
    def forks(self) -> Path:
        return self.home / "runs"

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Launch a run; at the end of the block it has to have ended too."""
        (self.home / "told").unlink(missing_ok=True)
        workspace = str(self.home / "workspace.yaml")
        command = [str(BIN / "dagster"), "job", "launch", "-w", workspace, "-l", "shop", "-j", "work"]
        with (self.home / "launch.log").open("wb") as log:
            done = subprocess.run(command, check=False, cwd=self.home, stdout=log, stderr=log, timeout=100)
        assert done.returncode == 0, (self.home / "launch.log").read_text()
        yield
        wait_until(lambda: self.status().value in ("SUCCESS", "FAILURE", "CANCELED"))

    def told(self) -> tuple[int, int, int]:
        """Return the run's process, its parent and its group, once it works."""
        wait_until((self.home / "told").exists)
        pid, parent, group = map(int, (self.home / "told").read_text().split())
        return pid, parent, group

    def status(self) -> DagsterRunStatus:
        """Return that of the newest run."""
        with DagsterInstance.from_ref(InstanceRef.from_dir(str(self.home))) as instance:
            return instance.get_runs(limit=1)[0].status

    def dagsters(self) -> int:
        """Return the process of Dagster's own server."""
        found = CodeServer.at(str(self.home / "sock"))
        assert found is not None
        return found.pid


def nobody(pid: int) -> None:
    raise AssertionError(pid)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def is_dead(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@contextmanager
def started(home: Path, monkeypatch: pytest.MonkeyPatch, location: str = LOCATION) -> Iterator[Server]:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(home))
    (home / "dagster.yaml").write_text(INSTANCE)
    (home / "shop.py").write_text(location)
    create_storage()
    at = {"grpc_server": {"socket": str(home / "sock"), "location_name": "shop"}}
    (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [at]}))
    arguments = ["--module-name", "shop", "--location-name", "shop", "--socket", str(home / "sock")]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--serve", str(home / "runs"), *arguments],
            cwd=home,
            stdout=log,
            stderr=log,
            process_group=0,
        )
    try:
        yield Server(home, process)
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def serving(home: Path, monkeypatch: pytest.MonkeyPatch, location: str = LOCATION) -> Iterator[Server]:
    with started(home, monkeypatch, location) as server:
        wait_until(lambda: CodeServer.at(str(home / "sock")) is not None)
        yield server


def test_a_run_is_a_fork_that_takes_the_definitions_that_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, monkeypatch) as server:
        with server.launching():
            pid, parent, group = server.told()
        assert server.status() is DagsterRunStatus.SUCCESS
        assert (parent, group) == (server.process.pid, server.process.pid)
        assert not (tmp_path / f"defined {pid}").exists()
        # Dagster's server is another fork, and takes a run whose definitions are found elsewhere.
        assert psutil.Process(server.dagsters()).ppid() == server.process.pid
        assert not fork_at(server.forks, {"pointer": "elsewhere"}, nobody)
        assert server.forks.stat().st_mode & 0o077 == 0
    assert not server.forks.exists()


def test_a_run_whose_launcher_does_not_take_it_never_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the history cannot be written: Dagster then fails the launch, and nothing may run behind its back."""
    found = []

    def refuses(pid: int) -> None:
        found.append(pid)
        raise ConnectionError("no database")

    with serving(tmp_path, monkeypatch) as server:
        with server.launching():
            server.told()
        (tmp_path / "told").unlink()
        with DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as instance:
            ended = instance.get_runs(limit=1)[0]
            # Another one, which would run.
            run = ended._replace(run_id=make_new_run_id()).with_status(DagsterRunStatus.STARTING)
            instance.add_run(run)
            origin = run.job_code_origin
            assert origin is not None
            wanted = {
                "pointer": serialize_value(origin.repository_origin.code_pointer),  # type: ignore[arg-type]
                "run_id": run.run_id,
                "job": origin.job_name,
                "origin": serialize_value(origin.repository_origin),
                "instance": serialize_value(instance.get_ref()),
            }
        with pytest.raises(ConnectionError, match="no database"):
            fork_at(server.forks, wanted, refuses)
        (pid,) = found
        wait_until(lambda: is_dead(pid))
        assert not (tmp_path / "told").exists()


@pytest.mark.some_of("ends of a server that forks its runs", 1)
@pytest.mark.parametrize(
    ("starts", "why"),
    [
        (
            "from threading import Thread\nThread(target=time.sleep, args=(99,), daemon=True, name='beats').start()\n",
            "have started threads, so its runs are not forked: beats",
        ),
        ("import socket\nheld = socket.socketpair()\n", "have opened 2 connections, so its runs are not forked"),
    ],
    ids=["a thread", "a connection"],
)
def test_what_no_two_processes_can_share_is_served_and_not_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: str, why: str
) -> None:
    with serving(tmp_path, monkeypatch, LOCATION + starts) as server:
        with server.launching():
            pid, parent, _ = server.told()
        assert server.status() is DagsterRunStatus.SUCCESS
        assert (parent, (tmp_path / f"defined {pid}").exists()) == (server.process.pid, True)
    assert why in (tmp_path / "server.log").read_text()


def test_it_ends_when_its_runs_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch) as server:
        (tmp_path / "slow").touch()
        with server.launching():
            _, parent, _ = server.told()
            dagsters = server.dagsters()
            server.process.terminate()
            wait_until(lambda: is_dead(dagsters))
            assert parent == server.process.pid
            assert server.process.poll() is None
            # It takes no other one meanwhile.
            wait_until(lambda: not server.forks.exists())
            time.sleep(2)  # it would have ended by now
            assert server.process.poll() is None
            (tmp_path / "slow").unlink()
        assert server.status() is DagsterRunStatus.SUCCESS
        assert server.process.wait(60) == 0


@pytest.mark.some_of("ends of a server that forks its runs", 1)
def test_a_run_goes_on_when_it_is_killed_and_dagsters_server_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, monkeypatch) as server:
        (tmp_path / "slow").touch()
        with server.launching():
            server.told()
            dagsters = server.dagsters()
            server.process.kill()
            wait_until(lambda: is_dead(dagsters))
            # What keeps it starts it again, at the same sockets.
            with serving(tmp_path, monkeypatch):
                (tmp_path / "slow").unlink()
                wait_until(lambda: server.status() is DagsterRunStatus.SUCCESS)


@pytest.mark.some_of("ends of a server that forks its runs", 1)
def test_it_ends_with_dagsters_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch) as server:
        os.kill(server.dagsters(), signal.SIGKILL)
        assert server.process.wait(60) != 0


@pytest.mark.some_of("ends of a server that forks its runs", 1)
def test_what_does_not_load_is_said_by_dagsters_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path, monkeypatch, "raise ValueError('no such thing')\n") as server:
        assert server.process.wait(60) != 0
    assert "no such thing" in (tmp_path / "server.log").read_text()


@pytest.mark.some_of("ends of a server that forks its runs", 1)
def test_a_release_of_another_dagster_is_served_by_dagsters_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    with serving(tmp_path, monkeypatch) as server:
        assert server.dagsters() == server.process.pid
        with server.launching():
            pid, parent, _ = server.told()
        assert server.status() is DagsterRunStatus.SUCCESS
        assert (parent, (tmp_path / f"defined {pid}").exists()) == (server.process.pid, True)


@pytest.mark.some_of("ends of a server that forks its runs", 1)
def test_a_platform_of_before_launches_into_dagsters_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch) as server:
        before = INSTANCE.replace("headrace.forked_runs, class: Forked", "headrace.deployed.launcher, class: Local")
        (tmp_path / "dagster.yaml").write_text(before)
        with server.launching():
            pid, parent, _ = server.told()
        assert server.status() is DagsterRunStatus.SUCCESS
        assert (parent, (tmp_path / f"defined {pid}").exists()) == (server.dagsters(), True)


def test_nobody_forks_where_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bound:
        bound.bind(str(tmp_path / "runs"))
        assert not fork_at(tmp_path / "runs", {}, nobody)
    assert not fork_at(tmp_path / "none", {}, nobody)

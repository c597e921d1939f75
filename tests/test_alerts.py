"""Alerts of two served code locations, with Dagster's own daemon and its retries, at a real web server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml

from headrace.local_dagster.storage import create_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# A daemon and two servers start, and a message takes some ticks of the daemon.
# It waits for ticks of the daemon, and for retries between them: on a busy machine for two minutes and more each.
pytestmark = [
    pytest.mark.slow("waits for retries and ticks of Dagster's daemon"),
    pytest.mark.timeout(900),
    pytest.mark.some_of("lives of minutes", 1),
]

BIN = Path(sys.executable).parent
SETTINGS = {
    "telemetry": {"enabled": False},
    "run_retries": {"enabled": True, "max_retries": 2},
    "run_coordinator": {
        "module": "dagster",
        "class": "QueuedRunCoordinator",
        "config": {"dequeue_interval_seconds": 1},
    },
}
# A retry repeats the step that failed alone, so the check of the other asset fails in the first attempt only.
LOCATION = """
from pathlib import Path

import dagster as dg
from headrace_alerts import alert_definitions

HEALS = {heals}
OWNER = "{owner}"
marker = Path(__file__).with_suffix(".tried")


@dg.asset(owners=[OWNER])
def steady() -> None: ...


@dg.asset_check(asset=steady)
def polite() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="it is not")


@dg.asset(owners=[OWNER], deps=[steady])
def flaky() -> None:
    if not (HEALS and marker.exists()):
        marker.touch()
        raise dg.Failure("no connection")


@dg.asset(owners=[OWNER])
def last() -> None:
    raise dg.Failure("the end")


defs = dg.Definitions.merge(
    dg.Definitions(
        assets=[steady, flaky, last],
        asset_checks=[polite],
        jobs=[
            dg.define_asset_job("nightly", selection=[steady, flaky]),
            dg.define_asset_job("closing", selection=[last], tags={{"dagster/max_retries": "0"}}),
        ],
        executor=dg.in_process_executor,
    ),
    alert_definitions(interval=1),
)
"""


class Inbox:
    """Takes Apprise's JSON messages: (path, title, lines)."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, Sequence[str]]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inbox.messages.append((self.path.strip("/"), content["title"], content["message"].splitlines()))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


def free_ports(number: int) -> Sequence[int]:
    """Return ports on which nothing listens."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Workspace:
    """Two locations, `heals` and `fails`, under a daemon.

    Args:
        root: the folder of everything.
        inbox: where their alerts go.
    """

    def __init__(self, root: Path, inbox: Inbox) -> None:
        self.inbox = inbox
        self._root = root
        (root / "dagster.yaml").write_text(yaml.safe_dump(SETTINGS))
        # Several processes that open it first stamp the version of its tables twice.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(root))
            create_storage()
        names = ("heals", "fails")
        for name in names:
            text = LOCATION.format(heals=name == "heals", owner=f"team:{name}")
            (root / f"{name}.py").write_text(text)
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        entries = [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": name}}
            for name, port in self._ports.items()
        ]
        (root / "workspace.yaml").write_text(yaml.safe_dump({"load_from": entries}))
        url = f"json://127.0.0.1:{inbox.server.server_port}"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HEADRACE_", "DAGSTER_"))}
        self.environment = inherited | {
            "DAGSTER_HOME": str(root),
            "DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1",
            "HEADRACE_ALERTS": json.dumps({f"team:{name}": [f"{url}/{name}"] for name in names}),
            "HEADRACE_URL": "http://ui",
        }

    def start_servers(self) -> Sequence[subprocess.Popen[bytes]]:
        """Start the code servers, which the daemon and each launch of a job then share."""
        return [
            self._start(name, "dagster", "api", "grpc", "-f", f"{name}.py", "-h", "127.0.0.1", "-p", str(port))
            for name, port in self._ports.items()
        ]

    def await_servers(self) -> None:
        for port in self._ports.values():
            self._await(lambda port=port: is_open(port), f"a server at {port}", 300)

    def start_daemon(self) -> subprocess.Popen[bytes]:
        return self._start("daemon", "dagster-daemon", "run", "-w", "workspace.yaml")

    def _start(self, name: str, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._root / f"{name}.log").open("wb") as log:
            program = [BIN / command, *arguments]
            return subprocess.Popen(program, cwd=self._root, env=self.environment, stdout=log, stderr=log)

    def launch(self, location: str, job: str) -> None:
        workspace: list[str | Path] = ["-w", self._root / "workspace.yaml"]
        command = [BIN / "dagster", "job", "launch", *workspace, "-l", location, "-j", job]
        subprocess.run(command, check=True, cwd=self._root, env=self.environment, capture_output=True)

    def await_log(self, what: str, count: int, *, seconds: float = 300) -> None:
        """Wait until the log of the daemon says something so often."""
        self._await(lambda: self.log().count(what) >= count, what, seconds)

    def await_message(self, location: str, title: str, *, seconds: float = 300) -> None:
        """Wait until a message is there."""
        self._await(lambda: any(m[:2] == (location, title) for m in self.inbox.messages), title, seconds)

    def _await(self, is_done: Callable[[], bool], what: str, seconds: float) -> None:
        started = time.monotonic()
        minutes = 0
        while not is_done():
            waited = time.monotonic() - started
            assert waited < seconds, f"{what}: {self.inbox.messages}\n{self.log()[-3000:]}"
            if waited > 60 * (minutes + 1):
                minutes += 1
                self._let_the_daemon_read_failures_again()
            time.sleep(0.1)

    def _let_the_daemon_read_failures_again(self) -> None:
        """Mend what Dagster 1.13 loses: a failure whose event its daemon reads before the run's status is not retried.

        The alerts tell it as such five minutes later, which is tested with the sensor. A run that was retried is not
        retried twice.
        """
        with dg.DagsterInstance.from_config(str(self._root)) as instance:
            assert instance.daemon_cursor_storage
            instance.daemon_cursor_storage.set_cursor_values({"EVENT_LOG_CONSUMER_CURSOR-RUN_FAILURE": "0"})

    def log(self) -> str:
        file = self._root / "daemon.log"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    inbox = Inbox()
    opened = Workspace(tmp_path, inbox)
    processes = [*opened.start_servers()]
    try:
        opened.await_servers()
        processes.append(opened.start_daemon())
        yield opened
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
        inbox.server.shutdown()
        inbox.server.server_close()


def test_a_run_with_retries_is_told_once_by_the_location_that_ran_it(workspace: Workspace) -> None:
    # The first tick of each of the four sensors says where the news begins.
    workspace.await_log("skipped: reports failures from now on", 4)
    for location in ("fails", "heals"):
        workspace.launch(location, "nightly")
    workspace.await_message("fails", "fails: run of flaky failed")
    workspace.await_message("heals", "heals: check polite of steady failed")
    # What would come twice or too much has come before the message of a later run.
    for location in ("fails", "heals"):
        workspace.launch(location, "closing")
    for location in ("fails", "heals"):
        workspace.await_message(location, f"{location}: run of last failed")

    told = {title: lines for _, title, lines in workspace.inbox.messages}
    assert sorted(title for _, title, _ in workspace.inbox.messages) == [
        "fails: run of flaky failed",
        "fails: run of last failed",
        "heals: check polite of steady failed",
        "heals: run of last failed",
    ]
    *failure, run = told["fails: run of flaky failed"]
    assert failure == ["flaky", "no connection", "steady: check polite failed: it is not", "tried 3 times"]
    assert run.startswith("run ")
    assert "http://ui/runs/" in run
    assert told["heals: check polite of steady failed"][0] == "steady: check polite failed: it is not"
    assert told["fails: run of last failed"][:2] == ["last", "the end"]

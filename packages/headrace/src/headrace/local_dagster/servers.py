"""The processes of a local Dagster: a code server for each location, and the webserver in front of them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from headrace.cli.user_errors import UserError
from headrace.tools.python_traces import error_of
from headrace.workspace import Workspace
from headrace.workspace_file import WORKSPACE, Entry

_HOST = "127.0.0.1"
_STARTUP_SECONDS = 120
_STOP_SECONDS = 10
_ENDING_WITH_US = (sys.executable, "-IS", str(Path(__file__).with_name("ends_with_command.py")))


@dataclass(frozen=True)
class Servers:
    """Servers that run.

    Args:
        url: the webserver's address.
        workspace_file: the workspace file that names the code servers.
    """

    url: str
    workspace_file: Path


@contextmanager
def running_servers(workspace: Workspace, port: int | None) -> Iterator[Servers]:
    """Start a code server for each location, all at once, and the webserver; stop them at the end.

    A location that `workspace.yaml` names as a server is used where it runs. The others listen on loopback, and have
    the environment of this process: see `Workspace.enter`. Their output goes to files in the workspace's logs folder.

    Args:
        workspace: the workspace.
        port: the webserver's port; a free one where it is None.

    Raises:
        UserError: another program serves at the port.
        click.ClickException: a process ends before it serves, or does not serve within two minutes.
    """
    if port is not None:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex((_HOST, port)) == 0:
                raise UserError(f"port {port} is in use: stop that program or pass --port")
    with _processes() as running:
        servers = []
        entries = []
        for name, entry in workspace.locations.items():
            if entry.kind == "grpc_server":
                entries.append({"grpc_server": {**entry.server, "location_name": name}})
                continue
            code_port = _free_port()
            command = [*_dagster(entry, workspace), "api", "grpc", *entry.arguments(workspace.root)]
            command += ["--location-name", name, *_address(code_port)]
            servers.append((_start(name, command, workspace, running), code_port))
            entries.append({"grpc_server": {"host": _HOST, "port": code_port, "location_name": name}})
        workspace_file = workspace.logs / "workspace.yaml"
        workspace_file.write_text(yaml.safe_dump({"load_from": entries}))
        for server, code_port in servers:
            server.wait_until_served(code_port)
        web_port = port or _free_port()
        command = [_own("dagster-webserver"), "-w", str(workspace_file), *_address(web_port)]
        _start("webserver", command, workspace, running).wait_until_served(web_port)
        yield Servers(f"http://{_HOST}:{web_port}", workspace_file)


@contextmanager
def running_daemon(workspace: Workspace, servers: Servers) -> Iterator[None]:
    """Run Dagster's daemon beside running servers, for schedules, sensors and what the UI launches."""
    with _processes() as running:
        _start("daemon", [_own("dagster-daemon"), "run", "-w", str(servers.workspace_file)], workspace, running)
        yield


@dataclass(frozen=True)
class _Server:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_served(self, port: int) -> None:
        deadline = time.monotonic() + _STARTUP_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise click.ClickException(
                    f"{self.name} ended with exit code {self.process.returncode} before it served: "
                    f"{error_of(self.log.read_text(errors='replace'))}; full log: {self.log}"
                )
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex((_HOST, port)) == 0:
                    return
            time.sleep(0.1)
        raise click.ClickException(f"{self.name} does not serve after {_STARTUP_SECONDS} s: see {self.log}")


@contextmanager
def _processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield a list for processes; those that are in it are stopped at the end, all at once."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        yield running
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _dagster(entry: Entry, workspace: Workspace) -> Sequence[str]:
    """Return Dagster's command beside the interpreter that loads a location.

    Raises:
        UserError: there is none.
    """
    if not entry.executable_path:
        return [_own("dagster")]
    python = shutil.which(entry.python(workspace.root, sys.executable))
    command = Path(python).with_name("dagster") if python else None
    if command is None or not command.is_file():
        raise UserError(
            f"{workspace.root / WORKSPACE}: {entry.name}: no `dagster` beside {entry.executable_path}: install it there"
        )
    return [str(command)]


def _own(command: str) -> str:
    return str(Path(sys.executable).with_name(command))


def _start(name: str, command: Sequence[str], workspace: Workspace, running: list[subprocess.Popen[bytes]]) -> _Server:
    log_file = workspace.logs / f"{name.replace(os.sep, '_')}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - Dagster's own commands, of this environment
            [*_ENDING_WITH_US, *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            # Its own session: a Ctrl-C at the terminal is the command's to answer, in the right order.
            start_new_session=True,
        )
    running.append(process)
    return _Server(name, process, log_file)


def _address(port: int) -> Sequence[str]:
    return ("--host", _HOST, "--port", str(port))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])

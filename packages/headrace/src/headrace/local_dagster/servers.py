"""The processes of a local Dagster: a code server for each location, and the webserver in front of them.

Adapter of a private Dagster module: what `dagster api grpc` calls is public only as a command, and here it is called in
a fork that has loaded the locations. `tests/local_dagster/test_servers.py` fails if it moves.
"""

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import click
import yaml

from headrace.cli.user_errors import UserError
from headrace.deployed.fork_server import fork, forked_locations
from headrace.tools.python_traces import error_of
from headrace.workspace import Workspace
from headrace.workspace_file import WORKSPACE, Entry

_HOST = "127.0.0.1"
_STARTUP_SECONDS = 120
_STOP_SECONDS = 10
_LOOK_SECONDS = 0.02
_ENDING_WITH_US = (sys.executable, "-IS", str(Path(__file__).with_name("ends_with_command.py")))


@dataclass(frozen=True)
class Servers:
    """Servers that run.

    Args:
        url: the webserver's address; None where there is none.
        workspace_file: the workspace file that names the code servers.
    """

    url: str | None
    workspace_file: Path


@contextmanager
def running_servers(
    workspace: Workspace, *, port: int | None = None, runs_elsewhere: bool = False
) -> Iterator[Servers]:
    """Start a code server for each location, all at once, and a webserver where a port is given; stop them at the end.

    A location that `workspace.yaml` names as a server is used where it runs. The others listen on loopback, and have
    the environment of this process: see `Workspace.enter`. Those of this interpreter are forked from what
    `fork_server.start_loading` has loaded. Their output goes to files in the workspace's logs folder.

    Args:
        workspace: the workspace.
        port: the webserver's port.
        runs_elsewhere: whether the runs are processes of other machines, which have nothing of what is loaded here.

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
        # Those that are not forked begin first: to fork waits until the locations are loaded.
        for name, entry in sorted(workspace.locations.items(), key=lambda item: item[0] in forked_locations()):
            if entry.kind == "grpc_server":
                entries.append({"grpc_server": {**entry.server, "location_name": name}})
                continue
            code_port = _free_port()
            target, address = entry.arguments(workspace.root), ["--location-name", name, *_address(code_port)]
            if name in forked_locations():
                kept = None if runs_elsewhere else name
                server = _fork_server(name, kept, ([*target], address), workspace, running)
            else:
                command = [*_dagster(entry, workspace), "api", "grpc", *target, *address]
                server = _start(name, command, workspace, running)
            servers.append((server, code_port))
            entries.append({"grpc_server": {"host": _HOST, "port": code_port, "location_name": name}})
        workspace_file = workspace.logs / "workspace.yaml"
        workspace_file.write_text(yaml.safe_dump({"load_from": entries}))
        for server, code_port in servers:
            server.wait_until_served(code_port)
        if port is not None:
            command = [_own("dagster-webserver"), "-w", str(workspace_file), *_address(port)]
            _start("webserver", command, workspace, running).wait_until_served(port)
        yield Servers(f"http://{_HOST}:{port}" if port else None, workspace_file)


@contextmanager
def running_daemon(workspace: Workspace, servers: Servers) -> Iterator[None]:
    """Run Dagster's daemon beside running servers, for schedules, sensors and what the UI launches."""
    with _processes() as running:
        _start("daemon", [_own("dagster-daemon"), "run", "-w", str(servers.workspace_file)], workspace, running)
        yield


@dataclass(frozen=True)
class _Server:
    name: str
    process: "subprocess.Popen[bytes] | BaseProcess"
    log: Path

    def wait_until_served(self, port: int) -> None:
        deadline = time.monotonic() + _STARTUP_SECONDS
        while time.monotonic() < deadline:
            code = self.exit_code
            if code is not None:
                raise click.ClickException(
                    f"{self.name} ended with exit code {code} before it served: "
                    f"{error_of(self.log.read_text(errors='replace'))}; full log: {self.log}"
                )
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex((_HOST, port)) == 0:
                    return
            time.sleep(_LOOK_SECONDS)
        raise click.ClickException(f"{self.name} does not serve after {_STARTUP_SECONDS} s: see {self.log}")

    @property
    def exit_code(self) -> int | None:
        """Return how it ended; None while it lives."""
        return self.process.exitcode if isinstance(self.process, BaseProcess) else self.process.poll()

    def stop(self) -> None:
        """Ask it to end."""
        if self.exit_code is None:
            self.process.terminate()

    def end(self, seconds: float) -> None:
        """Wait until it has ended, for so long at most; then kill it."""
        if isinstance(self.process, BaseProcess):
            self.process.join(seconds)
            if self.process.exitcode is None:
                self.process.kill()
                self.process.join()
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def _processes() -> Iterator[list[_Server]]:
    """Yield a list for processes; those that are in it are stopped at the end, all at once."""
    running: list[_Server] = []
    try:
        yield running
    finally:
        for server in reversed(running):
            server.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for server in running:
            server.end(max(0, deadline - time.monotonic()))


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


def _start(name: str, command: Sequence[str], workspace: Workspace, running: list[_Server]) -> _Server:
    log_file = _log_of(name, workspace)
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - Dagster's own commands, of this environment
            [*_ENDING_WITH_US, *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            # Its own session: a Ctrl-C at the terminal is the command's to answer, in the right order.
            start_new_session=True,
        )
    running.append(server := _Server(name, process, log_file))
    return server


def _fork_server(
    name: str, kept: str | None, arguments: tuple[list[str], list[str]], workspace: Workspace, running: list[_Server]
) -> _Server:
    log_file = _log_of(name, workspace)
    process = fork(f"server of {name}", _serve, kept, *arguments, str(log_file))
    running.append(server := _Server(name, process, log_file))
    return server


def _serve(kept: str | None, target: list[str], address: list[str], log: str) -> None:
    """Serve a location in this process, a fork that still has the terminal of its command.

    Args:
        kept: the location whose definitions are taken as they were loaded; None where they are to be `target`'s own.
        target: the arguments of Dagster's server that name the location.
        address: those that say where it serves.
        log: the file of what it says.
    """
    from dagster._cli.api import grpc_command  # noqa: PLC0415 - only a server needs it

    from headrace.deployed.loaded_definitions import arguments_for  # noqa: PLC0415 - a fork has it already

    os.setsid()
    threading.Thread(target=_end_with_command, daemon=True).start()
    with Path(log).open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    grpc_command.main([*((kept and arguments_for(kept)) or target), *address], standalone_mode=False)


def _end_with_command() -> None:
    """End this process when the command is gone, also where that was killed. Its runs go on to their end."""
    command = multiprocessing.parent_process()
    if command is not None:
        command.join()
    os._exit(1)


def _log_of(name: str, workspace: Workspace) -> Path:
    return workspace.logs / f"{name.replace(os.sep, '_')}.log"


def _address(port: int) -> Sequence[str]:
    return ("--host", _HOST, "--port", str(port))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])

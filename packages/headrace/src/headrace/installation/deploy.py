"""Deploys a release: all that may fail is done beside what serves, then one renamed link switches."""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from headrace.contracts.contract import Contract, parse_contract
from headrace.contracts.deploys import check_against
from headrace.installation.environment import create_instance_tables, finish, install, installed, loaded_contract
from headrace.installation.history import Action, History
from headrace.installation.installation import Installation, remove_tree
from headrace.installation.processes import Program
from headrace.installation.servers import Server, Servers, answers, processes_of
from headrace.installation.webserver import owner_of, served, wait_for
from headrace.releases.release import CONTRACT, PLATFORM, Release
from headrace.releases.start import environment_of
from headrace.releases.variables import check_built_for
from headrace.tools.python_traces import error_of

_POLL_SECONDS = 0.1
_VIEW_SECONDS = 30
# Whoever has connected to the old server right before the switch has its answer: a run that is being launched, too.
_GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Deployed:
    """A switch that was made.

    Args:
        release: what serves now.
        former: what served before.
        server: the server.
        seconds: from the command's beginning to the switch.
    """

    release: str
    former: str | None
    server: str
    seconds: float


class Deploy:
    """Deploys and rolls back one location; the lock of the location is held meanwhile.

    Args:
        installation: where.
        location: the location, or `platform`.
        progress: is told each step that takes a while, in a few words.
    """

    def __init__(self, installation: Installation, location: str, progress: Callable[[str], None]) -> None:
        self._installation = installation
        self._location = location
        self._progress = progress
        self._processes = processes_of(installation)
        self._servers = Servers(installation, location, self._processes)
        self._history = History(installation, location)

    def deploy(self, release: Release, wheels: Path | None = None) -> Deployed:
        """Install a release and let it serve.

        Args:
            release: the release.
            wheels: a folder of wheels of its requirements, for a host without a package index.

        Raises:
            click.ClickException: it is refused, for the reason that the message gives; what served still does.
        """
        began = time.monotonic()
        self._installation.check_socket(self._location)
        with self._installation.lock(self._location):
            self._processes.check()
            self._mend()
            before = installed(self._installation, release.name) is not None
            try:
                return self._install_and_switch(release, wheels, began)
            except _SwitchedError:
                raise
            except (click.ClickException, OSError) as error:
                reason = _said(error)
                self._refuse(release.name, reason, keep=before)
                raise click.ClickException(f"{release.name} is refused: {reason}") from None

    def rollback(self) -> Deployed:
        """Let the release serve that did before the current one.

        Raises:
            click.ClickException: there is none, or it does not serve; what served still does.
        """
        began = time.monotonic()
        with self._installation.lock(self._location):
            self._processes.check()
            self._mend()
            former = self._history.serving()[:-1]
            folder = next((found for name in reversed(former) if (found := installed(self._installation, name))), None)
            if folder is None:
                raise click.ClickException(f"{self._location}: no earlier release is installed: deploy one")
            try:
                self._check(Release.read(folder), folder)
                return self._switch(folder, "rollback", began)
            except _SwitchedError:
                raise
            except (click.ClickException, OSError) as error:
                reason = _said(error)
                self._refuse(folder.name, reason, keep=True)
                raise click.ClickException(f"{folder.name} is refused: {reason}") from None

    def _mend(self) -> None:
        self._servers.mend()
        self._servers.remove_halves()
        if not self._servers.link.is_symlink():
            return
        self._history.mend(self._servers.link)

    def _install_and_switch(self, release: Release, wheels: Path | None, began: float) -> Deployed:
        release.verify()
        self._check_variables(release)
        self._progress("install")
        folder = install(self._installation, release, wheels)
        if release.info.kind == "location":
            self._progress("load the definitions")
            loaded_contract(self._installation, folder, release)
        self._check(release, folder)
        finish(self._installation, release)
        return self._switch(folder, "deploy", began)

    def _check(self, release: Release, folder: Path) -> None:
        """Refuse an installed release that would not serve here, before anything is stopped."""
        self._check_variables(release)
        if release.info.kind == "location":
            self._check_contract(folder)
        else:
            create_instance_tables(self._installation, folder)
            self._check_port()

    def _check_port(self) -> None:
        port = self._installation.settings.webserver.port
        current = self._servers.current()
        own = self._servers.states(current)["webserver"].pid if current else None
        if (owner := owner_of(port)) not in (None, own):
            raise click.ClickException(
                f"port {port} is in use{f' by process {owner}' if owner else ''}: "
                "stop that process, or change the port in installation.toml"
            )

    def _check_variables(self, release: Release) -> None:
        """Refuse before the minutes that an installation takes what would not load after it."""
        root = self._installation.folder
        try:
            here = environment_of(root, root / "releases" / release.name)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        check_built_for(release.info.variables, here, root / "env")

    def _check_contract(self, folder: Path) -> None:
        """Refuse a contract that does not fit those of the other locations as they are deployed."""
        deployed = {}
        for location in {*self._installation.deployed(), self._location}:
            file = self._installation.current(location) / "release" / CONTRACT
            if file.is_file():
                deployed[location] = _contract(file)
        findings = check_against([_contract(folder / CONTRACT)], deployed, whole=False)
        others = {finding.consumer for finding in findings} | {finding.producer for finding in findings}
        # The first location of an installation reads what another one is to bring.
        if findings and (deployed.keys() - {self._location} or not others <= {self._location, None}):
            raise click.ClickException("; ".join(map(str, findings)))

    def _switch(self, folder: Path, action: Action, began: float) -> Deployed:
        former = self._servers.current()
        former_release = former.release if former else None
        is_platform = self._location == PLATFORM
        server = self._servers.add(folder)
        if is_platform and former:
            # Two webservers cannot share the port as code servers share a link.
            self._servers.stop(former)
            self._wait_until_ended(former)
        self._progress(f"start {server.name}")
        try:
            self._servers.start(server)
            self._wait_until_served(server)
        except click.ClickException:
            self._servers.stop(server)
            if is_platform and former:
                self._servers.start(former)
            raise
        self._servers.switch_to(server)
        seconds = time.monotonic() - began
        try:
            self._after_switch(folder, action, server, former)
        except (click.ClickException, OSError) as error:
            reason = _said(error)
            raise _SwitchedError(
                f"{folder.name} serves, but {reason}; the next deploy repairs what is missing"
            ) from None
        return Deployed(folder.name, former_release, server.name, round(seconds, 1))

    def _after_switch(self, folder: Path, action: Action, server: Server, former: Server | None) -> None:
        if self._installation.write_workspace():
            self._restart_platform()
        self._history.add(action, folder.name, server=server.name)
        if former:
            time.sleep(_GRACE_SECONDS)
            self._servers.stop(former)
        if self._location != PLATFORM and self._platform_serves():
            said = wait_for(self._installation, self._location, server.id, _VIEW_SECONDS)
            if said is not None:
                raise click.ClickException(f"the webserver does not show it: {said}: see its log")

    def _wait_until_served(self, server: Server) -> None:
        deadline = time.monotonic() + self._installation.settings.start_seconds
        ready: set[str] = set()
        pids: dict[str, int] = {}
        sizes = {program.role: _size(program.log) for program in server.programs}
        while len(ready) < len(server.programs):
            states = self._servers.states(server)
            for program in server.programs:
                state = states[program.role]
                # One that ends is started again, with another pid.
                again = state.pid is not None and pids.setdefault(program.role, state.pid) != state.pid
                if again or state.state == "down" or state.said.startswith("Exited"):
                    raise click.ClickException(f"{program.name} ended before it served: {_error(program, sizes)}")
                if state.state == "running" and self._serves(server, program, state.pid):
                    ready.add(program.role)
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"{server.name} does not serve after {self._installation.settings.start_seconds} s: "
                    f"see {server.programs[0].log}"
                )
            time.sleep(_POLL_SECONDS)

    def _serves(self, server: Server, program: Program, pid: int | None) -> bool:
        if not answers(self._installation, server, program.role, pid):
            return False
        if program.role != "server":
            return program.role == "daemon" or served(self._installation) is not None
        # Its socket is its own, so that whoever answers there is this server and none that drains.
        folder = (server.folder / "release").resolve()
        done = subprocess.run(  # noqa: S603 - the release's own command
            [str(folder / "venv" / "bin" / "dagster"), "api", "grpc-health-check", "--socket", str(server.socket)],
            check=False,
            env=environment_of(self._installation.folder, folder),
            capture_output=True,
        )
        return done.returncode == 0

    def _wait_until_ended(self, server: Server) -> None:
        while any(process.state != "down" for process in self._servers.states(server).values()):
            time.sleep(_POLL_SECONDS)

    def _restart_platform(self) -> None:
        """Let webserver and daemon read a workspace with another location: they read it at their start alone."""
        platform = Servers(self._installation, PLATFORM, self._processes).current()
        for program in platform.programs if platform else ():
            self._processes.restart(program)

    def _platform_serves(self) -> bool:
        servers = Servers(self._installation, PLATFORM, self._processes)
        current = servers.current()
        return current is not None and servers.states(current)["webserver"].state in ("starting", "running")

    def _refuse(self, release: str, reason: str, *, keep: bool) -> None:
        """Clear what was begun, the release too unless it was there before, and record why.

        Nothing of it stands before the reason: what cannot be cleared now, as where the supervisor ends, the next
        deploy clears, and what a full disk does not take is told and not recorded.
        """
        with suppress(click.ClickException, OSError):
            self._servers.mend()
            if not keep:
                remove_tree(self._installation.folder / "releases" / release)
        with suppress(OSError):
            self._history.add("refuse", release, reason=reason)


class _SwitchedError(click.ClickException):
    """The switch was made, and something after it failed."""


def _contract(file: Path) -> Contract:
    return parse_contract(file.read_text(encoding="utf-8"), str(file))


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _error(program: Program, sizes: Mapping[str, int]) -> str:
    text = program.log.read_bytes()[sizes[program.role] :].decode(errors="replace") if program.log.is_file() else ""
    return f"{error_of(text)}; full log: {program.log}"


def _said(error: click.ClickException | OSError) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][2]) if error.args and error.args[0] else str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)

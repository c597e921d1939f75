"""Deploys a release: all that may fail is done beside what serves, then one renamed link switches."""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from headrace.contracts.contract import Contract, parse_contract
from headrace.contracts.deploys import check_against
from headrace.installation.history import Action, History
from headrace.installation.installation import Installation
from headrace.installation.installed_release import InstalledRelease, remove_release
from headrace.installation.processes import Program
from headrace.installation.servers import Server, Servers, answers, is_healthy
from headrace.installation.supervisor import Supervisor
from headrace.installation.webserver import owner_of, served, wait_for
from headrace.releases.release import CONTRACT, PLATFORM, Release
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
        self._processes = Supervisor(installation)
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
            target = InstalledRelease(self._installation, release)
            before = target.is_whole
            try:
                self._install(target, wheels)
                return self._switch(target, "deploy", began)
            except _SwitchedError:
                raise
            except (click.ClickException, OSError) as error:
                raise self._refused(target, error, keep=before) from None

    def rollback(self) -> Deployed:
        """Let the release serve that did before the current one.

        Raises:
            click.ClickException: there is none, or it does not serve; what served still does.
        """
        began = time.monotonic()
        with self._installation.lock(self._location):
            self._processes.check()
            self._mend()
            names = reversed(self._history.serving()[:-1])
            former = next((found for name in names if (found := InstalledRelease.find(self._installation, name))), None)
            if former is None:
                raise click.ClickException(f"{self._location}: no earlier release is installed: deploy one")
            try:
                self._check(former)
                return self._switch(former, "rollback", began)
            except _SwitchedError:
                raise
            except (click.ClickException, OSError) as error:
                raise self._refused(former, error, keep=True) from None

    def _mend(self) -> None:
        self._servers.mend()
        self._servers.remove_halves()
        if not self._servers.link.is_symlink():
            return
        self._history.mend(self._servers.link)

    def _install(self, target: InstalledRelease, wheels: Path | None) -> None:
        target.release.verify()
        self._check_variables(target)
        self._progress("install")
        target.install(wheels)
        if not target.is_platform:
            self._progress("load the definitions")
            target.check_loads()
        self._check(target)
        target.finish()

    def _check(self, target: InstalledRelease) -> None:
        """Refuse an installed release that would not serve here, before anything is stopped."""
        self._check_variables(target)
        if target.is_platform:
            target.create_instance_tables()
            self._check_port()
        else:
            self._check_contract(target)

    def _check_port(self) -> None:
        port = self._installation.settings.webserver.port
        current = self._servers.current()
        own = self._servers.states(current)["webserver"].pid if current else None
        if (owner := owner_of(port)) not in (None, own):
            raise click.ClickException(
                f"port {port} is in use{f' by process {owner}' if owner else ''}: "
                "stop that process, or change the port in installation.toml"
            )

    def _check_variables(self, target: InstalledRelease) -> None:
        """Refuse before the minutes that an installation takes what would not load after it."""
        check_built_for(target.release.info.variables, target.environment(), self._installation.folder / "env")

    def _check_contract(self, target: InstalledRelease) -> None:
        """Refuse a contract that does not fit those of the other locations as they are deployed."""
        deployed = {}
        for location in {*self._installation.deployed(), self._location}:
            file = self._installation.current(location) / "release" / CONTRACT
            if file.is_file():
                deployed[location] = _contract(file)
        findings = check_against([target.contract()], deployed, whole=False)
        others = {finding.consumer for finding in findings} | {finding.producer for finding in findings}
        # The first location of an installation reads what another one is to bring.
        if findings and (deployed.keys() - {self._location} or not others <= {self._location, None}):
            raise click.ClickException("; ".join(map(str, findings)))

    def _switch(self, target: InstalledRelease, action: Action, began: float) -> Deployed:
        former = self._servers.current()
        former_release = former.release if former else None
        server = self._servers.add(target.folder)
        if target.is_platform and former:
            # Two webservers cannot share the port as code servers share a link.
            self._servers.stop(former)
            self._wait_until_ended(former)
        self._progress(f"start {server.name}")
        try:
            self._servers.start(server)
            self._wait_until_served(server)
        except click.ClickException:
            self._servers.stop(server)
            if target.is_platform and former:
                self._servers.start(former)
            raise
        self._servers.switch_to(server)
        seconds = time.monotonic() - began
        try:
            self._after_switch(target, action, server, former)
        except (click.ClickException, OSError) as error:
            reason = _said(error)
            raise _SwitchedError(
                f"{target.name} serves, but {reason}; the next deploy repairs what is missing"
            ) from None
        return Deployed(target.name, former_release, server.name, round(seconds, 1))

    def _after_switch(self, target: InstalledRelease, action: Action, server: Server, former: Server | None) -> None:
        if self._installation.write_workspace():
            self._restart_platform()
        self._history.add(action, target.name, server=server.name)
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
        return is_healthy(server)

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

    def _refused(
        self, target: InstalledRelease, error: click.ClickException | OSError, *, keep: bool
    ) -> click.ClickException:
        """Clear what was begun, the copy too unless it was there before, record why, and return the error to raise.

        Nothing of it stands before the reason: what cannot be cleared now, as where the supervisor ends, the next
        deploy clears, and what a full disk does not take is told and not recorded.
        """
        reason = _said(error)
        with suppress(click.ClickException, OSError):
            self._servers.mend()
            if not keep:
                remove_release(self._installation, target.name)
        with suppress(OSError):
            self._history.add("refuse", target.name, reason=reason)
        return click.ClickException(f"{target.name} is refused: {reason}")


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

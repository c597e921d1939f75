"""Keeps the processes of an installation by systemd: a template unit for each role, an instance for each server."""

import shutil
import subprocess
from collections.abc import Mapping

import click

from headrace.installation.processes import Process, Program, State

_STATES: Mapping[str, State] = {
    "active": "running",
    "activating": "starting",
    "reloading": "running",
    "deactivating": "stopping",
}


class Systemd:
    """Keeps programs as instances of the units in `deploy/process/systemd`."""

    def check(self) -> None:
        """Raise `click.ClickException` where systemd or the units are missing."""
        _systemctl("cat", "headrace-server@.service")

    def start(self, program: Program) -> None:
        """Start a unit, now and when the machine begins."""
        # Without `--no-block`: until its job begins, a unit is as inactive as one that ended.
        _systemctl("enable", "--now", unit_of(program.name))

    def stop(self, program: Program) -> None:
        """Ask a unit to end; systemd kills it after its `TimeoutStopSec`."""
        _systemctl("disable", "--now", "--no-block", unit_of(program.name))

    def restart(self, program: Program) -> None:
        """Let a unit end and begin anew."""
        _systemctl("restart", unit_of(program.name))

    def forget(self, program: Program) -> None:
        """Forget that a unit failed."""
        _systemctl("reset-failed", unit_of(program.name), may_fail=True)

    def all(self) -> Mapping[str, Process]:
        """Return the units that systemd has loaded, by the name of their program."""
        properties = "--property=Id,ActiveState,SubState,MainPID"
        return units_of(_systemctl("show", "headrace-*@*.service", properties))


def unit_of(program: str) -> str:
    """Return the unit of a program: `analytics-12.server` is `headrace-server@analytics-12.service`."""
    server, _, role = program.rpartition(".")
    return f"headrace-{role}@{server}.service"


def units_of(shown: str) -> Mapping[str, Process]:
    """Return the processes that `systemctl show` tells of, by the name of their program."""
    found = {}
    for block in shown.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        role, at, server = values.get("Id", "").removeprefix("headrace-").removesuffix(".service").partition("@")
        if at:
            state = _STATES.get(values["ActiveState"], "down")
            found[f"{server}.{role}"] = Process(state, int(values["MainPID"]) or None, values["SubState"])
    return found


def _systemctl(*arguments: str, may_fail: bool = False) -> str:
    command = shutil.which("systemctl")
    if command is None:
        raise click.ClickException('systemctl is not found: set `processes = "supervisor"` in installation.toml')
    done = subprocess.run([command, *arguments], check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode and not may_fail:
        raise click.ClickException(f"systemctl {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout

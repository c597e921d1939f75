"""Becomes one process of an installation: a location's code server, the webserver, or the daemon.

    python -I start.py ROLE SERVER_FOLDER

A copy of this file is in each installed release, whose interpreter runs it, so it imports the standard library alone.
All that it needs it finds from the server's folder: DIR/servers/<server>, with a link `release` into DIR/releases. The
environment is read from DIR/env when the process starts, so that a changed value needs no more than another start.
"""

import ctypes
import json
import os
import signal
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
SOCKET = "sock"
FORKS = "runs"
"""The socket at which a code server forks its runs."""

WARM_LOCATION = "warm_location.py"
"""The program, beside this one, of a code server that forks its runs."""

CELERY_CONFIG = "dagster_celery_config.py"
"""The settings of Celery workers, beside this file, where they find it."""

ROLES = {"location": ("server",), "platform": ("webserver", "daemon")}
"""The processes of a server that supervisor keeps, by the kind of its release; `worker` is kept by systemd."""


def read_environment(file: Path) -> dict[str, str]:
    """Return the variables of a file of NAME=VALUE lines, as systemd's `EnvironmentFile` and compose read it.

    A value may stand in quotes, and has no escapes. Empty lines and those that begin with `#` say nothing.

    Raises:
        ValueError: a line is no such line, or the file is not UTF-8; the message is one line and has no value.
        OSError: it cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: it is not UTF-8: give a file of NAME=VALUE lines") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or not name.isascii():
            raise ValueError(f"{file}: line {number}: not NAME=VALUE: correct it")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name] = value[1:-1] if quoted else value
    return found


def environment_of(installation: Path, release: Path) -> dict[str, str]:
    """Return the environment of the processes of a release.

    What is inherited is the machine's: variables of Dagster and Headrace come from the installation alone.

    Args:
        installation: the folder of the installation.
        release: the folder of the installed release.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DAGSTER_", "HEADRACE_", "DBT_", "PYTHON", "VIRTUAL_ENV", "SUPERVISOR_"))
    }
    own = {
        "DAGSTER_HOME": str(installation / "dagster"),
        "HEADRACE_RELEASE": release.name,
        "PATH": f"{release / 'venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # As for `headrace run`: one planned event for an asset of a run over a range.
        "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true",
        "PYTHONUNBUFFERED": "1",
    }
    if (release / "dbt" / "dbt_project.yml").is_file():
        # A release is named <location>-<time>-<revision>, and asked for this before its release.json is there.
        own |= dbt_project_variables(release.name.rsplit("-", 2)[0], release / "dbt")
    return {**inherited, **read_environment(installation / "env"), **own}


def dbt_project_variables(location: str, folder: Path) -> dict[str, str]:
    """Return the variables by which a location finds its dbt project.

    The second is a location's own: where several have a dbt project, in a workspace, one variable cannot say it.

    Args:
        location: the location's name.
        folder: the folder of `dbt_project.yml`.
    """
    own = "".join(letter if letter.isalnum() else "_" for letter in location.upper())
    return {"HEADRACE_DBT_PROJECT": str(folder), f"HEADRACE_{own}_DBT_PROJECT": str(folder)}


def command_of(installation: Path, server: Path, release: Path, role: str) -> tuple[str, ...]:
    """Return the command of one process.

    Args:
        installation: the folder of the installation.
        server: the folder of the server.
        release: the folder of its release.
        role: one of `ROLES`, or `worker`, a Celery worker of the location's queue.
    """
    info: Mapping[str, str] = json.loads((release / "release.json").read_text(encoding="utf-8"))
    commands = release / "venv" / "bin"
    workspace = ("-w", str(installation / "workspace.yaml"))
    if role == "webserver":
        settings = tomllib.loads((installation / "installation.toml").read_text(encoding="utf-8"))["webserver"]
        address = ("--host", settings["host"], "--port", str(settings["port"]))
        return (str(commands / "dagster-webserver"), *address, *workspace)
    if role == "daemon":
        return (str(commands / "dagster-daemon"), "run", *workspace)
    if role == "worker":
        queue, name = f"dagster-{info['location']}", f"{info['location']}@%h"
        celery = ("--app", "dagster_celery.app", "worker", "--queues", queue, "--concurrency", "1", "--hostname", name)
        return (str(commands / "celery"), *celery)
    forking = release / WARM_LOCATION
    return (
        # A release that was installed before has Dagster's own server alone.
        *(
            (str(commands / "python"), str(forking), "--serve", str(server / FORKS))
            if forking.is_file()
            else (str(commands / "dagster"), "api", "grpc")
        ),
        *("--module-name", info["module"], "--location-name", info["location"], "--socket", str(server / SOCKET)),
        # Dagster sees by its id that a server is another one, and the UI's API tells it.
        *("--fixed-server-id", server_id(server.name, release.name)),
    )


def server_id(server: str, release: str) -> str:
    """Return the id by which Dagster knows a code server; no two have the same."""
    return f"{release}/{server}"


def main(role: str, server: Path) -> None:
    """Replace this process by the server's."""
    if role != "worker":
        _end_with_parent()
    installation, release = server.parents[1], (server / "release").resolve()
    command = command_of(installation, server, release, role)
    environment = environment_of(installation, release)
    if role == "worker":
        environment["PYTHONPATH"] = str(release)  # of its settings
    os.chdir(release)
    os.execve(command[0], command, environment)  # noqa: S606 - of the release's interpreter


def _end_with_parent() -> None:
    """Let the kernel kill this process when supervisord is killed: nobody would keep it then, and another would start.

    Its runs are processes of their own, and go on. It lasts over `execve`: prctl(2), PR_SET_PDEATHSIG.
    """
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        sys.exit("supervisord ended")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""A command of dbt in a process of its own: a fork, where that is known to be safe, or else a new interpreter.

dbt takes two seconds to import, and a process that loads a dbt project for Dagster has imported most of it. The
process of which `headrace run` forks servers and runs has one thread and no connection while it loads: a fork of it is
a process that has dbt already. A process that parses many projects, as one that runs tests does, may have a server of
such forks beside it.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkContext, ForkServerContext
from pathlib import Path

# The console script of this environment, whether it is on PATH or not. While dbt is imported, the collector would walk
# all of it again and again, a fifth of the time.
_DBT = "import gc; gc.disable(); from dbt.cli.main import cli; gc.freeze(); gc.enable(); cli()"
_LOADS_TO_FORK = "HEADRACE_PRELOADED_LOCATIONS"
"""The variable of `headrace` by which a process knows that it loads locations to be forked; a test holds them equal."""
# An adapter that is not installed is passed over.
_SERVED_MODULES = ["dbt.cli.main", "dbt.adapters.duckdb"]

_servers: list[ForkServerContext] = []


def keep_dbt() -> None:
    """Let a server beside this process import dbt once: each `run_dbt` of this process is then a fork of that server.

    For a process that parses many projects: it saves two seconds of each but the first. The server is the standard
    library's (https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods): it starts when it is
    needed, takes 150 MB, and ends with this process.
    """
    if not _servers:
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(_SERVED_MODULES)
        _servers.append(server)


def run_dbt(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run dbt and return its exit code and what it printed.

    Args:
        arguments: those of the command `dbt`.
        cwd: its working directory.
        environment: its environment.
    """
    if _has_hash_seed_of(environment):
        if _servers:
            return _forked(_servers[0], arguments, cwd, environment)
        if _LOADS_TO_FORK in os.environ and threading.active_count() == 1:
            import dbt.cli.main  # noqa: F401 - before the fork, for those that come later

            return _forked(multiprocessing.get_context("fork"), arguments, cwd, environment)
    return subprocess.run(  # noqa: S603 - the command is dbt's own, with this interpreter
        [sys.executable, "-c", _DBT, *arguments],
        env=dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def _has_hash_seed_of(environment: Mapping[str, str]) -> bool:
    """Return whether sets have the order here that they would have in a new interpreter with an environment."""
    return environment.get("PYTHONHASHSEED") == os.environ.get("PYTHONHASHSEED")


def _forked(
    context: ForkContext | ForkServerContext, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        said = (list(arguments), cwd, dict(environment), output.name)
        process = context.Process(target=_run, args=said)
        process.start()
        process.join()
        return subprocess.CompletedProcess(list(arguments), process.exitcode or 0, output.read(), "")


def _run(arguments: list[str], cwd: Path, environment: dict[str, str], output: str) -> None:
    from dbt.cli.main import cli  # a fork has it already

    file = os.open(output, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    cli(arguments)

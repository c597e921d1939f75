"""A command of dbt in a process of its own: a fork, where that is known to be safe, or else a new interpreter.

dbt takes two seconds to import, and a process that loads a dbt project for Dagster has imported most of it. The
process of which `headrace run` forks servers and runs has one thread and no connection while it loads: a fork of it is
a process that has dbt already.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# The console script of this environment, whether it is on PATH or not. While dbt is imported, the collector would walk
# all of it again and again, a fifth of the time.
_DBT = "import gc; gc.disable(); from dbt.cli.main import cli; gc.freeze(); gc.enable(); cli()"
_LOADS_TO_FORK = "HEADRACE_PRELOADED_LOCATIONS"
"""The variable of `headrace` by which a process knows that it loads locations to be forked; a test holds them equal."""


def run_dbt(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run dbt and return its exit code and what it printed.

    Args:
        arguments: those of the command `dbt`.
        cwd: its working directory.
        environment: its environment.
    """
    if _LOADS_TO_FORK in os.environ and threading.active_count() == 1 and _has_hash_seed_of(environment):
        return _forked(arguments, cwd, environment)
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


def _forked(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    import dbt.cli.main  # noqa: F401 - before the fork, for those that come later

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        said = (list(arguments), cwd, dict(environment), output.fileno())
        process = multiprocessing.get_context("fork").Process(target=_run, args=said)
        process.start()
        process.join()
        output.seek(0)
        return subprocess.CompletedProcess(list(arguments), process.exitcode or 0, output.read(), "")


def _run(arguments: list[str], cwd: Path, environment: dict[str, str], output: int) -> None:
    from dbt.cli.main import cli  # a fork has it already

    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    cli(arguments)

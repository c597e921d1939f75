"""A command of dbt in a process of its own: a fork, where that is known to be safe, or else a new interpreter.

dbt takes two seconds to import, and a process that loads a dbt project for Dagster has imported most of it. The
process of which `headrace run` forks servers and runs has one thread and no connection while it loads: a fork of it is
a process that has dbt already.
"""

import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

_DBT = "from dbt.cli.main import cli; cli()"  # the console script of this environment, whether it is on PATH or not
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
    from dbt.cli.main import cli

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for stream in (1, 2):
                    os.dup2(output.fileno(), stream)
                os.chdir(cwd)
                os.environ.clear()
                # The standard library's tracker of semaphores removes dbt's; that it had to is no part of dbt's words.
                os.environ.update({**environment, "PYTHONWARNINGS": "ignore"})
                cli(list(arguments))
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                for printed in (sys.stdout, sys.stderr):
                    printed.flush()
                # Not the end of what this is a copy of: its locks and its temporary folders are not this process's.
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return subprocess.CompletedProcess(list(arguments), os.waitstatus_to_exitcode(status), output.read(), "")

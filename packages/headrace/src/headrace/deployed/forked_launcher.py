"""Runs as forks of a process that has loaded the code locations.

A run in a process of its own spends four seconds on imports and definitions before its first SQL, and the main job is
half a dozen runs, one after the other. A fork has all of that. The standard library keeps the process that is forked,
which loads `preloaded_locations`: no connection is open in it, and no thread of Python's runs. DuckDB's library starts
one of its own at its import; its forks work, as a test shows. Only a command that itself serves the locations, from the
code that is there now, asks for this; elsewhere the launcher is Dagster's own.

Adapter of private Dagster modules: `dagster api execute_run` is how Dagster's launchers for containers begin a run, but
public only as a command. `tests/deployed/test_forked_launcher.py` fails if it moves.
"""

import json
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import cast

from dagster import serialize_value
from dagster._core.events import EngineEventData
from dagster._core.launcher import LaunchRunContext
from dagster._grpc.types import ExecuteRunArgs

from headrace.deployed.launcher import LocalRunLauncher
from headrace.deployed.leftovers import guard_group

LOCATIONS = "HEADRACE_PRELOADED_LOCATIONS"
"""The environment variable with the locations whose runs are forked, as JSON: the module of each, null for a file."""

_LOG = "HEADRACE_FORKED_RUNS_LOG"
_PRELOADED = "headrace.deployed.preloaded_locations"


def fork_runs(locations: Mapping[str, str | None], log: Path) -> None:
    """Let this process, and those that it starts from now on, fork the runs that they launch; loads nothing yet.

    Args:
        locations: the code locations that this command serves with its own interpreter, with the module of each; None
            for one that is a file, whose runs load it.
        log: the file to which runs write what they print.
    """
    os.environ[LOCATIONS] = json.dumps(dict(locations))
    os.environ[_LOG] = str(log)


def start_loading() -> None:
    """Start the process that runs are forked from, which else starts with the first run."""
    forkserver.set_forkserver_preload([_PRELOADED])
    forkserver.ensure_running()


def forked_locations() -> Mapping[str, str | None]:
    """Return the locations whose runs this process forks, with the module of each; none unless it was told to."""
    found: Mapping[str, str | None] = json.loads(os.environ.get(LOCATIONS, "{}"))
    return found


class ForkedRunLauncher(LocalRunLauncher):
    """Forks a run where the process was told to; elsewhere starts it as Dagster does."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run of the context."""
        origin, run = context.job_code_origin, context.dagster_run
        remote = run.remote_job_origin
        if origin is None or remote is None or remote.location_name not in forked_locations():
            super().launch_run(context)
            return
        arguments = serialize_value(ExecuteRunArgs(origin, run.run_id, self._instance.get_ref()))
        start_loading()
        process = multiprocessing.get_context("forkserver").Process(
            target=_execute, args=(arguments, os.environ[_LOG]), name=f"run {run.run_id}"
        )
        process.start()
        # Said before the run says it: one that is killed until then is found, and can be terminated.
        pid = cast("int", process.pid)
        self._instance.report_engine_event(
            f"Forked a process for the run (pid: {pid}).", run, EngineEventData.in_process(pid)
        )


def _execute(arguments: str, log: str) -> None:
    """Execute a run in this process, a fork that still has the terminal of its command."""
    from dagster._cli.api import execute_run_command  # noqa: PLC0415 - only a run needs it

    # A Ctrl-C at the terminal is the command's to answer.
    os.setsid()
    # Before anything of the run: nothing that it starts outlives it.
    guard_group()
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    execute_run_command.main([arguments], standalone_mode=False)

"""Runs as forks of a process that has loaded the code locations.

A run in a process of its own spends four seconds on imports and definitions before its first SQL, and the main job is
half a dozen runs, one after the other. A fork has all of that: see `fork_server`. Only a command that itself serves the
locations, from the code that is there now, asks for this; elsewhere the launcher is Dagster's own.

Adapter of private Dagster modules: `dagster api execute_run` is how Dagster's launchers for containers begin a run, but
public only as a command. `tests/deployed/test_forked_launcher.py` fails if it moves.
"""

import os
from pathlib import Path
from typing import cast

from dagster import serialize_value
from dagster._core.events import EngineEventData
from dagster._core.launcher import LaunchRunContext
from dagster._grpc.types import ExecuteRunArgs

from headrace.deployed.fork_server import LOG, fork, forked_locations
from headrace.deployed.launcher import LocalRunLauncher
from headrace.deployed.leftovers import guard_group
from headrace.deployed.run_process import says_machine


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
        process = fork(f"run {run.run_id}", _execute, arguments, os.environ[LOG])
        # Said before the run says it: one that is killed until then is found, and can be terminated.
        pid = cast("int", process.pid)
        self._instance.report_engine_event(
            f"Forked a process for the run (pid: {pid}).", run, EngineEventData({"pid": str(pid), **says_machine()})
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

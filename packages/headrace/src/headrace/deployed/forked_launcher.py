"""Runs as forks of a process that has loaded the code location.

A run in a process of its own spends four seconds on imports and definitions before its first SQL, and a build is half a
dozen runs, one after the other. A fork has all of that. A command that itself serves the locations, such as `headrace
run`, forks from `fork_server`; any other process that launches runs, such as the daemon of `dg dev` or of an
installation, keeps a process for each location whose server is on its machine (`warm_locations`). What is not loaded is
launched as Dagster does.

Adapter of private Dagster modules: `dagster api execute_run` is how Dagster's launchers for containers begin a run, but
public only as a command. `tests/deployed/test_forked_launcher.py` fails if it moves.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

from dagster import DagsterRun, Field, Int, serialize_value
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import EngineEventData
from dagster._core.launcher import LaunchRunContext
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData

from headrace.deployed.fork_server import LOG, fork, forked_locations
from headrace.deployed.launcher import LocalRunLauncher
from headrace.deployed.leftovers import guard_group
from headrace.deployed.run_process import says_machine
from headrace.deployed.warm_locations import CodeServer, Location, WarmLocations, fork_at

_KEEP_SECONDS = 900
_MOST_LOCATIONS = 8


class ForkedRunLauncher(LocalRunLauncher):
    """Forks a run where its location is loaded; elsewhere starts it as Dagster does.

    Configured in `dagster.yaml`: `keep_loaded_seconds`, how long a location stays loaded of which no run is launched,
    and `most_loaded_locations`, of which 0 is none. Neither bears on `headrace run`.
    """

    def __init__(
        self,
        inst_data: ConfigurableClassData | None = None,
        keep_loaded_seconds: int = _KEEP_SECONDS,
        most_loaded_locations: int = _MOST_LOCATIONS,
    ) -> None:
        super().__init__(inst_data)
        self._warm = WarmLocations(keep_loaded_seconds, most_loaded_locations)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return the schema of the configuration."""
        return {
            "keep_loaded_seconds": Field(Int, default_value=_KEEP_SECONDS),
            "most_loaded_locations": Field(Int, default_value=_MOST_LOCATIONS),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Return a launcher of a configuration."""
        return cls(inst_data=inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run of the context."""
        origin, run = context.job_code_origin, context.dagster_run
        remote = run.remote_job_origin
        if origin is None or remote is None:
            super().launch_run(context)
        elif remote.location_name in forked_locations():
            arguments = serialize_value(ExecuteRunArgs(origin, run.run_id, self._instance.get_ref()))
            process = fork(f"run {run.run_id}", _execute, arguments, os.environ[LOG])
            self._say_forked(run, cast("int", process.pid))
        elif not self._fork_warm(context):
            super().launch_run(context)

    def dispose(self) -> None:
        """Keep no location loaded any more; the runs go on."""
        self._warm.end()
        super().dispose()

    def _fork_warm(self, context: LaunchRunContext) -> bool:
        """Fork a run from a location that is kept loaded; return whether it could be."""
        run, origin = context.dagster_run, context.job_code_origin
        if origin is None or context.workspace is None or run.remote_job_origin is None:
            return False
        name = run.remote_job_origin.location_name
        served = context.workspace.get_code_location(name)
        if not isinstance(served, GrpcServerCodeLocation):
            return False
        repository, instance = origin.repository_origin, serialize_value(self._instance.get_ref())
        wanted = {
            "pointer": serialize_value(repository.code_pointer),  # type: ignore[arg-type] # each of Dagster's can be
            "run_id": run.run_id,
            "job": origin.job_name,
            "origin": serialize_value(repository),
            "instance": instance,
        }

        def say(pid: int) -> None:
            self._say_forked(run, pid)

        try:
            server = CodeServer.at(served.client.socket)
            forks = server.forks_at() if server else None
            is_of_dev = server is not None and server.ends_with_its_clients()
        except OSError:  # it has ended, which Dagster's own launch says
            return False
        if forks:
            return fork_at(forks, wanted, say)
        if server is None or not is_of_dev:
            return False
        # Of this moment: what the launching process knows of it may be from before a reload.
        server_id = served.client.get_server_id()
        location = Location(name, server, server_id, repository.executable_path, wanted["origin"], instance)
        return self._warm.fork(location, wanted, say)

    def _say_forked(self, run: DagsterRun, pid: int) -> None:
        # Said before the run says it: one that is killed until then is found, and can be terminated.
        text, data = f"Forked a process for the run (pid: {pid}).", {"pid": str(pid), **says_machine()}
        self._instance.report_engine_event(text, run, EngineEventData(data))


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

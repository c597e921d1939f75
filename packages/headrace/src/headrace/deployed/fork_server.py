"""A process that has loaded the code locations, from which their servers and their runs are forked.

To load a location takes seconds: dagster, dbt, the definitions. Here that is done once for a command, while it does
something else. The standard library keeps the process and forks it. It loads `preloaded_locations`, and nothing more:
no connection is open in it, and no thread of Python's runs. DuckDB's library starts one of its own at its import; its
forks work, as a test shows.

The module imports the standard library alone, so that a command can start to load before it has loaded Dagster itself.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

LOCATIONS = "HEADRACE_PRELOADED_LOCATIONS"
"""The environment variable with the locations whose runs are forked, as JSON: the module of each, null for a file."""

LOG = "HEADRACE_FORKED_RUNS_LOG"
"""The environment variable with the file to which forked runs write what they print."""

_PRELOADED = "headrace.deployed.preloaded_locations"


def fork_runs(locations: Mapping[str, str | None], log: Path) -> None:
    """Let this process, and those that it starts from now on, fork the runs that they launch; loads nothing yet.

    Args:
        locations: the code locations that this command serves with its own interpreter, with the module of each; None
            for one that is a file, whose server and runs load it.
        log: the file to which runs write what they print.
    """
    os.environ[LOCATIONS] = json.dumps(dict(locations))
    os.environ[LOG] = str(log)


def forked_locations() -> Mapping[str, str | None]:
    """Return the locations whose runs this process forks, with the module of each; none unless it was told to."""
    found: Mapping[str, str | None] = json.loads(os.environ.get(LOCATIONS, "{}"))
    return found


def start_loading() -> None:
    """Start the process, with the environment of now; returns at once. The first fork starts it too."""
    forkserver.set_forkserver_preload([_PRELOADED])
    forkserver.ensure_running()


def fork(name: str, target: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Fork a process that calls a function, once the locations are loaded.

    Args:
        name: what the process is called.
        target: a function of a module.
        arguments: its arguments, which can be pickled.
    """
    start_loading()
    process = multiprocessing.get_context("forkserver").Process(target=target, args=arguments, name=name)
    process.start()
    return process


def write_trace(file: Path) -> None:
    """Write what the loading has read (`load_trace`), as JSON."""
    process = fork("the trace of the loading", _write_trace, str(file))
    process.join()


def _write_trace(file: str) -> None:
    from headrace.deployed.preloaded_locations import trace  # noqa: PLC0415 - a fork has it already

    Path(file).write_text(trace.to_json(), encoding="utf-8")


def wait_for_an_end(seconds: float) -> None:
    """Wait until one of the processes that this one has forked ends; for so long at most."""
    connection.wait([process.sentinel for process in multiprocessing.active_children()], seconds)

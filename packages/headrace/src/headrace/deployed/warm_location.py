"""A process of a code location's own interpreter that has loaded the location, and forks its runs.

    python warm_location.py FD

FD is a socket whose other end its launcher holds (`warm_locations`). The launcher first says what to load, as JSON, and
then hands over a pipe for each run. The process ends with its launcher, and when it has not been wanted for a while;
its runs go on. Before each fork it looks whether all that its loading has read is as it was (`load_trace`), and ends
where something is not, so no run has definitions that were edited since.

The location's environment may lack headrace, so this imports the standard library, dagster, the location, and the one
module beside it that imports the standard library alone.

Adapter of private Dagster modules: how a code server begins a run, with definitions that are loaded already.
`tests/deployed/test_warm_locations.py` fails if it moves. To be deleted when Dagster's code servers fork their runs.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import multiprocessing
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__" and sys.path[0] == str(Path(__file__).parent):
    # The folder of a script stands first, and its modules would hide the location's.
    del sys.path[0]
    # What is loaded stays: the collector would walk it again and again, a fifth of the time.
    gc.disable()

from dagster import DagsterInstance
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster._core.definitions.reconstruct import (
    ReconstructableRepository,
    def_from_pointer,
    repository_def_from_target_def,
)
from dagster._core.events import EngineEventData
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import RepositoryPythonOrigin
from dagster._grpc.impl import core_execute_run
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.interrupts import capture_interrupts
from dagster.components.definitions import LazyDefinitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from dagster._core.code_pointer import CodePointer

READY = b"ready"
"""What the process says when the location is loaded."""

_LOOK_SECONDS = 5.0


def main(control: socket.socket) -> None:
    """Load the location that the launcher names, say so, and fork a run for each pipe that it hands over."""
    # A Ctrl-C at a terminal is answered by the runs, and by the launcher, whose end is this process's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wanted = json.loads(control.recv(1 << 20))
    load_trace = _beside("load_trace")
    trace = load_trace.LoadTrace()
    repository, warm_ups = _load(wanted)
    trace.stop()
    for warm_up in warm_ups:
        with suppress(Exception):  # the run that needs the resource tells
            warm_up()
    # The environment is this process's own, and what it loads may add to it.
    read = {**json.loads(trace.to_json()), "around": load_trace.around()}
    # Else the first collection of each fork would write to, and so copy, all that it shares with this process.
    gc.collect()
    gc.freeze()
    gc.enable()
    control.send(READY)
    _say(f"{wanted['location']} is loaded: its runs are forks of process {os.getpid()}")
    idle = 0.0
    while idle < wanted["keep_seconds"]:
        multiprocessing.active_children()  # takes the exit codes of those that have ended
        if not select.select([control], [], [], _LOOK_SECONDS)[0]:
            idle += _LOOK_SECONDS
            continue
        message, handed, *_ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        changed = load_trace.difference(read)
        if changed:
            _say(f"{wanted['location']} is loaded again: {changed} is not as it was")
            return
        idle = 0.0
        with Connection(handed[0]) as launcher:
            # The standard library's, which flushes and joins at its end. No thread of Python's runs here.
            multiprocessing.get_context("fork").Process(target=_run, args=(repository, launcher, control)).start()


def _say(what: str) -> None:
    """Print a line to where the code server prints, which may be gone."""
    with suppress(OSError):
        sys.stderr.write(f"headrace: {what}\n")
        sys.stderr.flush()


def _beside(name: str) -> ModuleType:
    """Import a module of this folder, which is not on the search path."""
    spec = importlib.util.spec_from_file_location(f"_headrace_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(wanted: Mapping[str, Any]) -> tuple[ReconstructableRepository, Sequence[Callable[[], object]]]:
    """Load a location; return how its runs find it, and the `warm_up` of its resources."""
    if wanted["injects"]:
        loader = deserialize_value(wanted["instance"], InstanceRef).secrets_loader
        os.environ.update(loader.get_secrets_for_environment(wanted["location"]) if loader else {})
    origin = deserialize_value(wanted["origin"], RepositoryPythonOrigin)
    context = DefinitionsLoadContext(DefinitionsLoadType.INITIALIZATION)
    with DefinitionsLoadContext.scoped(context):
        target: Any = def_from_pointer(origin.code_pointer)
        if isinstance(target, LazyDefinitions):
            target = target()
        repository = repository_def_from_target_def(target)
        if repository is None:
            raise TypeError(f"{origin.code_pointer.describe()}: no definitions")
        repository.load_all_definitions()
        # Dagster names the job of all assets also where there are none.
        for job in filter(repository.has_job, repository.get_implicit_asset_job_names()):
            repository.get_job(job)
    state = context.accessed_defs_state_info
    # Where definitions are made from a state that Dagster keeps, a run is told of its own.
    has_state = bool(context.get_pending_reconstruction_metadata() or (state and state.info_mapping))
    found_by = ReconstructableRepository(
        pointer=origin.code_pointer if has_state else _loaded(origin.code_pointer, target),
        container_image=origin.container_image,
        executable_path=origin.executable_path,
        entry_point=origin.entry_point,
        container_context=origin.container_context,
    )
    warm_ups = [getattr(resource, "warm_up", None) for resource in (getattr(target, "resources", None) or {}).values()]
    return found_by, [warm_up for warm_up in warm_ups if callable(warm_up)]


def _loaded(pointer: CodePointer, target: object) -> CodePointer:
    """Return a pointer to what is loaded, which is a plain one again in any other process.

    Dagster makes the definitions of a run anew, twice; a process that a run starts, such as a step of the multiprocess
    executor, has to. Dagster writes an object under the name of its class, so this one has the name of the plain one's.
    """
    plain = serialize_value(pointer)  # type: ignore[arg-type] # each of Dagster's can be
    kind = type(pointer)
    own = {"load_target": lambda _: target, "__reduce__": lambda _: (deserialize_value, (plain,))}
    fields: Mapping[str, Any] = pointer._asdict()  # type: ignore[attr-defined] # each of Dagster's has it
    loaded: CodePointer = type(kind.__name__, (kind,), own)(**fields)
    return loaded


def _run(repository: ReconstructableRepository, launcher: Connection, control: socket.socket) -> None:
    """Execute a run in this process, a fork, once the launcher knows its number; without that it was never there."""
    control.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not _has_terminal():
        # Elsewhere a Ctrl-C ends the runs, as those that code servers start.
        os.setsid()
    launcher.send(os.getpid())
    try:
        wanted = launcher.recv()
    except EOFError:
        return
    launcher.close()
    _execute(repository, **wanted)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _execute(repository: ReconstructableRepository, run_id: str, job: str, instance: str) -> None:
    """Execute a run: what `dagster._grpc.impl.start_run_in_subprocess` does, with definitions that are loaded."""
    with capture_interrupts(), DagsterInstance.from_ref(deserialize_value(instance, InstanceRef)) as opened:
        run = opened.get_run_by_id(run_id)
        if run is None:
            raise LookupError(f"{run_id}: no such run")
        text, data = f"Started process for run (pid: {os.getpid()}).", EngineEventData.in_process(os.getpid())
        opened.report_engine_event(text, run, data)
        # What goes wrong is in the run's events before it is raised.
        with suppress(Exception):
            for _ in core_execute_run(repository.get_reconstructable_job(job), run, opened, inject_env_vars=False):
                pass
        opened.report_engine_event(f"Process for run exited (pid: {os.getpid()}).", run)


if __name__ == "__main__":
    try:
        main(socket.socket(fileno=int(sys.argv[1])))
    except Exception:
        traceback.print_exc()
    # Python's own end waits for the runs.
    os._exit(0)

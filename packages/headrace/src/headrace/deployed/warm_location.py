"""A process of a code location's own interpreter that has loaded the location, and forks its runs.

    python warm_location.py FD
    python warm_location.py --serve SOCKET ARGUMENTS

In the first form FD is a socket whose other end its launcher holds (`warm_locations`). The launcher says what to load,
as JSON, and then hands over a pipe for each run. The process ends with its launcher, and when it has not been wanted
for a while; its runs go on. Before each fork it looks whether all that its loading has read is as it was
(`load_trace`), and ends where something is not, so no run has definitions that were edited since.

In the second form it is a deployed code server: it forks Dagster's, of ARGUMENTS as `dagster api grpc` takes them, and
a run for each pipe that is handed over at SOCKET. SIGTERM is for all of it: it ends when its runs have ended, and they
are of its process group. A copy of the file is in each installed release, whose code nobody edits.

The location's environment may lack headrace, so this imports the standard library, dagster, the location, and in the
first form the module beside it, which imports the standard library alone.

Adapter of private Dagster modules: how a code server begins, and a run of it, with definitions that are loaded already.
The tests of warm locations and of installations fail if they move. To be deleted when Dagster's code servers fork.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if __name__ == "__main__" and sys.path[0] == str(Path(__file__).parent):
    # The folder of a script stands first, and its modules would hide the location's.
    del sys.path[0]
    # What is loaded stays: the collector would walk it again and again, a fifth of the time.
    gc.disable()


def _become_dagsters(arguments: list[str]) -> NoReturn:
    """Replace this process by Dagster's own code server, which forks nothing."""
    os.execv(sys.executable, [sys.executable, "-m", "dagster", "api", "grpc", *arguments])  # noqa: S606


SERVE = "--serve"
"""Of the command line of a deployed code server that forks its runs; the socket is behind it."""

try:
    from dagster import DagsterInstance, DagsterRunStatus
    from dagster._cli.api import grpc_command
    from dagster._core.code_pointer import CodePointer
    from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
    from dagster._core.definitions.reconstruct import (
        ReconstructableRepository,
        def_from_pointer,
        repository_def_from_target_def,
    )
    from dagster._core.events import EngineEventData
    from dagster._core.instance.ref import InstanceRef
    from dagster._core.origin import RepositoryPythonOrigin
    from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module
    from dagster._grpc.impl import core_execute_run
    from dagster._serdes import deserialize_value, serialize_value
    from dagster._utils.interrupts import capture_interrupts
    from dagster.components.definitions import LazyDefinitions
except ImportError:
    if __name__ != "__main__" or sys.argv[1] != SERVE:
        raise
    # Of a release with another Dagster.
    _become_dagsters(sys.argv[3:])

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from multiprocessing.process import BaseProcess
    from types import ModuleType

READY = b"ready"
"""What the process says when the location is loaded."""

FORK = b"fork 1 "
"""What the launcher says with a pipe, with what there is to know of the run after it, as JSON.

`pointer` is its code pointer, as JSON, and `run_id`, `job`, `origin` and `instance` are what begins it. The number is
another one where that changes: launcher and server may be of different releases.
"""

_LOOK_SECONDS = 5.0
_LAST_LOOK_SECONDS = 0.5
_STANDARD_ERROR = 2
_MESSAGE_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1


def keep(control: socket.socket) -> None:
    """Load the location that the launcher names, say so, and fork a run for each pipe that it hands over."""
    # A Ctrl-C at a terminal is answered by the runs, and by the launcher, whose end is this process's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wanted = json.loads(control.recv(_MESSAGE_BYTES))
    load_trace = _beside("load_trace")
    trace = load_trace.LoadTrace()
    if wanted["injects"]:
        loader = deserialize_value(wanted["instance"], InstanceRef).secrets_loader
        os.environ.update(loader.get_secrets_for_environment(wanted["location"]) if loader else {})
    loaded = _Loaded.of(deserialize_value(wanted["origin"], RepositoryPythonOrigin).code_pointer)
    trace.stop()
    loaded.warm_up([control.fileno()])
    # The environment is this process's own, and what it loads may add to it.
    read = {**json.loads(trace.to_json()), "around": load_trace.around()}
    if changed := load_trace.difference(read):
        # Made anew for each load, or asked of somebody: nobody can tell whether it still holds.
        raise _NotKept(f"{wanted['location']} is not kept loaded: it has read {changed}")
    control.send(READY)
    _say(f"{wanted['location']} is loaded: its runs are forks of process {os.getpid()}")
    # Elsewhere than at a terminal, whose Ctrl-C ends the runs as those that code servers start.
    runs = _Runs(loaded, lead=not _has_terminal(), files=[control.fileno()], reports=True)
    idle = 0.0
    while idle < wanted["keep_seconds"]:
        runs.look()
        if control not in select.select([control, *runs.sentinels], [], [], _LOOK_SECONDS)[0]:
            idle = 0.0 if runs.sentinels else idle + _LOOK_SECONDS
            continue
        message, handed, *_ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
        if not message:
            return
        changed = load_trace.difference(read)
        if changed:
            _say(f"{wanted['location']} is loaded again: {changed} is not as it was")
            return
        idle = 0.0
        runs.fork(message, handed)


def serve(path: Path, arguments: list[str]) -> int:
    """Serve a location, and fork its runs; return the exit code of Dagster's code server, which is another fork.

    What cannot be forked, or does not load, is left to that server alone, in place of this process.
    """
    try:
        loaded = _Loaded.of_module(arguments[arguments.index("--module-name") + 1])
        loaded.warm_up()
    except Exception as error:
        _say(f"the runs are not forked: {error}")
        _become_dagsters(arguments)
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes)
    ends: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ends.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = _fork(_serve, arguments, os.getpid())
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        # The runs are of this process's group, which the supervisor kills when they do not end in time.
        runs = _Runs(loaded, lead=False, files=[woken, wakes, listener.fileno()], reports=False)
        while not ends and server.is_alive():
            runs.look()
            if listener in select.select([woken, listener, server.sentinel, *runs.sentinels], [], [], _LOOK_SECONDS)[0]:
                runs.accept(listener)
    path.unlink(missing_ok=True)
    server.terminate()
    # Where it has died, whoever keeps this process starts it again, and the runs go on.
    while ends and (server.is_alive() or runs.sentinels):
        runs.look()
        select.select([server.sentinel] if server.is_alive() else [], [], [], _LAST_LOOK_SECONDS)
    server.join()
    return server.exitcode or 0


class _Runs:
    """The runs that are forks of this process.

    Args:
        loaded: the location.
        lead: whether each is a session of its own.
        files: what this process has open, and a run should not.
        reports: whether to report a run whose process ends before it; elsewhere Dagster's monitoring finds it.
    """

    def __init__(self, loaded: _Loaded, *, lead: bool, files: Sequence[int], reports: bool) -> None:
        self._loaded = loaded
        self._lead = lead
        self._reports = reports
        self._files = files
        self._going: dict[BaseProcess, Mapping[str, str]] = {}

    @property
    def sentinels(self) -> Sequence[int]:
        """Return what is ready to be read when a run ends."""
        return [process.sentinel for process in self._going]

    def accept(self, listener: socket.socket) -> None:
        """Fork a run of the definitions that are loaded for whoever connects; other ones are the code server's."""
        with suppress(OSError):
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(_LOOK_SECONDS)
                message, handed, *_ = socket.recv_fds(accepted, _MESSAGE_BYTES, 1)
                self.fork(message, handed, accepted.fileno())

    def fork(self, message: bytes, handed: Sequence[int], *files: int) -> None:
        """Fork the run of a launcher's message; the pipe to it is handed with that."""
        if not handed:
            return
        with Connection(handed[0]) as launcher:
            if message.startswith(FORK):
                run = json.loads(message.removeprefix(FORK))
                if run.pop("pointer") == serialize_value(self._loaded.pointer):  # type: ignore[arg-type]
                    process = _fork(_run, self._loaded, run, launcher, self._lead, [*self._files, *files])
                    self._going[process] = run

    def look(self) -> None:
        """Take the exit codes of runs that have ended."""
        for process in [process for process in self._going if not process.is_alive()]:
            process.join()
            run = self._going.pop(process)
            if process.pid and process.exitcode and self._reports:
                if self._lead:
                    with suppress(ProcessLookupError):  # what it started is of its group
                        os.killpg(process.pid, signal.SIGKILL)
                # Not here: a connection would be shared by all that is forked later.
                _fork(_report_end, run, process.pid, process.exitcode, self._files)


def _fork(target: Callable[..., None], *arguments: object) -> BaseProcess:
    # The standard library's, which flushes and joins at its end. No thread of Python's runs here. A SIGTERM that comes
    # now is answered when each of the two knows how.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        process = multiprocessing.get_context("fork").Process(target=_as_itself, args=(target, arguments))
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    return process


def _as_itself(target: Callable[..., None], arguments: Sequence[object]) -> None:
    """Answer signals as a program does that was just started, and then call the target of a fork."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    target(*arguments)


def _serve(arguments: list[str], parent: int) -> None:
    """Become Dagster's code server, which ends with its parent also where that is killed."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() == parent:
        grpc_command.main(arguments, standalone_mode=False)


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


class _NotKept(Exception):  # noqa: N818 - no error of anybody
    """A location loads, and cannot be forked."""


@dataclass(frozen=True)
class _Loaded:
    """A location that is loaded.

    Args:
        pointer: where Dagster finds its definitions.
        found_by: a pointer to what is loaded.
        resources: its resources.
    """

    pointer: CodePointer
    found_by: CodePointer
    resources: Collection[object]

    @classmethod
    def of_module(cls, module: str) -> _Loaded:
        """Load a module's definitions, found as a code server finds them."""
        folder = str(Path.cwd())
        (found,) = loadable_targets_from_python_module(module, folder)
        return cls.of(CodePointer.from_module(module, found.attribute, folder))

    @classmethod
    def of(cls, pointer: CodePointer) -> _Loaded:
        """Load what a pointer leads to."""
        context = DefinitionsLoadContext(DefinitionsLoadType.INITIALIZATION)
        with DefinitionsLoadContext.scoped(context):
            target: Any = def_from_pointer(pointer)
            if isinstance(target, LazyDefinitions):
                target = target()
            repository = repository_def_from_target_def(target)
            if repository is None:
                raise TypeError(f"{pointer.describe()}: no definitions")
            repository.load_all_definitions()
            # Dagster names the job of all assets also where there are none.
            for job in filter(repository.has_job, repository.get_implicit_asset_job_names()):
                repository.get_job(job)
        state = context.accessed_defs_state_info
        # Where definitions are made from a state that Dagster keeps, a run is told of its own.
        has_state = bool(context.get_pending_reconstruction_metadata() or (state and state.info_mapping))
        resources = (getattr(target, "resources", None) or {}).values()
        return cls(pointer, pointer if has_state else _loaded(pointer, target), resources)

    def warm_up(self, own: Sequence[int] = ()) -> None:
        """Do what each run would do first, and get ready to be forked.

        Args:
            own: the sockets of this process's own.

        Raises:
            _NotKept: a thread runs, which a fork would lack, and perhaps wait for a lock that it holds; or a
                connection is open, which all forks would share.
        """
        for resource in self.resources:
            warm_up = getattr(resource, "warm_up", None)
            if callable(warm_up):
                with suppress(Exception):  # the run that needs the resource tells
                    warm_up()
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
            raise _NotKept(f"its definitions have started threads, so its runs are not forked: {names}")
        connections = [name for name in _sockets() if int(name) not in own]
        if connections:
            raise _NotKept(f"its definitions have opened {len(connections)} connections, so its runs are not forked")
        # Else the first collection of each fork would write to, and so copy, all that it shares with this process.
        gc.collect()
        gc.freeze()
        gc.enable()


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


def _run(loaded: _Loaded, run: Mapping[str, str], launcher: Connection, lead: bool, files: Sequence[int]) -> None:
    """Execute a run in this process, a fork, once the launcher knows its number; without that it was never there."""
    for file in files:
        os.close(file)
    if lead:
        os.setsid()
    try:
        launcher.send_bytes(str(os.getpid()).encode())
        launcher.recv_bytes()
    except (EOFError, OSError):
        return
    launcher.close()
    _execute(loaded, **run)


def _sockets() -> Iterator[str]:
    """Yield the descriptors of the sockets that this process has open, but for its input and output."""
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if int(file.name) > _STANDARD_ERROR and file.readlink().name.startswith("socket:"):
                yield file.name


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _execute(loaded: _Loaded, run_id: str, origin: str, job: str, instance: str) -> None:
    """Execute a run: what `dagster._grpc.impl.start_run_in_subprocess` does, with definitions that are loaded."""
    of = deserialize_value(origin, RepositoryPythonOrigin)
    repository = ReconstructableRepository(
        pointer=loaded.found_by,
        container_image=of.container_image,
        executable_path=of.executable_path,
        entry_point=of.entry_point,
        container_context=of.container_context,
    )
    with capture_interrupts(), DagsterInstance.from_ref(deserialize_value(instance, InstanceRef)) as opened:
        execution = opened.get_run_by_id(run_id)
        if execution is None:
            raise LookupError(f"{run_id}: no such run")
        text, data = f"Started process for run (pid: {os.getpid()}).", EngineEventData.in_process(os.getpid())
        opened.report_engine_event(text, execution, data)
        try:
            of_run = repository.get_reconstructable_job(job)
            for _ in core_execute_run(of_run, execution, opened, inject_env_vars=False):
                pass
        except BaseException:
            # It is in the run's events, as a rule; else whoever watches this process reports its end.
            ended = opened.get_run_by_id(run_id)
            if ended and not ended.is_finished:
                raise
        opened.report_engine_event(f"Process for run exited (pid: {os.getpid()}).", execution)


def _report_end(run: Mapping[str, str], pid: int, code: int, files: Sequence[int]) -> None:
    """Report that a run has failed whose process ended before it, as code servers do of those that they started."""
    for file in files:
        os.close(file)
    with DagsterInstance.from_ref(deserialize_value(run["instance"], InstanceRef)) as opened:
        found = opened.get_run_by_id(run["run_id"])
        if found is None or found.is_finished:
            return
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        text = f"The run's process, {pid}, {how} before the run had ended."
        if found.status is DagsterRunStatus.CANCELING:
            opened.report_run_canceled(found, message=text)
        else:
            opened.report_run_failed(found, message=text)


if __name__ == "__main__":
    code = 0
    try:
        if sys.argv[1] == SERVE:
            code = serve(Path(sys.argv[2]), sys.argv[3:])
        else:
            keep(socket.socket(fileno=int(sys.argv[1])))
    except _NotKept as error:
        _say(str(error))
        code = 1
    except Exception:
        traceback.print_exc()
        code = 1
    # Python's own end waits for the runs.
    os._exit(code)

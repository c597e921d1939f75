"""Ends what a run leaves when its process is killed: Dagster starts two processes for the output of a step.

One, `tail`, copies the step's output to that of the run; the other ends `tail` when the run is gone. A run that is
killed before the second has started leaves `tail` for ever, and whatever else the run had started goes on as well: a
program of an asset, or a step of Dagster's multiprocess executor, which then still holds the DuckDB file.

A run that Headrace forks has a guard. The other runs are started by code servers, in which Headrace need not be
installed: what they leave is looked for when their process is found gone.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from dagster import DagsterEventType, DagsterInstance

from headrace.deployed.run_process import RunProcess

_LOOK_SECONDS = 0.2


def guard_group() -> None:
    """Start a process that kills all of this process group once this process has ended, in whatever way, and itself.

    To be called by a run that leads its group, before it starts anything. The guard is of the group, so that no other
    group can get its number meanwhile. It is a fork that keeps no file, pipe or terminal open. What has moved to a
    group of its own, as a daemon does, is left alone.

    Raises:
        RuntimeError: this process does not lead its group, in which others would be killed too.
    """
    run = os.getpid()
    if os.getpgid(0) != run:
        raise RuntimeError(f"process {run} is in the group {os.getpgid(0)}, not in one of its own")
    if os.fork():
        return
    try:
        for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(ignored, signal.SIG_IGN)
        for file in [*Path("/proc/self/fd").iterdir()]:
            with suppress(OSError):  # the listing's own
                os.close(int(file.name))
        # Whoever adopts it, init or another: its parent is another one then. A pidfd needs Linux 5.3.
        while os.getppid() == run:
            time.sleep(_LOOK_SECONDS)
        os.killpg(run, signal.SIGKILL)
    finally:
        os._exit(1)


def end_leftovers(instance: DagsterInstance, run_id: str) -> None:
    """Kill what is left of a run whose process is gone.

    These are the processes of its steps, which said in the run's events what they are, with all that they have started;
    and each `tail` of its captured output that its parent has left behind. One that somebody reads the output with has
    a parent, and is left alone.

    Args:
        instance: the instance of the run.
        run_id: the run, whose process was on this machine and is gone.
    """
    left: set[psutil.Process] = {*_steps(instance, run_id), *_tails(run_id)}
    for process in [*left]:
        with suppress(psutil.Error):
            left.update(process.children(recursive=True))
    for process in left:
        with suppress(psutil.Error):
            process.kill()


def _steps(instance: DagsterInstance, run_id: str) -> Iterator[psutil.Process]:
    """Yield the processes of a run's steps that live."""
    cursor, has_more = None, True
    while has_more:
        page = instance.get_records_for_run(run_id, of_type=DagsterEventType.STEP_WORKER_STARTED, cursor=cursor)
        for record in page.records:
            event = record.event_log_entry.dagster_event
            said = event.engine_event_data.metadata.get("pid") if event else None
            if said is None:
                continue
            step = RunProcess(int(str(said.value)), record.event_log_entry.timestamp)
            with suppress(psutil.Error):
                process = psutil.Process(step.pid)
                # Dagster starts them by the standard library.
                if step.lives() and "multiprocessing" in " ".join(process.cmdline()):
                    yield process
        cursor, has_more = page.cursor, page.has_more


def _tails(run_id: str) -> Iterator[psutil.Process]:
    """Yield each `tail` of the captured output of a run that has lost its parent: `execute_posix_tail` of Dagster."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            command = process.cmdline()
            if command[:4] == ["tail", "-F", "-c", "+0"] and f"/{run_id}/" in command[-1] and _is_orphan(process):
                yield process


def _is_orphan(process: psutil.Process) -> bool:
    """Return whether a process was adopted: by the first process, or by another one, which is of another session."""
    parent = process.ppid()
    return parent <= 1 or os.getsid(parent) != os.getsid(process.pid)

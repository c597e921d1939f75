"""Whether the process of a run lives: the one answer for the launchers and for what ends dead runs.

A run says in its first events which process it is. A number alone proves nothing: after a reboot it may be another
process's, and of an instance that several machines share, another machine's. So the process must have begun before the
run said its number, and our launchers say which machine it is.
"""

import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from dagster import DagsterEventType, DagsterInstance

_PROC = Path("/proc")
_SLACK_SECONDS = 5.0
_FIRST_EVENTS = 20
_MACHINE = "headrace/machine"


def this_machine() -> str:
    """Return what tells this machine's processes from others': host name, PID namespace, and start of the system."""
    namespace = (_PROC / "self/ns/pid").readlink().name.strip("pid:[]")
    boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()}/{namespace}/{boot}"


def says_machine() -> dict[str, str]:
    """Return the metadata of the event by which a launcher says where it starts a run."""
    return {_MACHINE: this_machine()}


@dataclass(frozen=True)
class RunProcess:
    """The process of a run.

    Args:
        pid: its number.
        said_at: when the run said so, in seconds since the epoch.
        machine: where it was started, as `this_machine` has it; None where nobody said so: it counts as started here.
    """

    pid: int
    said_at: float
    machine: str | None = None

    @classmethod
    def of(cls, instance: DagsterInstance, run_id: str) -> "RunProcess | None":
        """Return the process that a run said it is in its first events; None where it has not said it yet."""
        found = instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT, limit=_FIRST_EVENTS)
        process, machine = None, None
        for record in found.records:
            event = record.event_log_entry.dagster_event
            said = event.engine_event_data.metadata if event else {}
            if "pid" in said and process is None:
                process = cls(int(str(said["pid"].value)), record.event_log_entry.timestamp)
            if _MACHINE in said and machine is None:  # perhaps after the run's own word
                machine = str(said[_MACHINE].value)
        return process and replace(process, machine=machine)

    @property
    def host(self) -> str | None:
        """Return the host whose process it is, where that is another one than this; a container is a host."""
        host = (self.machine or this_machine()).split("/")[0]
        return None if host == socket.gethostname() else host

    def lives(self) -> bool:
        """Return whether it lives: whoever got its number later began later, and a zombie does nothing any more.

        Only this machine's can be asked for: `host` is None.
        """
        if self.machine not in (None, this_machine()):
            return False  # the system or the container has started again
        try:
            fields = (_PROC / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        state, start_ticks = fields[0], int(fields[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")
        return state not in ("Z", "X") and time.time() - age <= self.said_at + _SLACK_SECONDS

    @property
    def end(self) -> str:
        """Return why a run failed whose process is gone."""
        return f"its process, {self.pid}, is gone: it was killed"

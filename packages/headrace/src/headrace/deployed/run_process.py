"""Whether the process of a run lives: the one answer for the launchers and for what ends dead runs.

A run says in its first events which process it is. A number alone proves nothing: after a reboot it may be another
process's, and of an instance that several machines share, another machine's. So the process must have begun before the
run said its number, and our launchers say which machine it is, and how long that has been up: the kernel tells the
beginning of a process by that clock, and the other one may be set.
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
_UPTIME = "headrace/uptime"


def this_machine() -> str:
    """Return what tells this machine's processes from others': host name, PID namespace, and start of the system."""
    namespace = (_PROC / "self/ns/pid").readlink().name.strip("pid:[]")
    boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()}/{namespace}/{boot}"


def uptime() -> float:
    """Return for how many seconds this machine has been up, asleep or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def says_machine() -> dict[str, str]:
    """Return the metadata of the event by which a launcher says where it starts a run, and when."""
    return {_MACHINE: this_machine(), _UPTIME: f"{uptime():.3f}"}


@dataclass(frozen=True)
class RunProcess:
    """The process of a run.

    Args:
        pid: its number.
        said_at: when the run said so, in seconds since the epoch.
        machine: where it was started, as `this_machine` has it; None where nobody said so: it counts as started here.
        said_in: when the run said so, in seconds since the start of that machine; None where nobody said that.
    """

    pid: int
    said_at: float
    machine: str | None = None
    said_in: float | None = None

    @classmethod
    def of(cls, instance: DagsterInstance, run_id: str) -> "RunProcess | None":
        """Return the process that a run said it is in its first events; None where it has not said it yet."""
        found = instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT, limit=_FIRST_EVENTS)
        process, machine, launched_at, launched_in = None, None, 0.0, None
        for record in found.records:
            event = record.event_log_entry.dagster_event
            said = event.engine_event_data.metadata if event else {}
            at = record.event_log_entry.timestamp
            if "pid" in said and process is None:
                process = cls(int(str(said["pid"].value)), at)
            if _MACHINE in said and machine is None:  # perhaps after the run's own word
                machine = str(said[_MACHINE].value)
                launched_at, launched_in = at, float(str(said[_UPTIME].value)) if _UPTIME in said else None
        if process is None or launched_in is None:
            return process and replace(process, machine=machine)
        # Between the two the clock may have been set back; then it said so when it was launched, or a moment later.
        since_launch = max(0.0, process.said_at - launched_at)
        return replace(process, machine=machine, said_in=launched_in + since_launch)

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
        state, began_in = fields[0], int(fields[19]) / os.sysconf("SC_CLK_TCK")
        said_in = self.said_at - (time.time() - uptime()) if self.said_in is None else self.said_in
        return state not in ("Z", "X") and began_in <= said_in + _SLACK_SECONDS

    @property
    def end(self) -> str:
        """Return why a run failed whose process is gone."""
        return f"its process, {self.pid}, is gone: it was killed"

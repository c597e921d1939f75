"""Whether the process of a run lives: the one answer for the launchers and for what ends dead runs.

A run says in its first events which process it is. A number alone proves nothing: after a reboot it may be another
process's. So the process must have begun before the run said its number.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from dagster import DagsterEventType, DagsterInstance

_PROC = Path("/proc")
_SLACK_SECONDS = 5.0
_FIRST_EVENTS = 20


@dataclass(frozen=True)
class RunProcess:
    """The process of a run on this machine.

    Args:
        pid: its number.
        said_at: when the run said so, in seconds since the epoch.
    """

    pid: int
    said_at: float

    @classmethod
    def of(cls, instance: DagsterInstance, run_id: str) -> "RunProcess | None":
        """Return the process that a run said it is in its first events; None where it has not said it yet."""
        found = instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT, limit=_FIRST_EVENTS)
        for record in found.records:
            event = record.event_log_entry.dagster_event
            if event and "pid" in event.engine_event_data.metadata:
                pid = int(str(event.engine_event_data.metadata["pid"].value))
                return cls(pid, record.event_log_entry.timestamp)
        return None

    def lives(self) -> bool:
        """Return whether it lives: whoever got its number later began later, and a zombie does nothing any more."""
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

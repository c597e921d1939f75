"""Dagster's own run launcher, which can also be asked whether the process of a run still lives.

Where it can not be asked, Dagster's run monitoring leaves the run of a killed process STARTED for ever. A run is a
process of the code server that launched it, on this host. When that server is killed alone, the run goes on and
succeeds; when the run's process is gone, it is lost. So what counts is the run's process, not its server. The code
servers need no Headrace: Dagster makes a launcher where a run is launched or monitored, not where it runs.

The imports from `dagster._core` are what a launcher of one's own needs; nothing public has them.
"""

import os
import signal
import time
from pathlib import Path

from dagster import DagsterEventType, DagsterRun, DefaultRunLauncher
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

from headrace.deployed.leftovers import end_leftovers

_PROC = Path("/proc")
_SLACK_SECONDS = 5.0


class LocalRunLauncher(DefaultRunLauncher):
    """Launches a run in the code server of its location, and looks at its process in `/proc`."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether the process of a started run lives; where it does not, end what is left of it."""
        worker = self._worker(run.run_id)
        if worker is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it has not said yet what its process is")
        pid, said_at = worker
        if _lives(pid, said_at):
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
        end_leftovers(self._instance, run.run_id)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process, {pid}, is gone: it was killed")

    def terminate(self, run_id: str) -> bool:
        """Interrupt the process of a run, whose server may be draining or gone; return whether it lived."""
        worker = self._worker(run_id) if self.has_instance else None
        if worker is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call] # Dagster's is untyped
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        pid, said_at = worker
        if not _lives(pid, said_at):
            return False
        os.kill(pid, signal.SIGTERM)
        return True

    def _worker(self, run_id: str) -> tuple[int, float] | None:
        """Return the process that a run said it is in its first events, and when it said so (epoch seconds)."""
        found = self._instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT, limit=20)
        for record in found.records:
            event = record.event_log_entry.dagster_event
            if event and "pid" in event.engine_event_data.metadata:
                return int(str(event.engine_event_data.metadata["pid"].value)), record.event_log_entry.timestamp
        return None


def _lives(pid: int, said_at: float) -> bool:
    """Return whether a process lives that said its number at a time: who got the number later began later."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    state, start_ticks = fields[0], int(fields[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")
    return state not in ("Z", "X") and time.time() - age <= said_at + _SLACK_SECONDS

"""Dagster's own run launcher, which can also be asked whether the process of a run still lives.

Where it cannot be asked, Dagster's run monitoring leaves the run of a killed process STARTED for ever. A run is a
process of the code server that launched it, on this host. When that server is killed alone, the run goes on and
succeeds; when the run's process is gone, it is lost. So what counts is the run's process, not its server. The code
servers need no Headrace: Dagster makes a launcher where a run is launched or monitored, not where it runs.

The imports from `dagster._core` are what a launcher of one's own needs; nothing public has them.
"""

import os
import signal

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

from headrace.deployed.leftovers import end_leftovers
from headrace.deployed.run_process import RunProcess, says_machine


class LocalRunLauncher(DefaultRunLauncher):
    """Launches a run in the code server of its location, and looks at its process in `/proc`."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run of the context, and say where: its code server is on this machine."""
        text = "The run is started on this machine."
        self._instance.report_engine_event(text, context.dagster_run, EngineEventData(says_machine()))
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether the process of a started run lives; where it does not, end what is left of it."""
        process = RunProcess.of(self._instance, run.run_id)
        if process is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it has not said yet what its process is")
        if process.host:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"it is a process of {process.host}, not of this machine")
        if process.lives():
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(process.pid))
        end_leftovers(self._instance, run.run_id)
        return CheckRunHealthResult(WorkerStatus.FAILED, process.end)

    def terminate(self, run_id: str) -> bool:
        """Interrupt the process of a run, whose server may be draining or gone; return whether it lived."""
        process = RunProcess.of(self._instance, run_id) if self.has_instance else None
        if process is None or process.host:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call] # Dagster's is untyped
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        if not process.lives():
            return False
        os.kill(process.pid, signal.SIGTERM)
        return True

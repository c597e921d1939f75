"""Ends the runs whose process is gone, as after SIGKILL or a reboot, and frees what they hold.

Dagster's run monitoring does both, where a daemon is, and with a launcher that can be asked for a run's health; the
local one cannot. A dead run would stay STARTED for ever, and hold the slot of its pool: no other run of the dbt project
would begin. A run of another machine is that machine's, and one of a worker its launcher's to tell.
"""

from dagster import DagsterInstance, DagsterRunStatus, DefaultRunLauncher, RunsFilter

from headrace.deployed.leftovers import end_leftovers
from headrace.deployed.run_health import run_health
from headrace.deployed.run_process import RunProcess

_WITH_PROCESS = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


class DeadRuns:
    """Finds and ends dead runs; remembers the processes of the runs that it has looked at.

    Args:
        instance: the instance.
    """

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance
        self._processes: dict[str, RunProcess] = {}

    def mend(self, tags: dict[str, str] | None = None) -> None:
        """Fail the runs whose process is gone, and free the slots of all runs that have ended.

        One that was asked to end is canceled: it may have ended just before.

        Args:
            tags: only runs with these tags are looked at; all by default.
        """
        started = RunsFilter(tags=tags or {}, statuses=_WITH_PROCESS)
        for run in self._instance.get_runs(started):
            health = run_health(self._instance, run, self._process(run.run_id))
            if health.state == "gone":
                # A run that ended well meanwhile has said so before its process went.
                now = self._instance.get_run_by_id(run.run_id)
                if isinstance(self._instance.run_launcher, DefaultRunLauncher):
                    end_leftovers(self._instance, run.run_id)  # they are of this machine
                if now is not None and now.status is DagsterRunStatus.CANCELING:
                    self._instance.report_run_canceled(now)
                elif now is not None and not now.is_finished:
                    self._instance.report_run_failed(now, health.why)
        storage = self._instance.event_log_storage
        for run_id in storage.get_concurrency_run_ids():
            holder = self._instance.get_run_by_id(run_id)
            if holder is None or holder.is_finished:
                storage.free_concurrency_slots_for_run(run_id)

    def _process(self, run_id: str) -> RunProcess | None:
        if run_id not in self._processes and (found := RunProcess.of(self._instance, run_id)):
            self._processes[run_id] = found
        return self._processes.get(run_id)

"""Ends the runs of this machine whose process is gone, as after SIGKILL or a reboot, and frees what they hold.

Dagster's run monitoring does both, with a launcher that can be asked for a run's health; the local one can not. A dead
run would stay STARTED for ever, and hold the slot of its pool: no other run of the dbt project would begin.
"""

from pathlib import Path

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from headrace.deployed.leftovers import end_leftovers

_WITH_PROCESS = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


class DeadRuns:
    """Finds and ends dead runs; remembers the processes of the runs that it has looked at.

    Args:
        instance: the instance, whose runs are processes of this machine.
    """

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance
        self._pids: dict[str, int] = {}

    def mend(self, tags: dict[str, str] | None = None) -> None:
        """Fail the runs whose process was started and is gone, and free the pool slots of all runs that have ended.

        Args:
            tags: only runs with these tags are looked at; all by default.
        """
        started = RunsFilter(tags=tags or {}, statuses=_WITH_PROCESS)
        for run in self._instance.get_runs(started):
            pid = self._pid(run.run_id)
            if pid and not Path("/proc", str(pid)).exists() and Path("/proc").is_dir():
                # A run that ended well meanwhile has said so before its process went.
                now = self._instance.get_run_by_id(run.run_id)
                end_leftovers(self._instance, run.run_id)
                if now is not None and not now.is_finished:
                    self._instance.report_run_failed(now, f"its process, {pid}, is gone: it was killed")
        storage = self._instance.event_log_storage
        for run_id in storage.get_concurrency_run_ids():
            holder = self._instance.get_run_by_id(run_id)
            if holder is None or holder.is_finished:
                storage.free_concurrency_slots_for_run(run_id)

    def _pid(self, run_id: str) -> int | None:
        """Return the process of a run, which Dagster's launcher says in the run's first events."""
        if run_id not in self._pids:
            stored = self._instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT, limit=20)
            for record in stored.records:
                event = record.event_log_entry.dagster_event
                if event and "pid" in event.engine_event_data.metadata:
                    self._pids[run_id] = int(str(event.engine_event_data.metadata["pid"].value))
                    break
        return self._pids.get(run_id)

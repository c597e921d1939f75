"""Dagster's launcher of runs on Celery workers, which knows when a worker is gone.

dagster-celery's own asks the result of the task alone, and that of a worker which was killed says STARTED for ever.
This one asks the workers, by Celery's remote control, what they have. A run that none has, for some time, is lost:
Dagster's run monitoring fails it, and retries it. Where the broker cannot be asked nothing is known, and nothing is
failed: a worker that loses the broker ends its run by itself (`deploy/celery/dagster_celery_config.py`).

The task has the run's id. Each code location has a queue of its own, `<default_queue>-<location>`, since its workers
have the packages of that location; a run's tag `dagster-celery/queue` names another one.

The imports from private modules are what a launcher of one's own needs, and how dagster-celery's calls its task;
nothing public has them. It can be deleted when that one tells the health of a worker. `tests/workers/test_celery.py`
fails if they move.
"""

import time
from collections.abc import Mapping
from typing import Any, Self, cast

from celery.result import AsyncResult
from celery.states import EXCEPTION_STATES, READY_STATES
from dagster import DagsterRun, DagsterRunStatus, Field, Float
from dagster._config.config_schema import UserConfigSchema
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData, pack_value
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_RUN_PRIORITY_TAG, DAGSTER_CELERY_TASK_ID_TAG
from dagster_celery.tasks import create_execute_job_task

_GONE_SECONDS = 20.0
_ASK_SECONDS = 3.0
_ANSWER_KEPT_SECONDS = 5.0


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Launches a run in the queue of its location; asked for its health, it asks the workers.

    Configured in `dagster.yaml` as dagster-celery's, and by `gone_seconds`: for how long no worker may have had a run
    that was begun.
    """

    def __init__(self, gone_seconds: float = _GONE_SECONDS, **config: Any) -> None:  # Any: dagster-celery's
        super().__init__(**config)
        self._gone_seconds = gone_seconds
        self._missed_since: dict[str, float] = {}
        self._asked_at = -_ANSWER_KEPT_SECONDS
        self._held: frozenset[str] | None = None

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return the schema of the configuration."""
        said = cast("dict[str, Field]", super().config_type())
        return {**said, "gone_seconds": Field(Float, default_value=_GONE_SECONDS)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Return a launcher of a configuration."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def supports_resume_run(self) -> bool:
        """Return False: a lost run is retried as another run."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        """Put the run of the context into its queue.

        Raises:
            kombu.exceptions.OperationalError: the broker does not take it; Dagster tries again, or fails the run.
        """
        run, origin = context.dagster_run, context.job_code_origin
        if origin is None:
            raise ValueError(f"run {run.run_id} has no origin: launch it from a code location")
        queue = run.tags.get(DAGSTER_CELERY_QUEUE_TAG) or self._queue_of(run)
        arguments = ExecuteRunArgs(origin, run.run_id, self._instance.get_ref(), set_exit_code_on_failure=True)
        create_execute_job_task(self.celery).si(execute_job_args_packed=pack_value(arguments)).apply_async(
            task_id=run.run_id,
            priority=_number(run.tags.get(DAGSTER_CELERY_RUN_PRIORITY_TAG)),
            queue=queue,
            routing_key=f"{queue}.{TASK_EXECUTE_JOB_NAME}",
        )
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: run.run_id})
        self._instance.report_engine_event(f"The run waits for a worker of the queue {queue}.", run)

    def terminate(self, run_id: str) -> bool:
        """Have its worker interrupt a run, or take it out of its queue; return whether it was not at its end."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        self.celery.control.revoke(run_id, terminate=True, signal="SIGTERM")
        if run.status is not DagsterRunStatus.STARTED and run_id not in (self._ask() or ()):
            # Whoever takes it out of the queue finds that it has ended.
            self._instance.report_run_canceled(run)
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether a worker has a run that was begun."""
        try:
            state = AsyncResult(run.run_id, app=self.celery).state
            held = self._ask()
        except Exception as error:  # what a broker and a store of results raise has no common class
            self._missed_since.clear()
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"nobody can be asked for it: {error}")
        if state in READY_STATES:
            # Its own last word came before: who asks looks whether it is there by now.
            why = "failed" if state in EXCEPTION_STATES else "ended, and has not said how the run did"
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its task has {why}")
        if run.run_id in held:
            self._missed_since.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        missed = time.monotonic() - self._missed_since.setdefault(run.run_id, time.monotonic())
        if missed < self._gone_seconds:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"no worker has it, since {missed:.0f} s")
        self._missed_since.pop(run.run_id)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its worker is gone: none has it, since {missed:.0f} s")

    def _queue_of(self, run: DagsterRun) -> str:
        return (
            f"{self.default_queue}-{run.remote_job_origin.location_name}"
            if run.remote_job_origin
            else self.default_queue
        )

    def _ask(self) -> frozenset[str]:
        """Return the tasks that the workers have; one question is for all runs that are asked for in its time."""
        if self._held is None or time.monotonic() - self._asked_at > _ANSWER_KEPT_SECONDS:
            self._held = None
            active = self.celery.control.inspect(timeout=_ASK_SECONDS).active() or {}
            self._held = frozenset(task["id"] for tasks in active.values() for task in tasks)
            self._asked_at = time.monotonic()
        return self._held


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0

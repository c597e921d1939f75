"""Dagster's launcher of runs on Celery workers, which knows when a run is gone.

dagster-celery's own asks the result of the task, and that of a worker which was killed says STARTED for ever. Here the
process of a run has a lease in Redis (`dagster_celery_config.py`); a run that has begun and has none is lost, and
Dagster's run monitoring fails it and retries it. Where Redis cannot be asked, or has only just begun, nothing is known,
and nothing is failed.

The task has the run's id. Each code location has a queue of its own, `<default_queue>-<location>`, since its workers
have the packages of that location; a run's tag `dagster-celery/queue` names another one.

The imports from private modules are what a launcher of one's own needs, and how dagster-celery's calls its task;
nothing public has them. It can be deleted when that one tells the health of a worker. `tests/workers/test_celery.py`
fails if they move.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from dagster import DagsterRun, DagsterRunStatus
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData, pack_value
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_RUN_PRIORITY_TAG, DAGSTER_CELERY_TASK_ID_TAG
from dagster_celery.tasks import create_execute_job_task
from redis import Redis, RedisError

LEASE, TAKEN, LEASE_SECONDS = "headrace/lease/", "headrace/taken/", 20
"""As `dagster_celery_config.py` has them, which only a worker can import; a test holds them equal."""

_ANSWER_SECONDS = 5.0
_BEGUN = {DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING}


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """Launches a run in the queue of its location; asked for its health, it looks for its lease.

    Configured in `dagster.yaml` as dagster-celery's; the broker is a Redis, and a `backend` is not needed.
    """

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Return a launcher of a configuration.

        Raises:
            ValueError: the broker is no Redis.
        """
        broker = str(config_value.get("broker"))
        if not broker.startswith(("redis://", "rediss://")):
            raise ValueError("run_launcher: the broker is no redis:// or rediss:// URL: leases of runs are kept in it")
        return cls(inst_data=inst_data, **{**config_value, "backend": None})

    @property
    def supports_resume_run(self) -> bool:
        """Return False: a lost run is retried as another run."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        """Put the run of the context into its queue.

        Raises:
            DagsterUserCodeUnreachableError: Redis does not take it; the run stays in Dagster's queue, for so often as
                `run_queue` of `dagster.yaml` says.
        """
        run, origin = context.dagster_run, context.job_code_origin
        if origin is None:
            raise ValueError(f"run {run.run_id} has no origin: launch it from a code location")
        queue = run.tags.get(DAGSTER_CELERY_QUEUE_TAG) or self._queue_of(run)
        arguments = ExecuteRunArgs(origin, run.run_id, self._instance.get_ref(), set_exit_code_on_failure=True)
        try:
            self._redis.ping()
            create_execute_job_task(self.celery).si(execute_job_args_packed=pack_value(arguments)).apply_async(
                task_id=run.run_id,
                priority=_number(run.tags.get(DAGSTER_CELERY_RUN_PRIORITY_TAG)),
                queue=queue,
                routing_key=f"{queue}.{TASK_EXECUTE_JOB_NAME}",
                ignore_result=True,
            )
        except Exception as error:  # what a broker raises has no common class
            raise DagsterUserCodeUnreachableError(f"Redis does not take the run: {error}") from error
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: run.run_id})
        self._instance.report_engine_event(f"The run waits for a worker of the queue {queue}.", run)

    def terminate(self, run_id: str) -> bool:
        """Have its worker interrupt a run, or take it out of its queue; return whether it was not at its end.

        Raises:
            redis.RedisError: Redis cannot be reached; nothing has changed.
        """
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return False
        is_taken = self._redis.exists(TAKEN + run_id)
        self.celery.control.revoke(run_id, terminate=True, signal="SIGTERM")
        self._instance.report_run_canceling(run)
        if not is_taken:
            # Whoever takes it out of the queue finds that it has ended.
            self._instance.report_run_canceled(run)
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether a process has a run: one that waits in its queue is well."""
        try:
            if self._redis.exists(LEASE + run.run_id):
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            taken = self._redis.get(TAKEN + run.run_id)
            has_all = int(self._redis.info("server")["uptime_in_seconds"]) > LEASE_SECONDS
        except RedisError as error:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"Redis cannot be asked for it: {error}")
        if not has_all:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "Redis has just begun")
        if taken is None and run.status not in _BEGUN:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no worker has taken it")
        host, _, pid = str(taken or "? ?").partition(" ")
        why = f"its process, {pid} of {host}, is gone, or cut off from Redis, and has ended"
        return CheckRunHealthResult(WorkerStatus.FAILED, why)

    @cached_property
    def _redis(self) -> "Redis":
        seconds = _ANSWER_SECONDS
        return Redis.from_url(
            str(self.broker), socket_timeout=seconds, socket_connect_timeout=seconds, decode_responses=True
        )

    def _queue_of(self, run: DagsterRun) -> str:
        origin = run.remote_job_origin
        return f"{self.default_queue}-{origin.location_name}" if origin else self.default_queue


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0

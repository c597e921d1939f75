"""The settings of the Celery workers, which dagster-celery finds by this file's name: its folder is on PYTHONPATH.

    celery --app dagster_celery.app worker --queues dagster-analytics --concurrency 1 --hostname analytics@%h

Where broker and results are is in the environment, and the same for the launcher in `dagster.yaml`.
"""

import ctypes
import os
import signal

from celery.signals import worker_process_init

broker_url = os.environ["HEADRACE_CELERY_BROKER"]
result_backend = os.environ.get("HEADRACE_CELERY_BACKEND", broker_url)

# A worker takes a run when it begins it, and no further one: those wait in the queue, where any worker finds them.
task_acks_late = True
worker_prefetch_multiplier = 1
# Each run is a new process: it loads the code that is there, and what it leaks goes with it.
worker_max_tasks_per_child = 1

# Redis hands out again what nobody has confirmed in this time: to a second worker, where a run takes longer. What a
# worker that was killed has had is begun anew by Dagster, and not by Redis.
broker_transport_options = {"visibility_timeout": 7 * 24 * 3600}
# A worker that has lost the broker cannot say that it has a run, which is then taken for lost: it ends it.
worker_cancel_long_running_tasks_on_connection_loss = True
broker_connection_retry_on_startup = True

_PR_SET_PDEATHSIG = 1


@worker_process_init.connect
def _end_with_the_worker(**_said: object) -> None:
    """Have the kernel interrupt a run whose worker is killed: nobody would know of it, and it is begun elsewhere."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

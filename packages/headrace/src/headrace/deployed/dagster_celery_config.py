"""The settings of Celery workers, which dagster-celery finds by this file's name, and the lease of each run.

    celery --app dagster_celery.app worker --queues dagster-analytics --concurrency 1 --hostname analytics@%h

A copy is in each installed release of a location, whose environment has no Headrace: it imports what dagster-celery
brings. The process of a run takes a lease in Redis before the run begins, and renews it until it ends. Whoever finds no
lease knows that the run is gone, whatever became of worker, host or network: a run that could not renew it ends itself
before it has run out. So no two processes have one run.

`celery_launcher.py` reads the lease. Redis must not evict keys: its default, `maxmemory-policy noeviction`.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from celery.signals import task_prerun, worker_process_init
from redis import Redis

LEASE = "headrace/lease/"
"""The key of a run's lease is this and its id."""

TAKEN = "headrace/taken/"
"""The key that says, for a day, that a worker has taken a run."""

LEASE_SECONDS = 20
_RENEW_SECONDS = 3.0
_INTERRUPT_SECONDS = 10.0
_ANSWER_SECONDS = 2.0
_MOST_SECONDS = LEASE_SECONDS - _RENEW_SECONDS - _ANSWER_SECONDS
_DAY_SECONDS = 24 * 3600
_PR_SET_PDEATHSIG = 1

broker_url = os.environ.get("HEADRACE_CELERY_BROKER", "")
if not broker_url.startswith(("redis://", "rediss://")):
    sys.exit("HEADRACE_CELERY_BROKER is no Redis: set it like redis://redis.example.com:6379/0")
# The lease says how a run is, and Dagster how it ended.
result_backend = "disabled://"
task_ignore_result = True

# A worker takes a run when it begins it, and no further one: those wait in the queue, where any worker finds them.
task_acks_late = True
worker_prefetch_multiplier = 1
# Each run is a process of its own: what it leaks goes with it.
worker_max_tasks_per_child = 1

# Redis hands out again what nobody has confirmed in this time, to a second worker, which finds the lease or the run's
# end. What a worker that was killed has had is begun anew by Dagster.
broker_transport_options = {
    "visibility_timeout": 7 * _DAY_SECONDS,
    "socket_timeout": 10,
    "socket_connect_timeout": 10,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
broker_connection_retry_on_startup = True


@worker_process_init.connect
def _end_with_the_worker(**_said: object) -> None:
    """Have the kernel interrupt a run whose worker is killed: so it is told at once."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@task_prerun.connect
def _take_lease(task_id: str, **_said: object) -> None:
    """Take the lease of the run, whose id is the task's, and keep it; end this process where another one has it."""
    holder = f"{socket.gethostname()} {os.getpid()}"
    try:
        redis = Redis.from_url(broker_url, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS)
        redis.set(TAKEN + task_id, holder, ex=_DAY_SECONDS)
        if not redis.set(LEASE + task_id, holder, ex=LEASE_SECONDS, nx=True):
            sys.stderr.write(f"run {task_id}: another process has it\n")
            os._exit(0)
    except Exception as error:  # Celery goes on whatever this raises, and nobody could know that the run is there
        sys.stderr.write(f"run {task_id}: it has no lease, and does not begin: {error}\n")
        os._exit(1)
    threading.Thread(target=_renew, args=(redis, LEASE + task_id, holder), name="lease", daemon=True).start()


def _renew(redis: Redis, key: str, holder: str) -> None:
    """Renew the lease again and again; end this process before another one may have begun its run."""
    renewed = _now()
    interrupted = False
    while True:
        time.sleep(_RENEW_SECONDS)
        asked = _now()
        # What the client raises is not all of one class, and a lease that nobody renews any more is a second run.
        with suppress(Exception):
            if asked - renewed < _MOST_SECONDS:
                redis.set(key, holder, ex=LEASE_SECONDS)
                renewed = asked
        without = _now() - renewed
        if without > _MOST_SECONDS:
            os.kill(os.getpid(), signal.SIGKILL)
        elif without > _INTERRUPT_SECONDS and not interrupted:
            interrupted = True
            os.kill(os.getpid(), signal.SIGTERM)


def _now() -> float:
    """Return the seconds since the machine's start, those too in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

"""What the launcher for Celery workers takes and knows without a Redis; `tests/workers` has the rest."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import DagsterInstance

from headrace.deployed import celery_launcher


def test_launcher_and_workers_mean_the_same_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has no Headrace, and the launcher no broker when it is imported: each says it by itself."""
    monkeypatch.setitem(os.environ, "HEADRACE_CELERY_BROKER", "redis://127.0.0.1:9/0")
    worker = importlib.import_module("headrace.deployed.dagster_celery_config")
    names = ("LEASE", "TAKEN", "LEASE_SECONDS")
    assert [getattr(worker, name) for name in names] == [getattr(celery_launcher, name) for name in names]


@pytest.mark.parametrize("broker", ["pyamqp://guest@localhost//", ""])
def test_another_broker_is_refused_in_a_line(tmp_path: Path, broker: str) -> None:
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nrun_launcher: {module: headrace.celery_runs, class: WatchedCeleryRunLauncher, "
        f"config: {{broker: '{broker}'}}}}\n"
    )
    with DagsterInstance.from_config(str(tmp_path)) as instance, pytest.raises(ValueError, match="no redis:// or"):
        _ = instance.run_launcher


@pytest.mark.parametrize("broker", ["", "amqp://localhost"])
def test_a_worker_without_a_redis_ends_with_a_line(broker: str) -> None:
    folder = Path(str(celery_launcher.__file__)).parent
    ended = subprocess.run(
        [sys.executable, "-c", "import dagster_celery_config"],
        env={"PYTHONPATH": str(folder), "HEADRACE_CELERY_BROKER": broker},
        capture_output=True,
        text=True,
        check=False,
    )
    said = "HEADRACE_CELERY_BROKER is no Redis: set it like redis://redis.example.com:6379/0\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said)

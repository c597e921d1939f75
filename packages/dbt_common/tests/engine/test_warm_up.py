"""A process that is warmed up to be forked has what dbt's first invocation makes, and nothing that a fork must not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WARMS_UP = """
import json, os, sys, threading, time
from dagster_dbt_common import DbtResource, prepared_project

import duckdb
before = len(os.listdir("/proc/self/task"))
resource = DbtResource.of(prepared_project(sys.argv[1]))
resource.warm_up()
deadline = time.monotonic() + 30
while len(os.listdir("/proc/self/task")) > before and time.monotonic() < deadline:
    time.sleep(0.01)  # Python has joined the thread a moment before it is gone
paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
links = [os.readlink(path) for path in paths if os.path.lexists(path)]
print(json.dumps({
    "threads": [thread.name for thread in threading.enumerate()],
    "tasks": len(os.listdir("/proc/self/task")) - before,
    "open": [link for link in links if link.startswith(("/", "socket")) and not link.startswith("/dev")],
    "warm": "duckdb" in __import__("dbt.adapters.factory").adapters.factory.FACTORY.adapters,
}))
"""


@pytest.mark.slow
def test_nothing_is_open_and_no_thread_is_left(minimal_root: Path) -> None:
    warehouse = minimal_root / "warehouse.duckdb"  # other tests may have made it
    before = warehouse.stat().st_mtime_ns if warehouse.exists() else None
    done = subprocess.run(
        [sys.executable, "-c", WARMS_UP, minimal_root / "project"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # What dbt says is nobody's here.
    assert json.loads(done.stdout) == {"threads": ["MainThread"], "tasks": 0, "open": [], "warm": True}
    assert (warehouse.stat().st_mtime_ns if warehouse.exists() else None) == before

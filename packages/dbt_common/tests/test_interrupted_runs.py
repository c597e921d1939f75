"""A run that is cancelled or killed in the middle of a statement: no process, no lock, no half partition stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conftest import Minimal

pytestmark = pytest.mark.slow

# What a run worker does: one run, in a process of its own, which an interrupt ends.
RUN = """
import sys
import dagster as dg
from dagster_dbt_common import dbt_definitions

defs = dbt_definitions(sys.argv[1])
result = dg.materialize(
    list(defs.assets), selection=dg.AssetSelection.assets("slow_events"), resources=defs.resources,
    partition_key="2024-01-01", instance=dg.DagsterInstance.ephemeral(), raise_on_error=False,
)
sys.exit(0 if result.success else 1)
"""


def wait_for(text: str, output: IO[str]) -> None:
    for line in output:
        if text in line:
            return
    raise AssertionError(f"the run ended without saying {text!r}")


def assert_ends(group: int, seconds: float = 5) -> None:
    """Wait until a process group, which has a run's children too, has no process; one that is dead may be listed."""
    deadline = time.monotonic() + seconds
    while found := [process for process in _processes(group) if process[1] != "Z"]:
        assert time.monotonic() < deadline, f"still there: {found}"
        time.sleep(0.05)


def _processes(group: int) -> Sequence[tuple[str, str]]:
    """Return the command and state of each process of a group, as Linux says them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command, _, rest = path.read_text().rpartition(")")
            state, _, its_group, *_ = rest.split()
            if int(its_group) == group:
                found.append((command, state))
    return found


@pytest.fixture
def running(minimal: Minimal) -> Iterator[subprocess.Popen[str]]:
    """A run that replaces the first day of `slow_events`, and is in the hook before its commit for hours."""
    minimal.run_upstream()
    assert minimal.run("slow_events", start="2024-01-01", end="2024-01-02").success
    minimal.write_events(("new", "2024-01-01 05:00:00", "oslo", "1"))
    minimal.write_delay(3_000_000)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, minimal.root / "project"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    wait_for("START sql incremental model main.slow_events", process.stdout)
    time.sleep(2)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 10), (signal.SIGKILL, 2)])
def test_the_table_is_as_before_and_the_file_is_free(
    minimal: Minimal, running: subprocess.Popen[str], number: signal.Signals, seconds: float
) -> None:
    with pytest.raises(duckdb.IOException, match="Could not set lock"):
        minimal.rows("select 1")

    running.send_signal(number)
    running.wait(timeout=seconds)
    assert running.returncode != 0
    assert_ends(running.pid)

    assert minimal.rows("select id from slow_events order by id") == [("a",), ("b",), ("c",), ("d",)]
    minimal.write_delay(1)
    assert minimal.run("slow_events", start="2024-01-01").success
    assert minimal.rows("select id from slow_events order by id") == [("c",), ("d",), ("new",)]

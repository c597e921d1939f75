"""Run a module as `python -m` does, and write how much memory the process took at most."""

import json
import os
import resource
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

MEMORY_VARIABLE = "BENCH_MEMORY"

MARK = "bench: "
"""What begins the lines that a child says to the benchmark; the rest of its output is Dagster's and dbt's."""


def main() -> None:
    """Run the module that the first argument names, with the rest as its arguments."""
    sys.argv = sys.argv[1:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        Path(os.environ[MEMORY_VARIABLE]).write_text(f"{_own_peak_kb() / 1024}")


def say(what: Mapping[str, float]) -> None:
    """Say something to the benchmark."""
    sys.stdout.write(f"{MARK}{json.dumps(what)}\n")
    sys.stdout.flush()


def _own_peak_kb() -> int:
    """`ru_maxrss` of a process counts the memory of the one that started it; the high-water mark does not."""
    status = Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()

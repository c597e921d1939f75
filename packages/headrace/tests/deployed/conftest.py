"""A run that is killed while it starts to copy the output of a step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

# As if the run were killed before it has started what ends `tail` when the run is gone, and which is not heard here.
TAIL = """#!/bin/sh
trap '' TERM
echo $$ >> "{pids}"
kill -KILL $PPID
PATH="{path}"
exec tail "$@"
"""


@dataclass(frozen=True)
class KillingTail:
    """A `tail` that kills whoever starts it, and stays.

    Args:
        path: the variable PATH of a process that is to find it.
        pids: the file with the numbers of those that were started.
    """

    path: str
    pids: Path

    def has_started(self) -> bool:
        return self.pids.exists() and bool(self.pids.read_text())

    def lives(self) -> bool:
        return any(_command(pid) for pid in self.pids.read_text().split())


def _command(pid: str) -> bytes:
    """Return the command line of a process; of one that is dead, and not yet waited for, nothing."""
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.fixture
def killing_tail(tmp_path: Path) -> KillingTail:
    folder = tmp_path / "killing"
    folder.mkdir()
    (folder / "tail").write_text(TAIL.format(pids=folder / "pids", path=os.environ["PATH"]))
    (folder / "tail").chmod(0o755)
    return KillingTail(f"{folder}{os.pathsep}{os.environ['PATH']}", folder / "pids")

"""The most memory that a process and its descendants had resident together, sampled from `/proc`.

`ru_maxrss` of children cannot say it: it is of the largest one alone, and a child begins with what its parent had.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_PROC = Path("/proc")
_SECONDS = 0.5  # a sample reads a line of every process of the machine, and must not cost what is measured


class TreeMemory:
    """Watches a process while the context is open; 0 where there is no `/proc`.

    Args:
        pid: the root of the tree.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SECONDS):
            self.peak_mb = max(self.peak_mb, tree_mb(self._pid))


def tree_mb(root: int) -> float:
    """Return what a process and its descendants have resident now."""
    children: dict[int, list[int]] = defaultdict(list)
    pages: dict[int, int] = {}
    for folder in _PROC.glob("[0-9]*"):
        try:
            # The name may have spaces and brackets: what follows its last bracket is state, parent, ...
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children[int(fields[1])].append(int(folder.name))
        pages[int(folder.name)] = int(fields[21])
    waiting, total = [root], 0
    while waiting:
        pid = waiting.pop()
        total += pages.get(pid, 0)
        waiting += children[pid]
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20

"""Who holds a lock: asked of the kernel, since a lock file that merely exists is not held.

`filelock` locks by flock(2), and DuckDB by fcntl(2). Format: proc_locks(5), proc(5).
"""

import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.doctor.examined import Examined
from headrace.doctor.finding import Finding

_PROC = Path("/proc")
_LOCKS = _PROC / "locks"
_FLOCK = "hhqqi"
"""`struct flock` of Linux on 64 bits: type, whence, start, length, pid."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock.

    Args:
        pid: its number; 0 where it is not of this PID namespace or already gone.
        command: its command line, as far as it is to be seen.
        suspended: whether it was stopped, as by Ctrl-Z, and holds the lock until it goes on.
    """

    pid: int
    command: str
    suspended: bool

    def __str__(self) -> str:
        """Return it in a few words."""
        return f"process {self.pid} ({self.command})" if self.pid else "a process that this user cannot see"


def lock_files(examined: Examined) -> Sequence[Path]:
    """Return the lock files of the workspace that exist: of `headrace run`, of manifests, of an installation."""
    found = [examined.workspace.dagster_home / "headrace-run.lock"] if examined.workspace else []
    found += [project / "target" / "dagster" / ".lock" for project in examined.dbt_projects()]
    installation = os.environ.get("HEADRACE_INSTALLATION")
    if installation:
        found += sorted(Path(installation, "locks").glob("*.lock"))
    return [file for file in found if file.is_file()]


def check_locks(files: Sequence[Path]) -> Iterator[Finding]:
    """Say which of these files are locked, and by whom."""
    held = False
    for file in files:
        try:
            holders = holders_of(file)
        except OSError as error:
            held = True
            yield Finding("locks", "unknown", f"{file}: who holds it cannot be read: {error}")
            continue
        for holder in holders:
            held = True
            yield held_finding("locks", file, holder)
    if not held:
        yield Finding(
            "locks", "ok", f"none of {len(files)} lock files is held" if files else "there is no lock file yet"
        )


def held_finding(check: str, file: Path, holder: Holder) -> Finding:
    """Return the finding of a file that a process has locked."""
    if holder.suspended:
        says = f"{file} is held by {holder}, which is suspended"
        return Finding(check, "wrong", says, f"kill -CONT {holder.pid} lets it go on; kill -KILL {holder.pid} ends it")
    mend = f"wait for its end, or end it: kill {holder.pid}" if holder.pid else "wait for its end"
    return Finding(check, "warning", f"{file} is held by {holder}", mend)


def holders_of(file: Path) -> Sequence[Holder]:
    """Return the processes that hold a lock on a file, by flock(2) or fcntl(2).

    Raises:
        OSError: the file, or the list of locks, cannot be read.
    """
    status = file.stat()
    pids = set()
    for line in _LOCKS.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if "->" in words:  # one that waits
            continue
        pid, where = int(words[4]), words[5].split(":")
        device = (int(where[0], 16), int(where[1], 16))
        same = device == (os.major(status.st_dev), os.minor(status.st_dev))
        # On overlayfs and btrfs the two devices differ: then the process must have the file open.
        if int(where[2]) == status.st_ino and (same or _has_open(pid, status)):
            pids.add(pid)
    found = [_holder(pid) for pid in sorted(pids) if psutil.pid_exists(pid)]
    if found or not _is_locked(file):
        return found
    # The list leaves out a holder that is gone, whose children keep a lock of flock(2), and one of another container.
    openers = [_holder(pid) for pid in psutil.pids() if pid != os.getpid() and _has_open(pid, status)]
    return openers or [Holder(0, "", suspended=False)]


def _is_locked(file: Path) -> bool:
    """Return whether anybody holds a lock; that of flock(2) cannot be asked for without holding it for a moment."""
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(opened, fcntl.F_GETLK, asked))
        return bool(answer[0] != fcntl.F_UNLCK)


def _has_open(pid: int, status: os.stat_result) -> bool:
    try:
        return any(os.path.samestat(link.stat(), status) for link in (_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False


def _holder(pid: int) -> Holder:
    try:
        process = psutil.Process(pid)
        words = process.cmdline() or [process.name()]
        return Holder(pid, " ".join([Path(words[0]).name, *words[1:]])[:80], process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return Holder(pid, "of another user", suspended=False)

"""The code locations that a process keeps loaded for the runs that it launches: `dagster-daemon`, as a rule.

A location is one process (`warm_location`) of the location's own interpreter, with the environment, the folder and the
output of the code server that serves it. It is started by the first run of the location, which does not wait for it:
whatever is not loaded, or no longer as it was loaded, is launched as Dagster does.
"""

import json
import os
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path

from headrace.deployed.warm_location import FORK, READY, SERVE

_SCRIPT = Path(__file__).with_name("warm_location.py")
_PROC = Path("/proc")
_UCRED = struct.Struct("3i")  # pid, uid and gid: unix(7), SO_PEERCRED
_ANSWER_SECONDS = 10.0
_PAUSE_SECONDS = 60.0
_INJECTS = "--inject-env-vars-from-instance"
_HEARTBEAT = "--heartbeat"


@dataclass(frozen=True)
class CodeServer:
    """The process of a code server on this machine.

    Args:
        pid: its number.
        began: when it began, in clock ticks since the start of the system, so that no other process is taken for it.
    """

    pid: int
    began: int

    @classmethod
    def at(cls, path: str | None) -> "CodeServer | None":
        """Return the process that listens at a Unix socket; None where none of this user's and this machine does."""
        if path is None:
            return None
        with suppress(OSError, ValueError, IndexError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
            pid, *_ = struct.unpack(
                "3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            )
            (_PROC / str(pid) / "environ").read_bytes()
            return cls(pid, int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]))
        return None

    def environment(self) -> Mapping[str, str]:
        """Return the environment with which it was started."""
        variables = (_PROC / str(self.pid) / "environ").read_bytes().split(b"\0")
        return dict(os.fsdecode(variable).split("=", 1) for variable in variables if b"=" in variable)

    def folder(self) -> str:
        """Return its current folder."""
        return str((_PROC / str(self.pid) / "cwd").readlink())

    def injects(self) -> bool:
        """Return whether it takes further variables from the instance, as those of `dg dev` do from `.env` files."""
        return _INJECTS in self._command()

    def ends_with_its_clients(self) -> bool:
        """Return whether it is one of `dg dev`, and not one that is deployed and outlives what launches its runs."""
        return _HEARTBEAT in self._command()

    def forks_at(self) -> Path | None:
        """Return the socket at which a deployed one forks its runs; None where it does not."""
        command = self._command()
        at = command.index(SERVE) + 1 if SERVE in command else len(command)
        return Path(command[at]) if at < len(command) else None

    def _command(self) -> Sequence[str]:
        return [os.fsdecode(word) for word in (_PROC / str(self.pid) / "cmdline").read_bytes().split(b"\0")]

    @contextmanager
    def output(self) -> Iterator[tuple[int | None, int | None]]:
        """Open what it prints to, for standard output and error; None is what this process prints to.

        A file is opened where all append to it: elsewhere each writes at its own place, over the lines of the others.
        """
        with ExitStack() as stack:
            opened: list[int | None] = []
            for number in (1, 2):
                opened.append(None)
                with suppress(OSError):
                    file = os.open(_PROC / str(self.pid) / "fd" / str(number), os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
                    stack.callback(os.close, file)
                    if not stat.S_ISREG(os.fstat(file).st_mode) or self._appends(number):
                        opened[-1] = file
            yield opened[0], opened[1]

    def _appends(self, number: int) -> bool:
        said = (_PROC / str(self.pid) / "fdinfo" / str(number)).read_text()
        flags = next(line.split()[1] for line in said.splitlines() if line.startswith("flags:"))
        return bool(int(flags, 8) & os.O_APPEND)


@dataclass(frozen=True)
class Location:
    """What is loaded.

    Args:
        name: the location's name.
        server: its code server.
        server_id: Dagster's id of that, which is another one after a reload.
        python: the interpreter.
        origin: Dagster's `RepositoryPythonOrigin`, as JSON.
        instance: Dagster's `InstanceRef`, as JSON.
    """

    name: str
    server: CodeServer
    server_id: str
    python: str
    origin: str
    instance: str


class _WarmLocation:
    def __init__(self, location: Location, keep_seconds: float) -> None:
        self.location = location
        self._is_ready = False
        server = location.server
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, server.output() as (out, errors):
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter of the code server
                [location.python, str(_SCRIPT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=server.environment(),
                cwd=server.folder(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        wanted = {
            "location": location.name,
            "origin": location.origin,
            "instance": location.instance,
            "injects": server.injects(),
            "keep_seconds": keep_seconds,
        }
        self._control.send(json.dumps(wanted).encode())

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        if not self._is_ready:
            with suppress(OSError):
                self._is_ready = self._control.recv(len(READY), socket.MSG_DONTWAIT) == READY
        return self._is_ready

    def fork(self, run: Mapping[str, str], told: Callable[[int], None]) -> bool:
        return _fork(self._control, run, told)

    def end(self) -> None:
        """End the process; what it forked goes on."""
        self._control.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ANSWER_SECONDS)


def fork_at(path: Path, run: Mapping[str, str], told: Callable[[int], None]) -> bool:
    """Fork a run from a deployed code server; return False where none does that, or has loaded something else.

    Args:
        path: the socket of the server's forks.
        run: what `warm_location.FORK` says of the run.
        told: is called with the number of the run's process, before the run begins.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.settimeout(_ANSWER_SECONDS)
        try:
            control.connect(str(path))
        except OSError:
            return False
        return _fork(control, run, told)


def _fork(control: socket.socket, run: Mapping[str, str], told: Callable[[int], None]) -> bool:
    ours, theirs = Pipe()
    with ours:
        try:
            with theirs:
                socket.send_fds(control, [FORK + json.dumps(dict(run)).encode()], [theirs.fileno()])
            if not ours.poll(_ANSWER_SECONDS):
                return False  # whoever answers later finds nobody, and ends
            pid = int(ours.recv_bytes())
        except (EOFError, OSError):
            return False
        told(pid)
        # From here on it is that process's run, also where it was killed just now.
        with suppress(OSError):
            ours.send_bytes(b"begin")
        return True


class WarmLocations:
    """The locations that this process keeps loaded.

    Args:
        keep_seconds: how long a location stays loaded of which no run is launched.
        most: how many locations are kept at most; each takes the memory of a code server.
    """

    def __init__(self, keep_seconds: float, most: int) -> None:
        self._keep_seconds = keep_seconds
        self._most = most
        self._warm: dict[str, _WarmLocation] = {}
        # Which location could not be loaded, and until when it is not tried again.
        self._in_vain: dict[str, tuple[Location, float]] = {}
        self._lock = threading.Lock()

    def fork(self, location: Location, run: Mapping[str, str], told: Callable[[int], None]) -> bool:
        """Fork a run, where its location is loaded as it is now; else return False, and load it for the next one.

        Args:
            location: the location.
            run: what `warm_location.FORK` says of the run.
            told: is called with the number of the run's process, before the run begins.
        """
        with self._lock:
            self._forget_ended()
            warm = self._warm.get(location.name)
            if warm and warm.location != location:
                self._warm.pop(location.name).end()
            elif warm and warm.is_ready:
                if warm.fork(run, told):
                    return True
                self._warm.pop(location.name).end()  # edited since, or it hangs
            if self._is_wanted(location):
                with suppress(OSError):  # the server has ended, or its interpreter is gone
                    self._warm[location.name] = _WarmLocation(location, self._keep_seconds)
            return False

    def _is_wanted(self, location: Location) -> bool:
        """Return whether to load a location: there is room, and it did not fail to load a moment ago."""
        tried, until = self._in_vain.get(location.name, (None, 0.0))
        has_room = location.name not in self._warm and len(self._warm) < self._most
        return has_room and (tried != location or time.monotonic() > until)

    def _forget_ended(self) -> None:
        for name in [name for name, warm in self._warm.items() if not warm.lives]:
            warm = self._warm.pop(name)
            if not warm.is_ready:
                # It does not load, or is one that cannot be kept, of which its output says why.
                self._in_vain[name] = warm.location, time.monotonic() + _PAUSE_SECONDS
            warm.end()

    def end(self) -> None:
        """End the processes; the runs go on."""
        with self._lock:
            while self._warm:
                self._warm.popitem()[1].end()

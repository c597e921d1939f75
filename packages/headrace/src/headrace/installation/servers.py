"""The servers of an installation: what runs of a release, numbered, so that a release can run beside itself."""

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.installation.history import History
from headrace.installation.installation import Installation, remove_tree, replace_link
from headrace.installation.processes import Process, Program
from headrace.installation.supervisor import Supervisor
from headrace.installation.webserver import owner_of
from headrace.releases.release import MANIFEST, PLATFORM
from headrace.releases.start import ROLES, SOCKET, server_id

_HEALTH_SERVICE = "DagsterApi"
"""What Dagster's code servers call themselves. Source: `dagster._grpc.server.DagsterGrpcServer`."""
_HEALTH_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """A server of a location, or webserver and daemon of the platform.

    Args:
        folder: its folder in `DIR/servers`.
        logs: the folder of logs.
    """

    folder: Path
    logs: Path

    @property
    def name(self) -> str:
        """Return its name, such as `analytics-12`."""
        return self.folder.name

    @property
    def release(self) -> str:
        """Return the name of its release."""
        return (self.folder / "release").readlink().name

    @property
    def socket(self) -> Path:
        """Return the socket of a code server."""
        return self.folder / SOCKET

    @property
    def id(self) -> str:
        """Return the id by which Dagster knows a code server."""
        return server_id(self.name, self.release)

    @property
    def programs(self) -> Sequence[Program]:
        """Return its processes."""
        kind = "platform" if self.name.rpartition("-")[0] == PLATFORM else "location"
        return [Program(self.folder, role, self.logs / f"{self.name}.{role}.log") for role in ROLES[kind]]


class Servers:
    """The servers of one location.

    Args:
        installation: where they are.
        location: the location, or `platform`.
        processes: the supervisor that keeps their processes.
    """

    def __init__(self, installation: Installation, location: str, processes: Supervisor) -> None:
        self._installation = installation
        self._processes = processes
        self._name = re.compile(rf"{re.escape(location)}-(\d+)")
        self.location = location
        self.link = installation.current(location)

    def current(self) -> Server | None:
        """Return the server that serves; None before the first deploy."""
        return self._server(self.link.resolve()) if self.link.is_symlink() else None

    def others(self) -> Sequence[Server]:
        """Return the servers that do not serve: those that drain, and what a killed deploy left."""
        current = self.link.resolve().name if self.link.is_symlink() else None
        folders = (self._installation.folder / "servers").iterdir()
        return [
            self._server(path) for path in sorted(folders) if self._name.fullmatch(path.name) and path.name != current
        ]

    def add(self, release: Path) -> Server:
        """Make the folder of another server of an installed release."""
        entries = History(self._installation, self.location).entries()
        names = [
            *(path.name for path in (self._installation.folder / "servers").iterdir()),
            *(e.server or "" for e in entries),
        ]
        numbers = [int(match[1]) for name in names if (match := self._name.fullmatch(name))]
        folder = self._installation.folder / "servers" / f"{self.location}-{max(numbers, default=0) + 1}"
        folder.mkdir()
        (folder / "release").symlink_to(Path("..", "..", "releases", release.name))
        self._installation.give(folder)
        return self._server(folder)

    def switch_to(self, server: Server) -> None:
        """Let a server serve, in one step."""
        replace_link(self.link, f"../servers/{server.name}")

    def start(self, server: Server) -> None:
        """Start the processes of a server, and keep them."""
        for program in server.programs:
            self._processes.start(program)

    def stop(self, server: Server) -> None:
        """Ask the processes of a server to end."""
        for program in server.programs:
            self._processes.stop(program)

    def mend(self) -> None:
        """Start what should serve, stop what should not, and forget what has ended: also what a killed deploy left."""
        current = self.current()
        if current is not None:
            self.start(current)
        for server in self.others():
            self.stop(server)
        self.forget_ended()

    def forget_ended(self) -> None:
        """Remove the folders of servers that do not serve and have ended."""
        known = self._processes.all()
        for server in self.others():
            names = [program.name for program in server.programs]
            if all(known.get(name, _ENDED).state == "down" for name in names):
                for program in server.programs:
                    self._processes.forget(program)
                remove_tree(server.folder)

    def states(self, server: Server) -> Mapping[str, Process]:
        """Return the processes of a server by role."""
        known = self._processes.all()
        return {program.role: known.get(program.name, _ENDED) for program in server.programs}

    def remove_halves(self) -> None:
        """Remove the releases of this location whose installation did not come to its end."""
        name = re.compile(rf"{re.escape(self.location)}-\d{{8}}T\d{{6}}Z-[0-9a-f]{{12}}")
        for folder in (self._installation.folder / "releases").iterdir():
            if name.fullmatch(folder.name) and not (folder / MANIFEST).is_file():
                remove_tree(folder)

    def _server(self, folder: Path) -> Server:
        return Server(folder, self._installation.folder / "logs")


_ENDED = Process("down", None, "it is not kept")


def answers(installation: Installation, server: Server, role: str, pid: int | None) -> bool:
    """Return whether a process can be asked: a code server at its socket, a webserver at its port. A daemon cannot."""
    if role == "webserver":
        return pid is not None and owner_of(installation.settings.webserver.port) == pid
    if role == "daemon":
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(str(server.socket)) == 0


def is_healthy(server: Server) -> bool:
    """Return whether a code server says that it serves.

    By gRPC's own protocol of health, as `dagster api grpc-health-check` asks: that is a process of a second.
    """
    # A tenth of a second, and a command that only looks needs none of it.
    import grpc  # type: ignore[import-untyped] # noqa: PLC0415 - it has no types
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped] # noqa: PLC0415

    with grpc.insecure_channel(f"unix:{server.socket}") as channel:
        try:
            asked = health_pb2.HealthCheckRequest(service=_HEALTH_SERVICE)
            said = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=_HEALTH_SECONDS)
        except grpc.RpcError:
            return False
    return bool(said.status == health_pb2.HealthCheckResponse.SERVING)

"""What keeps the processes of an installation: the narrow part of supervisor or systemd that a deploy needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

State = Literal["starting", "running", "stopping", "down"]


@dataclass(frozen=True)
class Program:
    """A process that is kept.

    Args:
        server: the folder of its server.
        role: what it is of the server.
        log: the file of its output.
    """

    server: Path
    role: str
    log: Path

    @property
    def name(self) -> str:
        """Return the name by which it is kept."""
        return f"{self.server.name}.{self.role}"


@dataclass(frozen=True)
class Process:
    """How a kept process is.

    Args:
        state: `down` where it does not run and is not about to.
        pid: of the process where there is one.
        said: what is known of why.
    """

    state: State
    pid: int | None
    said: str


class Processes(Protocol):
    """Keeps programs."""

    def check(self) -> None:
        """Raise `click.ClickException` where nothing can be kept at all."""

    def start(self, program: Program) -> None:
        """Start a program, and again whenever it ends and the machine begins; nothing where it is kept already."""

    def stop(self, program: Program) -> None:
        """Ask a program to end, and return: it may drain. It is not started again."""

    def restart(self, program: Program) -> None:
        """Let a program end and begin anew."""

    def forget(self, program: Program) -> None:
        """Forget a program that has ended."""

    def all(self) -> Mapping[str, Process]:
        """Return the kept programs, those that end too, by name."""

"""The processes of an installation: what is kept running, and how it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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

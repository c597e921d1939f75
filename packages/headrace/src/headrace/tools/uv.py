"""uv, run as a command: it builds wheels, exports the lock and fills virtual environments."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from headrace.cli.user_errors import UserError

_OF_THE_CALLER = {"PYTHONHOME", "PYTHONPATH", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV"}
"""Variables by which uv would look at the environment that this command runs in."""


@dataclass(frozen=True)
class Uv:
    """The command.

    Args:
        executable: where it is.
        variables: environment variables for it, besides those of this process.
    """

    executable: str
    variables: Mapping[str, str]

    @classmethod
    def find(cls, variables: Mapping[str, str] | None = None) -> "Uv":
        """Return the uv beside this interpreter, or else on PATH.

        Raises:
            UserError: there is none.
        """
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        executable = shutil.which("uv", path=path)
        if executable is None:
            raise UserError("uv is neither beside this Python nor on PATH: install it (`pip install uv`)")
        return cls(executable, variables or {})

    def run(self, *arguments: str, cwd: Path, what: str) -> str:
        """Run it and return what it printed.

        Args:
            arguments: its arguments.
            cwd: the folder; the `[tool.uv]` of a project at or above it counts.
            what: what it does, for the error.

        Raises:
            click.ClickException: it fails; the message has what it said, on one line.
        """
        inherited = {name: value for name, value in os.environ.items() if name not in _OF_THE_CALLER}
        done = subprocess.run(  # noqa: S603 - the user's uv
            [self.executable, "--no-progress", "--color", "never", *arguments],
            check=False,
            cwd=cwd,
            env={**inherited, **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise click.ClickException(f"{what}: uv {arguments[0]} failed: {said.removeprefix('error: ')}")
        return done.stdout

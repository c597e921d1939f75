"""A repository of its own with what this workspace is now, for tests of what changes a workspace."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Clone:
    """A repository with what this workspace is now, in one commit.

    Args:
        root: its folder.
        bin: the folder of the commands that run in it.
    """

    root: Path
    bin: Path = BIN

    def try_(self, *command: str | Path, cwd: str = ".", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the clone's environment."""
        environment = self.environment(**variables)
        return subprocess.run(
            command, check=False, cwd=self.root / cwd, env=environment, capture_output=True, text=True
        )

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of its commands."""
        ours = ("HEADRACE_", "DAGSTER_", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        path = os.pathsep.join((str(self.bin), str(BIN), os.environ["PATH"]))
        return {**inherited, **identity, "PATH": path, "UV_COMPILE_BYTECODE": "0", **variables}

    def call(self, *command: str | Path, cwd: str = ".", **variables: str) -> str:
        """Run a command, which must succeed."""
        done = self.try_(*command, cwd=cwd, **variables)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def commit(self) -> None:
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--message=all")


def cloned(folder: Path) -> Clone:
    """Copy the workspace, without what git ignores, into a new repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git of the machine
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    for file in filter(None, listed.split("\0")):
        if (ROOT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
    clone = Clone(folder)
    clone.call("git", "init", "--quiet", "--initial-branch=main")
    clone.commit()
    return clone

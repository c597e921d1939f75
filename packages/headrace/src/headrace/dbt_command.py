"""dbt, run as a command on one project at a time, for its manifest and for its own `state:modified`."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

_PARSED_WITH = {
    # What the profile needs to be read; nothing is connected to.
    "HEADRACE_LAKE": "lake",
    "HEADRACE_WAREHOUSE": ":memory:",
}


@dataclass(frozen=True)
class Dbt:
    """dbt on one project.

    Args:
        executable: the command.
        root: the folder of the workspace that this environment belongs to.
    """

    executable: Path
    root: Path

    def parse(self, project: Path, target: Path, *, root: Path) -> Mapping[str, Any]:
        """Return the manifest of a project.

        Args:
            project: the folder of `dbt_project.yml`.
            target: a folder for what dbt writes; the manifest stays there.
            root: the folder of the workspace that the project is in.

        Raises:
            click.ClickException: dbt can not parse it; the message is dbt's.
        """
        self._run(["parse"], project, target, root)
        return read_manifest(target)

    def modified(self, project: Path, target: Path, state: Path, *, root: Path) -> set[str]:
        """Return the nodes of `state:modified`, and leave the project's manifest in `target`.

        Args:
            project: as for `parse`.
            target: as for `parse`.
            state: the folder of the manifest to compare with.
            root: as for `parse`.

        Raises:
            click.ClickException: dbt can not parse the project or compare it; the message is dbt's.
        """
        listed = ["ls", "--select", "state:modified", "--state", str(state.resolve())]
        output = self._run([*listed, "--output", "json", "--output-keys", "unique_id"], project, target, root)
        return {json.loads(line)["unique_id"] for line in output.splitlines() if line.startswith("{")}

    def _run(self, command: list[str], project: Path, target: Path, root: Path) -> str:
        folders = ["--target-path", str(target), "--log-path", str(target)]
        done = subprocess.run(  # noqa: S603 - the dbt of the workspace's environment
            [str(self.executable), "--quiet", "--no-use-colors", "--no-partial-parse", *command, *folders],
            check=False,
            cwd=project,
            env={**_PARSED_WITH, **self._environment(root), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            lines = (line.strip() for line in (done.stdout + done.stderr).splitlines())
            said = [line for line in lines if line and not line.endswith("Encountered an error:")]
            raise click.ClickException(f"{project}: dbt {command[0]} failed: {' '.join(said) or done.returncode}")
        return done.stdout

    def _environment(self, root: Path) -> Mapping[str, str]:
        """Return this environment, in which the paths of the workspace's files are those of the one at `root`."""
        moved = {}
        for name, value in os.environ.items():
            if Path(value).is_relative_to(self.root):
                there = root / Path(value).relative_to(self.root)
                moved[name] = str(there) if there.exists() else value
        return {**os.environ, **moved}


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """Return the manifest of a folder that dbt wrote."""
    manifest: Mapping[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest

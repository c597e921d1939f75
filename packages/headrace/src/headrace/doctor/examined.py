"""What is examined: a workspace, as far as it can be read."""

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from headrace.doctor.finding import Finding, one_line
from headrace.workspace import Workspace
from headrace.workspace_file import read_workspace_file, root_above

PROJECT = "dbt_project.yml"
_NO_PROJECTS = {"target", "tests", "dbt_packages", ".venv"}


@dataclass(frozen=True)
class Location:
    """A code location that Python can load.

    Args:
        name: its name.
        module: the module or file that is loaded.
        interpreter: the Python that loads it.
    """

    name: str
    module: str
    interpreter: str


@dataclass(frozen=True)
class Examined:
    """A workspace, as far as it can be read.

    Args:
        root: the folder of `workspace.yaml`.
        workspace: its paths; None where its files or variables are broken.
        locations: the code locations that Python can load.
        pyproject: the content of the root's `pyproject.toml`; empty where it is missing or broken.
        problems: what could not be read.
    """

    root: Path
    workspace: Workspace | None
    locations: Sequence[Location]
    pyproject: Mapping[str, Any]
    problems: Sequence[Finding]

    @classmethod
    def find(cls) -> "Examined":
        """Read the workspace at or above the current folder.

        Raises:
            UserError: there is none.
        """
        root = root_above(Path.cwd())
        problems: list[Finding] = []
        workspace, locations = None, []
        try:
            locations = [
                Location(entry.name, entry.target, entry.python(root, sys.executable))
                for entry in read_workspace_file(root)
                if entry.kind != "grpc_server"
            ]
            workspace = Workspace.find()
        except click.ClickException as error:
            problems.append(_broken(error.message))
        pyproject: Mapping[str, Any] = {}
        try:
            pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(_broken(f"{root / 'pyproject.toml'}: {one_line(error)}"))
        if not problems:
            names = ", ".join(location.name for location in locations)
            problems.append(Finding("workspace", "ok", f"{root}: {names}"))
        return cls(root, workspace, locations, pyproject, problems)

    @property
    def interpreters(self) -> Sequence[str]:
        """Return the Python of this command and those of the locations, each once."""
        return list(dict.fromkeys([sys.executable, *(location.interpreter for location in self.locations)]))

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the processes of the workspace."""
        return {**os.environ, **(self.workspace.environment() if self.workspace else {})}

    def dbt_projects(self) -> Mapping[Path, Location]:
        """Return the dbt projects of code locations, and the location of each: in its folder, or claimed by it.

        `HEADRACE_DBT_PROJECT` stands for the project in `dbt/` of the root.
        """
        found: dict[Path, Location] = {}
        said = os.environ.get("HEADRACE_DBT_PROJECT")
        for folder, tool in self._members():
            module = table(tool, "dg", "project").get("root_module")
            location = next((each for each in self.locations if each.module.split(".")[0] == module), None)
            if location is None:
                continue
            projects = list(_projects_in(folder))
            for pattern in table(tool, "headrace").get("owns", ()):
                if str(pattern).endswith("/**") and (inside := self.root / str(pattern)[:-3]).is_dir():
                    projects += _projects_in(inside)
            for project in projects:
                moved = said and project == self.root / "dbt"
                found[Path(str(said)).absolute() if moved else project] = location
        return found

    def _members(self) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """Yield the folder of each member of the uv workspace, and the table `tool` of its `pyproject.toml`."""
        for pattern in table(self.pyproject, "tool", "uv", "workspace").get("members", ()):
            for file in sorted(self.root.glob(f"{pattern}/pyproject.toml")):
                try:
                    content = tomllib.loads(file.read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    continue  # uv says it, where the packages are checked
                yield file.parent, table(content, "tool")


def _broken(message: str) -> Finding:
    return Finding("workspace", "wrong", one_line(message), "correct it: what depends on it is not checked")


def table(content: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the table of these nested names; an empty one where there is none."""
    for name in names:
        inner = content.get(name)
        content = inner if isinstance(inner, dict) else {}
    return content


def _projects_in(folder: Path) -> Iterator[Path]:
    for inside, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NO_PROJECTS]
        if PROJECT in names:
            yield Path(inside)

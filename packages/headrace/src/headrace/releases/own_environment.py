"""The virtual environment of a release, made of nothing but its wheels and requirements; in it the release is tried."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from headrace.locations import script
from headrace.releases.start import dbt_project_variables
from headrace.releases.subject import Subject
from headrace.tools.python_traces import error_of
from headrace.tools.uv import Uv


@dataclass(frozen=True)
class OwnEnvironment:
    """The environment.

    Args:
        folder: an empty folder of its own, absolute, in which the environment is `venv`.
        variables: the environment variables of all that runs in it, and the only ones but a few of the machine's.
        uv: uv.
    """

    folder: Path
    variables: Mapping[str, str]
    uv: Uv

    @property
    def _outside(self) -> Path:
        """Return a folder in no workspace: uv takes the settings of a project above it, whose pins have no hashes."""
        return Path(self.folder.anchor)

    def install(self, requirements: Path) -> None:
        """Make it, with exactly the packages of a file with hashes.

        Raises:
            click.ClickException: uv fails.
        """
        python = str(self._venv)
        self.uv.run(
            "venv", "--quiet", "--python", sys.executable, python, cwd=self._outside, what="virtual environment"
        )
        hashed = ("pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-deps")
        self.uv.run(*hashed, "-r", str(requirements), cwd=self._outside, what="requirements.txt")

    def add(self, wheels: Sequence[Path]) -> None:
        """Install wheels, and check that nothing is missing.

        Raises:
            click.ClickException: uv fails, or finds that a package is missing.
        """
        there = ("--quiet", "--python", str(self._venv))
        files = map(str, wheels)
        self.uv.run("pip", "install", *there, "--no-deps", "--no-index", *files, cwd=self._outside, what="wheels")
        self.uv.run("pip", "check", *there, cwd=self._outside, what="the release alone")

    def packages(self) -> Mapping[str, str]:
        """Return the version of each package in it."""
        listed = self.uv.run(
            "pip", "list", "--format", "json", "--python", str(self._venv), cwd=self._outside, what="packages"
        )
        return {package["name"]: package["version"] for package in json.loads(listed)}

    def package_dbt(self, source: Path, copy: Path) -> Sequence[str]:
        """Copy a dbt project with its manifest, and return the environment variables that it reads.

        Raises:
            click.ClickException: dbt cannot parse it; the message is dbt's.
        """
        command = self._venv / "bin" / "dagster-dbt-common"
        if not command.is_file():
            raise click.ClickException(
                f"{source.name}: its location lacks dagster-dbt-common, which packages dbt: add it to the dependencies"
            )
        said = self._run([str(command), "package", str(source), str(copy), "--format", "json"], "dbt project")
        variables: list[str] = json.loads(said.splitlines()[-1])["variables"]
        return variables

    def contract(self, subject: Subject, dbt_project: Path | None, tree: Path) -> str:
        """Load the location as it will be served, and return its contract, with files as they are in the workspace.

        Raises:
            click.ClickException: it does not load.
        """
        out = self.folder / "contract.json"
        self._run(
            [
                *(str(self._venv / "bin" / "python"), script.__file__, "--location", subject.location),
                *("--module-name", str(subject.module), "--working-directory", str(self.folder)),
                *("--root", str(self.folder), "--out", str(out)),
            ],
            f"{subject.location} does not load",
            dbt_project_variables(subject.location, dbt_project) if dbt_project else {},
        )
        text = out.read_text(encoding="utf-8")
        content = json.loads(text)
        for entry in (*content["produces"], *content["consumes"]):
            entry["file"] = self._in_workspace(entry["file"], subject, dbt_project, tree)
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @property
    def _venv(self) -> Path:
        return self.folder / "venv"

    def _in_workspace(self, file: str, subject: Subject, dbt_project: Path | None, tree: Path) -> str:
        _, installed, module = file.partition("/site-packages/")
        if installed:
            name = module.rpartition(":")[0] or module
            homes = (f"{folder}/src" for folder in subject.folders.values() if (tree / folder / "src" / name).exists())
            return f"{next(homes, 'site-packages')}/{module}"
        if dbt_project and (path := self.folder / file).is_relative_to(dbt_project):
            return f"{subject.dbt_project}/{path.relative_to(dbt_project).as_posix()}".removeprefix("./")
        return file

    def _run(self, command: Sequence[str], what: str, more: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(  # noqa: S603 - the release's own Python
            command,
            check=False,
            cwd=self.folder,
            env=self._environment() | dict(more or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            reason = error_of(done.stdout + done.stderr).removeprefix("dagster-dbt-common: ").removeprefix("Error: ")
            hint = ": name it in --env-file FILE" if "Env var required" in reason or "is not set" in reason else ""
            raise click.ClickException(f"{what}: {' '.join(reason.replace(f'{self.folder}/', '').split())}{hint}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        machine = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        return {
            **machine,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "HOME": str(self.folder),
            **self.uv.variables,
            **self.variables,
            "PATH": os.pathsep.join((str(self._venv / "bin"), os.defpath)),
        }

"""dbt, run as a command on one project at a time, for its manifest and for its own `state:modified`."""

import json
import os
import subprocess
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from headrace.tools.code_versions_script import NO_CODE_VERSIONS
from headrace.tools.dbt_script import NO_DBT

_SCRIPT = Path(__file__).with_name("dbt_script.py")
_CODE_VERSIONS_SCRIPT = Path(__file__).with_name("code_versions_script.py")

_PARSED_WITH = {
    # What the profile needs to be read; nothing is connected to.
    "HEADRACE_LAKE": "lake",
    "HEADRACE_WAREHOUSE": ":memory:",
}


@dataclass(frozen=True)
class Parse:
    """A project that is to be parsed.

    Args:
        project: the folder of `dbt_project.yml`.
        target: a folder for what dbt writes; the manifest stays there.
        root: the folder of the workspace that the project is in.
    """

    project: Path
    target: Path
    root: Path


class BaseError(click.ClickException):
    """The project before cannot be parsed; the message is dbt's."""


@dataclass(frozen=True)
class Dbt:
    """dbt on one project.

    Args:
        executable: the command.
        root: the folder of the workspace that this environment belongs to.
        options: options that each command gets, such as `--target`.
        environment: variables in place of those of this environment.
    """

    executable: Path
    root: Path
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def parse(self, project: Path, target: Path, *, root: Path) -> Mapping[str, Any]:
        """Return the manifest of a project.

        Args:
            project: the folder of `dbt_project.yml`.
            target: a folder for what dbt writes; the manifest stays there.
            root: the folder of the workspace that the project is in.

        Raises:
            click.ClickException: dbt cannot parse it; the message is dbt's.
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
            click.ClickException: dbt cannot parse the project or compare it; the message is dbt's.
        """
        return self.listed(project, target, _since(state), root=root)

    def listed(self, project: Path, target: Path, selection: Sequence[str], *, root: Path) -> set[str]:
        """Return the nodes of a selection, and leave the project's manifest in `target`.

        Args:
            project: as for `parse`.
            target: as for `parse`.
            selection: dbt's options that select, such as `--select orders+`.
            root: as for `parse`.

        Raises:
            click.ClickException: dbt cannot parse the project or the selection; the message is dbt's.
        """
        output = self._run(_listing(selection), project, target, root)
        return _unique_ids(output.splitlines())

    def events(
        self, command: Sequence[str], project: Path, target: Path, *, root: Path
    ) -> Generator[Mapping[str, Any], None, None]:
        """Run a command and yield what dbt logs, an event at a time; it is killed where the reader stops.

        Whether it succeeded is in `run_results.json` of `target`.

        Args:
            command: dbt's command with its options.
            project: as for `parse`.
            target: as for `parse`.
            root: as for `parse`.
        """
        process = subprocess.Popen(  # noqa: S603 - the dbt of the workspace's environment
            self._arguments(["--log-format", "json"], command, target),
            cwd=project,
            env=self._variables(root),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            with process:
                for line in process.stdout or ():
                    if line.startswith("{"):
                        yield json.loads(line)
                    elif line.strip():
                        yield {"info": {"name": "", "level": "error", "msg": line.strip()}, "data": {}}
        finally:
            process.kill()
            process.wait()

    def modified_since(self, base: Parse, head: Parse) -> set[str]:
        """Return the nodes of `state:modified` between two folders of a project, and leave both manifests.

        One process parses both, where dbt's interpreter is beside it.

        Args:
            base: the project before.
            head: the project now.

        Raises:
            BaseError: dbt cannot parse the project before.
            click.ClickException: dbt cannot parse the project now or compare it; the message is dbt's.
        """
        done = self._run_together(((["parse"], base), (_listing(_since(base.target)), head)), head.target)
        if done is None:
            try:
                self.parse(base.project, base.target, root=base.root)
            except click.ClickException as error:
                raise BaseError(error.message) from None
            return self.modified(head.project, head.target, base.target, root=head.root)
        if done[0]["failed"] is not None:
            raise BaseError(_failure(base.project, "parse", done[0]["failed"].splitlines()))
        if done[1]["failed"] is not None:
            raise click.ClickException(_failure(head.project, "ls", done[1]["failed"].splitlines()))
        return _unique_ids(done[1]["result"])

    def of_one_code_version(
        self, state: Path, now: Parse, nodes: Iterable[str]
    ) -> Mapping[str, Collection[str]] | None:
        """Return the nodes whose code version is what it was, with the macros whose text is part of it.

        None where no dagster-dbt-common is beside dbt to say it.

        Args:
            state: the folder of the manifest before.
            now: the project, with its manifest in `target`.
            nodes: nodes of both manifests.

        Raises:
            click.ClickException: the manifests cannot be compared.
        """
        asked = {
            "manifests": [str(folder / "manifest.json") for folder in (state.resolve(), now.target.resolve())],
            "project": str(now.project),
            "nodes": sorted(nodes),
        }
        out = now.target / "code_versions.json"
        alike: Mapping[str, Collection[str]] | None
        alike = self._answer(_CODE_VERSIONS_SCRIPT, asked, out, now.project, self._variables(now.root))
        return alike

    def _run_together(
        self, commands: Sequence[tuple[Sequence[str], Parse]], folder: Path
    ) -> Sequence[Mapping[str, Any]] | None:
        """Return what came of commands in one process; None where there is no interpreter of dbt to run them."""
        asked = [
            {
                "arguments": self._arguments(["--quiet"], command, where.target)[1:],
                "folder": str(where.project),
                "environment": self._variables(where.root),
            }
            for command, where in commands
        ]
        folder.mkdir(parents=True, exist_ok=True)
        results: Sequence[Mapping[str, Any]] | None
        results = self._answer(_SCRIPT, asked, folder / "commands.json", commands[-1][1].project)
        return results

    def _answer(
        self, script: Path, asked: object, out: Path, project: Path, environment: Mapping[str, str] | None = None
    ) -> Any:
        """Return what a script of ours says; None where there is no interpreter beside dbt that has what it needs.

        Args:
            script: the script.
            asked: what it is asked, as JSON.
            out: the file that it writes.
            project: what it is about, for a message.
            environment: the variables that it gets; those of this process where None.
        """
        python = self.executable.resolve().parent / "python"
        if not python.is_file():
            return None
        done = subprocess.run(  # noqa: S603 - the interpreter of the workspace's dbt
            [str(python), str(script), str(out)],
            check=False,
            env=environment,
            input=json.dumps(asked),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if done.returncode in (NO_DBT, NO_CODE_VERSIONS):
            return None
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise click.ClickException(f"{project}: dbt died: {said[-1]}")
        return json.loads(out.read_text(encoding="utf-8"))

    def _arguments(self, flags: Sequence[str], command: Sequence[str], target: Path) -> list[str]:
        folders = ["--target-path", str(target), "--log-path", str(target)]
        always = ["--no-use-colors", "--no-partial-parse"]
        return [str(self.executable), *flags, *always, *command, *self.options, *folders]

    def _variables(self, root: Path) -> Mapping[str, str]:
        """Return the environment that dbt gets."""
        quiet = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
        return {**_PARSED_WITH, **self._environment(root), **self.environment, **quiet}

    def _run(self, command: list[str], project: Path, target: Path, root: Path) -> str:
        done = subprocess.run(  # noqa: S603 - the dbt of the workspace's environment
            self._arguments(["--quiet"], command, target),
            check=False,
            cwd=project,
            env=self._variables(root),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            said = (done.stdout + done.stderr).splitlines() or [f"exit code {done.returncode}"]
            raise click.ClickException(_failure(project, command[0], said))
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


def _since(state: Path) -> list[str]:
    return ["--select", "state:modified", "--state", str(state.resolve())]


def _listing(selection: Sequence[str]) -> list[str]:
    return ["ls", *selection, "--output", "json", "--output-keys", "unique_id"]


def _unique_ids(lines: Iterable[str]) -> set[str]:
    return {json.loads(line)["unique_id"] for line in lines if line.startswith("{")}


def _failure(project: Path, command: str, lines: Iterable[str]) -> str:
    said = (line.strip() for line in lines)
    words = " ".join(line for line in said if line and not line.endswith("Encountered an error:"))
    return f"{project}: dbt {command} failed: {words}"

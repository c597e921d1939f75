"""The command `headrace doctor`."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from headrace.cli.user_errors import OneLineCommand
from headrace.doctor.dbt_project import check_dbt_projects
from headrace.doctor.examined import Examined
from headrace.doctor.finding import Finding, one_line
from headrace.doctor.folders import check_disk, check_writing, folders_of
from headrace.doctor.instance import check_instance
from headrace.doctor.locks import check_locks, lock_files
from headrace.doctor.packages import check_duckdb, check_packages, read_environments
from headrace.doctor.paths import check_paths
from headrace.doctor.ports import check_port
from headrace.doctor.toolchain import check_toolchain
from headrace.doctor.warehouse import check_warehouse

_STYLES = {"ok": "green", "warning": "yellow", "wrong": "red", "unknown": "magenta"}
_INDENT = " " * 9
_OF_WORKSPACE = ("disk", "write-access", "locks", "warehouse", "instance", "runs", "pools")


@click.command("doctor", cls=OneLineCommand)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=3000, show_default=True, metavar="N", help="The port of the UI."
)
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def doctor(*, port: int, output: str) -> None:
    """Look for what is wrong with the workspace on this machine, and say how to mend it.

    Changes nothing. Exit code 1 where something is wrong; a warning or a check that cannot be made is not.
    """
    findings = list(_findings(Examined.find(), port))
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        _print(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise click.exceptions.Exit(1)


def _findings(examined: Examined, port: int) -> Iterator[Finding]:
    yield from examined.problems
    environments, broken = read_environments(examined)
    yield from broken
    yield from _made("python", lambda: check_toolchain(examined, environments))
    yield from _made("packages", lambda: check_packages(examined, environments))
    yield from _made("duckdb", lambda: check_duckdb(environments))
    yield from _made("paths", check_paths)
    said: list[dict[str, Any]] = []
    yield from _made("manifest", lambda: _remembering(examined, said))
    workspace = examined.workspace
    if workspace is None:
        for check in _OF_WORKSPACE:
            yield Finding(check, "unknown", "the workspace cannot be read")
    else:
        pools = sorted({f"duckdb_{one['name']}" for one in said if one.get("type") == "duckdb"})
        folders = folders_of(workspace)
        yield from _made("disk", lambda: check_disk(folders))
        yield from _made("write-access", lambda: check_writing(workspace, folders))
        yield from _made("locks", lambda: check_locks(lock_files(examined)))
        yield from _made("warehouse", lambda: check_warehouse(workspace.warehouse))
        os.environ["DAGSTER_HOME"] = str(workspace.dagster_home)  # its event log may find its folder by it
        yield from _made("instance", lambda: check_instance(workspace.dagster_home, pools))
    yield from _made("port", lambda: check_port(port))


def _remembering(examined: Examined, said: list[dict[str, Any]]) -> Iterator[Finding]:
    for finding, project in check_dbt_projects(examined):
        said.append(dict(project))
        yield finding


def _made(check: str, make: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; one that fails itself is told as unknown, and the others are still made."""
    try:
        yield from make()
    except Exception as error:
        # A broken workspace is what this command is for, and it can be broken in ways that no check foresees.
        yield Finding(check, "unknown", f"it cannot be checked: {type(error).__name__}: {one_line(error)}")


def _print(findings: list[Finding]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        console.print(
            Text.assemble((f"{finding.state:<9}", _STYLES[finding.state]), f"{finding.check}: {finding.says}")
        )
        if finding.mend:
            console.print(Text(f"{_INDENT}mend: {finding.mend}"))
    wrong = sum(finding.state == "wrong" for finding in findings)
    console.print(f"{len(findings)} findings, {wrong} wrong")

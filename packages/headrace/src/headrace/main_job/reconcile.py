"""The command `headrace reconcile`: whether the warehouse has what Dagster has recorded, partition by partition."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click
from dagster import AssetKey
from rich.console import Console
from rich.table import Table

from headrace.cli.user_errors import OneLineCommand, UserError
from headrace.deployed.fork_server import fork_runs, start_loading
from headrace.locations.describe import describe, loadable
from headrace.main_job.command import in_this_interpreter
from headrace.main_job.exports import ExportFiles
from headrace.main_job.planning import Wanted
from headrace.main_job.profile import Profile
from headrace.main_job.run import Output, run_main_job
from headrace.workspace import Workspace

_SHOWN = 3
_KINDS = ("gone", "fewer", "more", "unrecorded")


@click.command("reconcile", cls=OneLineCommand)
@click.option("--heal", is_flag=True, help="Build again what differs, and what depends on it.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def reconcile(*, heal: bool, form: str) -> None:
    """Compare the rows of each partition in the warehouse with what Dagster has recorded of it.

    A partition is `gone` (recorded with rows, and there are none), has `fewer` or `more` rows than were recorded, or is
    `unrecorded`. Runs the job `<name>__stored_rows` of each dbt project. Exit code 1: something differs.
    """
    workspace = Workspace.find()
    workspace.enter()
    found = _differing(workspace)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    number = sum(len(keys) for each in found for keys in each["partitions"].values())
    if form == "json":
        click.echo(json.dumps(found, indent=1))
    elif number:
        Console(soft_wrap=True).print(_table(found))
    console.print(f"{len(found)} models: {f'{number:,} partitions differ' if number else 'all rows are as recorded'}")
    if number and not heal:
        raise click.exceptions.Exit(1)
    if number:
        if ExportFiles.of(workspace.exports).bounds() is None:
            raise UserError(f"{workspace.exports}: no exports to heal from: put the files of the days there")
        fork_runs(in_this_interpreter(workspace), workspace.logs / "runs.log")
        start_loading()
        output = Output("text", Profile(), prints_profile=False, table=console)
        wanted = Wanted(None, None, everything=False, differing=_by_asset(found))
        healed = run_main_job(workspace, wanted, None, serve=False, port=None, output=output)
        left = sum(len(keys) for each in _differing(workspace) for keys in each["partitions"].values())
        if left:
            console.print(f"{left:,} partitions still differ: they are outside the days of the exports, or failed")
        if left or not healed:
            raise click.exceptions.Exit(1)


def _differing(workspace: Workspace) -> Sequence[Mapping[str, Any]]:
    """Run the jobs of all locations, and return what they found of each model."""
    texts = describe(workspace, list(loadable(workspace).values()), "stored")
    return [each for text in texts.values() for each in json.loads(text)["stored"]]


def _by_asset(found: Sequence[Mapping[str, Any]]) -> Mapping[AssetKey, Collection[str]]:
    return {
        AssetKey.from_user_string(each["key"]): {key for keys in each["partitions"].values() for key in keys}
        for each in found
        if each["partitions"]
    }


def _table(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("asset", "rows", "partitions"):
        table.add_column(name)
    for each in found:
        for kind in _KINDS:
            if keys := each["partitions"].get(kind):
                more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
                table.add_row(each["key"], kind, f"{', '.join(keys[:_SHOWN])}{more}")
    return table

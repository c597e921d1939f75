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
from headrace.local_dagster.storage import create_storage
from headrace.locations.describe import describe, loadable
from headrace.main_job.command import in_this_interpreter
from headrace.main_job.exports import ExportFiles
from headrace.main_job.planning import Wanted
from headrace.main_job.profile import Profile
from headrace.main_job.run import Output, run_main_job
from headrace.workspace import Workspace
from headrace_staleness import Partition

_SHOWN = 3
_KINDS = ("gone", "fewer", "more", "unrecorded")


@click.command("reconcile", cls=OneLineCommand)
@click.option("--heal", is_flag=True, help="Then call `headrace run`, for which what differs counts as missing.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def reconcile(*, heal: bool, form: str) -> None:
    """Compare the rows of each partition in the warehouse with what Dagster has recorded of it.

    A partition is `gone` (recorded with rows, and there are none), has `fewer` or `more` rows than were recorded, or is
    `unrecorded`. Rows `outside` are of no partition, as after HEADRACE_START was moved forward: the job that is named
    rebuilds their table. Runs the job `<name>__stored_rows` of each dbt project, and waits for its pool. Exit code 1:
    something differs, or could not be looked at.
    """
    workspace = Workspace.find()
    workspace.enter()
    create_storage()
    found = _looked(workspace)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    number = _number(found)
    if form == "json":
        click.echo(json.dumps(found, indent=1))
    elif number:
        Console(soft_wrap=True).print(_table(found))
    for each in found:
        if not each["compared"]:
            console.print(f"{each['key']}: {each['says']}", markup=False)
    for name in workspace.locations.keys() - loadable(workspace).keys():
        console.print(f"{name}: not compared: its code server is elsewhere")
    outside = [each for each in found if each.get("outside")]
    for each in outside:
        rows = f"{each['outside']:,} rows are of no partition"
        console.print(f"{each['key']}: {rows}: the job {each['mend']} rebuilds it without them", markup=False)
    compared = sum(each["compared"] for each in found)
    differ = [f"{number:,} partitions differ"] if number else []
    differ += [f"{len(outside)} have rows of no partition"] if outside else []
    console.print(f"{compared} assets compared: {', '.join(differ) or 'all is as recorded'}")
    if number and (not heal or not _healed(workspace, found, console)):
        raise click.exceptions.Exit(1)
    if outside:
        raise click.exceptions.Exit(1)


def _healed(workspace: Workspace, found: Sequence[Mapping[str, Any]], console: Console) -> bool:
    """Build again what differs; return whether nothing does any more."""
    if ExportFiles.of(workspace.exports).bounds() is None:
        raise UserError(f"{workspace.exports}: no exports to heal from: put the files of the days there")
    fork_runs(in_this_interpreter(workspace), workspace.logs / "runs.log")
    start_loading()
    output = Output("text", Profile(), prints_profile=False, table=console)
    wanted = Wanted(None, None, everything=False, differing=_by_asset(found))
    is_complete = run_main_job(workspace, wanted, None, serve=False, port=None, output=output)
    left = _number(_looked(workspace))
    if left:
        console.print(f"{left:,} partitions still differ: they are outside the days of the exports, or failed")
    return is_complete and not left


def _looked(workspace: Workspace) -> Sequence[Mapping[str, Any]]:
    """Run the jobs of the locations, and return what they found of each asset.

    One after another: a project may read the file of another one.
    """
    texts = describe(workspace, list(loadable(workspace).values()), "stored", at_once=1)
    return [each for text in texts.values() for each in json.loads(text)["stored"]]


def _number(found: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(keys) for each in found for keys in each["partitions"].values())


def _by_asset(found: Sequence[Mapping[str, Any]]) -> Mapping[AssetKey, Collection[Partition]]:
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
                shown = ", ".join("all of it" if key is None else key for key in keys[:_SHOWN])
                more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
                table.add_row(each["key"], kind, f"{shown}{more}")
    return table

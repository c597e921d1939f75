"""The command `headrace run`. It imports little, so that the locations load while the command itself does."""

from collections.abc import Mapping
from datetime import datetime

import click

from headrace.cli.imports import long_lived_imports
from headrace.cli.user_errors import OneLineCommand
from headrace.deployed.fork_server import fork_runs, start_loading
from headrace.main_job.days import days_to_build
from headrace.main_job.exports import ExportFiles
from headrace.main_job.profile import Profile
from headrace.main_job.remembered import recall
from headrace.workspace import Workspace

_DAY = click.DateTime(formats=["%Y-%m-%d"])
_UI_PORT = 3000


@click.command("run", cls=OneLineCommand)
@click.option("--from", "first", type=_DAY, metavar="DAY", help="First day.  [default: the first of the exports]")
@click.option("--to", "last", type=_DAY, metavar="DAY", help="Last day.  [default: the last of the exports]")
@click.option("--all", "everything", is_flag=True, help="Build everything, fresh or not.")
@click.option("--serve", is_flag=True, help="Keep the UI and the daemon up until Ctrl-C.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Serve the UI at this port meanwhile.  [default: no UI; 3000 with --serve]",
)
@click.option("--profile", "prints_profile", is_flag=True, help="Print where the seconds went.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def run(
    *,
    first: datetime | None,
    last: datetime | None,
    everything: bool,
    serve: bool,
    port: int | None,
    prints_profile: bool,
    form: str,
) -> None:
    """Load the export files and build the tested marts, in one backfill over all code locations.

    Builds what is missing, what changed, and what depends on it. Writes demo data if there are no exports.
    """
    profile = Profile()
    workspace = Workspace.find()
    workspace.enter()
    days = first and first.date(), last and last.date()
    days_to_build(workspace, *days)
    port = port or (_UI_PORT if serve else None)
    remembered = None if everything else recall(workspace, ExportFiles.of(workspace.exports))
    fork_runs(in_this_interpreter(workspace), workspace.logs / "runs.log")
    if port or not (remembered and remembered.seems_fresh):
        start_loading()
    # They import Dagster, while the locations load.
    with long_lived_imports():
        from headrace.main_job.planning import Wanted  # noqa: PLC0415
        from headrace.main_job.run import Output, run_main_job  # noqa: PLC0415

    wanted = Wanted(*days, everything=everything)
    output = Output(form, profile, prints_profile)
    if not run_main_job(workspace, wanted, remembered, serve=serve, port=port, output=output):
        raise click.exceptions.Exit(1)


def in_this_interpreter(workspace: Workspace) -> Mapping[str, str | None]:
    """Return the locations that this interpreter serves; another one's code is not loaded here."""
    return {
        name: entry.module
        for name, entry in workspace.locations.items()
        if entry.kind != "grpc_server" and not entry.executable_path
    }

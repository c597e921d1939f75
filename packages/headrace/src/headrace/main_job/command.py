"""The command `headrace run`."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta

import click
from dagster import DagsterInstance
from filelock import FileLock, Timeout
from rich.console import Console

from headrace.cli.interrupts import Interrupts
from headrace.cli.user_errors import OneLineCommand, UserError
from headrace.demo.export import write_demo_data
from headrace.deployed.forked_launcher import fork_runs, start_loading
from headrace.local_dagster.daemon import LocalDaemon
from headrace.local_dagster.servers import Servers, running_daemon, running_servers
from headrace.local_dagster.storage import create_storage
from headrace.main_job.exports import ExportFiles
from headrace.main_job.job import MainJob
from headrace.main_job.progress import Progress, result_table
from headrace.main_job.report import RunReport
from headrace.workspace import Workspace

_DAY = click.DateTime(formats=["%Y-%m-%d"])
_DEMO_DAYS, _DEMO_ORDERS, _DEMO_SEED = 90, 400, 7
_REASON_LINES = 12


@click.command("run", cls=OneLineCommand)
@click.option("--from", "first", type=_DAY, metavar="DAY", help="First day.  [default: the first of the exports]")
@click.option("--to", "last", type=_DAY, metavar="DAY", help="Last day.  [default: the last of the exports]")
@click.option("--all", "everything", is_flag=True, help="Build everything, fresh or not.")
@click.option("--serve", is_flag=True, help="Keep the UI and the daemon up until Ctrl-C.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="The UI's port.  [default: a free one; 3000 with --serve]",
)
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def run(
    *, first: datetime | None, last: datetime | None, everything: bool, serve: bool, port: int | None, output: str
) -> None:
    """Load the export files and build the tested marts, in one backfill over all code locations.

    Builds what is missing, what changed, and what depends on it. Writes demo data if there are no exports.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    workspace = Workspace.find()
    workspace.enter()
    days = first and first.date(), last and last.date()
    start, end = _days(workspace, *days)
    if ExportFiles.of(workspace.exports).bounds() is None:
        console.print(f"no exports in {workspace.exports}: making demo data, {start} to {end}")
        write_demo_data(workspace.exports, start, end, _DEMO_ORDERS, _DEMO_SEED)
    create_storage()
    fork_runs(_forked(workspace), workspace.logs / "runs.log")
    began = time.monotonic()
    with (
        _alone(workspace),
        Interrupts().answered() as interrupts,
        running_servers(workspace, port or (3000 if serve else None)) as servers,
    ):
        console.print(f"Dagster serves {', '.join(workspace.locations)} at {servers.url}")
        report = _build(workspace, servers, interrupts, days, everything=everything, console=console)
        if output == "json":
            click.echo(report.to_json() if report else '{"assets": [], "failures": []}')
        elif report:
            Console(soft_wrap=True).print(result_table(report))
        failed = report is not None and _print_failures(report, console)
        console.print(f"{'failed' if failed else 'done'} in {time.monotonic() - began:.0f} s")
        if serve:
            console.print(f"serving {servers.url} until Ctrl-C")
            with running_daemon(workspace, servers), suppress(KeyboardInterrupt):
                threading.Event().wait()
    if failed:
        raise click.exceptions.Exit(1)


def _days(
    workspace: Workspace,
    first: date | None,
    last: date | None,
    tables: Collection[str] | None = None,
    tell: Callable[[str], object] = lambda _line: None,
) -> tuple[date, date]:
    """Return the first and last day to build.

    Args:
        workspace: the workspace.
        first: the first day, where it is given.
        last: the last day, where it is given.
        tables: the tables that are loaded from exports; None before the locations are asked.
        tell: is told of a last day that is not over.

    Raises:
        UserError: the days are not in order, or lie before `HEADRACE_START`.
    """
    bounds = ExportFiles.of(workspace.exports).bounds(tables)
    start = first or (max(bounds[0], workspace.start) if bounds else workspace.start)
    end = last or (bounds[1] if bounds else start + timedelta(days=_DEMO_DAYS - 1))
    if start > end:
        raise UserError(f"the first day, {start}, is after the last, {end}: change --from, --to or HEADRACE_START")
    if start < workspace.start:
        raise UserError(f"--from {start} is before the first partition, {workspace.start}: set HEADRACE_START earlier")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    if end > yesterday:
        tell(f"{end} is not over yet: building up to {yesterday}")
        end = yesterday
        if start > end:
            raise UserError(f"the first day, {start}, is not over yet: build it tomorrow")
    return start, end


def _build(
    workspace: Workspace,
    servers: Servers,
    interrupts: Interrupts,
    days: tuple[date | None, date | None],
    *,
    everything: bool,
    console: Console,
) -> RunReport | None:
    """Plan and build; return None where there was nothing to build."""
    with DagsterInstance.get() as instance, LocalDaemon.over(instance, servers.workspace_file) as daemon:
        job = MainJob(workspace, instance, daemon, servers.url)
        start, end = _days(workspace, *days, job.tables(), console.print)
        plan = job.plan(start, end, everything=everything)
        if not plan.size:
            console.print(f"{start} to {end}: everything is fresh")
            return None
        start_loading()
        console.print(
            f"{start} to {end}: building {_count(plan.size, 'partition')} of {_count(len(plan.partitions), 'asset')}"
        )
        with Progress(console, plan).shown() as progress:
            return job.build(plan, progress, interrupts)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _print_failures(report: RunReport, console: Console) -> bool:
    """Print why something is not there; return whether anything failed."""
    for failure in report.failures:
        lines = failure.reason.splitlines() or [""]
        console.print(f"failed: {failure.what}: {lines[0]}", markup=False, style="red")
        for line in lines[1:_REASON_LINES]:
            console.print(f"    {line}", markup=False)
        if len(lines) > _REASON_LINES:
            console.print(f"    and {len(lines) - _REASON_LINES} more lines: see the run in the UI")
    missing = [key for key, asset in report.assets.items() if not asset.done]
    if missing:
        console.print(f"not complete: {', '.join(key.to_user_string() for key in missing)}")
    return bool(report.failures or missing)


def _forked(workspace: Workspace) -> Mapping[str, str | None]:
    """Return the locations that this interpreter serves; another one's code is not loaded here."""
    return {
        name: entry.module
        for name, entry in workspace.locations.items()
        if entry.kind != "grpc_server" and not entry.executable_path
    }


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Let one main job at a time move the backfills and the run queue of an instance.

    Raises:
        UserError: another one is going.
    """
    try:
        with FileLock(workspace.dagster_home / "headrace-run.lock", blocking=False):
            yield
    except Timeout:
        raise UserError(
            f"another headrace run is active in {workspace.dagster_home}: wait for it, or set DAGSTER_HOME"
        ) from None

"""What `headrace run` does, once what it starts is loading."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date

import click
from dagster import DagsterInstance
from filelock import FileLock, Timeout
from rich.console import Console

from headrace.cli.interrupts import Interrupts
from headrace.cli.user_errors import UserError
from headrace.demo.export import write_demo_data
from headrace.local_dagster.daemon import LocalDaemon
from headrace.local_dagster.servers import Servers, running_daemon, running_servers
from headrace.local_dagster.storage import create_storage
from headrace.main_job.days import days_to_build
from headrace.main_job.exports import ExportFiles
from headrace.main_job.job import MainJob
from headrace.main_job.progress import Progress, result_table
from headrace.main_job.report import RunReport
from headrace.workspace import Workspace

_DEMO_ORDERS, _DEMO_SEED = 400, 7
_REASON_LINES = 12


def run_main_job(
    workspace: Workspace,
    days: tuple[date | None, date | None],
    *,
    everything: bool,
    serve: bool,
    port: int | None,
    output: str,
) -> bool:
    """Build what the days need; return whether all of it is there.

    Args:
        workspace: a workspace that was entered.
        days: the first and the last day, where they are given.
        everything: build all partitions of the days, fresh or not.
        serve: keep the UI and the daemon up until Ctrl-C.
        port: that of the UI; no UI where it is None.
        output: what is printed of the result, `text` or `json`.

    Raises:
        UserError: the days cannot be, or another main job is active.
        click.ClickException: a location does not load, or a server does not start.
        KeyboardInterrupt: it was interrupted, and its runs were canceled.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    start, end = days_to_build(workspace, *days)
    if ExportFiles.of(workspace.exports).bounds() is None:
        console.print(f"no exports in {workspace.exports}: making demo data, {start} to {end}")
        write_demo_data(workspace.exports, start, end, _DEMO_ORDERS, _DEMO_SEED)
    create_storage()
    began = time.monotonic()
    with (
        _alone(workspace),
        Interrupts().answered() as interrupts,
        running_servers(workspace, port=port) as servers,
    ):
        if servers.url:
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
    return not failed


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
        job = MainJob(workspace, instance, daemon)
        start, end = days_to_build(workspace, *days, job.tables(), console.print)
        plan = job.plan(start, end, everything=everything)
        if not plan.size:
            console.print(f"{start} to {end}: everything is fresh")
            return None
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

"""What `headrace run` does, once what it starts is loading."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import click
from filelock import FileLock, Timeout
from rich.console import Console

from headrace.cli.imports import long_lived_imports
from headrace.cli.interrupts import Interrupts
from headrace.cli.user_errors import UserError
from headrace.demo.export import write_demo_data
from headrace.local_dagster.asset_node import nodes_from_json, nodes_to_json
from headrace.local_dagster.storage import prepared_instance
from headrace.main_job.days import days_to_build
from headrace.main_job.exports import ExportFiles
from headrace.main_job.planning import PlanOfDays, Wanted, plan_days
from headrace.main_job.profile import Profile, sum_of_stages
from headrace.main_job.progress import profile_table, result_table
from headrace.main_job.remembered import Remembered, remember_fresh, signature
from headrace.main_job.report import RunReport
from headrace.workspace import Workspace

_DEMO_ORDERS, _DEMO_SEED = 400, 7
_REASON_LINES = 12


@dataclass(frozen=True)
class Output:
    """What is printed, and how.

    Args:
        form: of the result on standard output, `text` or `json`; all else goes to standard error.
        profile: takes the times of the stages.
        prints_profile: whether the times are printed.
        table: where the table of the result goes, standard output by default.
    """

    form: str
    profile: Profile
    prints_profile: bool
    table: Console = field(default_factory=lambda: Console(soft_wrap=True))

    def end(self, planned: PlanOfDays, report: RunReport | None, console: Console) -> bool:
        """Print the result; return whether all is there."""
        seconds = self.profile.seconds(report)
        if report is None:
            console.print(f"{planned.first} to {planned.last}: everything is fresh")
        if self.form == "json":
            told = report.to_dict() if report else {"assets": [], "failures": []}
            click.echo(json.dumps({**told, **({"profile": seconds} if self.prints_profile else {})}, indent=1))
        elif report:
            self.table.print(result_table(report))
        failed = report is not None and _print_failures(report, console)
        if self.prints_profile:
            console.print(profile_table(seconds))
        console.print(f"{'failed' if failed else 'done'} in {sum_of_stages(seconds):.0f} s")
        return not failed


def run_main_job(
    workspace: Workspace,
    wanted: Wanted,
    remembered: Remembered | None,
    *,
    serve: bool,
    port: int | None,
    output: Output,
) -> bool:
    """Build what the days need; return whether all of it is there.

    Args:
        workspace: a workspace that was entered.
        wanted: the days, and whether all of them.
        remembered: what a former main job knew of the locations, where that is still so.
        serve: keep the UI and the daemon up until Ctrl-C.
        port: that of the UI; no UI where it is None.
        output: what is printed.

    Raises:
        UserError: the days cannot be, or another main job is active.
        click.ClickException: a location does not load, or a server does not start.
        KeyboardInterrupt: it was interrupted, and its runs were canceled.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    exports = ExportFiles.of(workspace.exports)
    if exports.bounds() is None:
        start, end = days_to_build(workspace, wanted.first, wanted.last)
        console.print(f"no exports in {workspace.exports}: making demo data, {start} to {end}")
        write_demo_data(workspace.exports, start, end, _DEMO_ORDERS, _DEMO_SEED)
        exports = ExportFiles.of(workspace.exports)
    before = signature(exports)
    profile = output.profile
    with _alone(workspace), Interrupts().answered() as interrupts, prepared_instance() as instance:
        profile.begin("plan")
        planned = None
        if remembered:
            planned = plan_days(workspace, instance, nodes_from_json(remembered.nodes), wanted, console.print)
        if planned and not planned.plan.size and port is None:
            profile.begin("end")
            output.end(planned, None, console)
            remember_fresh(workspace, before)
            return True
        profile.begin("start")
        # Dagster's daemons and gRPC take a second to import.
        with long_lived_imports():
            from headrace.main_job.served import Served  # noqa: PLC0415

        with Served.by_servers(workspace, instance, port) as served:
            if served.url:
                console.print(f"Dagster serves {', '.join(workspace.locations)} at {served.url}")
            profile.begin("plan")
            if remembered and nodes_to_json(served.nodes) != remembered.nodes:
                remembered, planned = None, None  # edited since it was recalled
            planned = planned or plan_days(workspace, instance, served.nodes, wanted, console.print)
            profile.begin("build")
            report = served.build(planned, interrupts, console) if planned.plan.size else None
            profile.begin("end")
            if not remembered:
                served.remember()
            is_complete = output.end(planned, report, console)
            if is_complete:
                remember_fresh(workspace, before)
            if serve:
                console.print(f"serving {served.url} until Ctrl-C")
                with served.daemon_runs(), suppress(KeyboardInterrupt):
                    threading.Event().wait()
            return is_complete


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

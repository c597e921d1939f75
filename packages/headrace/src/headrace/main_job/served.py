"""The locations as a main job serves them: what they define, and what is built over them."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import click
from dagster import DagsterInstance, DefaultRunLauncher
from rich.console import Console

from headrace.cli.interrupts import Interrupts
from headrace.deployed.fork_server import forked_locations, write_trace
from headrace.local_dagster.asset_node import AssetNode, nodes_to_json
from headrace.local_dagster.daemon import LocalDaemon
from headrace.local_dagster.servers import Servers, running_daemon, running_servers
from headrace.main_job.job import MainJob
from headrace.main_job.planning import PlanOfDays
from headrace.main_job.progress import Progress
from headrace.main_job.remembered import remember_definitions
from headrace.main_job.report import RunReport
from headrace.workspace import Workspace


class Served:
    """The locations of a workspace, which servers of this command serve.

    Args:
        workspace: the workspace.
        instance: its Dagster instance.
        servers: the servers.
        daemon: the daemons over them.
    """

    def __init__(self, workspace: Workspace, instance: DagsterInstance, servers: Servers, daemon: LocalDaemon) -> None:
        self._workspace = workspace
        self._instance = instance
        self._servers = servers
        self._daemon = daemon

    @classmethod
    @contextmanager
    def by_servers(cls, workspace: Workspace, instance: DagsterInstance, port: int | None) -> Iterator[Self]:
        """Serve the locations, and the UI where a port is given, while the context lasts.

        Raises:
            UserError: another program serves at the port.
            click.ClickException: a location does not load, or a server does not start.
        """
        with (
            running_servers(
                workspace, port=port, runs_elsewhere=not isinstance(instance.run_launcher, DefaultRunLauncher)
            ) as servers,
            LocalDaemon.over(instance, servers.workspace_file) as daemon,
        ):
            errors = daemon.load_errors()
            if errors:
                raise click.ClickException("; ".join(errors))
            yield cls(workspace, instance, servers, daemon)

    @property
    def url(self) -> str | None:
        """Return the address of the UI; None where there is none."""
        return self._servers.url

    @cached_property
    def nodes(self) -> Sequence[AssetNode]:
        """Return the assets that the locations materialize, parents before children."""
        return self._daemon.assets()

    def build(self, planned: PlanOfDays, interrupts: Interrupts, console: Console) -> RunReport:
        """Build a plan, and show how far it is; see `MainJob.build`."""
        plan = planned.plan
        console.print(
            f"{planned.first} to {planned.last}: building {_count(plan.size, 'partition')} "
            f"of {_count(len(plan.partitions), 'asset')}"
        )
        with Progress(console, plan).shown() as progress:
            return MainJob(self._instance, self._daemon).build(self.nodes, plan, progress, interrupts)

    def remember(self) -> None:
        """Remember what the locations define, where this command has loaded all of them, and knows what that read."""
        if set(self._workspace.locations) <= set(forked_locations()):
            with TemporaryDirectory() as folder, suppress(FileNotFoundError):
                file = Path(folder, "trace.json")
                write_trace(file)
                remember_definitions(self._workspace, nodes_to_json(self.nodes), file.read_text(encoding="utf-8"))

    def daemon_runs(self) -> AbstractContextManager[None]:
        """Run Dagster's daemon while the context lasts, for schedules, sensors and what the UI launches."""
        return running_daemon(self._workspace, self._servers)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"

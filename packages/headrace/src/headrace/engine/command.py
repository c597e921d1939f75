"""The command `headrace engine`: what a target of dbt needs that has to be there before anybody builds."""

import os
import sys
from pathlib import Path

import click

from headrace.cli.user_errors import OneLineCommand, OneLineGroup, UserError
from headrace.tools.ducklake import DuckLake
from headrace.tools.spark import SparkServers
from headrace.workspace import Workspace


@click.group("engine", cls=OneLineGroup)
def engine() -> None:
    """What the targets of dbt need: HEADRACE_TARGET names the one that is used."""


@engine.command("up", cls=OneLineCommand)
@click.argument("target", type=click.Choice(["spark"]))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="How many workers.")
@click.option("--cores", default=1, show_default=True, type=click.IntRange(1), help="Cores of each worker.")
@click.option("--memory-mb", default=1024, show_default=True, type=click.IntRange(512), help="Memory of each process.")
def up(*, target: str, workers: int, cores: int, memory_mb: int) -> None:
    """Start TARGET on this machine's loopback, for development and tests: nobody is asked for a name there.

    Its tables are in the workspace's state, and are there again after `headrace engine down`.
    """
    servers = SparkServers.of(Workspace.find())
    servers.up(workers=workers, cores=cores, memory_mb=memory_mb)
    click.echo(f"{target}: {', '.join(servers.running())} on port {servers.port}; logs in {servers.folder}")


@engine.command("down", cls=OneLineCommand)
@click.argument("target", type=click.Choice(["spark"]))
def down(*, target: str) -> None:
    """End what `headrace engine up` started. The tables stay."""
    ended = SparkServers.of(Workspace.find()).down()
    click.echo(f"{target}: {', '.join(ended)} ended" if ended else f"{target}: nothing runs")


@engine.command("check", cls=OneLineCommand)
@click.option("--target", help="A target of the dbt project's profile; that of HEADRACE_TARGET by default.")
def check(*, target: str | None) -> None:
    """Prove a target: build models of four kinds in it, in every way, and compare their rows with a full build's.

    They are in a schema that is made for it, and dropped at the end. Exit code 1: some differ.
    """
    workspace = Workspace.find()
    workspace.enter()
    project = os.environ.get("HEADRACE_DBT_PROJECT") or str(workspace.root / "dbt")
    command = Path(sys.executable).with_name("dagster-dbt-common")
    if not command.is_file():
        raise UserError(f"{command}: dagster-dbt-common is not installed beside headrace: make install")
    # In place of this process: the signals that it is sent are that one's.
    os.execve(  # noqa: S606 - the command of this environment
        command,
        [str(command), "prove", project, *(("--target", target) if target else ())],
        os.environ | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
    )


@engine.command("init", cls=OneLineCommand)
@click.argument("target", type=click.Choice(["ducklake"]))
@click.option("--schema", "schemas", multiple=True, default=["main"], show_default=True, help="A schema; repeatable.")
def init(*, target: str, schemas: tuple[str, ...]) -> None:
    """Make what TARGET needs, if it is missing: DuckDB's extensions here, the catalog and its schemas in Postgres.

    One call for all who write there, and one on each machine for its extensions. It may be repeated, by several at
    once.
    """
    lake = DuckLake.of(Workspace.find())
    versions = lake.install_extensions()
    lake.create(schemas)
    click.echo(f"{target}: {', '.join(versions)} in {lake.extensions}")
    click.echo(f"{target}: catalog in {lake.catalog}, files in {lake.data}, schemas {', '.join(schemas)}")

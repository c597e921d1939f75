"""The command `headrace engine`: what a target of dbt needs that has to be there before anybody builds."""

import click

from headrace.cli.user_errors import OneLineCommand, OneLineGroup
from headrace.tools.ducklake import DuckLake
from headrace.workspace import Workspace


@click.group("engine", cls=OneLineGroup)
def engine() -> None:
    """What the targets of dbt need: HEADRACE_TARGET names the one that is used."""


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

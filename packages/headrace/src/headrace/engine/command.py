"""The command `headrace engine`: what a target of dbt needs that has to be there before anybody builds."""

import os

import click

from headrace.cli.user_errors import OneLineCommand, OneLineGroup, UserError
from headrace.engine.ducklake import CATALOG, DuckLake
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
    workspace = Workspace.find()
    catalog = os.environ.get(CATALOG, "")
    if not catalog:
        raise UserError(f"{CATALOG} is not set: give the database of the catalog, like 'host=db dbname=lake user=etl'")
    lake = DuckLake(catalog, data=workspace.ducklake_data, extensions=workspace.duckdb_extensions)
    versions = lake.install_extensions()
    lake.create(schemas)
    click.echo(f"{target}: {', '.join(versions)} in {workspace.duckdb_extensions}")
    click.echo(f"{target}: catalog in {lake.shown}, files in {workspace.ducklake_data}, schemas {', '.join(schemas)}")

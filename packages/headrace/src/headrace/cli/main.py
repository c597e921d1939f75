"""The command `headrace`: one verb for each job of a Headrace workspace."""

import click

from headrace.cli.lazy_group import LazyGroup

_COMMANDS = {
    "affected": ("headrace.affected.command", "affected"),
    "ci": ("headrace.affected.ci", "ci"),
    "contract": ("headrace.contracts.command", "contract"),
    "dbt": ("headrace.dbt_ci.command", "dbt"),
    "demo-data": ("headrace.demo.command", "demo_data"),
    "doctor": ("headrace.doctor.command", "doctor"),
    "engine": ("headrace.engine.command", "engine"),
    "init": ("headrace.local_dagster.init", "init"),
    "new": ("headrace.new.command", "new"),
    "reconcile": ("headrace.main_job.reconcile", "reconcile"),
    "release": ("headrace.releases.command", "release"),
    "run": ("headrace.main_job.command", "run"),
}


@click.group("headrace", cls=LazyGroup, table=_COMMANDS)
@click.version_option(package_name="headrace")
def main() -> None:
    """Headrace: a workspace of Dagster code locations and a dbt project."""

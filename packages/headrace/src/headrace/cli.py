"""The command `headrace`: one verb for each job of a Headrace workspace."""

import importlib

import click

from headrace.user_errors import OneLineGroup

_COMMANDS = {
    "affected": ("headrace.affected.command", "affected"),
    "ci": ("headrace.ci", "ci"),
    "contract": ("headrace.contracts.command", "contract"),
    "dbt": ("headrace.dbt_ci.command", "dbt"),
    "demo-data": ("headrace.demo.command", "demo_data"),
    "init": ("headrace.init", "init"),
    "release": ("headrace.releases.command", "release"),
    "run": ("headrace.run", "run"),
}


class _Verbs(OneLineGroup):
    """Imports a verb's module when it is called: Dagster takes seconds that the others need not wait."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace")
def main() -> None:
    """Headrace: a workspace of Dagster code locations and a dbt project."""

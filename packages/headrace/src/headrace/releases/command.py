"""The group of commands `headrace release`."""

import click

from headrace.cli.lazy_group import LazyGroup

_COMMANDS = {
    "build": ("headrace.releases.build", "build"),
    "deploy": ("headrace.installation.deploy_command", "deploy"),
    "init": ("headrace.installation.commands", "init"),
    "list": ("headrace.installation.commands", "list_"),
    "prune": ("headrace.installation.commands", "prune_"),
    "rollback": ("headrace.installation.deploy_command", "rollback"),
    "status": ("headrace.installation.commands", "status"),
    "up": ("headrace.installation.commands", "up"),
}


@click.group("release", cls=LazyGroup, table=_COMMANDS)
def release() -> None:
    """Build, deploy and roll back releases of code locations."""

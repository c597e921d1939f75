"""The group of commands `headrace release`."""

import click

from headrace.lazy_group import LazyGroup

_COMMANDS = {
    "build": ("headrace.releases.build", "build"),
    "deploy": ("headrace.releases.deploy_command", "deploy"),
    "init": ("headrace.releases.installed", "init"),
    "list": ("headrace.releases.installed", "list_"),
    "prune": ("headrace.releases.installed", "prune_"),
    "rollback": ("headrace.releases.deploy_command", "rollback"),
    "status": ("headrace.releases.installed", "status"),
    "up": ("headrace.releases.installed", "up"),
}


@click.group("release", cls=LazyGroup, table=_COMMANDS)
def release() -> None:
    """Build what is deployed of a code location, and deploy it."""

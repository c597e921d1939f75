"""The group of commands `headrace release`."""

import importlib

import click

from headrace.user_errors import OneLineGroup

_COMMANDS = {
    "build": ("headrace.releases.build", "build"),
    "deploy": ("headrace.releases.installed", "deploy"),
    "init": ("headrace.releases.installed", "init"),
    "list": ("headrace.releases.installed", "list_"),
    "prune": ("headrace.releases.installed", "prune_"),
    "rollback": ("headrace.releases.installed", "rollback"),
    "status": ("headrace.releases.installed", "status"),
    "up": ("headrace.releases.installed", "up"),
}
"""The module of each command and its name there; it is imported when it is called."""


class _ReleaseVerbs(OneLineGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group("release", cls=_ReleaseVerbs)
def release() -> None:
    """Build what is deployed of a code location, and deploy it."""

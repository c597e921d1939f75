"""The group of commands `headrace release`."""

import importlib

import click

from headrace.user_errors import OneLineGroup

_COMMANDS = {
    "build": ("headrace.releases.build", "build"),
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

"""A group of commands that imports a module when it is called: Dagster takes seconds that the others need not wait."""

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from headrace.cli.imports import long_lived_imports
from headrace.cli.user_errors import OneLineGroup


class LazyGroup(OneLineGroup):
    """A group of commands by a table.

    Args:
        table: the module of each command, and its name there.
        options: click's own of a group.
    """

    def __init__(self, *, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands, without importing them."""
        return sorted(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in self._table:
            return None
        module, name = self._table[cmd_name]
        with long_lived_imports():
            command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what may follow: click would import each command for its first line of help."""
        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

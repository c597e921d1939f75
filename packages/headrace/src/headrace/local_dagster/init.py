"""The command `headrace init`: makes the workspace's state, so that any Dagster command finds it."""

import os
import shlex

import click

from headrace.cli.user_errors import OneLineCommand
from headrace.local_dagster.storage import create_storage
from headrace.workspace import Workspace


@click.command("init", cls=OneLineCommand)
def init() -> None:
    """Create the state folder and the Dagster instance in it, if they are missing.

    Prints the variables with which Dagster's own commands find them: eval "$(headrace init)".
    """
    workspace = Workspace.find()
    os.environ.update(workspace.environment())
    workspace.prepare()
    create_storage()
    for name, value in workspace.environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")

"""The command `headrace release build`."""

import click

from headrace.user_errors import OneLineCommand, UserError


@click.command("build", cls=OneLineCommand)
@click.argument("location")
def build(*, location: str) -> None:
    """Build the release of LOCATION, or of the platform."""
    raise UserError(f"{location}: not built yet")

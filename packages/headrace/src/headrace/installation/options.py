"""The options that commands on an installation share."""

from pathlib import Path

import click

to_option = click.option(
    "--to",
    type=click.Path(path_type=Path),
    envvar="HEADRACE_INSTALLATION",
    required=True,
    metavar="DIR",
    help="The folder of the installation.  [env var: HEADRACE_INSTALLATION]",
)
format_option = click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", help="Output format."
)

"""The commands `headrace release deploy` and `rollback`, which change what serves."""

import json
from pathlib import Path

import click

from headrace.cli.user_errors import OneLineCommand, UserError
from headrace.installation.deploy import Deploy, Deployed
from headrace.installation.history import locations_of
from headrace.installation.installation import Installation
from headrace.installation.options import format_option, to_option
from headrace.releases.release import Release


@click.command("deploy", cls=OneLineCommand)
@click.argument("location")
@click.argument("release", type=click.Path(path_type=Path))
@to_option
@click.option(
    "--wheels", type=click.Path(path_type=Path), metavar="DIR", help="Install from the wheels in DIR, offline."
)
@format_option
def deploy(*, location: str, release: Path, to: Path, wheels: Path | None, output: str) -> None:
    """Install RELEASE, a folder that `headrace release build` made, and switch LOCATION to it.

    Exit code 0: it serves; 1: it is refused, and what served before still does; 2: wrong call.
    """
    installation = Installation.at(to)
    read = Release.read(release)
    if read.location != location:
        raise UserError(f"{release}: it is a release of {read.location}, not of {location}: give one of {location}")
    if wheels is not None and not wheels.is_dir():
        raise UserError(f"--wheels {wheels}: no such folder: give one with the wheels of requirements.txt")
    _tell(_deploy_of(installation, location).deploy(read, wheels), output)


@click.command("rollback", cls=OneLineCommand)
@click.argument("location")
@to_option
@format_option
def rollback(*, location: str, to: Path, output: str) -> None:
    """Switch LOCATION back to the release that served before the current one."""
    installation = Installation.at(to)
    locations_of(installation, location)
    _tell(_deploy_of(installation, location).rollback(), output)


def _deploy_of(installation: Installation, location: str) -> Deploy:
    return Deploy(installation, location, lambda step: click.echo(f"{location}: {step}", err=True))


def _tell(deployed: Deployed, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(deployed.__dict__))
    else:
        former = f", before: {deployed.former}" if deployed.former else ""
        click.echo(f"{deployed.release} serves after {deployed.seconds} s{former}")

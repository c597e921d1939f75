"""The commands `headrace contract export` and `headrace contract check`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from headrace.cli.user_errors import OneLineCommand, OneLineGroup, UserError
from headrace.contracts.check import Finding, check_files, check_together
from headrace.contracts.contract import parse_contract, read_contracts
from headrace.contracts.deploys import check_against
from headrace.contracts.export import contracts_of, export_contracts
from headrace.locations.describe import loadable
from headrace.workspace import Workspace
from headrace.workspace_file import WORKSPACE, Entry


@click.group("contract", cls=OneLineGroup)
def contract() -> None:
    """What code locations promise each other: export it, and check that it holds."""


@contract.command("export", cls=OneLineCommand)
@click.argument("location")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write DIR/LOCATION.json instead of printing."
)
def export(*, location: str, out: Path | None) -> None:
    """Print what LOCATION produces, and what it consumes from others, as JSON.

    Its own interpreter loads its Definitions.
    """
    workspace = Workspace.find()
    (entry,) = _chosen(workspace, (location,))
    text = export_contracts(workspace, [entry])[location]
    parse_contract(text, location)
    if out is None:
        click.echo(text, nl=False)
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{location}.json").write_text(text, encoding="utf-8")


@contract.command("check", cls=OneLineCommand)
@click.argument("locations", nargs=-1)
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="DIR", help="Folder with the contracts of what is deployed."
)
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def check(*, locations: tuple[str, ...], against: Path | None, output: str) -> None:
    """Compare what the locations of the workspace expect of each other with what they promise.

    With --against, compare each location also with the deployed contracts of the others, because one location is
    deployed at a time. With LOCATIONS, check only those, which are then deployed. Exit code 0: all hold; 1: findings.
    """
    workspace = Workspace.find()
    if locations and against is None:
        raise UserError(f"{locations[0]}: one location is checked against what is deployed: add --against DIR")
    deployed = read_contracts(against) if against else {}
    contracts, files = contracts_of(workspace, _chosen(workspace, locations))
    compared = check_against(contracts, deployed, whole=not locations) if against else check_together(contracts)
    findings = [*check_files(files), *compared]
    if output == "json":
        click.echo(json.dumps({"findings": [_as_json(finding) for finding in findings]}, indent=2, ensure_ascii=False))
    elif findings:
        click.echo("\n".join(map(str, findings)))
    else:
        names = ", ".join(contract.location for contract in contracts)
        click.echo(f"contracts hold: {names}{f', against {against}' if against else ''}")
    if findings:
        raise click.exceptions.Exit(1)


def _chosen(workspace: Workspace, names: tuple[str, ...]) -> list[Entry]:
    """Return the locations of these names, all where there are none.

    Raises:
        UserError: there is no location of a name.
    """
    entries = loadable(workspace)
    for name in names:
        if name not in entries:
            raise UserError(f"{name}: not in {workspace.root / WORKSPACE}: choose one of {', '.join(entries)}")
    return [entries[name] for name in names or entries]


def _as_json(finding: Finding) -> dict[str, str | None]:
    return {**asdict(finding), "message": str(finding)}

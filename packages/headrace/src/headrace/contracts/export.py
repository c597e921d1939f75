"""The contracts of the code locations of a workspace, as they are now."""

from collections.abc import Mapping, Sequence

from headrace.contracts.contract import Contract, parse_contract
from headrace.locations.describe import describe
from headrace.workspace import Workspace
from headrace.workspace_file import Entry


def export_contracts(workspace: Workspace, entries: Sequence[Entry]) -> Mapping[str, str]:
    """Return the contract of each location as the JSON of `locations/script.py`.

    Raises:
        click.ClickException: a location does not load; the message has the cause of the first one.
    """
    return describe(workspace, entries, "contract")


def contracts_of(workspace: Workspace, entries: Sequence[Entry]) -> Sequence[Contract]:
    """Return the contract of each location.

    Raises:
        click.ClickException: a location does not load.
    """
    return [parse_contract(text, name) for name, text in export_contracts(workspace, entries).items()]

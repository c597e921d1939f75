"""The contracts of the code locations of a workspace, as they are now."""

import json
from collections.abc import Mapping, Sequence

from headrace.contracts.contract import Contract, parse_contract
from headrace.locations.describe import describe
from headrace.locations.duckdb_files import SharedFile, shared_files
from headrace.workspace import Workspace
from headrace.workspace_file import Entry


def export_contracts(workspace: Workspace, entries: Sequence[Entry]) -> Mapping[str, str]:
    """Return the contract of each location as the JSON of `locations/script.py`.

    Raises:
        click.ClickException: a location does not load; the message has the cause of the first one.
    """
    return describe(workspace, entries, "contract")


def contracts_of(workspace: Workspace, entries: Sequence[Entry]) -> tuple[Sequence[Contract], Sequence[SharedFile]]:
    """Return the contract of each location, and the DuckDB files that several of them write.

    Raises:
        click.ClickException: a location does not load.
    """
    checked = {name: json.loads(text) for name, text in describe(workspace, entries, "checked").items()}
    contracts = [parse_contract(json.dumps(content["contract"]), name) for name, content in checked.items()]
    return contracts, shared_files({name: content["duckdb_files"] for name, content in checked.items()})

"""What the webserver of an installation says of the code locations."""

import time
from collections.abc import Mapping

import requests

from headrace.releases.installation import Installation

_QUERY = """
{ workspaceOrError { ... on Workspace { locationEntries {
    name versionKey locationOrLoadError { __typename ... on PythonError { message } }
} } } }
"""
_TIMEOUT_SECONDS = 5
_POLL_SECONDS = 0.25


def served(installation: Installation) -> Mapping[str, str] | None:
    """Return the version of each location that the webserver shows, or its error; None where it does not answer."""
    settings = installation.settings.webserver
    try:
        answer = requests.post(
            f"http://{settings.host}:{settings.port}/graphql", json={"query": _QUERY}, timeout=_TIMEOUT_SECONDS
        )
        entries = answer.json()["data"]["workspaceOrError"]["locationEntries"]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None
    return {
        entry["name"]: entry["versionKey"]
        if (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
        else (entry["locationOrLoadError"] or {}).get("message", "it is loading")
        for entry in entries
    }


def wait_for(installation: Installation, location: str, server_id: str, seconds: float) -> str | None:
    """Wait until the webserver shows a location as one code server has it; return what it shows instead at the end."""
    deadline = time.monotonic() + seconds
    while True:
        shown = served(installation)
        said = "it does not answer" if shown is None else shown.get(location, "it does not know the location")
        if server_id in said:
            return None
        if time.monotonic() > deadline:
            return said
        time.sleep(_POLL_SECONDS)

"""What the webserver of an installation says of the code locations."""

import time
from collections.abc import Mapping

import click
import psutil
import requests

from headrace.installation.graphql import GraphQL
from headrace.installation.installation import Installation

_QUERY = """
{ workspaceOrError { ... on Workspace { locationEntries {
    name versionKey locationOrLoadError { __typename ... on PythonError { message } }
} } } }
"""
_TIMEOUT_SECONDS = 5
_POLL_SECONDS = 0.25


def owner_of(port: int) -> int | None:
    """Return the process that listens on a TCP port of this host: None where nobody does, 0 for one of another user."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return connection.pid or 0
    return None


def served(installation: Installation) -> Mapping[str, str] | None:
    """Return the version of each location that the webserver shows, or its error; None where it does not answer."""
    settings = installation.settings.webserver
    try:
        answer = GraphQL(f"http://{settings.host}:{settings.port}").ask(_QUERY, seconds=_TIMEOUT_SECONDS)
        entries = answer["workspaceOrError"]["locationEntries"]
    except (click.ClickException, requests.RequestException, ValueError, KeyError, TypeError):
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

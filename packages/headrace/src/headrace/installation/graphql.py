"""Dagster's GraphQL API, as a webserver on this machine serves it."""

from collections.abc import Mapping
from typing import Any

import click
import requests


class GraphQL:
    """A webserver that is asked.

    Args:
        url: its address, such as `http://127.0.0.1:3000`.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, query: str, variables: Mapping[str, Any] | None = None, *, seconds: float = 60) -> dict[str, Any]:
        """Return the data of an answer.

        Args:
            query: a query or a mutation.
            variables: its variables.
            seconds: how long an answer may take.

        Raises:
            click.ClickException: the API refuses the query; the message is its first error.
            requests.RequestException: the webserver does not answer.
            ValueError: it answers with no JSON.
        """
        with requests.Session() as session:
            session.trust_env = False  # no proxy is between this and a webserver of the same host
            response = session.post(
                f"{self._url}/graphql", json={"query": query, "variables": variables or {}}, timeout=seconds
            )
        answer: dict[str, Any] = response.json()
        if answer.get("errors"):
            raise click.ClickException(f"Dagster's GraphQL: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data

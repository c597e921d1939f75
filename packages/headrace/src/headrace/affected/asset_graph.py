"""The assets of all code locations as one graph, by their keys, and what is downstream in it."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace.locations.describe import describe
from headrace.workspace import Workspace
from headrace.workspace_file import Entry


@dataclass(frozen=True)
class AssetGraph:
    """Assets.

    Args:
        made: the keys that each location makes.
        children: the keys that read a key.
        by_node: the key of each dbt node.
    """

    made: Mapping[str, Collection[str]]
    children: Mapping[str, Collection[str]]
    by_node: Mapping[str, str]

    @classmethod
    def load(
        cls, workspace: Workspace, entries: Sequence[Entry], environment: Mapping[str, str] | None = None
    ) -> "AssetGraph":
        """Return the graph of these locations, each loaded by its own interpreter.

        Args:
            workspace: where they are.
            entries: the locations.
            environment: variables for them, besides those of this process and the workspace.

        Raises:
            click.ClickException: a location does not load.
        """
        made = {}
        children = defaultdict(set)
        by_node = {}
        for location, text in describe(workspace, entries, "assets", environment).items():
            assets = json.loads(text)["assets"]
            made[location] = {asset["key"] for asset in assets if asset["made"]}
            for asset in assets:
                for parent in asset["parents"]:
                    children[parent].add(asset["key"])
                # A source has the key of what it reads, which another location may make.
                if asset["dbt"] and asset["made"]:
                    by_node[asset["dbt"]] = asset["key"]
        return cls(made, children, by_node)

    def downstream(self, keys: Iterable[str]) -> set[str]:
        """Return these keys and all that are made from them, of whatever location."""
        found: set[str] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting.extend(self.children.get(key, ()))
        return found & {key for keys_of_location in self.made.values() for key in keys_of_location}

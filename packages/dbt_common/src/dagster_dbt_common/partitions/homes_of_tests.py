"""Where a dbt test belongs: the one of its parents that it runs with."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from dagster_dbt.asset_utils import get_upstream_unique_ids

from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def is_asset(props: Mapping[str, Any]) -> bool:
    """Return whether a node holds data or is a view: a model that is not ephemeral, a seed or a snapshot."""
    is_model = props["resource_type"] == "model" and props["config"].get("materialized") != "ephemeral"
    return is_model or props["resource_type"] in ("seed", "snapshot")


def last_parents_of_tests(manifest: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """Return, for each test, the parents that no other parent is built from, the deepest first.

    A test of sources alone has the first node that reads one of them.
    """
    nodes = manifest["nodes"]
    tests = {unique_id: props for unique_id, props in nodes.items() if props["resource_type"] == "test"}
    ancestors = _Ancestors(manifest, {unique_id for unique_id in nodes if unique_id not in tests})
    last = {}
    for test, props in tests.items():
        parents = {parent for parent in get_upstream_unique_ids(manifest, props) if parent in nodes}
        if parents:
            finals = [parent for parent in parents if not any(ancestors.has(other, parent) for other in parents)]
            last[test] = sorted(finals, key=lambda parent: (-ancestors.depths[parent], parent))
            continue
        readers = {
            child
            for source in props["depends_on"]["nodes"]
            for child in manifest["child_map"].get(source, [])
            if child in ancestors.depths and is_asset(nodes[child])
        }
        if readers:
            last[test] = [min(readers, key=lambda reader: (ancestors.depths[reader], reader))]
    return last


def home_of_test(test: Mapping[str, Any], last_parents: Sequence[str], assets: Collection[str]) -> str:
    """Return the parent that a test belongs to: the one that its config names, or the deepest in the graph."""
    wanted = _ref(test).get("name")
    named = [parent for parent in test["depends_on"]["nodes"] if parent in assets and parent.split(".")[2] == wanted]
    return named[0] if named else last_parents[0]


class _Ancestors:
    """Which nodes are built from which; dbt has proved that there is no cycle."""

    def __init__(self, manifest: Mapping[str, Any], ids: set[str]) -> None:
        self._parents = {id_: [p for p in manifest["parent_map"].get(id_, []) if p in ids] for id_ in ids}
        self.depths = self._depths()

    def has(self, node: str, ancestor: str) -> bool:
        """Return whether `node` is built from `ancestor`, looking no higher than it."""
        waiting, seen = [node], {node}
        while waiting:
            for parent in self._parents[waiting.pop()]:
                if parent == ancestor:
                    return True
                if parent not in seen and self.depths[parent] > self.depths[ancestor]:
                    seen.add(parent)
                    waiting.append(parent)
        return False

    def _depths(self) -> Mapping[str, int]:
        """Return the length of the longest path to each node."""
        depths: dict[str, int] = {}
        for unique_id in TopologicalSorter(self._parents).static_order():
            depths[unique_id] = max((depths[parent] + 1 for parent in self._parents[unique_id]), default=0)
        return depths


def _ref(props: Mapping[str, Any]) -> Mapping[str, Any]:
    return dagster_meta(props).get("ref") or {}

"""Which of a project's tables are made from which, through its views."""

from __future__ import annotations

from functools import cached_property
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from dagster_dbt.asset_utils import get_upstream_unique_ids

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence


class Lineage:
    """The assets and sources of a dbt manifest, as Dagster sees them: ephemeral models are looked through.

    A view stores nothing. What is read through it is as new as the tables under it, so these are its reader's `stored`
    upstreams.

    Args:
        manifest: dbt's manifest.
        assets: the unique ids of its models, seeds and snapshots.
    """

    def __init__(self, manifest: Mapping[str, Any], assets: Collection[str]) -> None:
        self._nodes = manifest["nodes"]
        # In the manifest's order, so that what is made from this is the same in each process.
        self._parents = {
            unique_id: sorted(get_upstream_unique_ids(manifest, self._nodes[unique_id]) - {unique_id})
            for unique_id in self._nodes
            if unique_id in assets
        }

    def __contains__(self, unique_id: str) -> bool:
        """Return whether it is an asset of the project."""
        return unique_id in self._parents

    def is_view(self, unique_id: str) -> bool:
        """Return whether it is a view."""
        props = self._nodes.get(unique_id)
        return bool(props) and props["config"].get("materialized") == "view"

    def parents(self, unique_id: str) -> Sequence[str]:
        """Return what an asset reads directly; nothing for a source."""
        return self._parents.get(unique_id, ())

    def views(self, unique_id: str) -> Sequence[str]:
        """Return the views that an asset reads, directly or through other views, the nearest first."""
        return [above for above in self._through_views(unique_id) if self.is_view(above)]

    def stored(self, unique_id: str) -> Sequence[str]:
        """Return the tables and sources that an asset reads, directly or through views, the nearest first."""
        return [above for above in self._through_views(unique_id) if not self.is_view(above)]

    def stored_ancestors(self, unique_id: str) -> Sequence[str]:
        """Return all tables and sources that an asset is made from, the nearest first."""
        found: dict[str, None] = {}
        waiting = list(self.stored(unique_id))
        while waiting:
            current = waiting.pop(0)
            if current not in found:
                found[current] = None
                waiting.extend(self.stored(current))
        return list(found)

    @cached_property
    def order(self) -> Sequence[str]:
        """Return the assets, each after what it is made from."""
        graph = {each: [above for above in parents if above in self] for each, parents in self._parents.items()}
        return list(TopologicalSorter(graph).static_order())

    def _through_views(self, unique_id: str) -> Iterator[str]:
        seen = set()
        waiting = list(self.parents(unique_id))
        while waiting:
            current = waiting.pop(0)
            if current not in seen:
                seen.add(current)
                yield current
                if self.is_view(current):
                    waiting.extend(self.parents(current))

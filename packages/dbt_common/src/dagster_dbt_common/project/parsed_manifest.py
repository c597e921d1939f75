"""A parsed dbt project in memory, and from it the manifest of one invocation: only the nodes that it needs.

dbt's costs grow with the manifest that it is given: it compiles the graph, lists schemas and queues nodes of the whole
project, also when one model of 2,000 is to run. Adapter of dbt's internal manifest (`partial_parse.msgpack`), which
`dbtRunner(manifest=...)` takes; `tests/project/test_parsed_manifest.py` fails if it moves.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dagster_dbt_common.project.collector import long_lived_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbt.contracts.graph.manifest import Manifest

SELECTED_TAG = "dagster_selected"
"""The tag that marks, in one invocation's copy of the manifest, exactly what a Dagster step selected."""

# What only parsing or another command than the step's reads.
_NOT_EXECUTED = (
    "files",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
    "fixtures",
    "disabled",
)


class ParsedManifest:
    """A parsed project, decoded once; its nodes become dbt's objects when an invocation first needs them.

    Args:
        content: dbt's `partial_parse.msgpack`, decoded.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self._parents = {
            unique_id: [parent for parent in node.get("depends_on", {}).get("nodes", []) if parent in content["nodes"]]
            for unique_id, node in content["nodes"].items()
        }
        self._hooks = [uid for uid, node in content["nodes"].items() if node["resource_type"] == "operation"]
        self._nodes: dict[str, Any] = {}

    @staticmethod
    @lru_cache(maxsize=2)
    def read(partial_parse: Path) -> ParsedManifest:
        """Read dbt's partial parse file; its path has the project's content hash, so a path is read once."""
        with long_lived_objects():
            from dbt.parser.manifest import extended_mashumuro_decoder

            content = extended_mashumuro_decoder(partial_parse.read_bytes())
            _move_seeds(content, partial_parse.resolve().parents[3])
            return ParsedManifest(content)

    def for_invocation(self, selected: Collection[str] | None, *, whole: bool = False) -> Manifest:
        """Return a manifest for one invocation, with nodes of its own: dbt writes what it compiled into them.

        Args:
            selected: exactly what is to run, marked by the tag `dagster_selected`: the manifest has these nodes, what
                they refer to, and what stands between them; None gives all of the project.
            whole: keep the other nodes too, for a selection that is more than these.
        """
        from dbt.contracts.graph.nodes import SeedNode

        if selected is None:
            manifest = _hydrated(self._content)
        else:
            manifest = copy.copy(self._frame)
            needed = self._parents.keys() if whole else self._needed(selected)
            manifest.nodes = {}
            for unique_id, node in self._hydrate(needed):
                fresh = copy.copy(node)
                if not isinstance(fresh, SeedNode):
                    fresh.extra_ctes = []
                    # dbt refuses a node whose parent is not there; of what is only referred to, nobody needs it.
                    absent = [parent for parent in self._parents[unique_id] if parent not in needed]
                    if absent:
                        fresh.depends_on = copy.copy(fresh.depends_on)
                        fresh.depends_on.nodes = [id_ for id_ in fresh.depends_on.nodes if id_ not in absent]
                if unique_id in selected:
                    fresh.tags = [*fresh.tags, SELECTED_TAG]
                manifest.nodes[unique_id] = fresh
            manifest.functions = self._with_functions_of(selected)
        manifest.build_parent_and_child_maps()
        manifest.build_group_map()
        manifest.flat_graph = cast("dict[str, Any]", LazyGraph(self._content))
        return manifest

    @cached_property
    def _frame(self) -> Manifest:
        return _hydrated({**self._content, "nodes": {}, **_without(*_NOT_EXECUTED)})

    def _with_functions_of(self, selected: Collection[str]) -> dict[str, Any]:
        """Return the project's functions, of which those that the selected nodes call are made first, as dbt does."""
        functions = self._frame.functions
        waiting = [self._content["nodes"][unique_id] for unique_id in selected if unique_id in self._parents]
        called: set[str] = set()
        while waiting:
            props = waiting.pop()
            for parent in props.get("depends_on", {}).get("nodes", ()):
                if parent in functions and parent not in called:
                    called.add(parent)
                    waiting.append(self._content["functions"][parent])
                elif self._content["nodes"].get(parent, {}).get("config", {}).get("materialized") == "ephemeral":
                    waiting.append(self._content["nodes"][parent])
        found = dict(functions)
        for unique_id in called:
            found[unique_id] = copy.copy(functions[unique_id])
            found[unique_id].tags = [*functions[unique_id].tags, SELECTED_TAG]
        return found

    def _needed(self, selected: Collection[str]) -> set[str]:
        """Return the selected nodes, what stands between two of them, and what those refer to, through ephemerals."""
        chosen = set(selected) & self._parents.keys()
        above: dict[str, bool] = {}
        for unique_id in self._upwards(chosen):
            above[unique_id] = any(parent in chosen or above[parent] for parent in self._parents[unique_id])
        needed = chosen | {unique_id for unique_id, between in above.items() if between}
        needed.update(self._hooks)
        waiting = list(needed)
        while waiting:
            for parent in self._parents[waiting.pop()]:
                if parent not in needed:
                    needed.add(parent)
                    if self._content["nodes"][parent]["config"].get("materialized") == "ephemeral":
                        waiting.append(parent)
        return needed

    def _upwards(self, chosen: Iterable[str]) -> Iterable[str]:
        """Return the nodes and all that they are built from, parents before children."""
        graph: dict[str, Sequence[str]] = {}
        waiting = list(chosen)
        while waiting:
            unique_id = waiting.pop()
            if unique_id not in graph:
                graph[unique_id] = self._parents[unique_id]
                waiting.extend(graph[unique_id])
        return TopologicalSorter(graph).static_order()

    def _hydrate(self, unique_ids: Collection[str]) -> Iterator[tuple[str, Any]]:
        missing = {uid: self._content["nodes"][uid] for uid in unique_ids if uid not in self._nodes}
        if missing:
            rest = _without(*_NOT_EXECUTED, "sources", "macros", "docs")
            self._nodes.update(_hydrated({**self._content, "nodes": missing, **rest}).nodes)
        return ((unique_id, self._nodes[unique_id]) for unique_id in unique_ids)


class LazyGraph(Mapping[str, Any]):
    """dbt's `graph` variable over the whole project, built when a macro first reads it: few do, and it is slow."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    @cached_property
    def _graph(self) -> Mapping[str, Any]:
        manifest = _hydrated(self._content)
        manifest.build_flat_graph()
        return manifest.flat_graph

    def __getitem__(self, name: str) -> Any:
        return self._graph[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._graph)

    def __len__(self) -> int:
        return len(self._graph)


def _move_seeds(content: Mapping[str, Any], project_dir: Path) -> None:
    """Say where the files of seeds are now: dbt wrote the absolute path of the folder in which it parsed.

    Source: https://github.com/dagster-io/dagster/issues/33471.
    """
    project = content["metadata"]["project_name"]
    for node in content["nodes"].values():
        if node["resource_type"] == "seed":
            package = node["package_name"]
            installed = Path(node["root_path"]).parent.name  # `dbt_packages`, or what the project calls it
            node["root_path"] = str(project_dir if package == project else project_dir / installed / package)


def _without(*collections: str) -> dict[str, dict[str, Any]]:
    return {name: {} for name in collections}


def _hydrated(content: Mapping[str, Any]) -> Manifest:
    from dbt.contracts.graph.manifest import Manifest

    return Manifest.from_msgpack(b"", decoder=lambda _: dict(content))

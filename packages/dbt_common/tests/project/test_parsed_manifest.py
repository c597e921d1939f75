"""The manifest of one invocation: exactly what it needs, in the order of the whole project, and nobody else's nodes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from dbt.parser.manifest import extended_mashumuro_decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_dbt_common import prepared_project
from dagster_dbt_common.project.parsed_manifest import SELECTED_TAG, ParsedManifest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import dagster as dg
    from dbt.contracts.graph.manifest import Manifest

pytestmark = pytest.mark.slow

Content = dict[str, Any]
Graph = dict[str, tuple[str, list[str]]]
"""The kind and the parents of each node."""

TEMPLATES = {
    "table": "model.minimal.totals",
    "ephemeral": "model.minimal.events_in_window",
    "seed": "seed.minimal.store_names",
    "test": "test.minimal.totals_agree",
}
HOOK = "operation.minimal.hook"


@pytest.fixture(scope="module")
def partial_parse(minimal_root: Path, minimal_definitions: dg.Definitions) -> Path:
    assert minimal_definitions.assets
    return prepared_project(minimal_root / "project").manifest_path.with_name("partial_parse.msgpack")


class Parsed:
    """What dbt wrote, without the macros: they take long to decode, and none of them is run here.

    Not a dictionary, of which hypothesis would print each byte.
    """

    def __init__(self, partial_parse: Path) -> None:
        self.content: Content = {**extended_mashumuro_decoder(partial_parse.read_bytes()), "macros": {}}


@pytest.fixture(scope="module")
def parsed(partial_parse: Path) -> Parsed:
    return Parsed(partial_parse)


@st.composite
def selections(draw: st.DrawFn) -> tuple[Graph, frozenset[str]]:
    """Draw up to twelve nodes, each built from some that were drawn before, and some of them to run."""
    graph: Graph = {}
    selected = set()
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["table", "table", "ephemeral", "seed", "test"]))
        known = [unique_id for unique_id in graph if not unique_id.startswith("test.")]
        if kind == "seed" or not known:
            parents = []
        else:
            # Of the newest: what stands between two nodes shows in chains only.
            parents = draw(st.lists(st.sampled_from(known[-3:]), min_size=1, max_size=2, unique=True))
        unique_id = f"{TEMPLATES[kind].split('.')[0]}.minimal.n{number}"
        graph[unique_id] = (kind, parents)
        if draw(st.booleans()):
            selected.add(unique_id)
    return graph, frozenset(selected)


def project_of(parsed: Content, graph: Graph) -> Content:
    """Return what dbt would have written for a project of this graph and one hook."""
    nodes = {}
    for unique_id, (kind, parents) in graph.items():
        node = copy.deepcopy(parsed["nodes"][TEMPLATES[kind]])
        name = unique_id.rpartition(".")[2]
        node.update(unique_id=unique_id, name=name, alias=name, fqn=["minimal", name])
        if kind != "seed":
            node["depends_on"] = {"macros": [], "nodes": ["source.minimal.raw.events", *parents]}
        nodes[unique_id] = node
    hook = copy.deepcopy(parsed["nodes"][TEMPLATES["table"]])
    hook.update(unique_id=HOOK, name="hook", alias="hook", fqn=["minimal", "hook"], resource_type="operation")
    hook["depends_on"] = {"macros": [], "nodes": []}
    return {**parsed, "nodes": {**nodes, HOOK: hook}}


def ancestors(graph: Graph, unique_id: str) -> set[str]:
    return {above for parent in graph[unique_id][1] for above in {parent, *ancestors(graph, parent)}}


def needed(graph: Graph, selected: Collection[str]) -> set[str]:
    """Return what the invocation needs, said slowly: what runs or stands between, and what that refers to."""
    above = {unique_id: ancestors(graph, unique_id) for unique_id in graph}
    between = {
        unique_id
        for unique_id in graph
        if above[unique_id] & set(selected) and any(unique_id in above[one] for one in selected)
    }
    found = {*selected, *between}
    while (
        more := {
            parent
            for unique_id in found
            if unique_id in {*selected, *between} or graph[unique_id][0] == "ephemeral"
            for parent in graph[unique_id][1]
        }
        - found
    ):
        found |= more
    return found


def reaches(manifest: Manifest, start: str, end: str) -> bool:
    """Return whether dbt, by this manifest, waits for `start` before it runs `end`."""
    return any(parent == start or reaches(manifest, start, parent) for parent in manifest.parent_map.get(end, []))


@settings(max_examples=200)
@given(selections())
@pytest.mark.slow
def test_an_invocation_has_what_it_needs_and_no_more(parsed: Parsed, selection: tuple[Graph, frozenset[str]]) -> None:
    graph, selected = selection
    project = ParsedManifest(project_of(parsed.content, graph))
    manifest = project.for_invocation(selected)

    assert manifest.nodes.keys() == needed(graph, selected) | {HOOK}
    assert {unique_id for unique_id, node in manifest.nodes.items() if SELECTED_TAG in node.tags} == selected
    for unique_id in selected:
        assert set(graph[unique_id][1]) <= set(manifest.parent_map[unique_id]), "dbt compiles every ref of it"
        assert manifest.nodes[unique_id].depends_on_nodes[1:] == graph[unique_id][1]
    for unique_id, node in manifest.nodes.items():
        kept = {parent for parent in node.depends_on_nodes if not parent.startswith("source.")}
        assert kept <= manifest.nodes.keys(), f"dbt refuses {unique_id}"
    for end in selected:
        for start in ancestors(graph, end) & selected:
            assert reaches(manifest, start, end), f"{end} may run before {start}"


@settings(max_examples=15)
@given(selections())
def test_the_whole_project_is_there_for_who_asks(parsed: Parsed, selection: tuple[Graph, frozenset[str]]) -> None:
    graph, selected = selection
    project = ParsedManifest(project_of(parsed.content, graph))
    everything = {*graph, HOOK}
    assert set(project.for_invocation(selected).flat_graph["nodes"]) == everything, "macros read `graph`"
    whole = project.for_invocation(selected, whole=True)
    assert whole.nodes.keys() == everything
    assert {unique_id for unique_id, node in whole.nodes.items() if SELECTED_TAG in node.tags} == selected
    plain = project.for_invocation(None)
    assert plain.nodes.keys() == everything
    assert not [node for node in plain.nodes.values() if SELECTED_TAG in node.tags]


def test_an_invocation_does_not_see_what_dbt_wrote_into_the_nodes_of_another(partial_parse: Path) -> None:
    project = ParsedManifest.read(partial_parse)
    chosen = "model.minimal.events_daily"

    def compiled() -> Mapping[str, Any]:
        node: Any = project.for_invocation({chosen}).nodes[chosen]
        before = {"tags": list(node.tags), "ctes": list(node.extra_ctes), "compiled": node.compiled}
        node.extra_ctes.append("the SQL of an ephemeral model")
        node.tags.append("new")
        node.compiled = True
        return before

    assert compiled() == compiled() == {"tags": [SELECTED_TAG], "ctes": [], "compiled": False}


def test_the_real_project_keeps_its_ephemeral_model_and_its_macros(partial_parse: Path) -> None:
    project = ParsedManifest.read(partial_parse)
    manifest = project.for_invocation({"model.minimal.events_daily"})
    assert manifest.nodes.keys() == {
        "model.minimal.events_daily",
        "model.minimal.events_in_window",
        "model.minimal.stg_events",
    }
    assert "macro.minimal.in_window" in manifest.macros
    assert manifest.sources.keys() == {"source.minimal.raw.events", "source.minimal.raw.delays"}
    assert len(manifest.flat_graph["nodes"]) > len(manifest.nodes)
    assert ParsedManifest.read(partial_parse) is project, "a path has its content's hash: it is read once"

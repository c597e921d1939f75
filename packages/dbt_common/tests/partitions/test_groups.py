"""The split of a manifest into partition groups, for manifests of every shape that dbt makes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_dbt_common import DbtConfigError, PartitionPlan, plan_partitions
from dagster_dbt_common.partitions.groups import LAST_PARENTS_KEY

Node = dict[str, Any]
Manifest = dict[str, Any]

DAY = {"grain": "day", "start": "2024-01-01"}
PARTITIONS: Sequence[Node] = (
    DAY,
    {**DAY, "lookback": 3},
    {**DAY, "start": "2024-02-01"},
    {**DAY, "timezone": "Europe/Berlin"},
    {**DAY, "end_offset": 1},
    {**DAY, "grain": "hour"},
    {**DAY, "grain": "month"},
    {**DAY, "grain": "0 6 * * *"},
)
UNPARTITIONED = ("view", "table", "ephemeral", "seed", "snapshot")


def node(kind: str, name: str, parents: Sequence[str], **config: Any) -> Node:
    return {
        "unique_id": f"{kind}.shop.{name}",
        "resource_type": kind,
        "name": name,
        "package_name": "shop",
        "original_file_path": f"models/{name}.sql",
        "raw_code": "where {{ in_window('at') }}",
        "fqn": ["shop", name],
        "depends_on": {"nodes": list(parents), "macros": ["macro.shop.in_window"]},
        "config": {"enabled": True, "meta": {}, **config},
        "tags": [],
    }


def asset(name: str, kind: str | Node, parents: Sequence[str]) -> Node:
    """Return a node; a mapping is the partitions of an incremental model."""
    if not isinstance(kind, str):
        return node(
            "model",
            name,
            parents,
            materialized="incremental",
            incremental_strategy="delete_window+insert",
            meta={"dagster": {"partitions": kind}},
        )
    if kind in ("seed", "snapshot"):
        return node(kind, name, [] if kind == "seed" else parents, materialized=kind)
    return node("model", name, parents, materialized=kind)


def manifest_of(sources: Sequence[Node], nodes: Sequence[Node]) -> Manifest:
    everything = [*sources, *nodes]
    parent_map = {one["unique_id"]: list(one.get("depends_on", {}).get("nodes", [])) for one in everything}
    child_map: dict[str, list[str]] = {unique_id: [] for unique_id in parent_map}
    for unique_id, parents in parent_map.items():
        for parent in parents:
            child_map[parent].append(unique_id)
    return {
        "metadata": {"adapter_type": "duckdb"},
        "macros": {"macro.shop.ours": {"name": "get_incremental_delete_window_insert_sql", "package_name": "shop"}},
        "nodes": {one["unique_id"]: one for one in nodes},
        "sources": {one["unique_id"]: one for one in sources},
        "parent_map": parent_map,
        "child_map": child_map,
        **{key: {} for key in ("metrics", "exposures", "semantic_models", "saved_queries", "functions", "unit_tests")},
    }


SOURCES: Sequence[Node] = [
    {"unique_id": f"source.shop.raw.{name}", "resource_type": "source", "name": name, "config": {}, "meta": {}}
    for name in ("orders", "items")
]


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw up to nine models in a line of dependency, and tests of one to three of them or of sources."""
    known = [str(source["unique_id"]) for source in SOURCES]
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 9))):
        kind = draw(st.one_of(st.sampled_from(UNPARTITIONED), st.sampled_from(PARTITIONS)))
        parents = draw(st.lists(st.sampled_from(known), max_size=3, unique=True))
        nodes.append(asset(f"n{number}", kind, parents))
        known.append(nodes[-1]["unique_id"])
    for number in range(draw(st.integers(0, 6))):
        parents = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        nodes.append(node("test", f"t{number}", parents))
    return manifest_of(SOURCES, nodes)


def is_asset(one: Node) -> bool:
    return bool(one["resource_type"] != "test" and one["config"]["materialized"] != "ephemeral")


def ancestors(manifest: Manifest, unique_id: str) -> set[str]:
    found: set[str] = set()
    waiting = [unique_id]
    while waiting:
        for parent in manifest["parent_map"][waiting.pop()]:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def asset_parents(manifest: Manifest, unique_id: str) -> set[str]:
    """Return the assets that a node reads, looking through ephemeral models."""
    found: set[str] = set()
    for parent in manifest["parent_map"][unique_id]:
        one = manifest["nodes"].get(parent)
        if one is not None:
            found |= {parent} if is_asset(one) else asset_parents(manifest, parent)
    return found


def home(plan: PartitionPlan, manifest: Manifest, test: str) -> str:
    """Return the asset that a test's check is on, as dagster-dbt is told."""
    ref = plan.manifest["nodes"][test]["config"]["meta"]["dagster"].get("ref")
    if ref:
        return next(str(one) for one in manifest["nodes"] if one.split(".")[2] == ref["name"])
    return next(iter(asset_parents(manifest, test)))


def group_of(plan: PartitionPlan) -> Mapping[str, str]:
    return {member: group.name for group in plan.groups for member in (*group.assets, *group.tests)}


@settings(max_examples=150)
@given(manifests())
def test_groups_are_disjoint_and_complete(manifest: Manifest) -> None:
    plan = plan_partitions(manifest)
    members = [member for group in plan.groups for member in (*group.assets, *group.tests)]
    assert len(members) == len(set(members))
    nodes = manifest["nodes"]
    assert {member for group in plan.groups for member in group.assets} == {
        unique_id for unique_id, one in nodes.items() if is_asset(one)
    }
    tests = {member for group in plan.groups for member in group.tests}
    homeless = {unique_id for unique_id, one in nodes.items() if one["resource_type"] == "test"} - tests
    for test in homeless:
        assert not asset_parents(manifest, test), "only a test of sources that nothing reads has no group"


@settings(max_examples=150)
@given(manifests())
def test_a_group_has_one_partitions_definition_and_a_name_of_its_own(manifest: Manifest) -> None:
    plan = plan_partitions(manifest)
    names = [group.name for group in plan.groups]
    assert len(names) == len(set(names))
    assert all(f"dbt_{name}".isidentifier() for name in names)
    definitions = [group.partitions_def for group in plan.groups]
    assert len(definitions) == len(set(definitions))
    for group in plan.groups:
        assert {plan.configs[one].definition() if one in plan.configs else None for one in group.assets} <= {
            group.partitions_def
        }


@settings(max_examples=150)
@given(manifests())
def test_no_parent_of_a_test_is_built_after_its_home(manifest: Manifest) -> None:
    plan = plan_partitions(manifest)
    for group in plan.groups:
        for test in group.tests:
            parents = asset_parents(manifest, test)
            if not parents or (len(parents) > 1 and len(manifest["parent_map"][test]) == 1):
                continue  # of sources alone, or of one ephemeral model: below
            place = home(plan, manifest, test)
            assert place in group.assets
            assert all(place not in ancestors(manifest, parent) for parent in parents)
            dagster = plan.manifest["nodes"][test]["config"]["meta"]["dagster"]
            last = dagster.get(LAST_PARENTS_KEY, [place])
            # Those built last are in no order; whatever was not named is made before one of them.
            assert not any(one in ancestors(manifest, other) for one in last for other in last)
            assert all(any(parent in ancestors(manifest, one) for one in last) for parent in parents - set(last))


@settings(max_examples=30)
@given(manifests())
def test_planning_leaves_the_manifest_as_it_was(manifest: Manifest) -> None:
    before = {unique_id: repr(one) for unique_id, one in manifest["nodes"].items()}
    plan_partitions(manifest)
    assert {unique_id: repr(one) for unique_id, one in manifest["nodes"].items()} == before


def test_lookback_is_no_other_group_and_a_start_is() -> None:
    kinds: Sequence[Node] = (DAY, {**DAY, "lookback": 3}, {**DAY, "start": "2024-02-01"}, {**DAY, "grain": "hour"})
    plan = plan_partitions(manifest_of([], [asset(f"n{number}", kind, []) for number, kind in enumerate(kinds)]))
    assert group_of(plan) == {
        "model.shop.n0": "daily_20240101T0000",
        "model.shop.n1": "daily_20240101T0000",
        "model.shop.n2": "daily_20240201T0000",
        "model.shop.n3": "hourly",
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"grain": "0 6,18 * * *"}, {"grain": "0 6-18 * * *"}),
        ({"timezone": "Etc/GMT+5"}, {"timezone": "Etc/GMT-5"}),
    ],
)
def test_names_of_groups_that_differ_in_punctuation_only_differ(one: Node, other: Node) -> None:
    nodes = [
        asset("a", {**DAY, **one}, []),
        asset("b", {**DAY, **other}, []),
        asset("c", {**DAY, "start": "2023-01-01"}, []),
    ]
    plan = plan_partitions(manifest_of([], nodes))
    assert len({group.name for group in plan.groups}) == len(plan.groups) == 3


def test_a_test_named_for_an_ephemeral_model_runs_with_what_that_is_made_of() -> None:
    nodes = [asset("orders", "table", []), asset("recent", "ephemeral", ["model.shop.orders"])]
    test = node("test", "t", ["model.shop.recent", "model.shop.orders"], meta={"dagster": {"ref": {"name": "recent"}}})
    plan = plan_partitions(manifest_of([], [*nodes, test]))
    assert plan.groups[0].tests == {"test.shop.t"}


def test_a_test_of_an_ephemeral_model_is_a_check_of_what_that_is_made_of() -> None:
    nodes = [
        asset("orders", "table", []),
        asset("items", "table", []),
        asset("both", "ephemeral", ["model.shop.orders", "model.shop.items"]),
        node("test", "t", ["model.shop.both"]),
    ]
    plan = plan_partitions(manifest_of([], nodes))
    ref = plan.manifest["nodes"]["test.shop.t"]["config"]["meta"]["dagster"]["ref"]
    assert "test.shop.t" in plan.manifest["child_map"][f"model.shop.{ref['name']}"]


def test_of_parents_in_no_order_the_deepest_is_the_home() -> None:
    nodes = [asset("names", "seed", []), asset("raw", "view", []), asset("orders", DAY, ["model.shop.raw"])]
    test = node("test", "t", ["seed.shop.names", "model.shop.orders"])
    plan = plan_partitions(manifest_of([], [*nodes, test]))
    assert group_of(plan)["test.shop.t"] == "daily"


def test_a_test_of_its_own_choice_stays_there() -> None:
    nodes = [asset("orders", "table", []), asset("customers", "table", ["model.shop.orders"])]
    refs = ["model.shop.orders", "model.shop.customers"]
    test = node("test", "t", refs, meta={"dagster": {"ref": {"name": "orders"}}})
    plan = plan_partitions(manifest_of([], [*nodes, test]))
    assert plan.manifest["nodes"]["test.shop.t"]["config"]["meta"]["dagster"]["ref"]["name"] == "orders"


def test_an_upstream_choice_that_is_none_is_refused_with_file_and_key() -> None:
    wrong = asset("totals", "table", ["model.shop.orders"])
    wrong["config"]["meta"] = {"dagster": {"partitioned_upstreams": "some"}}
    with pytest.raises(DbtConfigError, match=r"^models/totals.sql: totals: config meta.dagster.partitioned_upstreams"):
        plan_partitions(manifest_of([], [asset("orders", DAY, []), wrong]))

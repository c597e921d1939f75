"""A foreign project as Dagster has it: every node once, in groups by its own config, with the graph that dbt has."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg
import pytest

if TYPE_CHECKING:
    from conftest import Wholesale

# Loads the project by a real parse.
pytestmark = pytest.mark.slow

GROUPS = {
    "dbt_wholesale",
    "dbt_wholesale_daily_20240301T0000",
    "dbt_wholesale_daily_20240301T0000_Europe_Berlin",
    "dbt_wholesale_hourly",
    "dbt_wholesale_monthly",
    "dbt_wholesale_weekly",
}


def test_the_project_is_as_varied_as_it_says(wholesale: Wholesale) -> None:
    """What the tests below prove would be worth less, if somebody trimmed the project."""
    models = wholesale.nodes("model")
    materializations = Counter(node["config"]["materialized"] for node in models.values())
    assert len(models) >= 30
    assert materializations["ephemeral"] >= 2
    assert len(wholesale.nodes("seed")) == 3
    assert len(wholesale.nodes("snapshot")) == 2
    assert len(wholesale.manifest["exposures"]) == 2
    assert len(wholesale.manifest["groups"]) == 3
    assert len(wholesale.manifest["disabled"]) == 1


def test_every_model_seed_snapshot_and_test_lands_once(wholesale: Wholesale) -> None:
    assets = Counter(spec.metadata["dagster_dbt/unique_id"] for group in wholesale.groups for spec in group.specs)
    assert assets == Counter(dict.fromkeys(wholesale.asset_nodes(), 1))
    checks = Counter(
        (spec.metadata or {})["dagster_dbt/unique_id"] for group in wholesale.groups for spec in group.check_specs
    )
    assert checks == Counter(dict.fromkeys(wholesale.nodes("test"), 1))


def test_groups_are_named_by_grain_and_have_a_full_refresh_each(wholesale: Wholesale) -> None:
    names = {group.op.name for group in wholesale.groups}
    (cron,) = names - GROUPS
    assert names >= GROUPS
    assert cron.startswith("dbt_wholesale_cron_0_x_6_x_x_x_20240301T0000")
    jobs = {job.name for job in wholesale.definitions.jobs or ()}
    of_all = {"dbt_wholesale__all_rows", "dbt_wholesale__stored_rows"}
    assert jobs == {*of_all, *(f"{name}__full_refresh" for name in names)}
    sizes = {group.op.name: len(list(group.keys)) for group in wholesale.groups}
    assert sizes["dbt_wholesale_daily_20240301T0000_Europe_Berlin"] == 2
    assert sizes["dbt_wholesale_hourly"] == 2, "a microbatch model and another share the definition"


def test_specs_have_owners_groups_tags_and_code_versions(wholesale: Wholesale) -> None:
    for unique_id, spec in wholesale.specs().items():
        node = wholesale.manifest["nodes"][unique_id]
        group = node["config"].get("group")
        owner = wholesale.manifest["groups"][f"group.wholesale.{group}"]["owner"]["email"] if group else None
        assert list(spec.owners) == ([owner] if owner else [])
        assert (spec.group_name or "default") == (group or "default")
        assert set(node["tags"]) <= set(spec.tags)
        assert spec.code_version
    assert {spec.key.to_user_string() for spec in wholesale.specs().values()} >= {
        "dim_products_v1",
        "dim_products_v2",
        "history/customer_terms",
        "daily_sales",
        "order_book",
    }


def test_the_asset_graph_is_that_of_dbt_and_has_no_cycle(wholesale: Wholesale) -> None:
    graph = wholesale.definitions.resolve_asset_graph()
    specs = wholesale.specs()
    sources = {
        unique_id: dg.AssetKey([source["source_name"], source["name"]])
        for unique_id, source in wholesale.manifest["sources"].items()
    }
    keys = {**sources, **{unique_id: spec.key for unique_id, spec in specs.items()}}
    for unique_id in wholesale.asset_nodes():
        reads = {keys[parent] for parent in wholesale.parents_of(unique_id)}
        assert graph.get(keys[unique_id]).parent_keys == reads, unique_id

    waiting = {key: set(graph.get(key).parent_keys) for key in graph.get_all_asset_keys()}
    while ready := {key for key, parents in waiting.items() if not parents}:
        waiting = {key: parents - ready for key, parents in waiting.items() if key not in ready}
    assert not waiting

"""What changed between two manifests that dbt's `state:modified` leaves out, on manifests of a few nodes."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from headrace.affected.dbt_changes import is_configured_otherwise
from headrace.affected.dbt_sources import sources_declared_otherwise
from headrace.affected.dbt_state import all_nodes, bears_on_every_node, missed, with_children

STAGING, MART, VIEW, SEED = "model.p.staging", "model.p.mart", "model.p.view", "seed.p.names"
SOURCE, EXPOSURE, TEST, SNAPSHOT = "source.p.raw.orders", "exposure.p.report", "test.p.unique_mart", "snapshot.p.prices"
EVERY = {STAGING, MART, VIEW, SEED, SOURCE, EXPOSURE, TEST, SNAPSHOT}


def node(kind: str, *reads: str, macros: tuple[str, ...] = (), file: str = "", **config: Any) -> dict[str, Any]:
    return {
        "resource_type": kind,
        "original_file_path": file,
        "depends_on": {"nodes": [*reads], "macros": [*macros]},
        "config": config,
    }


def macro(text: str, *calls: str) -> Mapping[str, Any]:
    return {"macro_sql": text, "depends_on": {"macros": [*calls]}}


def manifest() -> dict[str, Any]:
    """Return a manifest: an orders source, a view on it, an incremental mart with a strategy of the project's own."""
    macros = {
        "macro.p.cents": macro("cents", "macro.p.rounded"),
        "macro.p.rounded": macro("rounded"),
        "macro.p.get_incremental_delete_window_insert_sql": macro("delete", "macro.p.in_window"),
        "macro.p.in_window": macro("in_window"),
        "macro.dbt.materialization_incremental_default": macro("incremental", "macro.dbt.create_table_as"),
        "macro.dbt.create_table_as": macro("create"),
        "macro.dbt.snapshot_check_strategy": macro("check"),
        "macro.dbt.generate_schema_name": macro("schema"),
        "macro.p.default__by_hand": macro("by hand"),
        "macro.p.unused": macro("unused_in() unused"),
        "macro.p.unused_out": macro("unused", "macro.p.unused"),
        "macro.p.under_a_condition": macro("{% if execute %}{{ inner() }}{% endif %}"),
        "macro.p.inner": macro("inner"),
        "macro.p.in_a_hook": macro("in a hook"),
        "macro.p.duckdb__create_schema": macro("create schema"),
        "macro.dbt.create_schema": macro("{{ adapter.dispatch('create_schema', 'dbt')() }}"),
        "macro.p.test_unique": macro("unique"),
    }
    nodes = {
        STAGING: node("model", SOURCE, macros=("macro.p.cents",), materialized="ephemeral"),
        MART: node("model", STAGING, materialized="incremental", incremental_strategy="delete_window+insert"),
        VIEW: node("model", SEED, materialized="view"),
        SEED: node("seed", file="seeds/names.csv", materialized="seed"),
        TEST: node("test", MART, macros=("macro.p.test_unique",), materialized="test"),
        SNAPSHOT: node("snapshot", SOURCE, materialized="snapshot", strategy="check"),
    }
    nodes[SNAPSHOT]["raw_code"] = "{% if is_incremental() %}{{ under_a_condition() }}{% endif %}"
    nodes[MART]["unrendered_config"] = {"post-hook": "{% if execute %}{{ in_a_hook() }}{% endif %}"}
    return {
        "metadata": {"adapter_type": "duckdb"},
        "macros": {key: {"name": key.rpartition(".")[2], **value} for key, value in macros.items()},
        "nodes": nodes,
        "exposures": {EXPOSURE: node("exposure", MART)},
        "unit_tests": {},
        "sources": {SOURCE: {}},
        "child_map": {
            SOURCE: [STAGING, SNAPSHOT],
            STAGING: [MART],
            MART: [TEST, EXPOSURE],
            SEED: [VIEW],
            **{key: [] for key in (VIEW, TEST, EXPOSURE, SNAPSHOT)},
        },
    }


def test_equal_manifests_differ_in_nothing() -> None:
    assert missed(manifest(), manifest(), {"models/raw.yml", "models/mart.sql"}) == set()
    assert all_nodes(manifest()) == EVERY
    assert with_children([SOURCE], manifest()) == EVERY - {SEED, VIEW}
    assert with_children([VIEW], manifest()) == {VIEW}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p.cents", {STAGING}),
        ("p.rounded", {STAGING}),
        ("p.get_incremental_delete_window_insert_sql", {MART}),
        ("p.in_window", {MART}),
        ("dbt.materialization_incremental_default", {MART}),
        ("dbt.create_table_as", {MART}),
        ("dbt.snapshot_check_strategy", {SNAPSHOT}),
        ("p.test_unique", {TEST}),
        ("dbt.generate_schema_name", {MART, STAGING, VIEW, SEED, TEST, SNAPSHOT}),
        ("p.default__by_hand", set()),
        ("p.under_a_condition", {SNAPSHOT}),
        ("p.inner", {SNAPSHOT}),
        ("p.in_a_hook", {MART}),
        ("p.duckdb__create_schema", EVERY),
        ("p.unused", set()),
        ("p.unused_out", set()),
    ],
)
def test_a_macro_that_changed_came_or_went(name: str, expected: set[str]) -> None:
    before, after = manifest(), manifest()
    after["macros"][f"macro.{name}"]["macro_sql"] += " otherwise"
    assert missed(before, after, set()) == expected
    del after["macros"][f"macro.{name}"]
    assert missed(before, after, set()) == expected
    assert missed(after, before, set()) == expected


@pytest.mark.parametrize("call", ["context['by_' ~ name]()", "context.get(name)()", "adapter.dispatch(name)()"])
def test_who_calls_by_a_name_that_is_put_together_is_not_to_be_told(call: str) -> None:
    before = manifest()
    before["nodes"][VIEW]["raw_code"] = f"{{{{ {call} }}}}"
    after = deepcopy(before)
    after["macros"]["macro.p.default__by_hand"]["macro_sql"] += " otherwise"
    assert missed(before, after, set()) == EVERY
    after["macros"]["macro.p.default__by_hand"] = before["macros"]["macro.p.default__by_hand"]
    after["macros"]["macro.p.cents"]["macro_sql"] += " otherwise"
    assert missed(before, after, set()) == {STAGING}


def test_a_seed_whose_file_changed() -> None:
    assert missed(manifest(), manifest(), {"seeds/names.csv"}) == {SEED}


RAW = """
sources:
  - name: raw
    description: "{{ doc('raw') }}"
    config: {meta: {external_location: "{{ env_var('LAKE') }}/$name"}}
    tables:
      - name: orders
        description: Orders.
        columns:
          - {name: id, data_type: varchar, description: words, data_tests: [unique]}
          - {name: paid, data_type: bigint}
      - name: stores
        columns: [{name: id}]
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Orders.", "All orders.", set()),
        ("description: words", "description: others", set()),
        ("[unique]", "[unique, not_null]", set()),
        ("data_type: varchar", "data_type: text", {"orders"}),
        ("{name: paid, data_type: bigint}", "{name: amount, data_type: bigint}", {"orders"}),
        ("'LAKE'", "'POND'", {"orders", "stores"}),
        ("name: stores", "name: shops", {"shops"}),
        ("tables:", "loader: a tool\n    tables:", {"orders", "stores"}),
    ],
)
def test_a_source_is_compared_as_it_is_declared(old: str, new: str, expected: set[str]) -> None:
    assert old in RAW
    changed = sources_declared_otherwise([RAW, "models: []\n"], [RAW.replace(old, new, 1)], "p")
    assert changed == {f"source.p.raw.{table}" for table in expected}


def test_sources_that_come_back_or_can_not_be_read() -> None:
    others = [
        f"sources: {what}\n" for what in ("", "[", "3", "[3]", "[{tables: 3}]", "[{tables: [orders]}]", "2024-99-99")
    ]
    for before in ([], ["[]"], others):
        assert sources_declared_otherwise(before, [RAW], "p") == {SOURCE, "source.p.raw.stores"}
    assert sources_declared_otherwise([RAW], ["sources: ["], "p") == set()  # and dbt does not parse


def test_a_reference_that_leads_elsewhere() -> None:
    after = manifest()
    after["nodes"][VIEW]["depends_on"]["nodes"] = [STAGING]
    assert missed(manifest(), after, set()) == {VIEW}
    after = manifest()
    after["nodes"]["model.p.new"] = deepcopy(after["nodes"][VIEW])
    assert missed(manifest(), after, set()) == set()  # dbt says that it is new


def test_what_of_a_project_file_bears_on_every_node() -> None:
    assert not bears_on_every_node({"version": 1, "models": {"a": 1}}, {"version": 2, "models": {}, "seeds": {}})
    assert bears_on_every_node({"sources": {"p": {"+enabled": True}}}, {})
    assert bears_on_every_node({}, {"vars": {"currency": "EUR"}})
    assert bears_on_every_node({"dispatch": []}, {})
    assert not is_configured_otherwise("name: a\n", "name: a\n# words\n")
    assert is_configured_otherwise(None, "name: a\n")
    assert is_configured_otherwise("name: a\n", "name: [\n")

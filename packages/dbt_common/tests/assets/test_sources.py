"""A dbt project's sources as external assets, alone and in a workspace with the location that makes them."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dagster_dbt_common import DbtConfigError, dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.slow

FILES = {
    "dbt_project.yml": """
        name: wells
        config-version: 2
        profile: wells
        macro-paths: ["{{ env_var('DAGSTER_DBT_COMMON_MACROS', '') }}"]
        models: {wells: {+materialized: table}}
    """,
    "profiles.yml": "wells: {target: duckdb, outputs: {duckdb: {type: duckdb, path: ':memory:'}}}",
    "models/sources.yml": """
        sources:
          - name: other
            loader: a robot
            tables: [{name: levels}, {name: tested, columns: [{name: id, data_tests: [unique]}]}]
          - name: raw
            config:
              freshness: {warn_after: {count: 6, period: hour}, filter: "at > '2024-01-01'"}
              loaded_at_field: at
            tables:
              - name: levels
                description: Grain, one row a well and hour.
                config: {meta: {dagster: {partitions: {grain: day, start: '2024-01-15', timezone: Europe/Oslo}}}}
                columns:
                  - {name: well, data_type: varchar, data_tests: [not_null]}
                  - {name: level}
              - name: unread
              - {name: made_here, config: {meta: {dagster: {external: false}}}}
    """,
    "models/levels.sql": "select * from {{ source('raw', 'levels') }}",
    "models/both.sql": "select * from {{ source('raw', 'made_here') }}",
}


def load(root: Path, **changed: str) -> dg.Definitions:
    (root / "models").mkdir()
    for name, text in {**FILES, **changed}.items():
        (root / name).write_text(dedent(text))
    return dbt_definitions(root)


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return load(tmp_path_factory.mktemp("wells"))


def external(definitions: dg.Definitions) -> Mapping[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.assets or () if isinstance(spec, dg.AssetSpec)}


def test_the_sources_that_somebody_reads(definitions: dg.Definitions) -> None:
    assert external(definitions).keys() == {"raw/levels", "other/tested"}
    graph = definitions.resolve_asset_graph()
    stubs = {
        key for key in graph.get_all_asset_keys() if graph.get(key).metadata.get("dagster/auto_created_stub_asset")
    }
    assert stubs == {dg.AssetKey(["raw", "made_here"])}
    assert not any(graph.get(dg.AssetKey(["raw", name])).is_executable for name in ("levels", "made_here"))


def test_what_a_source_expects_is_told_in_dagsters_words(definitions: dg.Definitions) -> None:
    spec = external(definitions)["raw/levels"]
    assert spec.description is not None
    assert spec.description.startswith("Grain, one row a well and hour.")
    assert spec.partitions_def == dg.DailyPartitionsDefinition("2024-01-15", timezone="Europe/Oslo")
    schema = spec.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == [("well", "varchar"), ("level", "?")]
    assert spec.metadata["dbt/freshness"] == {
        "warn_after": {"count": 6, "period": "hour"},
        "filter": "at > '2024-01-01'",
    }
    assert spec.metadata["dbt/loaded_at_field"] == "at"
    assert "loader" not in spec.metadata
    assert external(definitions)["other/tested"].metadata["loader"] == "a robot"
    assert not [key for key in spec.metadata if key.startswith("dagster_dbt/")]


def test_the_place_is_the_tables_own_line(definitions: dg.Definitions) -> None:
    value = external(definitions)["raw/levels"].metadata["dagster/code_references"]
    assert isinstance(value, dg.CodeReferencesMetadataValue)
    (reference,) = value.code_references
    assert isinstance(reference, dg.LocalFileCodeReference)
    lines = dedent(FILES["models/sources.yml"]).splitlines()
    assert reference.file_path.endswith("/models/sources.yml")
    assert reference.line_number is not None
    assert lines[reference.line_number - 1].strip() == "- name: levels"
    assert lines[reference.line_number].strip() == "description: Grain, one row a well and hour."


def test_a_location_may_make_a_source_itself(definitions: dg.Definitions) -> None:
    @dg.asset(key=["raw", "made_here"])
    def made_here() -> None: ...

    whole = dg.Definitions.merge(definitions, dg.Definitions(assets=[made_here]))
    dg.Definitions.validate_loadable(whole)
    assert whole.resolve_asset_graph().get(dg.AssetKey(["raw", "made_here"])).is_materializable


def test_external_is_true_or_false(tmp_path: Path) -> None:
    wrong = FILES["models/sources.yml"].replace("external: false", "external: perhaps")
    with pytest.raises(DbtConfigError) as error:
        load(tmp_path, **{"models/sources.yml": wrong})
    assert str(error.value) == (
        "models/sources.yml: made_here: config meta.dagster.external: 'perhaps' is neither true nor false"
    )


SYNCED = """
    sources:
      - name: loaded
        tables:
          - name: ships
            description: Ships.
            config: {meta: {dagster: {asset_key: [loader, sync], partitions: {grain: day, start: '2024-01-15'}}}}
            columns: [{name: id, data_type: varchar, data_tests: [unique]}]
          - name: ports
            description: Ports.
            config: {meta: {dagster: {asset_key: [loader, sync], partitions: {grain: day, start: '2024-01-15'}}}}
            columns: [{name: code, data_type: varchar}]
"""
MODELS = {
    "models/ships.sql": "select * from {{ source('loaded', 'ships') }}",
    "models/both.sql": "select * from {{ source('loaded', 'ships') }} cross join {{ source('loaded', 'ports') }}",
    "models/levels.sql": "select 1 as level",
}


def test_several_sources_of_one_loader_are_one_asset(tmp_path: Path) -> None:
    definitions = load(tmp_path, **{"models/sources.yml": SYNCED, **MODELS})
    graph = definitions.resolve_asset_graph()
    sync = dg.AssetKey(["loader", "sync"])
    assert graph.get(dg.AssetKey("ships")).parent_keys == graph.get(dg.AssetKey("both")).parent_keys == {sync}
    node = graph.get(sync)
    assert not node.is_materializable
    assert node.partitions_def == dg.DailyPartitionsDefinition("2024-01-15")
    assert all(text in (node.description or "") for text in ("Ports.", "Ships."))
    assert "dagster/column_schema" not in node.metadata
    assert len(node.metadata["dagster/code_references"].code_references) == 2


def test_sources_of_one_asset_have_the_same_partitions(tmp_path: Path) -> None:
    other = SYNCED.replace(
        "2024-01-15'}}}}\n            columns: [{name: code", "2024-02-01'}}}}\n            columns: [{name: code"
    )
    with pytest.raises(DbtConfigError, match=r"ships: config meta\.dagster\.partitions: other sources of the asset"):
        load(tmp_path, **{"models/sources.yml": other, **MODELS})

"""dbt's functions are made before the models that call them, as `dbt build` does."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import MACROS_DIR, dbt_definitions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

FILES = {
    "dbt_project.yml": f"{{name: shop, profile: shop, macro-paths: [macros, '{MACROS_DIR}']}}",
    # dbt-duckdb has no functions; a macro of the project makes them DuckDB's.
    "macros/functions.sql": """
        {% macro duckdb__scalar_function_sql(target_relation) %}
            create or replace macro {{ target_relation.render() }}(
                {%- for argument in model.arguments %}{{ argument.name }}{{ ", " if not loop.last }}{% endfor -%}
            ) as {{ model.compiled_code }}
        {% endmacro %}
    """,
    "functions/twice.sql": "value * 2",
    "functions/unused.sql": "no_such_function(value)",
    "functions/functions.yml": """
        functions:
          - {name: twice, arguments: [{name: value, data_type: bigint}], returns: {data_type: bigint}}
          - {name: unused, arguments: [{name: value, data_type: bigint}], returns: {data_type: bigint}}
    """,
    "models/sizes.sql": "{{ config(materialized='table') }} select {{ function('twice') }}(3) as size",
    "models/inner.sql": "{{ config(materialized='ephemeral') }} select {{ function('twice') }}(5) as size",
    "models/below.sql": "{{ config(materialized='table') }} select * from {{ ref('inner') }}",
    "models/other.sql": "{{ config(materialized='table') }} select 1 as size",
}


@pytest.mark.parametrize("name", ["sizes", "below"])
def test_a_function_is_made_before_the_model_that_calls_it(tmp_path: Path, name: str) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    profile = f"shop: {{target: duckdb, outputs: {{duckdb: {{type: duckdb, path: '{warehouse}'}}}}}}"
    for file, text in {"profiles.yml": profile, **FILES}.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(dedent(text))

    def build(asset: str) -> dg.AssetsDefinition:
        definitions = dbt_definitions(tmp_path)
        assets = [one for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition)]
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                assets,
                selection=dg.AssetSelection.assets(asset),
                resources=definitions.resources,
                instance=instance,
                raise_on_error=False,
            )
        assert result.success
        assert [event.asset_key for event in result.get_asset_materialization_events()] == [dg.AssetKey(asset)]
        return assets[0]

    before = build(name)
    with duckdb.connect(warehouse, read_only=True) as connection:
        assert connection.execute(f"select size from {name}").fetchall() == [(6 if name == "sizes" else 10,)]
    (tmp_path / "functions/twice.sql").write_text("value * 20")
    after = build(name)
    with duckdb.connect(warehouse, read_only=True) as connection:
        assert connection.execute(f"select size from {name}").fetchall() == [(60 if name == "sizes" else 100,)]
    versions = [{spec.key.to_user_string(): spec.code_version for spec in assets.specs} for assets in (before, after)]
    assert versions[0][name] != versions[1][name], "what calls it is not fresh"
    assert versions[0]["other"] == versions[1]["other"]

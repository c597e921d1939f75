"""A valid dbt project loads, also where Dagster's rules for names are narrower, and each of its tests is a check."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dagster_dbt_common import MACROS_DIR, DbtConfigError, dbt_definitions
from dagster_dbt_common.project.dagster_names import dagster_owner, names_of_checks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILES = {
    "dbt_project.yml": f"{{name: shop, profile: shop, macro-paths: ['{MACROS_DIR}']}}",
    "models/sales-lines.sql": "select 1 as id, 5 as amount",
    "models/totals.sql": (
        "{{ config(group='sales-finance') }} select id, -amount as amount from {{ ref('sales-lines') }}"
    ),
    "models/models.yml": """
        groups:
          - {name: sales-finance, owner: {name: Sales, email: sales at the shop}}
        models:
          - name: sales-lines
            columns:
              - {name: id, data_tests: [not_null, {unique: {name: only-one}}]}
          - name: totals
            columns:
              - {name: id, data_tests: [{not_null: {name: same}}]}
              - {name: amount, data_tests: [{accepted_values: {name: same, arguments: {values: [5]}}}]}
    """,
    "tests/no-negative-amounts.sql": "select * from {{ ref('totals') }} where amount < 0",
    "tests/no_negative_amounts.sql": "select * from {{ ref('totals') }} where amount < -100",
}


def load(root: Path, files: Mapping[str, str]) -> dg.Definitions:
    profile = f"shop: {{target: duckdb, outputs: {{duckdb: {{type: duckdb, path: '{root / 'warehouse.duckdb'}'}}}}}}"
    for name, text in {"profiles.yml": profile, **files}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(dedent(text))
    return dbt_definitions(root)


@pytest.mark.slow
def test_each_test_of_a_project_with_such_names_is_a_check_and_says_its_own_result(tmp_path: Path) -> None:
    definitions = load(tmp_path, FILES)
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    specs = {spec.key.to_user_string(): spec for asset in assets for spec in asset.specs}
    assert specs.keys() == {"sales-lines", "totals"}
    assert (specs["totals"].group_name, specs["totals"].owners) == ("sales_finance", ["team:sales_at_the_shop"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(assets, resources=definitions.resources, instance=instance, raise_on_error=False)
    said = {
        (each.asset_key.to_user_string(), str(each.metadata["unique_id"].value)): (each.check_name, each.passed)
        for each in result.get_asset_check_evaluations()
    }
    names = {(key, unique_id.split(".")[2]): outcome for (key, unique_id), outcome in said.items()}
    assert names["sales-lines", "only-one"] == ("only_one", True)
    assert names["sales-lines", "not_null_sales-lines_id"] == ("not_null_sales_lines_id", True)
    # The one that is called so in dbt keeps its name.
    assert names["totals", "no_negative_amounts"] == ("no_negative_amounts", True)
    dashed, failed = names["totals", "no-negative-amounts"]
    assert (dashed.rpartition("_")[0], failed) == ("no_negative_amounts", False)
    twins = {outcome for (key, unique_id), outcome in said.items() if unique_id.split(".")[2] == "same"}
    assert {passed for _, passed in twins} == {True, False}
    assert {name.rpartition("_")[0] for name, _ in twins} == {"same"}
    assert len({name for name, _ in twins}) == 2


@pytest.mark.slow
def test_a_name_that_no_step_can_have_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(DbtConfigError) as raised:
        load(tmp_path, {**FILES, "models/år.sql": "select 1 as id"})
    assert str(raised.value).startswith("models/år.sql: år: config name: Dagster takes letters from a to z: rename")


@pytest.mark.parametrize(
    ("said", "owner"),
    [
        ("a@b.example", "a@b.example"),
        ("team:data", "team:data"),
        ("Sales and finance", "team:Sales_and_finance"),
        ("@data", "team:_data"),
    ],
)
def test_an_owner_is_an_address_or_a_team(said: str, owner: str) -> None:
    assert dagster_owner(said) == owner

    @dg.asset(owners=[owner])
    def owned() -> None: ...


def test_names_of_one_model_differ_and_stay_as_they_are_where_they_can() -> None:
    nodes = {f"test.shop.{number}": {"name": name} for number, name in enumerate(("a", "b-c", "b_c", "d-e", "f", "f"))}
    names = [*names_of_checks([*nodes], nodes).values()]
    assert (names[0], names[2], names[3]) == ("a", "b_c", "d_e")
    assert [name[:-7] for name in (names[1], names[4], names[5])] == ["b_c", "f", "f"]
    assert len(set(names)) == len(names)

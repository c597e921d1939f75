"""What `dagster_dbt_common` and `headrace` know of each other, of which neither imports the other."""

import dagster as dg
import pytest

from analytics.definitions import defs
from dagster_dbt_common.project.parsing import _LOADS_TO_FORK
from headrace.deployed.fork_server import LOCATIONS
from headrace.main_job.code_versions import _OF_DBT, is_same_code


@pytest.mark.slow
def test_each_model_says_its_text_and_what_it_computes() -> None:
    versions = {spec.key.to_user_string(): spec.code_version for spec in _specs() if spec.code_version}
    assert {"orders", "stg_orders", "product_types", "customers"} <= versions.keys()
    for name, version in versions.items():
        found = _OF_DBT.fullmatch(version or "")
        assert found, name
        assert found["computes"].count("+") == 2, name
        assert is_same_code(found["text"], version), "an upgrade rebuilds nothing"


def test_a_process_that_loads_to_be_forked_is_known_by_the_variable_that_makes_it_one() -> None:
    assert _LOADS_TO_FORK == LOCATIONS


def _specs() -> list[dg.AssetSpec]:
    assets = [asset for asset in defs().assets or () if isinstance(asset, dg.AssetsDefinition)]
    return [spec for asset in assets for spec in asset.specs]

"""What `dagster_dbt_common` writes as a code version is what `headrace run` reads: neither imports the other."""

import dagster as dg

from analytics.definitions import defs
from headrace.main_job.code_versions import _OF_DBT, is_same_code


def test_each_model_says_its_text_and_what_it_computes() -> None:
    versions = {spec.key.to_user_string(): spec.code_version for spec in _specs() if spec.code_version}
    assert {"orders", "stg_orders", "product_types", "customers"} <= versions.keys()
    for name, version in versions.items():
        found = _OF_DBT.fullmatch(version or "")
        assert found, name
        assert found["computes"], name
        assert is_same_code(found["text"], version), "an upgrade rebuilds nothing"


def _specs() -> list[dg.AssetSpec]:
    assets = [asset for asset in defs().assets or () if isinstance(asset, dg.AssetsDefinition)]
    return [spec for asset in assets for spec in asset.specs]

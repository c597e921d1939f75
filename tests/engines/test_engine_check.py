"""`headrace engine check` on the embedded default; the other targets' tests have it too."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import OpenShop

pytestmark = [
    pytest.mark.slow("two dozen builds, with dbt by hand before each"),
    pytest.mark.timeout(600),
]


@pytest.mark.some_of("proofs of a target", 0)
def test_a_duckdb_file_is_proved_and_nothing_is_left_in_it(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = open_shop(tmp_path / "shop", "2024-01-30")
    proved = shop.call("engine", "check")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    lines = proved.stdout.splitlines()
    assert len(lines) == 24
    assert all(line.endswith(": equal") for line in lines), lines
    assert shop.query("select schema_name from duckdb_schemas() where schema_name like '%check%'") == []


def test_a_target_that_is_none_is_a_line(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = open_shop(tmp_path / "shop", "2024-01-30")
    refused = shop.call("engine", "check", "--target", "nonsense")
    assert refused.returncode == 1
    assert "does not have a target named 'nonsense'" in refused.stderr.splitlines()[-1]
    shutil.rmtree(tmp_path / "shop")

"""Extensions of DuckDB that a target names are put where it looks for them, from packages, without a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster_dbt import DbtProject

from dagster_dbt_common import DbtConfigError
from dagster_dbt_common.project.duckdb_extensions import install_packaged_extensions

MANIFEST: Mapping[str, Any] = {"metadata": {"adapter_type": "duckdb"}}


def project(folder: Path, output: str) -> DbtProject:
    (folder / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (folder / "profiles.yml").write_text(f"shop: {{target: dev, outputs: {{dev: {{type: duckdb, {output}}}}}}}")
    return DbtProject(folder, profiles_dir=folder)


def named(extensions: str) -> str:
    return f"extensions: [{extensions}], config_options: {{extension_directory: \"{{{{ env_var('HERE') }}}}\"}}"


def test_one_with_a_package_is_there_and_loads(tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    shop = project(tmp_path, named("httpfs, one_without_a_package, {name: other, repo: community}"))
    install_packaged_extensions(shop, MANIFEST, {"HERE": str(folder)})
    (found,) = folder.glob("v*/*/*.duckdb_extension")
    assert found.name == "httpfs.duckdb_extension"
    with duckdb.connect(
        config={"extension_directory": str(folder), "autoinstall_known_extensions": False}
    ) as connection:
        connection.load_extension("httpfs")
    before = found.stat().st_mtime_ns
    install_packaged_extensions(shop, MANIFEST, {"HERE": str(folder)})
    assert found.stat().st_mtime_ns == before, "it is left alone"


@pytest.mark.parametrize("output", ["path: ':memory:'", "extensions: [httpfs]", named("httpfs")])
def test_without_a_folder_nothing_is_done(tmp_path: Path, output: str) -> None:
    install_packaged_extensions(project(tmp_path, output), MANIFEST, {})
    assert [*tmp_path.rglob("*.duckdb_extension")] == []


def test_a_folder_that_is_none_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DbtConfigError, match=r"extension httpfs cannot be put into .*/file: .*Error"):
        install_packaged_extensions(project(tmp_path, named("httpfs")), MANIFEST, {"HERE": str(tmp_path / "file")})

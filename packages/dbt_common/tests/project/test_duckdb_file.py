"""Which file a project writes is read from its profile, as dbt would."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster_dbt import DbtProject

from dagster_dbt_common.project.duckdb_file import duckdb_file

DUCKDB: Mapping[str, Any] = {"metadata": {"adapter_type": "duckdb"}}


def project(folder: Path, path: str, **options: str) -> DbtProject:
    (folder / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    targets = f'dev: {{type: duckdb, path: "{path}"}}, other: {{type: duckdb, path: /other.duckdb}}'
    (folder / "profiles.yml").write_text(
        "shop: {target: \"{{ env_var('TARGET', 'dev') }}\", outputs: {" + targets + "}}\n"
        "bank: {target: dev, outputs: {dev: {type: duckdb, path: /bank.duckdb}}}\n"
    )
    return DbtProject(folder, profiles_dir=folder, **options)


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/srv/w.duckdb", "/srv/w.duckdb"),
        ("{{ env_var('W') }}", "/env/w.duckdb"),
        ("{{ env_var('OWN', env_var('W').rpartition('/')[0] ~ '/own.duckdb') }}", "/env/own.duckdb"),
        ("/srv/../srv/w.duckdb", "/srv/w.duckdb"),
        (":memory:", None),
        ("md:shop", None),
        ("{{ env_var('UNSET') }}", None),
        ("{{ var('unknown') }}", None),
    ],
)
def test_the_path_is_rendered_with_the_environment(tmp_path: Path, path: str, file: str | None) -> None:
    found = duckdb_file(project(tmp_path, path), DUCKDB, {"W": "/env/w.duckdb"})
    assert found == (Path(file) if file else None)


def test_target_and_profile_are_those_of_the_project(tmp_path: Path) -> None:
    assert duckdb_file(project(tmp_path, "/w.duckdb"), DUCKDB, {"TARGET": "other"}) == Path("/other.duckdb")
    assert duckdb_file(project(tmp_path, "/w.duckdb", target="other"), DUCKDB, {}) == Path("/other.duckdb")
    assert duckdb_file(project(tmp_path, "/w.duckdb", profile="bank"), DUCKDB, {}) == Path("/bank.duckdb")


def test_two_names_of_one_file_are_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    found = duckdb_file(project(tmp_path, f"{tmp_path}/link/w.duckdb"), DUCKDB, {})
    assert found == (tmp_path / "w.duckdb").resolve()


def test_another_warehouse_has_no_file(tmp_path: Path) -> None:
    assert duckdb_file(project(tmp_path, "/w.duckdb"), {"metadata": {"adapter_type": "postgres"}}, {}) is None

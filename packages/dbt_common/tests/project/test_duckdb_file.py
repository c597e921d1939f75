"""What a project writes is read from its profile, as dbt would: which file, or a DuckLake."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster_dbt import DbtProject

from dagster_dbt_common.project.duckdb_file import duckdb_file, is_ducklake

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


@pytest.mark.parametrize(
    ("attached", "is_one"),
    [
        ("{path: 'ducklake:postgres:dbname=lake', alias: lake}", True),
        ("{path: \"{{ env_var('LAKE') }}\", alias: lake, is_ducklake: true}", True),
        ("{path: 'ducklake:postgres:dbname=other', alias: other}", False),
        ("{path: /srv/lake.duckdb, alias: lake}", False),
        ("{path: 'ducklake:sqlite:lake.db'}", False),
        ("'ducklake:sqlite:lake.db'", False),
        ("{path: 'DuckLake:sqlite:lake.db', alias: \"{{ 'la' ~ 'ke' }}\"}", True),
    ],
)
def test_a_ducklake_is_the_attached_database_that_is_written(tmp_path: Path, attached: str, *, is_one: bool) -> None:
    made = project(tmp_path, ":memory:")
    output = f"{{type: duckdb, path: ':memory:', database: lake, attach: [{attached}]}}"
    (tmp_path / "profiles.yml").write_text(f"shop: {{target: dev, outputs: {{dev: {output}}}}}\n")
    assert is_ducklake(made, DUCKDB, {}) is is_one
    assert duckdb_file(made, DUCKDB, {}) is None


def test_a_file_is_no_ducklake(tmp_path: Path) -> None:
    assert not is_ducklake(project(tmp_path, "/w.duckdb"), DUCKDB, {})
    assert not is_ducklake(project(tmp_path, "/w.duckdb"), {"metadata": {"adapter_type": "postgres"}}, {})


def test_without_a_database_of_its_own_it_is_a_file_whatever_is_attached(tmp_path: Path) -> None:
    made = project(tmp_path, "/w.duckdb")
    (tmp_path / "profiles.yml").write_text(
        "shop: {target: dev, outputs: {dev: {type: duckdb, path: /w.duckdb, attach: [{path: 'ducklake:x'}]}}}\n"
    )
    assert not is_ducklake(made, DUCKDB, {})
    assert duckdb_file(made, DUCKDB, {}) == Path("/w.duckdb")


def test_a_ducklake_may_be_the_path_itself(tmp_path: Path) -> None:
    made = project(tmp_path, "ducklake:sqlite:lake.db")
    assert is_ducklake(made, DUCKDB, {})
    assert duckdb_file(made, DUCKDB, {}) is None

"""A step of more nodes than dagster-dbt puts on a command line, with a database path relative to the project."""

from __future__ import annotations

import tempfile
from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import dbt_definitions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

# From 201 selected on, of more, stock dagster-dbt runs dbt in a temporary copy of the project, where a relative path is
# another file.
MODELS = 211
SELECTED = MODELS - 1

PROFILE = """
    many:
      target: duckdb
      outputs:
        duckdb: {type: duckdb, path: many.duckdb, threads: 2}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: many\nprofile: many\nmodels: {many: {+materialized: table}}\n")
    (folder / "profiles.yml").write_text(dedent(PROFILE))
    for number in range(MODELS):
        (folder / "models" / f"number_{number}.sql").write_text(f"select {number} as number")
    return folder


@pytest.mark.some_of("working folders", 1)
@pytest.mark.parametrize("working_folder", ["project", "elsewhere"])
def test_trap_more_than_200_nodes_are_built_into_the_file_of_the_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_folder: str
) -> None:
    for name in ("temporary", "elsewhere"):
        (tmp_path / name).mkdir()
    definitions = dbt_definitions(project)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / working_folder)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)],
            selection=dg.AssetSelection.assets(*(f"number_{number}" for number in range(SELECTED))),
            resources=definitions.resources,
            instance=instance,
        )
        materializations = [event.materialization for event in result.get_asset_materialization_events()]
    assert [one.metadata["dagster/row_count"].value for one in materializations] == [1] * SELECTED

    with duckdb.connect(project / "many.duckdb", read_only=True) as connection:
        tables = [name for (name,) in connection.sql("select table_name from duckdb_tables()").fetchall()]
        assert sorted(tables) == sorted(f"number_{number}" for number in range(SELECTED))
        every = " union all ".join(f"from {name}" for name in tables)
        assert connection.sql(f"select sum(number) from ({every})").fetchall() == [(sum(range(SELECTED)),)]
    assert list(tmp_path.rglob("many.duckdb")) == [project / "many.duckdb"]

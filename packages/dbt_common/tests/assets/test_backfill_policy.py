"""How many partitions a run of a backfill takes, and what an asset says of the file that it is in."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from dagster_dbt_common import dbt_definitions
from dagster_dbt_common.project.duckdb_file import DUCKDB_FILE

pytestmark = pytest.mark.slow  # parses a project

PROJECT = Path(__file__).parents[1] / "projects" / "minimal"


def test_a_projects_groups_have_the_policy_that_it_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setenv("MINIMAL_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    monkeypatch.setenv("MINIMAL_LAKE", str(tmp_path / "lake"))
    policies = {}
    for number in (None, 123_456):
        definitions = dbt_definitions(tmp_path / "project", partitions_per_run=number)
        graph = definitions.resolve_asset_graph()
        nodes = [graph.get(key) for key in graph.materializable_asset_keys]
        assert {node.metadata[DUCKDB_FILE] for node in nodes} == {str(tmp_path.resolve() / "warehouse.duckdb")}
        policies[number] = {(node.partitions_def is not None, node.backfill_policy) for node in nodes}
    own = dg.BackfillPolicy.multi_run(123_456)
    assert policies[None] == {(True, dg.BackfillPolicy.single_run()), (False, None)}
    assert policies[123_456] == {(True, own), (False, own)}

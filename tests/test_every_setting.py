"""Each setting is another one, and each command takes it: nothing is made where it would be by default."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pytest
from clones import Clone, cloned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [pytest.mark.slow("a main job of a copy of this workspace"), pytest.mark.timeout(600)]

DAY = "2024-01-30"


@dataclass(frozen=True)
class Moved:
    """A workspace whose every setting is another one.

    Args:
        clone: the workspace.
        variables: what says the settings.
    """

    clone: Clone
    variables: Mapping[str, str]

    def call(self, *arguments: str) -> str:
        return self.clone.call(self.clone.bin / "headrace", *arguments, **self.variables)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """Load and build a day with a dbt project that has a model more than that of the default folder."""
    folder = tmp_path_factory.mktemp("moved").resolve()
    clone = cloned(folder / "workspace")
    shutil.copytree(clone.root / "dbt", clone.root / "jaffle")
    model = "{{ config(contract={'enforced': false}) }}\nselect * from {{ ref('stg_stores') }}\n"
    (clone.root / "jaffle/models/marts/lifetime/only_here.sql").write_text(model)
    clone.commit()
    variables = {
        "HEADRACE_EXPORTS": str(folder / "out of the shop"),
        "HEADRACE_LAKE": str(folder / "loaded"),
        "HEADRACE_WAREHOUSE": str(folder / "built" / "shop.duckdb"),
        "HEADRACE_DBT_PROJECT": str(clone.root / "jaffle"),
        "HEADRACE_START": DAY,
        "DAGSTER_HOME": str(folder / "instance"),
    }
    moved = Moved(clone, variables)
    moved.call("demo-data", "--from", DAY, "--to", DAY, "--orders-per-day", "30")
    moved.call("run")
    return moved


def test_the_main_job_reads_and_writes_there_alone(moved: Moved) -> None:
    where = moved.variables
    assert "everything is fresh" in moved.clone.try_(moved.clone.bin / "headrace", "run", **where).stderr
    moved.call("reconcile")
    with duckdb.connect(where["HEADRACE_WAREHOUSE"], read_only=True) as connection:
        [(rows,)] = connection.execute("select count(*) from shop.main.only_here").fetchall()
    assert rows > 0
    for name in ("HEADRACE_EXPORTS", "HEADRACE_LAKE", "DAGSTER_HOME"):
        assert any(moved.clone.root.joinpath(where[name]).iterdir()), name
    assert_nothing_is_where_it_would_be(moved.clone.root)


def test_a_command_that_looks_takes_them_too(moved: Moved) -> None:
    printed = dict(line.removeprefix("export ").split("=", 1) for line in moved.call("init").splitlines())
    assert {name: printed[name].strip("'") for name in moved.variables if name in printed} == {
        name: value for name, value in moved.variables.items() if name != "HEADRACE_DBT_PROJECT"
    }
    contract = json.loads(moved.call("contract", "export", "analytics"))
    assert "only_here" in {asset["key"] for asset in contract["produces"]}
    moved.call("contract", "check")
    found = moved.clone.try_(moved.clone.bin / "headrace", "doctor", "--format", "json", **moved.variables)
    says = " ".join(each["says"] for each in json.loads(found.stdout))
    for name in ("HEADRACE_DBT_PROJECT", "HEADRACE_WAREHOUSE", "DAGSTER_HOME"):
        assert moved.variables[name] in says, f"the doctor does not look at {name}: {says}"
    assert_nothing_is_where_it_would_be(moved.clone.root)


def assert_nothing_is_where_it_would_be(root: Path) -> None:
    assert not (root / ".headrace").exists()
    assert not [name for name in ("target", "logs") if (root / "dbt" / name).exists()]

"""The code version of a node changes with its rows, and not with what means nothing: a hundred edits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from code_edits import CHANGES, NOTHING, project, write, write_before, write_edits

from dagster_dbt_common import MACROS_DIR
from dagster_dbt_common.project.code_version import CodeVersions, project_variables

if TYPE_CHECKING:
    from collections.abc import Mapping


def versions(root: Path, rate: str) -> Mapping[str, str]:
    """Parse a project and return the versions of its nodes by their names."""
    environment = {**os.environ, "CODE_VERSION_RATE": rate, "DAGSTER_DBT_COMMON_MACROS": str(MACROS_DIR)}
    places = ("--project-dir", root, "--profiles-dir", root, "--log-path", root / "logs")
    dbt = Path(sys.executable).with_name("dbt")
    subprocess.run([dbt, "--quiet", "parse", "--no-partial-parse", *places], check=True, env=environment)
    manifest: Mapping[str, Any] = json.loads((root / "target/manifest.json").read_text())
    found = CodeVersions(manifest, project_variables(root), environment)
    kinds = ("model", "seed", "snapshot")
    return {
        props["name"]: found.of(unique_id).partition("+")[0]  # the form of now
        for unique_id, props in manifest["nodes"].items()
        if props["resource_type"] in kinds
    }


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the versions before and after all edits at once: each is of nodes of its own."""
    root = tmp_path_factory.mktemp("shop")
    write_before(root)
    before = versions(root, "1")
    write(root, {"dbt_project.yml": project(2), "seeds/rates.csv": "id\n2\n"})
    write_edits(root)
    return before, versions(root, "2")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_rows_changes_the_version(
    before_and_after: tuple[Mapping[str, str], Mapping[str, str]], name: str
) -> None:
    before, after = before_and_after
    assert before[name] != after[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTHING)
def test_what_means_nothing_changes_no_version(
    before_and_after: tuple[Mapping[str, str], Mapping[str, str]], name: str
) -> None:
    before, after = before_and_after
    assert before[name] == after[name]


@pytest.mark.slow
def test_a_seed_is_its_rows(before_and_after: tuple[Mapping[str, str], Mapping[str, str]]) -> None:
    before, after = before_and_after
    assert before["rates"] != after["rates"]


def test_flags_set_variables_too(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("{name: shop, vars: {a: 1, b: 2}}")
    assert project_variables(tmp_path, ["--fail-fast", "--vars", "{b: 3}"]) == {"a": 1, "b": 3}
    assert project_variables(tmp_path) == {"a": 1, "b": 2}

"""`headrace doctor` on dbt projects, each broken in one way, and on the workspace itself."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
HEADRACE = Path(sys.executable).with_name("headrace")
PROFILE = """\
shop:
  target: duckdb
  outputs:
    duckdb:
      type: duckdb
      path: "{{ env_var('HEADRACE_WAREHOUSE') }}"
      settings: {TimeZone: UTC}
"""
PROJECT = """\
name: shop
version: 1.0.0
profile: shop
macro-paths: ["{{ env_var('DAGSTER_DBT_COMMON_MACROS') }}"]
models:
  shop: {+materialized: incremental, +incremental_strategy: delete_window+insert, +event_time: day}
"""

pytestmark = [pytest.mark.slow, pytest.mark.some_of("findings in a dbt project", 1)]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Make a workspace with one location, and a dbt project in its folder; return the project's folder."""
    root = tmp_path.resolve() / "workspace"
    project = root / "projects" / "shop" / "dbt"
    (project / "models").mkdir(parents=True)
    (root / "workspace.yaml").write_text("load_from:\n  - python_module: {module_name: shop.definitions}\n")
    (root / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["projects/*"]\n')
    (project.parent / "pyproject.toml").write_text('[tool.dg.project]\nroot_module = "shop"\n')
    (project / "dbt_project.yml").write_text(PROJECT)
    (project / "profiles.yml").write_text(PROFILE)
    (project / "models" / "days.sql").write_text("select 1 as day where {{ in_window('day') }}\n")
    return project


def examine(folder: Path, *arguments: str, **variables: str) -> dict[str, Mapping[str, Any]]:
    """Return what the doctor finds in a folder's workspace, by check."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER_"))}
    done = subprocess.run(
        [str(HEADRACE), "doctor", "--format", "json", *arguments],
        check=False,
        cwd=folder,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert done.returncode == int(any(each["state"] == "wrong" for each in found)), done.stdout
    return {each["check"]: each for each in found}


def states(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    checks = ("manifest", "macros", "profile", "time-zone")
    return {check: found[check]["state"] for check in checks if check in found}


FINE = {"manifest": "ok", "macros": "ok", "profile": "ok", "time-zone": "ok"}


def test_a_project_that_is_fine_is_not_touched(shop: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in shop.parents[2].rglob("*")}
    assert states(examine(shop, TZ="Europe/Berlin")) == FINE
    assert {path: path.stat().st_mtime_ns for path in shop.parents[2].rglob("*")} == before


def test_a_model_that_dbt_cannot_parse(shop: Path) -> None:
    (shop / "models" / "days.sql").write_text("select * from {{ ref('nowhere') }}")
    found = examine(shop)
    assert states(found) == {"manifest": "wrong"}
    assert "depends on a node named 'nowhere' which was not found" in found["manifest"]["says"]


def test_macros_that_are_not_found(shop: Path) -> None:
    (shop / "dbt_project.yml").write_text(PROJECT.replace("{{ env_var('DAGSTER_DBT_COMMON_MACROS') }}", "macros"))
    (shop / "models" / "days.sql").write_text("select 1 as day")
    found = examine(shop)
    assert states(found) == {**FINE, "macros": "wrong"}
    assert found["macros"]["mend"].startswith("macro-paths:")


def test_a_relative_path_and_the_time_zone_of_the_machine(shop: Path) -> None:
    profile = PROFILE.replace("{{ env_var('HEADRACE_WAREHOUSE') }}", "shop.duckdb").replace("settings", "meta")
    (shop / "profiles.yml").write_text(profile.replace("      meta: {TimeZone: UTC}\n", ""))
    found = examine(shop, TZ="Europe/Berlin")
    assert states(found) == {**FINE, "profile": "wrong", "time-zone": "wrong"}
    assert "are in Europe/Berlin" in found["time-zone"]["says"]
    assert "settings: {TimeZone: UTC}" in found["time-zone"]["mend"]
    assert states(examine(shop, TZ="UTC"))["time-zone"] == "warning"
    assert not list(shop.rglob("*.duckdb"))


def test_a_profile_that_is_not_there_and_a_variable_that_is_not_set(shop: Path) -> None:
    (shop / "profiles.yml").write_text(PROFILE.replace("HEADRACE_WAREHOUSE", "NOT_SET_ANYWHERE"))
    found = examine(shop)
    assert states(found) == {"manifest": "wrong"}
    assert "NOT_SET_ANYWHERE" in found["manifest"]["says"]


def test_a_packaged_project_whose_files_changed(shop: Path) -> None:
    copy = shop.parents[2] / "packaged"
    environment = {**os.environ, "HEADRACE_WAREHOUSE": str(shop.parents[2] / ".headrace" / "warehouse.duckdb")}
    package = [str(Path(sys.executable).with_name("dagster-dbt-common")), "package", str(shop), str(copy)]
    subprocess.run(package, check=True, env=environment, stdout=subprocess.DEVNULL)
    shutil.rmtree(shop)
    copy.rename(shop)
    assert states(examine(shop)) == FINE
    (shop / "models" / "days.sql").write_text("select 2 as day")
    found = examine(shop)
    assert states(found) == {**FINE, "manifest": "wrong"}
    assert "the packaged manifest does not fit" in found["manifest"]["says"]


def test_this_workspace_is_fine() -> None:
    found = examine(ROOT)
    wrong = {check: each for check, each in found.items() if each["state"] == "wrong"}
    # A disk may be full, and a run may go on, on the machine of the test.
    assert wrong.keys() <= {"disk", "locks", "runs", "warehouse"}, wrong
    assert states(found) == FINE
    assert {found[check]["state"] for check in ("workspace", "git", "uv", "packages", "pins", "duckdb")} == {"ok"}

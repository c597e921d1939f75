"""What two members know that may not import each other is the same in both."""

import inspect
import re
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import dagster as dg
import pytest

from analytics import settings as analytics_settings
from dagster_dbt_common import dbt_definitions
from dagster_dbt_common.automation import reconcile_sensor
from dagster_dbt_common.partitions import config, run_tags
from dagster_dbt_common.project import fingerprint
from headrace.dbt_ci.windows import Partitions
from headrace.locations.script import GRAINS
from headrace.main_job import details, job
from headrace.main_job import exports as headrace_exports
from headrace.releases import variables
from headrace.workspace import DEFAULT_START, Workspace
from ingest import exports as ingest_exports
from ingest import recorded
from ingest import settings as ingest_settings


def test_what_is_named_like_a_secret() -> None:
    """A release leaves out the variables that the manifest's fingerprint leaves out."""
    assert fingerprint._SECRET == variables._SECRET


def test_the_tag_that_says_what_a_build_could_have_read() -> None:
    assert details._READ_UP_TO == run_tags.READ_UP_TO


def test_which_options_the_package_has() -> None:
    table = (Path(__file__).parents[1] / "packages/dbt_common/README.md").read_text()
    options = re.split(r"\n\n", table.split("| option | what it is |")[1])[0].splitlines()[2:]
    named = [name for row in options for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(inspect.signature(dbt_definitions).parameters)


def test_which_runs_are_unfinished() -> None:
    unfinished = set(job._UNFINISHED)
    assert unfinished == set(reconcile_sensor._UNFINISHED) == set(recorded._UNFINISHED)
    # Dagster makes no queued run without an origin.
    others = [status for status in dg.DagsterRunStatus if status is not dg.DagsterRunStatus.QUEUED]
    asked = {status for status in others if not dg.DagsterRun(job_name="work", status=status).is_finished}
    assert unfinished == {*asked, dg.DagsterRunStatus.QUEUED}


@pytest.mark.parametrize("folder", [".", "projects/shop/src"])
def test_where_the_root_of_a_workspace_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / folder)
    workspace = Workspace.find({})
    assert ingest_settings.lake({}) == workspace.lake
    assert ingest_settings.exports({}) == workspace.exports
    environment: dict[str, str] = {}
    analytics_settings.export_paths(environment)
    assert environment == {"HEADRACE_LAKE": workspace.lake, "HEADRACE_WAREHOUSE": str(workspace.warehouse)}
    assert ingest_settings.DEFAULT_START.isoformat() == DEFAULT_START


def test_how_an_export_is_named(tmp_path: Path) -> None:
    """What `headrace run` compares is what `ingest` loads."""
    (tmp_path / "orders").mkdir()
    for name in (*ingest_exports._DAILY_FORMATS, ".txt", ".csv.bz2"):
        (tmp_path / "orders" / f"2024-02-01{name}").write_text(name)
    (tmp_path / "orders/2024-02-30.csv").touch()
    for path in (tmp_path / "orders").iterdir():
        found = ingest_exports._DAY_FILE.fullmatch(path.name)
        assert headrace_exports._day_of(path) == (found[1] if found and ingest_exports._is_date(found[1]) else None)
    assert {
        suffix for suffix in ingest_exports._FORMATS if headrace_exports._TABLE_FILE.fullmatch(f"t{suffix}")
    } == set(ingest_exports._FORMATS)


def test_which_grains_there_are() -> None:
    assert tuple(GRAINS.values()) == config._GRAINS


@cache
def _windows(grain: str) -> list[tuple[date, date]]:
    cron = next(cron for cron, name in GRAINS.items() if name == grain)
    definition = dg.TimeWindowPartitionsDefinition(
        start="2020-01-01", end="2026-01-01", cron_schedule=cron, fmt="%Y-%m-%d"
    )
    windows = [definition.time_window_for_partition_key(key) for key in definition.get_partition_keys()]
    return [(window.start.date(), window.end.date()) for window in windows]


@pytest.mark.parametrize("grain", ["day", "week", "month", "year"])
def test_where_a_partition_begins_and_ends(grain: str) -> None:
    """`headrace dbt ci` cuts its window where dagster-dbt-common's partitions are cut."""
    partitions = Partitions(grain, None, "UTC")
    for start, end in _windows(grain):
        for day in (start, start + (end - start) // 2, end - timedelta(days=1)):
            assert (partitions.first_day(day), partitions.next_day(day)) == (start, end)

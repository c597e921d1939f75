"""dbt's source freshness as checks, measured by real runs on real files, beside what another location makes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest
import yaml

from dagster_dbt_common import DbtResource, dbt_definitions, prepared_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytestmark = pytest.mark.slow

FILES = {
    "dbt_project.yml": """
        name: wells
        config-version: 2
        profile: wells
        macro-paths: ["{{ env_var('DAGSTER_DBT_COMMON_MACROS', '') }}"]
    """,
    "profiles.yml": """
        wells:
          target: duckdb
          outputs:
            duckdb: {type: duckdb, path: "{{ env_var('WELLS') }}/wells.duckdb", settings: {TimeZone: UTC}}
    """,
    "models/sources.yml": """
        sources:
          - name: raw
            config:
              loaded_at_field: written
              meta: {external_location: "read_parquet('{{ env_var('WELLS') }}/{name}.parquet')"}
            tables:
              - name: levels
                config: {freshness: {warn_after: {count: 6, period: hour}, error_after: {count: 1, period: day}}}
              - name: alarms
                config: {freshness: {warn_after: {count: 90, period: minute}, filter: "written < '2099-01-01'"}}
              - name: broken
                config: {loaded_at_field: nowhere, freshness: {error_after: {count: 1, period: day}}}
              - name: asked
                config:
                  loaded_at_field: null
                  loaded_at_query: "select max(written) - interval 2 day from {{ this }}"
                  freshness: {error_after: {count: 1, period: day}}
              - name: unwatched
              - name: unread
                config: {freshness: {warn_after: {count: 1, period: hour}}}
    """,
    "models/daily.sql": """
        select 1 as one
        {% for name in ['levels', 'alarms', 'broken', 'asked', 'unwatched'] %}
        -- {{ source('raw', name) }}
        {% endfor %}
    """,
}


@dataclass
class Wells:
    """A dbt project over files that the tests write.

    Args:
        root: the folder of everything.
        definitions: the project as Dagster has it.
    """

    root: Path
    definitions: dg.Definitions

    def write(self, name: str, *ages: str) -> None:
        """Write a source of rows of these ages."""
        rows = " union all ".join(f"select now()::timestamp - interval '{age}' as written" for age in ages)
        rows = rows or "select now()::timestamp as written where false"
        duckdb.sql(f"set timezone = 'UTC'; copy ({rows}) to '{self.root / name}.parquet'")

    def measure(
        self, *names: str, dbt: DbtResource | None = None, instance: dg.DagsterInstance | None = None
    ) -> Mapping[str, dg.AssetCheckEvaluation]:
        """Run the checks of these sources in one run, and return the evaluations by source."""
        (checks,) = self.definitions.asset_checks or ()
        (key,) = self.definitions.resources or {}
        result = dg.materialize(
            [checks],
            selection=dg.AssetSelection.checks(
                *(dg.AssetCheckKey(dg.AssetKey("daily"), f"freshness_raw_{name}") for name in names)
            ),
            resources={key: dbt or (self.definitions.resources or {})[key]},
            instance=instance,
        )
        assert result.success
        return by_source(result)


def by_source(result: dg.ExecuteInProcessResult) -> Mapping[str, dg.AssetCheckEvaluation]:
    """Return a run's evaluations by the table of their source."""
    return {each.check_name.removeprefix("freshness_raw_"): each for each in result.get_asset_check_evaluations()}


def is_said_to_be_old(description: str | None, age: str) -> bool:
    """Return whether it is said of the newest row that it is of this age, to the minute: it ages while it is read."""
    return re.fullmatch(rf"The newest row is {age}:\d\d old\.", description or "") is not None


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wells]:
    root = tmp_path_factory.mktemp("wells")
    (root / "project" / "models").mkdir(parents=True)
    for name, text in FILES.items():
        (root / "project" / name).write_text(dedent(text))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("WELLS", str(root))
        yield Wells(root, dbt_definitions(root / "project"))


@pytest.fixture
def wells(loaded: Wells) -> Wells:
    for name in ("levels", "alarms", "broken", "asked"):
        loaded.write(name, "1 minute")
    return loaded


def test_the_thresholds_are_dbts(wells: Wells) -> None:
    wells.write("levels", "5 hours", "9 days")
    wells.write("alarms", "1 hour")
    fresh = wells.measure("levels", "alarms")
    assert {name: one.passed for name, one in fresh.items()} == {"levels": True, "alarms": True}
    assert not any(one.blocking for one in fresh.values())

    wells.write("levels", "7 hours")
    wells.write("alarms", "9 days")
    late = wells.measure("levels", "alarms")
    assert {name: (one.passed, one.severity.value) for name, one in late.items()} == {
        "levels": (False, "WARN"),
        "alarms": (False, "WARN"),
    }

    wells.write("levels", "25 hours")
    old = wells.measure("levels")["levels"]
    assert (old.passed, old.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert is_said_to_be_old(old.description, "1 day, 1:00")
    said = {name: value.value for name, value in old.metadata.items()}
    assert said["dbt/status"] == "error"
    age = said["dbt/max_loaded_at_time_ago_in_s"]
    assert isinstance(age, float)
    assert 25 * 3600 <= age < 25 * 3600 + 60
    taken, loaded = said["dbt/snapshotted_at"], said["dbt/max_loaded_at"]
    assert isinstance(taken, float)
    assert isinstance(loaded, float)
    assert taken - loaded == pytest.approx(age)


def test_the_asset_of_the_source_shows_what_was_measured(wells: Wells) -> None:
    wells.write("levels", "7 hours")
    with dg.DagsterInstance.ephemeral() as instance:
        wells.measure("levels", instance=instance)
        (record,) = instance.fetch_observations(dg.AssetKey(["raw", "levels"]), limit=5).records
    observation = record.asset_observation
    assert observation is not None
    assert observation.metadata["dbt/status"].value == "warn"
    assert is_said_to_be_old(observation.description, "7:00")


def test_only_what_was_selected_is_measured(wells: Wells, capsys: pytest.CaptureFixture[str]) -> None:
    assert wells.measure("alarms").keys() == {"alarms"}
    assert "1 of 1 START freshness of raw.alarms" in capsys.readouterr().out


def test_a_query_and_a_filter_are_dbts_too(wells: Wells) -> None:
    wells.write("alarms", "1 minute", "-100 years")
    measured = wells.measure("asked", "alarms")
    assert measured["alarms"].passed, "the filter leaves the row of the future out"
    assert (measured["asked"].passed, measured["asked"].severity.value) == (False, "ERROR")
    assert is_said_to_be_old(measured["asked"].description, "2 days, 0:01")


def test_what_dbt_can_not_measure_is_a_failed_check_with_dbts_words(wells: Wells) -> None:
    measured = wells.measure("broken", "levels")
    assert measured["levels"].passed
    assert not measured["broken"].passed
    said = measured["broken"].description or ""
    assert said.startswith("Runtime Error in source broken (models/sources.yml)\nBinder Error: Referenced column")
    assert "Traceback" not in said
    (wells.root / "levels.parquet").unlink()
    assert "No files found" in (wells.measure("levels")["levels"].description or "")


def test_a_source_without_rows_is_as_old_as_dbt_says(wells: Wells) -> None:
    wells.write("levels")
    measured = wells.measure("levels")["levels"]
    assert (measured.passed, measured.severity.value, measured.description) == (False, "ERROR", "It has no rows.")


@pytest.mark.slow
def test_another_dbt_measures_the_same(wells: Wells) -> None:
    wells.write("levels", "7 hours")
    project = prepared_project(wells.root / "project")
    measured = wells.measure("levels", "broken", dbt=DbtResource.of(project, engine="subprocess"))
    assert (measured["levels"].passed, measured["levels"].severity.value) == (False, "WARN")
    assert "Binder Error" in (measured["broken"].description or "")


def test_the_op_takes_the_pool_of_the_builds(wells: Wells) -> None:
    (checks,) = wells.definitions.asset_checks or ()
    (build,) = (asset for asset in wells.definitions.assets or () if isinstance(asset, dg.AssetsDefinition))
    assert isinstance(checks, dg.AssetsDefinition)
    assert checks.op.pool == build.op.pool == "duckdb_wells"


def test_a_schedule_of_their_own_runs_all_of_them(wells: Wells) -> None:
    defs = wells.definitions
    schedule = defs.resolve_schedule_def("dbt_wells__freshness")
    # Twice within the 90 minutes of alarms.
    assert schedule.cron_schedule == "*/30 * * * *"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def(schedule.job_name).execute_in_process(instance=instance)
    assert result.success
    assert by_source(result).keys() == {"levels", "alarms", "broken", "asked"}
    assert not result.get_asset_materialization_events()


def test_a_project_without_thresholds_has_no_check_no_job_and_no_schedule(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(dedent(text).replace("freshness:", "meta:"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("WELLS", str(tmp_path))
        defs = dbt_definitions(tmp_path)
    assert not defs.resolve_asset_graph().asset_check_keys
    assert not defs.schedules
    assert {job.name for job in defs.jobs or ()} == {"dbt_wells__full_refresh", "dbt_wells__stored_rows"}


PRODUCER = """
import dagster as dg

@dg.asset(key=["raw", "levels"])
def levels() -> None: ...

defs = dg.Definitions(assets=[levels])
"""
CONSUMER = """
from pathlib import Path
from dagster_dbt_common import dbt_definitions

defs = dbt_definitions(Path(__file__).parent / "project")
"""
QUERY = """
{ assetNodes(assetKeys: [{path: ["raw", "levels"]}, {path: ["daily"]}]) {
    assetKey { path }
    repository { location { name } }
    assetChecksOrError { ... on AssetChecks { checks { name blocking jobNames } } }
} }
"""


@pytest.mark.slow
def test_the_asset_of_the_other_location_has_no_check_of_this_one(wells: Wells, tmp_path: Path) -> None:
    """As the UI asks, over GraphQL, a process a location: a check of this one would break the other's backfills."""
    files = {"producer": PRODUCER, "consumer": CONSUMER}
    for name, text in files.items():
        (wells.root / f"{name}.py").write_text(text)
    entries = [
        {"python_file": {"relative_path": str(wells.root / f"{name}.py"), "location_name": name}} for name in files
    ]
    (tmp_path / "workspace.yaml").write_text(yaml.safe_dump({"load_from": entries}))
    command: list[str | Path] = [
        Path(sys.executable).parent / "dagster-graphql",
        "-w",
        tmp_path / "workspace.yaml",
        "-t",
        QUERY,
    ]
    done = subprocess.run(
        [*command, "-o", tmp_path / "answer.json", "--ephemeral-instance"],
        env={**os.environ, "DAGSTER_HOME": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    nodes: Sequence[Mapping[str, Any]] = json.loads((tmp_path / "answer.json").read_text())["data"]["assetNodes"]
    found = {node["assetKey"]["path"][-1]: node for node in nodes}
    assert found["levels"]["repository"]["location"]["name"] == "producer"
    assert found["levels"]["assetChecksOrError"]["checks"] == []
    checks = {check["name"]: check for check in found["daily"]["assetChecksOrError"]["checks"]}
    assert not checks["freshness_raw_levels"]["blocking"]
    assert "dbt_wells__freshness" in checks["freshness_raw_levels"]["jobNames"]

"""The environment decides, the workspace is the default, and errors name the variable."""

from pathlib import Path

import pytest

from analytics import settings


def test_the_nearest_workspace_holds_project_lake_and_warehouse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "workspace.yaml").touch()
    monkeypatch.chdir(inner)
    environment: dict[str, str] = {}
    settings.export_paths(environment)
    assert settings.dbt_project(environment) == tmp_path / "dbt"
    assert environment == {
        "HEADRACE_LAKE": str(tmp_path / ".headrace" / "lake"),
        "HEADRACE_WAREHOUSE": str(tmp_path / ".headrace" / "warehouse.duckdb"),
    }


def test_relative_folders_become_absolute_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"HEADRACE_LAKE": "s3://bucket/lake", "HEADRACE_WAREHOUSE": "w.duckdb", "HEADRACE_DBT_PROJECT": "dbt"}
    settings.export_paths(environment)
    assert environment["HEADRACE_LAKE"] == "s3://bucket/lake"
    assert environment["HEADRACE_WAREHOUSE"] == str(tmp_path / "w.duckdb")
    assert settings.dbt_project(environment) == tmp_path / "dbt"


def test_outside_a_workspace_the_message_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(settings.SettingError, match=r"^HEADRACE_DBT_PROJECT is not set"):
        settings.dbt_project({})
    with pytest.raises(settings.SettingError, match=r"^HEADRACE_LAKE is not set"):
        settings.export_paths({})
    with pytest.raises(settings.SettingError, match=r"^HEADRACE_WAREHOUSE is not set"):
        settings.export_paths({"HEADRACE_LAKE": "lake"})


def test_the_most_partitions_of_a_run_are_one_less_than_those_of_ingest() -> None:
    assert settings.partitions_per_run({}) is None
    assert settings.partitions_per_run({"HEADRACE_PARTITIONS_PER_RUN": "30"}) == 29
    for text in ("1", "-3", "2.5", "many"):
        with pytest.raises(settings.SettingError, match=r"^HEADRACE_PARTITIONS_PER_RUN: .* of 2 or more$"):
            settings.partitions_per_run({"HEADRACE_PARTITIONS_PER_RUN": text})

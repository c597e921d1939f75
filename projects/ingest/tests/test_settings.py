"""The environment decides, the workspace is the default, and errors name the variable."""

from datetime import date
from pathlib import Path

import pytest

from ingest import settings


def test_start_is_a_day_with_a_default() -> None:
    assert settings.start({}) == date(2024, 1, 1)
    assert settings.start({"HEADRACE_START": "2018-09-01"}) == date(2018, 9, 1)


def test_a_start_that_is_no_date_names_the_variable() -> None:
    with pytest.raises(settings.SettingError, match=r"^HEADRACE_START: '2024-13-01' is not an ISO date"):
        settings.start({"HEADRACE_START": "2024-13-01"})


def test_the_nearest_workspace_holds_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "workspace.yaml").touch()
    monkeypatch.chdir(inner)
    assert settings.exports({}) == tmp_path / ".headrace" / "exports"
    assert settings.lake({}) == str(tmp_path / ".headrace" / "lake")


def test_outside_a_workspace_the_message_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(settings.SettingError, match=r"^HEADRACE_EXPORTS is not set"):
        settings.exports({})
    with pytest.raises(settings.SettingError, match=r"^HEADRACE_LAKE is not set"):
        settings.lake({})


def test_relative_folders_become_absolute_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.lake({"HEADRACE_LAKE": "lake"}) == str(tmp_path / "lake")
    assert settings.lake({"HEADRACE_LAKE": "s3://bucket/lake"}) == "s3://bucket/lake"


def test_the_most_partitions_of_a_run_are_a_number_of_two_or_more() -> None:
    assert settings.partitions_per_run({}) is None
    assert settings.partitions_per_run({"HEADRACE_PARTITIONS_PER_RUN": "30"}) == 30
    for text in ("1", "-3", "2.5", "many"):
        with pytest.raises(settings.SettingError, match=r"^HEADRACE_PARTITIONS_PER_RUN: .* of 2 or more$"):
            settings.partitions_per_run({"HEADRACE_PARTITIONS_PER_RUN": text})


def test_an_export_is_settled_after_ten_seconds_or_as_many_as_are_said() -> None:
    assert settings.settled_seconds({}) == 10
    assert settings.settled_seconds({"HEADRACE_SETTLED_SECONDS": "0"}) == 0
    assert settings.settled_seconds({"HEADRACE_SETTLED_SECONDS": "2.5"}) == 2.5
    for text in ("-1", "soon", "nan", "inf", "86400"):
        with pytest.raises(settings.SettingError, match=r"^HEADRACE_SETTLED_SECONDS: .* seconds, 0 to 3600$"):
            settings.settled_seconds({"HEADRACE_SETTLED_SECONDS": text})

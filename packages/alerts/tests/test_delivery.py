"""Destinations that are down, missing or wrong: nothing is lost, and nothing is told twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from headrace_alerts import AlertSettingError, Destinations, alert_definitions

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Location


def fail(location: Location, *assets: str) -> None:
    location.trouble.errors |= dict.fromkeys(("items", "tweets", "orphan"), "no")
    assert not location.run(*assets).success


def test_a_refused_message_is_kept_and_sent_once(location: Location) -> None:
    location.inbox.refused.add("a")
    fail(location, "items", "tweets")
    said = location.tick_runs()
    assert said.startswith("1 alerts sent, 1 wait: destination 1 of team:a (json) did not take the message")
    assert [path for path, _, _ in location.inbox.take()] == ["b"]

    with pytest.raises(Exception, match="1 alerts wait: destination 1 of team:a"):
        location.tick_runs()
    # The others do not wait for it.
    fail(location, "orphan")
    location.tick_runs()
    assert [path for path, _, _ in location.inbox.take()] == ["default"]

    location.inbox.refused.clear()
    assert location.tick_runs() == "1 alerts sent"
    assert [(path, title) for path, title, _ in location.inbox.take()] == [("a", "run of items failed")]
    assert location.tick_runs() == "0 alerts sent"


def test_of_several_destinations_only_the_one_that_failed_gets_it_again(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [location.inbox.url(path) for path in ("one", "two", "three")]
    monkeypatch.setenv("HEADRACE_ALERTS", json.dumps({"default": urls}))
    location.inbox.refused.add("two")
    fail(location, "orphan")
    location.tick_runs()
    location.inbox.refused.clear()
    location.tick_runs()
    assert [path for path, _, _ in location.inbox.take()] == ["one", "three", "two"]


def test_a_destination_that_is_down_is_asked_once_a_tick(location: Location) -> None:
    location.inbox.refused.add("default")
    for _ in range(3):
        fail(location, "orphan")
    location.tick_runs()
    assert location.inbox.tries == ["default"]
    location.inbox.refused.clear()
    assert location.tick_runs() == "3 alerts sent"


def test_the_cursor_has_no_secrets(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALERTS", json.dumps({"default": ["json://user:secret@127.0.0.1:1/token"]}))
    fail(location, "orphan")
    said = location.tick_runs()
    cursor = location.cursors["alert_run_failures"] or ""
    assert "run of orphan failed" in cursor
    assert "secret" not in cursor + said
    assert "token" not in cursor + said


def test_without_destinations_nothing_is_told_then_or_later(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Destinations.from_environment()
    assert setting is not None
    monkeypatch.delenv("HEADRACE_ALERTS")
    fail(location, "orphan")
    assert location.tick_runs().startswith("no destination: HEADRACE_ALERTS is not set")
    assert location.tick_checks().startswith("no destination: HEADRACE_ALERTS is not set")
    monkeypatch.setenv("HEADRACE_ALERTS", json.dumps(setting.urls))
    location.tick_runs()
    assert location.inbox.take() == []


def test_an_unusable_setting_keeps_the_alerts(
    location: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "alerts.json"
    monkeypatch.setenv("HEADRACE_ALERTS", str(file))
    fail(location, "orphan")
    with pytest.raises(AlertSettingError):
        location.tick_runs()
    file.write_text(json.dumps({"default": [location.inbox.url("file")]}))
    location.tick_runs()
    assert [path for path, _, _ in location.inbox.take()] == ["file"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("/nowhere/alerts.json", "/nowhere/alerts.json: No such file or directory: name a readable JSON file"),
        ('{"default": json://x/secret}', 'line 1: Expecting value: write {"default": ["slack://..."]}'),
        ('["json://x/secret"]', "it is not an object"),
        ('{"team:a": "json://x/secret"}', "the value of team:a is not a list of URLs"),
        ('{"team:a": [1]}', "the value of team:a is not a list of URLs"),
    ],
)
def test_a_wrong_setting_is_one_line_without_its_secrets(setting: str, message: str) -> None:
    with pytest.raises(AlertSettingError) as raised:
        Destinations.from_environment({"HEADRACE_ALERTS": setting})
    said = str(raised.value)
    assert said.startswith("HEADRACE_ALERTS: ")
    assert message in said
    assert "secret" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("HEADRACE_ALERTS", '{"default": 5}', "HEADRACE_ALERTS: the value of default is not a list of URLs"),
        ("HEADRACE_ALERTS", "[]", "HEADRACE_ALERTS: it is not an object"),
        ("HEADRACE_URL", "dagster.example.com", "HEADRACE_URL: 'dagster.example.com' is no address of a page"),
    ],
)
def test_what_only_a_restart_mends_is_refused_when_the_location_loads(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(AlertSettingError, match=re.escape(message)):
        alert_definitions()


def test_a_file_that_is_missing_yet_stops_no_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALERTS", str(tmp_path / "later.json"))
    monkeypatch.setenv("HEADRACE_URL", "https://dagster.example.com/")
    assert len(list(alert_definitions().sensors or ())) == 2


def test_what_is_no_url_is_kept_and_named(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALERTS", json.dumps({"default": ["nonsense"]}))
    fail(location, "orphan")
    assert "1 wait: destination 1 of default is not an Apprise URL" in location.tick_runs()


def test_an_owner_without_destinations_falls_back_to_the_default() -> None:
    destinations = Destinations({"team:a": ["json://a"], "team:b": [], "default": ["json://c"]})
    assert destinations.routes(["team:a", "team:b"]) == ["team:a"]
    assert destinations.routes(["team:b"]) == ["default"]
    assert destinations.routes([]) == ["default"]
    assert Destinations({"team:a": ["json://a"]}).routes(["team:b"]) == []


def test_what_nobody_hears_of_moves_on(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALERTS", json.dumps({"team:a": [location.inbox.url("a")]}))
    fail(location, "orphan")
    assert location.tick_runs() == "0 alerts sent"
    assert '"outbox": []' in (location.cursors["alert_run_failures"] or "")


@pytest.mark.slow
def test_a_location_that_loads_does_not_load_apprise() -> None:
    code = "import sys, headrace_alerts; headrace_alerts.alert_definitions(); print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_the_sensors_are_on_from_the_start() -> None:
    sensors = {sensor.name: sensor for sensor in alert_definitions().sensors or ()}
    assert sensors.keys() == {"alert_run_failures", "alert_check_failures"}
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}

"""Failed runs, told to the owners of what they were to make."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import pytest
    from conftest import Location


def test_the_owner_hears_what_failed_why_and_where(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "https://dagster.example.com/")
    location.trouble.errors["orders"] = "exports/orders/2024-01-02.csv, line 7: no number\nand more"
    run = location.run("orders", partition="2024-01-02")
    assert location.tick_runs() == "1 alerts sent"
    text = f"""
        orders: 2024-01-02
        exports/orders/2024-01-02.csv, line 7: no number
        run {run.run_id} https://dagster.example.com/runs/{run.run_id}
    """
    lines = "\n".join(line.strip() for line in text.strip().splitlines())
    assert location.inbox.take() == [("a", "run of orders failed", lines)]
    location.tick_runs()
    assert location.inbox.take() == []


def test_each_owner_hears_once_of_what_is_theirs(location: Location) -> None:
    location.trouble.errors["items"] = "no connection"
    location.run("items", "tweets", "orphan")
    location.tick_runs()
    assert [(path, title) for path, title, _ in location.inbox.take()] == [
        ("a", "run of items failed"),
        ("b", "run of tweets failed"),
    ]


def test_what_was_made_before_the_failure_is_not_told(location: Location) -> None:
    location.trouble.errors["tweets"] = "no connection"
    location.run("items", "tweets")
    location.tick_runs()
    assert [path for path, _, _ in location.inbox.take()] == ["b"]


def test_what_nobody_owns_goes_to_the_default(location: Location) -> None:
    location.trouble.errors |= {"orphan": "no", "clean": "not either"}
    location.run("orphan")
    location.run(job="cleaning")
    location.tick_runs()
    told = location.inbox.take()
    assert [(path, title) for path, title, _ in told] == [
        ("default", "run of job cleaning failed"),
        ("default", "run of orphan failed"),
    ]
    assert [text.splitlines()[1] for _, _, text in told] == ["not either", "no"]


def test_a_failure_waits_for_the_status_of_its_run_that_dagster_stores_after_it(location: Location) -> None:
    location.trouble.errors["orders"] = "no"
    like = location.run("orders", partition="2024-01-02")
    location.tick_runs()
    location.inbox.take()
    (failure,) = location.instance.all_logs(like.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    for run_id, age in (("a" * 8, 0.0), ("b" * 8, 3600.0), ("c" * 8, -3600.0)):
        run = dg.DagsterRun(job_name="some", run_id=run_id, status=dg.DagsterRunStatus.STARTED)
        location.instance.run_storage.add_run(run)
        event = dg.EventLogEntry(
            error_info=None,
            level=failure.level,
            user_message="",
            run_id=run_id,
            timestamp=time.time() - age,
            dagster_event=failure.get_dagster_event(),
        )
        location.instance.event_log_storage.store_event(event)
        said = location.tick_runs()
        assert said == f"{int(age != 0)} alerts sent", "one of an hour ago, or of a clock set back, is not waited for"
        if not age:
            location.instance.run_storage.handle_run_event(run_id, failure.get_dagster_event(), datetime.now(UTC))
            assert location.tick_runs() == "1 alerts sent"
        assert len(location.inbox.take()) == 1


def test_a_range_is_told_by_its_ends_and_success_and_what_was_before_are_not(location: Location) -> None:
    location.run("orders", partition="2024-01-01")
    location.trouble.errors["orders"] = "no"
    tags = {"dagster/asset_partition_range_start": "2024-01-03", "dagster/asset_partition_range_end": "2024-01-09"}
    location.run("orders", tags=tags)
    location.tick_runs()
    ((_, _, text),) = location.inbox.take()
    assert text.startswith("orders: 2024-01-03 to 2024-01-09\n")
    # A sensor that is new does not tell what is over.
    location.cursors.clear()
    assert location.tick_runs() == "reports failures from now on"
    location.tick_runs()
    assert location.inbox.take() == []


def test_a_blocking_check_that_fails_its_run_is_told_once_with_the_run(location: Location) -> None:
    location.trouble.failing["unique"] = dg.AssetCheckSeverity.ERROR
    assert not location.run("orders", partition="2024-01-02").success
    location.tick_runs()
    location.tick_checks()
    ((path, title, text),) = location.inbox.take()
    assert (path, title) == ("a", "run of orders failed")
    assert "orders: check unique failed: 2024-01-02: two rows\n" in text


def test_only_the_owner_of_what_was_checked_hears_of_a_failed_check(location: Location) -> None:
    location.trouble.failing["counted"] = dg.AssetCheckSeverity.ERROR
    assert not location.run("items", "tweets").success
    location.tick_runs()
    location.tick_checks()
    ((path, title, text),) = location.inbox.take()
    assert (path, title) == ("a", "run of items failed")
    assert "items: check counted failed: two rows" in text


def test_a_retry_is_waited_for(location: Location) -> None:
    """By the tags that Dagster's daemon sets; `tests/test_alerts.py` has the daemon itself."""
    location.trouble.errors["orphan"] = "no"
    first = location.run("orphan", tags={"dagster/will_retry": "true"})
    location.tick_runs()
    location.tick_checks()
    assert location.inbox.take() == []
    location.instance.add_run_tags(first.run_id, {"dagster/auto_retry_run_id": "the next"})
    location.tick_runs()
    assert location.inbox.take() == []
    # The last one is not retried, and says so.
    location.run("orphan", tags={"dagster/will_retry": "false"})
    location.tick_runs()
    assert len(location.inbox.take()) == 1


def test_a_run_that_repeats_what_was_told_is_not(location: Location) -> None:
    location.trouble.errors["orphan"] = "no"
    location.run("orphan", tags={"headrace/repeats": "true"})
    location.tick_runs()
    assert location.inbox.take() == []
    location.run("orphan")
    location.tick_runs()
    assert len(location.inbox.take()) == 1


def test_a_retry_that_does_not_come_is_told_after_five_minutes(location: Location) -> None:
    location.trouble.errors["orphan"] = "no"
    run = location.run("orphan", tags={"dagster/will_retry": "true"})
    location.tick_runs()
    cursor = json.loads(location.cursors["alert_run_failures"] or "")
    waiting = cursor["memory"]["waiting"]
    assert waiting.keys() == {run.run_id}
    waiting[run.run_id] += 7200
    location.cursors["alert_run_failures"] = json.dumps(cursor)
    location.tick_runs()
    cursor = json.loads(location.cursors["alert_run_failures"] or "")
    waiting = cursor["memory"]["waiting"]
    assert waiting[run.run_id] <= time.time(), "the clock was set back: it waits from now on"
    waiting[run.run_id] -= 299
    location.cursors["alert_run_failures"] = json.dumps(cursor)
    location.tick_runs()
    assert location.inbox.take() == []
    waiting[run.run_id] -= 10
    location.cursors["alert_run_failures"] = json.dumps(cursor)
    location.tick_runs()
    ((_, _, text),) = location.inbox.take()
    assert "Dagster was to retry it, and did not within five minutes" in text
    location.tick_runs()
    assert location.inbox.take() == []

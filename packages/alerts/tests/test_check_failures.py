"""Failed checks, told when they begin to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from conftest import Location

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def test_a_check_is_told_when_it_begins_to_fail_and_not_while_it_fails(location: Location) -> None:
    location.run(checks=["polite"])
    location.tick_checks()
    assert location.inbox.take() == []

    location.trouble.failing["polite"] = ERROR
    run = location.run(checks=["polite"])
    assert run.success
    location.tick_checks()
    text = f"tweets: check polite failed: two rows\nrun {run.run_id}"
    assert location.inbox.take() == [("b", "check polite of tweets failed", text)]
    location.run(checks=["polite"])
    location.tick_checks()
    assert location.inbox.take() == []

    location.trouble.failing.clear()
    location.run(checks=["polite"])
    location.trouble.failing["polite"] = ERROR
    location.run(checks=["polite"])
    location.tick_checks()
    assert len(location.inbox.take()) == 1
    location.tick_runs()
    assert location.inbox.take() == []


def test_other_partitions_are_another_failure(location: Location) -> None:
    # Not blocking for this once: the run succeeds.
    location.trouble.failing["unique"] = WARN
    for partition in ("2024-01-01", "2024-01-01", "2024-01-02"):
        assert location.run("orders", partition=partition).success
        location.tick_checks(warnings=True)
    assert [text.splitlines()[0] for _, _, text in location.inbox.take()] == [
        f"orders: check unique failed (WARN): {partition}: two rows" for partition in ("2024-01-01", "2024-01-02")
    ]


def test_a_tick_tells_an_owner_once(location: Location) -> None:
    location.trouble.failing |= {"polite": ERROR, "sold": ERROR, "unique": WARN}
    runs = [location.run(checks=["polite", "sold"]), location.run("orders", partition="2024-01-03")]
    location.tick_checks(warnings=True)
    a, b = location.inbox.take()
    assert a == (
        "a",
        "2 checks of items, orders failed",
        f"items: check sold failed: two rows\nrun {runs[0].run_id}\n\n"
        f"orders: check unique failed (WARN): 2024-01-03: two rows\nrun {runs[1].run_id}",
    )
    assert b[:2] == ("b", "check polite of tweets failed")


def test_a_warning_is_told_only_where_it_is_asked_for_and_an_error_after_it_is_news(location: Location) -> None:
    location.trouble.failing["polite"] = WARN
    location.run(checks=["polite"])
    location.tick_checks()
    assert location.inbox.take() == []
    for severity, told in ((WARN, 1), (WARN, 0), (ERROR, 1), (WARN, 0), (ERROR, 0)):
        location.trouble.failing["polite"] = severity
        location.run(checks=["polite"])
        location.tick_checks(warnings=True)
        assert len(location.inbox.take()) == told, severity


def test_a_check_that_the_message_of_a_run_has_named_is_no_news_afterwards(location: Location) -> None:
    location.trouble.errors["tweets"] = "no connection"
    location.trouble.failing["sold"] = ERROR
    assert not location.run("items", "tweets").success
    location.tick_checks()
    assert location.inbox.take() == []
    location.tick_runs()
    assert {(path, title) for path, title, _ in location.inbox.take()} == {("b", "run of tweets failed")}

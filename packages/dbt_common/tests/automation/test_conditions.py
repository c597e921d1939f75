"""What `meta.dagster.automation` and the option may say, and when a schedule lets an asset follow."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from dagster_dbt_common import DbtConfigError, dbt_definitions
from dagster_dbt_common.automation.conditions import Automation, Upstreams, table_condition, view_condition
from dagster_dbt_common.automation.reconcile import Follower, History, Stored, all_behind
from headrace_staleness import AllWindows, Beginning, Made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from conftest import Minimal

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")
HOURS = dg.HourlyPartitionsDefinition("2024-01-01-00:00", end_date="2024-01-05-00:00")
MONTHS = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-03-01")
RAW, TABLE, MART = (dg.AssetKey(name) for name in ("raw", "table", "mart"))


@pytest.mark.parametrize(
    ("text", "automation"),
    [
        ("eager", Automation("eager")),
        ("none", Automation("none")),
        ("cron '0 6 * * *'", Automation("cron", "0 6 * * *")),
        ('cron "*/5 * * * *" UTC', Automation("cron", "*/5 * * * *")),
        ("cron 0 6 * * * Europe/Berlin", Automation("cron", "0 6 * * *", "Europe/Berlin")),
        ("cron '@daily' America/Port-au-Prince", Automation("cron", "@daily", "America/Port-au-Prince")),
        ("cron '0 6 * * *' Etc/GMT+5", Automation("cron", "0 6 * * *", "Etc/GMT+5")),
    ],
)
def test_an_automation_is_read(text: str, automation: Automation) -> None:
    assert Automation.parse(text) == automation


@pytest.mark.parametrize("text", ["Eager", "", "cron", "cron '0 6 * *'", "0 6 * * *", "cron '99 6 * * *'", "true"])
def test_anything_else_says_what_it_may_be(text: str) -> None:
    with pytest.raises(ValueError, match="is none of eager, none, and cron with a schedule"):
        Automation.parse(text)


def test_an_invented_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="Mars/Base is not an IANA time zone"):
        Automation.parse("cron '0 6 * * *' Mars/Base")


def test_none_is_no_condition() -> None:
    assert table_condition(Automation("none"), Upstreams(partitioned=False)) is None
    assert view_condition(Automation("none"), Upstreams(partitioned=False), tested=True) is None


@pytest.mark.parametrize("partitioned", [False, True])
def test_each_condition_is_one_that_the_daemon_takes(partitioned: bool) -> None:
    """The daemon evaluates what it can read from a code server: Dagster's own conditions."""
    upstreams = Upstreams(partitioned, [TABLE], [MART])
    for automation in (Automation("eager"), Automation("cron", "0 6 * * *")):
        for condition in (
            table_condition(automation, upstreams),
            view_condition(automation, upstreams, tested=True),
            view_condition(automation, upstreams, tested=False),
        ):
            assert condition is not None
            assert condition.is_serializable


def test_a_schedule_builds_what_changed_before_its_tick_at_the_tick_and_the_rest_at_the_next() -> None:
    # In the past, since an update has the time of the clock, and must not seem to be older than a tick.
    now = datetime.now(UTC) - timedelta(minutes=100)
    half_an_hour_on = now + timedelta(minutes=30)
    condition = table_condition(Automation("cron", f"{half_an_hour_on.minute} * * * *"), Upstreams(partitioned=False))

    @dg.asset
    def raw() -> None: ...

    @dg.asset(deps=[raw], automation_condition=condition)
    def table() -> None: ...

    requested: list[int] = []
    with dg.DagsterInstance.ephemeral() as instance:
        cursor: Any = None
        dg.materialize([raw, table], instance=instance)
        for minutes, updated in [(0, False), (1, True), (20, False), (31, False), (33, True), (60, False), (91, False)]:
            if updated:
                dg.materialize([raw], instance=instance)
            result = dg.evaluate_automation_conditions(
                [raw, table],
                instance,
                dg.AssetSelection.all(),
                evaluation_time=now + timedelta(minutes=minutes),
                cursor=cursor,
            )
            cursor = result.cursor
            if result.total_requested:
                requested.append(minutes)
    assert requested == [31, 91]


@pytest.mark.slow
def test_a_models_own_config_wins_over_the_option_and_a_wrong_one_names_its_file(
    minimal: Minimal, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(minimal.root / "project", project)
    model = project / "models/totals.sql"
    text = model.read_text()
    model.write_text("{{ config(meta={'dagster': {'automation': 'none'}}) }}\n" + text)
    defs = dbt_definitions(project, automation="cron '0 6 * * *' Europe/Berlin")
    labels = {
        spec.key.to_user_string(): spec.automation_condition.get_label() if spec.automation_condition else None
        for spec in defs.resolve_all_asset_specs()
    }
    assert labels["totals"] is None
    assert labels["events_daily"] == "cron '0 6 * * *' Europe/Berlin"
    names = ["dbt_minimal__automation", "dbt_minimal__finer", "dbt_minimal__reconcile"]
    assert sorted(sensor.name for sensor in defs.sensors or ()) == names

    model.write_text("{{ config(meta={'dagster': {'automation': 'sometimes'}}) }}\n" + text)
    with pytest.raises(DbtConfigError, match=r"totals\.sql.*meta\.dagster\.automation.*'sometimes' is none of"):
        dbt_definitions(project)


def behind(followers: Sequence[Follower], **ids: Mapping[str | None, int]) -> Mapping[str, Sequence[str | None]]:
    """Return the partitions that are behind, by asset."""
    made = {dg.AssetKey(name): {key: Made(id_) for key, id_ in each.items()} for name, each in ids.items()}
    found = all_behind(followers, History(made), AllWindows())
    return {key.to_user_string(): sorted(each.partitions, key=str) for key, each in found.items() if each.partitions}


def test_a_partition_is_behind_what_it_reads_and_only_that() -> None:
    follower = Follower(Stored(TABLE, DAYS), [Stored(RAW, DAYS)])
    assert behind([follower], raw={"2024-01-01": 1, "2024-01-02": 5}, table={"2024-01-01": 2, "2024-01-02": 3}) == {
        "table": ["2024-01-02"]
    }
    assert behind([follower], raw={"2024-01-01": 1}, table={"2024-01-01": 2}) == {}


def test_lookback_reads_the_days_before() -> None:
    follower = Follower(Stored(TABLE, DAYS), [Stored(RAW, DAYS)], lookback=2)
    raw = {f"2024-01-0{day}": day for day in (1, 2, 3, 4)}
    table = {f"2024-01-0{day}": 10 + day for day in (1, 2, 3, 4)}
    assert behind([follower], raw=raw | {"2024-01-01": 20}, table=table) == {
        "table": ["2024-01-01", "2024-01-02", "2024-01-03"]
    }


def test_an_hour_reads_its_day_and_a_month_all_of_its_days() -> None:
    hours = Follower(Stored(TABLE, HOURS), [Stored(RAW, DAYS)])
    assert len(behind([hours], raw={"2024-01-02": 1})["table"]) == 24
    months = Follower(Stored(TABLE, MONTHS), [Stored(RAW, DAYS)])
    day = {"2024-01-03": 3}
    assert behind([months], raw=day) == {"table": ["2024-01-01"]}, "a day that never came holds no month up"
    assert behind([months], raw=day, table={"2024-01-01": 4}) == {}


def test_what_was_loaded_while_its_reader_was_built_is_newer_than_the_reader() -> None:
    follower = Follower(Stored(TABLE, DAYS), [Stored(RAW, DAYS)])
    made = {RAW: {"2024-01-01": Made(7)}, TABLE: {"2024-01-01": Made(9, Beginning(5))}}
    assert all_behind([follower], History(made), AllWindows())[TABLE].partitions == {"2024-01-01": 7}
    # Two tables of one run have one beginning, and the second one has read the first.
    together = {RAW: {"2024-01-01": Made(7, Beginning(5, "a"))}, TABLE: {"2024-01-01": Made(9, Beginning(5, "a"))}}
    assert all_behind([follower], History(together), AllWindows()) == {}
    # Two runs may begin at one id.
    at_once = {RAW: {"2024-01-01": Made(7, Beginning(5, "a"))}, TABLE: {"2024-01-01": Made(9, Beginning(5, "b"))}}
    assert all_behind([follower], History(at_once), AllWindows())[TABLE].partitions == {"2024-01-01": 7}


def test_a_source_of_unsaid_partitions_is_left_to_the_conditions() -> None:
    history = History({RAW: {None: Made(7)}, TABLE: {"2024-01-01": Made(5)}}, frozenset({RAW}))
    assert all_behind([Follower(Stored(TABLE, DAYS), [Stored(RAW)])], history, AllWindows()) == {}
    mart = Follower(Stored(MART), [Stored(RAW)])
    assert all_behind([mart], history, AllWindows())[MART].partitions == {None: 7}


def test_a_view_without_tests_is_behind_only_where_it_is_missing_and_its_tables_are_there() -> None:
    view = Follower(Stored(MART), [Stored(RAW, DAYS)], only_missing=True)
    assert behind([view]) == {}
    assert behind([view], raw={"2024-01-01": 1}) == {"mart": [None]}
    assert behind([view], raw={"2024-01-01": 9}, mart={None: 2}) == {}
    assert behind([Follower(Stored(MART), [])]) == {"mart": [None]}, "a seed has no upstreams"


def test_a_mart_waits_for_what_is_behind_and_not_for_what_lacks_a_day() -> None:
    table = Follower(Stored(TABLE, DAYS), [Stored(RAW, DAYS), Stored(dg.AssetKey("other"), DAYS)])
    mart = Follower(Stored(MART), [Stored(TABLE, DAYS)])
    day = "2024-01-01"
    raw, other = {day: 1, "2024-01-02": 8}, {day: 2}
    assert behind([table, mart], raw=raw, other=other, table={day: 3}, mart={None: 2}) == {"mart": [None]}
    assert behind([table, mart], raw=raw | {day: 9}, other=other, table={day: 3}, mart={None: 2}) == {"table": [day]}

"""The window: half-open, with a time zone, and what dbt gets of it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from dagster_dbt_common import Window, WindowError

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2024, 3, 31, tzinfo=BERLIN)  # 23 hours
AUTUMN = datetime(2024, 10, 27, tzinfo=BERLIN)  # 25 hours


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("start", "end", "by_date", "message"),
    [
        (datetime(2024, 1, 1), utc(2024, 1, 2), True, "window start .* no time zone"),  # noqa: DTZ001
        (utc(2024, 1, 1), datetime(2024, 1, 2), True, "window end .* no time zone"),  # noqa: DTZ001
        (utc(2024, 1, 1), utc(2024, 1, 1), True, "empty"),
        (utc(2024, 1, 2), utc(2024, 1, 1), True, "empty"),
        (utc(2024, 1, 1, 1), utc(2024, 1, 2), True, "window start .* not a midnight"),
        (utc(2024, 1, 1), utc(2024, 1, 1, 0, 0, 0, 1), True, "window end .* not a midnight"),
    ],
)
def test_what_is_no_window_is_refused(start: datetime, end: datetime, by_date: bool, message: str) -> None:
    with pytest.raises(WindowError, match=message) as raised:
        Window(start, end, by_date=by_date)
    assert "\n" not in str(raised.value)


def test_an_hour_that_the_clock_repeats_is_not_empty() -> None:
    first = datetime(2024, 10, 27, 2, tzinfo=BERLIN)
    second = first.replace(fold=1)
    window = Window(first, second, by_date=False)
    ends = {"min_date": "2024-10-27T02:00:00+02:00", "max_date": "2024-10-27T02:00:00+01:00"}
    assert window.vars() == {**ends, "window_timezone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("start", "end", "hours", "flags"),
    [
        (SPRING, datetime(2024, 4, 1, tzinfo=BERLIN), 23, ("2024-03-30 23:00:00", "2024-03-31 22:00:00")),
        (AUTUMN, datetime(2024, 10, 28, tzinfo=BERLIN), 25, ("2024-10-26 22:00:00", "2024-10-27 23:00:00")),
    ],
)
def test_the_days_of_a_clock_change(start: datetime, end: datetime, hours: int, flags: tuple[str, str]) -> None:
    window = Window(start, end)
    assert end.astimezone(UTC) - start.astimezone(UTC) == timedelta(hours=hours)
    ends = {"min_date": str(start.date()), "max_date": str(end.date())}
    assert window.vars() == {**ends, "window_timezone": "Europe/Berlin"}
    assert list(window.event_time_flags()) == ["--event-time-start", flags[0], "--event-time-end", flags[1]]


def run_window(partitions_def: dg.PartitionsDefinition[str] | None, start: str | None, end: str | None) -> object:
    """Return the window that an asset's run gets; a run of one partition where `end` is None."""
    seen: list[Window | None] = []

    @dg.asset(partitions_def=partitions_def)
    def table(context: dg.AssetExecutionContext) -> None:
        seen.append(Window.from_context(context))

    tags = {}
    if end is not None:
        tags = {"dagster/asset_partition_range_start": str(start), "dagster/asset_partition_range_end": end}
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([table], partition_key=start if end is None else None, tags=tags, instance=instance)
    return seen[0]


def test_a_range_is_one_window_and_its_end_is_the_end_of_its_last_partition() -> None:
    partitions_def = dg.DailyPartitionsDefinition("2024-01-01")
    assert run_window(partitions_def, "2024-01-30", "2024-02-01") == Window(utc(2024, 1, 30), utc(2024, 2, 2))


def test_a_single_partition_has_a_window_too() -> None:
    partitions_def = dg.DailyPartitionsDefinition("2024-01-01")
    assert run_window(partitions_def, "2024-01-30", None) == Window(utc(2024, 1, 30), utc(2024, 1, 31))


@pytest.mark.parametrize("days", [0, 9])
def test_partitions_that_will_be_are_refused(days: int) -> None:
    """Dagster's API launches them by these tags; `partition_key` refuses them."""
    will_be = datetime.now(UTC).date() + timedelta(days=7)
    first = will_be - timedelta(days=days)
    with pytest.raises(
        WindowError, match=rf"to {will_be + timedelta(days=1)} .* there are no partitions: they begin at"
    ):
        run_window(dg.DailyPartitionsDefinition("2024-01-01"), first.isoformat(), will_be.isoformat())


def test_no_partitions_have_no_window() -> None:
    assert run_window(None, None, None) is None


def test_an_unpartitioned_asset_has_no_window_in_a_run_of_a_partition() -> None:
    seen: list[Window | None] = []

    @dg.asset
    def whole(context: dg.AssetExecutionContext) -> None:
        seen.append(Window.from_context(context))

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
    def by_day() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([whole, by_day], partition_key="2024-01-30", instance=instance)
    assert seen == [None]


@pytest.mark.parametrize(
    "partitions_def",
    [
        dg.StaticPartitionsDefinition(["a"]),
        dg.MultiPartitionsDefinition(
            {"day": dg.DailyPartitionsDefinition("2024-01-01"), "shop": dg.StaticPartitionsDefinition(["a"])}
        ),
    ],
)
def test_partitions_that_are_no_windows_are_refused(partitions_def: dg.PartitionsDefinition[str]) -> None:
    key = partitions_def.get_first_partition_key()
    with pytest.raises(WindowError, match=r"table.* not windows of time"):
        run_window(partitions_def, key, None)


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25)])
def test_the_hours_of_a_clock_change_tile_its_day(day: str, hours: int) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=BERLIN)
    partitions_def = dg.HourlyPartitionsDefinition(start, timezone="Europe/Berlin")
    keys = partitions_def.get_partition_keys(current_time=start + timedelta(days=1))
    windows = [partitions_def.time_window_for_partition_key(key) for key in keys]
    assert len(windows) == hours
    texts = [Window(window.start, window.end, by_date=False).vars() for window in windows]
    ends = [datetime.fromisoformat(text["max_date"]) for text in texts]
    assert ends[:-1] == [datetime.fromisoformat(text["min_date"]) for text in texts[1:]]
    assert all(
        end - datetime.fromisoformat(text["min_date"]) == timedelta(hours=1)
        for text, end in zip(texts, ends, strict=True)
    )
    whole_day = run_window(dg.DailyPartitionsDefinition(start, timezone="Europe/Berlin"), day, day)
    assert isinstance(whole_day, Window)
    assert (whole_day.start, whole_day.end) == (start, windows[-1].end)
    hour = run_window(partitions_def, keys[2], keys[3])
    assert isinstance(hour, Window)
    assert not hour.by_date
    assert hour.vars() == {**texts[2], "max_date": texts[3]["max_date"]}


def test_a_window_by_day_is_dates_and_by_hour_is_times_with_offset() -> None:
    start, end = utc(2024, 1, 1), utc(2024, 1, 2)
    assert Window(start, end).vars() == {
        "min_date": "2024-01-01",
        "max_date": "2024-01-02",
        "window_timezone": "UTC",
    }
    assert Window(start, end, by_date=False).vars() == {
        "min_date": "2024-01-01T00:00:00+00:00",
        "max_date": "2024-01-02T00:00:00+00:00",
        "window_timezone": "UTC",
    }

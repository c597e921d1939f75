"""The windows of a definition are those that Dagster gives, one by one."""

from datetime import UTC, datetime, timedelta

import pytest
from dagster import (
    DailyPartitionsDefinition,
    HourlyPartitionsDefinition,
    MonthlyPartitionsDefinition,
    StaticPartitionsDefinition,
    TimeWindowPartitionsDefinition,
    WeeklyPartitionsDefinition,
)
from hypothesis import given
from hypothesis import strategies as st

from headrace_staleness import AllWindows, Windows

# Across a month, a year, and the change of the clock in spring.
START, END = datetime(2023, 12, 20), datetime(2024, 4, 10)  # noqa: DTZ001 - Dagster's are of the definition's zone
DEFINITIONS = {
    "days": DailyPartitionsDefinition(START, END),
    "days to come": DailyPartitionsDefinition(START, end_offset=2),
    "days from six": DailyPartitionsDefinition(START, END, hour_offset=6),
    "days of Berlin": DailyPartitionsDefinition(START, END, timezone="Europe/Berlin"),
    "hours": HourlyPartitionsDefinition(START, END),
    "hours from a quarter past": HourlyPartitionsDefinition(START, END, minute_offset=15),
    "hours of New York": HourlyPartitionsDefinition(START, END, timezone="America/New_York"),
    "weeks": WeeklyPartitionsDefinition(START, END, day_offset=1),
    "months": MonthlyPartitionsDefinition("2023-12-01", END),
    "quarters of an hour": TimeWindowPartitionsDefinition(
        start=START, end=START + timedelta(days=3), cron_schedule="*/15 * * * *", fmt="%Y-%m-%d-%H:%M"
    ),
    "days without weekends": DailyPartitionsDefinition(START, END, exclusions=["0 0 * * 6", "0 0 * * 0"]),
    "hours of Berlin in autumn": HourlyPartitionsDefinition(
        "2024-10-26-00:00", "2024-10-29-00:00", timezone="Europe/Berlin"
    ),
    "none yet": DailyPartitionsDefinition("2024-01-01", "2024-01-01"),
}


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_they_are_dagsters(definition: TimeWindowPartitionsDefinition) -> None:
    windows = Windows(definition)
    assert list(windows.keys) == list(definition.get_partition_keys())
    dagsters = [definition.time_window_for_partition_key(key) for key in windows.keys]
    assert [one.timestamp() for one in windows.starts] == [one.start.timestamp() for one in dagsters]
    assert [one.timestamp() for one in windows.ends] == [one.end.timestamp() for one in dagsters]
    assert [windows.numbers[key] for key in windows.keys] == list(range(len(dagsters)))


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_each_overlaps_itself_alone(definition: TimeWindowPartitionsDefinition) -> None:
    windows, others = Windows(definition), Windows(definition)
    found = [windows.overlapping(start, end) for start, end in zip(others.starts, others.ends, strict=True)]
    assert found == [range(number, number + 1) for number in range(len(windows.keys))]


@given(st.data())
def test_what_overlaps_is_what_a_comparison_with_each_one_finds(data: st.DataObject) -> None:
    windows = Windows(DEFINITIONS[data.draw(st.sampled_from(["days", "hours of New York", "months", "none yet"]))])
    first = data.draw(st.integers(0, 200 * 24 * 4))
    start = datetime(2023, 12, 1, tzinfo=UTC) + timedelta(minutes=15 * first)
    end = start + timedelta(minutes=15 * data.draw(st.integers(1, 40 * 24 * 4)))
    expected = [n for n, (a, b) in enumerate(zip(windows.starts, windows.ends, strict=True)) if a < end and b > start]
    assert list(windows.overlapping(start, end)) == expected


@pytest.mark.parametrize("name", ["days", "days of Berlin", "months", "hours"])
def test_an_end_is_moved_beyond_what_there_is(name: str) -> None:
    definition = DEFINITIONS[name]
    windows = Windows(definition)
    last = len(windows.keys) - 1
    for number in (0, 2, last):
        start, end = windows.starts[number], windows.ends[number]
        for _ in range(3):
            earlier = definition.get_prev_partition_window(start, respect_bounds=False)
            assert earlier
            start = earlier.start
        later = definition.get_next_partition_window(end, respect_bounds=False)
        assert later
        moved = windows.moved(number, -3, 1)
        assert [one.timestamp() for one in moved] == [start.timestamp(), later.end.timestamp()]


def test_equal_definitions_have_the_same_windows_and_others_have_none() -> None:
    windows = AllWindows()
    assert windows.of(DailyPartitionsDefinition(START, END)) is windows.of(DailyPartitionsDefinition(START, END))
    assert windows.of(None) is windows.of(StaticPartitionsDefinition(["a"])) is None


def test_neighbours_are_one_range() -> None:
    days = Windows(DEFINITIONS["days"])
    wanted = {"2024-01-04", "2024-01-01", "2024-01-02", "1999-01-01", None}
    assert days.ranges(wanted) == [("2024-01-01", "2024-01-02"), ("2024-01-04", "2024-01-04")]
    # A Monday follows no Friday: the weekend is not among the partitions.
    worked = Windows(DEFINITIONS["days without weekends"])
    assert worked.ranges(["2024-01-05", "2024-01-08"]) == [("2024-01-05", "2024-01-05"), ("2024-01-08", "2024-01-08")]


def test_a_definition_with_a_partition_more_is_worked_out_again() -> None:
    windows = AllWindows()
    ended, growing = DailyPartitionsDefinition(START, END), DailyPartitionsDefinition(START)
    before = windows.of(ended), windows.of(growing)
    assert before[1] is not None
    windows.refresh()
    assert (windows.of(ended), windows.of(growing)) == before
    before[1].keys = before[1].keys[:-1]  # as it was before midnight
    windows.refresh()
    assert windows.of(ended) is before[0]
    after = windows.of(growing)
    assert after is not None
    assert list(after.keys) == list(growing.get_partition_keys())

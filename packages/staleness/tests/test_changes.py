"""What a partition reads, and whether that is newer than the partition."""

import pytest
from dagster import DailyPartitionsDefinition, HourlyPartitionsDefinition, MonthlyPartitionsDefinition

from headrace_staleness import AllWindows, Beginning, Changes, Made, Partition, Reading, Windows

WINDOWS = AllWindows()
DAYS = WINDOWS.of(DailyPartitionsDefinition("2024-01-01", end_date="2024-02-03"))
HOURS = WINDOWS.of(HourlyPartitionsDefinition("2024-01-01-00:00", end_date="2024-02-03-00:00"))
MONTHS = WINDOWS.of(MonthlyPartitionsDefinition("2024-01-01", end_date="2024-03-01"))


def read(
    reader: Windows | None,
    upstream: Windows | None,
    key: Partition,
    *,
    start: int = 0,
    end: int = 0,
    last: bool = False,
) -> list[Partition]:
    reading = Reading(reader, upstream, start_offset=start, end_offset=end, last_only=last)
    return list(Changes(reading, upstream, {}).read(key))


def test_a_partition_reads_what_its_window_overlaps() -> None:
    assert read(DAYS, DAYS, "2024-01-05") == ["2024-01-05"]
    assert read(HOURS, DAYS, "2024-01-05-03:00") == ["2024-01-05"]
    assert read(MONTHS, DAYS, "2024-02-01") == ["2024-02-01", "2024-02-02"]
    assert len(read(DAYS, HOURS, "2024-01-05")) == 24


def test_it_looks_back_and_ahead_as_far_as_there_is_something() -> None:
    assert read(DAYS, DAYS, "2024-01-05", start=-2) == ["2024-01-03", "2024-01-04", "2024-01-05"]
    assert read(DAYS, DAYS, "2024-01-02", start=-6) == ["2024-01-01", "2024-01-02"]
    assert read(DAYS, DAYS, "2024-02-02", end=3) == ["2024-02-02"]


def test_what_has_no_partitions_reads_all_or_the_last_one_and_is_read_whole() -> None:
    assert DAYS is not None
    assert read(None, DAYS, None) == list(DAYS.keys)
    assert read(None, DAYS, None, last=True) == ["2024-02-02"]
    assert read(DAYS, None, "2024-01-05") == read(None, None, None, last=True) == [None]


@pytest.mark.parametrize(
    ("theirs", "mine", "newest"),
    [
        (Made(7), None, 7),
        (Made(7), Made(6), 7),
        (Made(7), Made(8), None),
        (Made(7), Made(9, Beginning(5)), 7),  # recorded while its reader was being built
        (Made(7, Beginning(5, "a")), Made(9, Beginning(5, "a")), None),  # by the reader's own run, which reads it
        (Made(7, Beginning(5, "a")), Made(9, Beginning(5, "b")), 7),  # by a run that began at the same id
    ],
)
def test_what_was_recorded_since_a_build_began_is_newer(theirs: Made, mine: Made | None, newest: int | None) -> None:
    assert Changes(Reading(DAYS, DAYS), DAYS, {"2024-01-05": theirs}).newer("2024-01-05", mine) == newest


def test_what_is_planned_is_newer_than_all_and_what_was_never_made_than_nothing() -> None:
    changes = Changes(Reading(DAYS, DAYS), DAYS, {}, ["2024-01-05"])
    assert changes.newer("2024-01-05", Made(10**9, Beginning(10**9))) == float("inf")
    assert changes.is_there("2024-01-05")
    assert changes.newer("2024-01-06", None) is None
    assert not changes.is_there("2024-01-06")

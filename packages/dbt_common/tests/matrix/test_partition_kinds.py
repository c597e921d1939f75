"""The matrix knows by the clock alone which rows a partition has."""

from __future__ import annotations

from itertools import pairwise

import dagster as dg
import pytest
from partition_kinds import around, neighbours, partition_of, partitions


@pytest.mark.parametrize("season", ["spring", "autumn"])
@pytest.mark.parametrize(("grain", "zone"), [*partitions()])
def test_each_instant_is_in_one_partition(grain: str, zone: str, season: str) -> None:
    begins = neighbours(around(zone, season), grain, zone)
    assert sorted(set(begins)) == begins
    for first, second in pairwise(begins):
        assert partition_of(first, grain, zone) == first
        assert partition_of(first + (second - first) / 2, grain, zone) == first


def test_trap_two_ranges_from_a_doubled_hour_are_one_to_dagster() -> None:
    """Of the range that is asked for later a process gets the keys of the one before: Dagster 1.13.27 keeps them by
    their window, and Python's datetimes of one zone are equal whichever of the two hours they are of.

    It bears on a process that asks for both and keeps five windows; a run asks for its own alone.
    """
    hours = dg.HourlyPartitionsDefinition("2024-03-01-00:00", timezone="Europe/Berlin")
    first, second, end = "2024-10-27-02:00", "2024-10-27-02:00+0100", "2024-10-27-03:00"
    keys_of = dg.TimeWindowPartitionsDefinition.get_partition_keys_in_time_window
    keys_of.cache_clear()
    assert hours.get_partition_keys_in_range(dg.PartitionKeyRange(second, end)) == [second, end]
    keys_of.cache_clear()
    assert hours.get_partition_keys_in_range(dg.PartitionKeyRange(first, end)) == [first, second, end]
    assert hours.get_partition_keys_in_range(dg.PartitionKeyRange(second, end)) == [first, second, end]
    keys_of.cache_clear()

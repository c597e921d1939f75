"""The matrix knows by the clock alone which rows a partition has."""

from __future__ import annotations

from itertools import pairwise

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

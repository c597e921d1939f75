"""Which partitions of a consumer map to those of a producer, compared with what Dagster does."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.contract import Asked, NamedPartitions, PartitionMapping, Partitions, TimePartitions
from headrace.contracts.partitions import expectation_misfit, misfit

GRAINS = ["hour", "day", "week", "month", "year", "0 2 * * *"]
CRONS = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *", "year": "0 0 1 1 *"}
VIEW, STRICT = PartitionMapping("virtual"), PartitionMapping("default")
LENIENT = PartitionMapping("time_window", allow_nonexistent=True)
LOOKBACK = PartitionMapping("time_window", start_offset=-2, allow_nonexistent=True)


def windows(grain: str = "day", start: str = "2024-01-01", zone: str = "UTC", **options: object) -> TimePartitions:
    at = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    end = options.get("end")
    return TimePartitions(
        grain,
        at,
        zone,
        end=datetime.fromisoformat(str(end)).replace(tzinfo=UTC) if end else None,
        end_offset=int(str(options.get("end_offset", 0))),
    )


def asked(partitions: Partitions | None, mapping: PartitionMapping = VIEW) -> Asked:
    return Asked("orders", partitions, mapping)


STORES = NamedPartitions("static", ("oslo", "paris"))


@pytest.mark.parametrize(
    ("reader", "mapping", "promised"),
    [
        (windows(), VIEW, windows()),
        (windows(), STRICT, windows(start="2020-06-01")),
        (windows("hour"), STRICT, windows()),
        (windows("month"), VIEW, windows("hour")),
        (windows("week"), VIEW, windows("month", "2024-01-01")),
        # The first month begins before its parent does.
        (windows("month", "2024-01-01"), VIEW, windows(start="2024-01-15")),
        (windows("month", "2024-01-01"), LENIENT, windows(start="2024-01-15")),
        (windows(), LOOKBACK, windows()),
        (windows(), PartitionMapping("time_window", start_offset=-1), windows()),
        (windows(end="2024-02-01"), VIEW, windows(end="2024-02-01")),
        (windows(zone="Europe/Oslo"), VIEW, windows(zone="Europe/Oslo")),
        (windows(), VIEW, None),
        (None, VIEW, windows()),
        (None, PartitionMapping("last"), windows()),
        (windows(), PartitionMapping("all"), windows(zone="Europe/Oslo")),
        (STORES, STRICT, STORES),
        (NamedPartitions("static", ("oslo",)), STRICT, STORES),
        (NamedPartitions("multi", ("a", "b")), STRICT, STORES),
        (STORES, PartitionMapping("other"), windows()),
    ],
)
def test_what_maps(reader: Partitions | None, mapping: PartitionMapping, promised: Partitions | None) -> None:
    assert misfit(asked(reader, mapping), promised) is None


@pytest.mark.parametrize(
    ("reader", "mapping", "promised", "kind", "reason"),
    [
        (
            windows(zone="Europe/Oslo"),
            VIEW,
            windows(),
            "timezone",
            "is in UTC, and orders reads it in Europe/Oslo",
        ),
        (
            windows(),
            VIEW,
            windows(start="2024-02-01"),
            "start",
            "starts at 2024-02-01, and orders reads it from 2024-01-01",
        ),
        # Its first month ends where the other begins, so it would read nothing.
        (
            windows("month", "2024-01-01"),
            VIEW,
            windows(start="2024-02-01"),
            "start",
            "starts at 2024-02-01, and orders reads it from 2024-01-01",
        ),
        (
            windows("month", "2024-01-01"),
            STRICT,
            windows(start="2024-01-15"),
            "start",
            "starts at 2024-01-15, and orders reads it from 2024-01-01",
        ),
        (windows(), LOOKBACK, windows("hour"), "grain", "is by hour, and orders looks back on it by day"),
        (windows(), LENIENT, None, "grain", "has no partitions, and orders reads it by day"),
        (windows(), VIEW, STORES, "grain", "is by static keys, and orders reads it by day"),
        (STORES, STRICT, windows("hour"), "grain", "is by hour, and orders reads it by static keys"),
        (
            NamedPartitions("static", ("rome",)),
            STRICT,
            STORES,
            "grain",
            "is by static keys, and orders reads it by static keys",
        ),
        (windows(), VIEW, windows(end="2024-03-01"), "grain", "ends at 2024-03-01, and orders reads on"),
    ],
)
def test_what_does_not_map(
    reader: Partitions | None, mapping: PartitionMapping, promised: Partitions | None, kind: str, reason: str
) -> None:
    found = misfit(asked(reader, mapping), promised)
    assert found is not None
    assert (found.kind, found.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("expected", "promised", "kind"),
    [
        (windows(), windows("hour"), "grain"),
        (windows(), windows("month"), "grain"),
        (windows(), None, "grain"),
        (windows(), STORES, "grain"),
        (STORES, NamedPartitions("static", ("oslo",)), "grain"),
        (windows(end_offset=1), windows(), "grain"),
        (windows(), windows(end="2024-03-01"), "grain"),
        (windows(), windows(zone="Europe/Oslo"), "timezone"),
        (windows(), windows(start="2024-01-02"), "start"),
        (windows(), windows(), None),
        (windows(), windows(start="2023-12-31", end_offset=1), None),
        (NamedPartitions("static", ("oslo",)), STORES, None),
    ],
)
def test_a_consumer_that_says_the_partitions_gets_those(
    expected: Partitions, promised: Partitions | None, kind: str | None
) -> None:
    found = expectation_misfit(expected, promised)
    assert (found.kind if found else None) == kind


partitions = st.builds(
    windows,
    st.sampled_from(GRAINS),
    st.dates(datetime(2023, 11, 1, tzinfo=UTC).date(), datetime(2024, 3, 1, tzinfo=UTC).date()).map(str),
    st.sampled_from(["UTC", "Europe/Oslo"]),
)


@given(partitions, partitions, st.sampled_from([0, -1, 1]))
@settings(max_examples=60)
def test_dagster_maps_the_first_partition_just_where_nothing_is_found(
    reader: TimePartitions, promised: TimePartitions, start_offset: int
) -> None:
    """A strict mapping: Dagster's own answer for the reader's first partition, long after both have begun."""
    mapping = PartitionMapping("time_window", start_offset=start_offset, end_offset=max(start_offset, 0))
    found = misfit(asked(reader, mapping), promised)
    if found and found.kind == "grain":
        assert start_offset
        assert reader.grain != promised.grain
        return
    down, up = (
        dg.TimeWindowPartitionsDefinition(
            start=one.start, fmt="%Y-%m-%dT%H:%M", timezone=one.timezone, cron_schedule=CRONS.get(one.grain, one.grain)
        )
        for one in (reader, promised)
    )
    now = datetime(2027, 2, 1, 12, tzinfo=UTC)
    first = [key] if (key := down.get_first_partition_key()) else []
    of_dagster = dg.TimeWindowPartitionMapping(start_offset=start_offset, end_offset=max(start_offset, 0))
    try:
        result = of_dagster.get_upstream_mapped_partitions_result_for_partitions(
            down.subset_with_partition_keys(first), down, up, current_time=now
        )
    except dg.DagsterInvalidDefinitionError:
        assert found is not None
        assert found.kind == "timezone"
    else:
        # With an offset Dagster cuts what lies before the producer's start, down to nothing.
        reads = set(result.partitions_subset.get_partition_keys())
        assert (found is None) == (bool(reads) and not result.required_but_nonexistent_partition_keys)

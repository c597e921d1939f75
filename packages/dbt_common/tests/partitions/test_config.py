"""What partitions a model has: read from dbt's own config, or refused in one line."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_dbt_common import DbtConfigError, PartitionConfig, partition_config

Config = dict[str, Any]

MICROBATCH: Config = {
    "incremental_strategy": "microbatch",
    "event_time": "at",
    "batch_size": "day",
    "begin": "2024-01-15",
    "lookback": 2,
}
# Without Australia/Lord_Howe, whose clock changes by half an hour: Dagster's own hours leave thirty minutes out there.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
GRAINS = ("hour", "day", "week", "month", "year")


def model(config: Config | None = None, *, sql: str = "where {{ in_window('at') }}", **partitions: Any) -> Config:
    """Return an incremental model's node; `partitions` is its `meta.dagster.partitions`."""
    meta = {"meta": {"dagster": {"partitions": partitions}}} if partitions else {}
    return {
        "resource_type": "model",
        "name": "visits",
        "original_file_path": "models/visits.sql",
        "raw_code": sql,
        "config": {"materialized": "incremental", "incremental_strategy": "delete+insert", **meta, **(config or {})},
    }


def definition(node: Config) -> dg.TimeWindowPartitionsDefinition:
    config = partition_config(node)
    assert config is not None
    return config.definition()


@pytest.mark.parametrize(
    ("grain", "first", "second"),
    [
        ("hour", "2024-05-16-13:00", "2024-05-16-14:00"),
        ("day", "2024-05-16", "2024-05-17"),
        ("week", "2024-05-13", "2024-05-20"),
        ("month", "2024-05-01", "2024-06-01"),
        ("year", "2024", "2025"),
        ("0 */6 * * *", "2024-05-16T18:00", "2024-05-17T00:00"),
    ],
)
def test_the_start_is_floored_to_its_grain(grain: str, first: str, second: str) -> None:
    partitions = definition(model(grain=grain, start="2024-05-16T13:45:30"))
    keys = partitions.get_partition_keys(current_time=datetime(2030, 1, 1, tzinfo=UTC))
    assert list(keys[:2]) == [first, second]


@pytest.mark.parametrize("start", ["2024-01-01", date(2024, 1, 1), datetime(2024, 1, 1), "2024-01-01T00:00:00+01:00"])  # noqa: DTZ001
def test_a_start_is_in_the_zone_of_the_model(start: object) -> None:
    partitions = definition(model(grain="day", start=start, timezone="Europe/Berlin"))
    window = partitions.time_window_for_partition_key("2024-03-31")
    assert window.end.astimezone(UTC) - window.start.astimezone(UTC) == timedelta(hours=23)
    assert partitions.get_first_partition_key() == "2024-01-01"


def test_microbatch_is_read_in_the_words_of_dbt() -> None:
    config = partition_config(model(MICROBATCH, sql="select 1"))
    assert config == PartitionConfig("day", datetime(2024, 1, 15, tzinfo=UTC), lookback=2)
    unsaid = partition_config(model({key: MICROBATCH[key] for key in MICROBATCH if key != "lookback"}))
    assert unsaid is not None
    assert unsaid.lookback == 1, "dbt's own default"


@pytest.mark.parametrize(
    ("batch_size", "key"), [("hour", "2024-01-15-00:00"), ("month", "2024-01-01"), ("year", "2024")]
)
def test_each_batch_size_of_dbt(batch_size: str, key: str) -> None:
    assert definition(model({**MICROBATCH, "batch_size": batch_size})).get_first_partition_key() == key


def test_end_offset_adds_the_partition_that_is_going_on() -> None:
    now = datetime(2024, 1, 3, 12, tzinfo=UTC)
    complete = definition(model(grain="day", start="2024-01-01")).get_partition_keys(current_time=now)
    current = definition(model(grain="day", start="2024-01-01", end_offset=1)).get_partition_keys(current_time=now)
    assert list(complete) == ["2024-01-01", "2024-01-02"]
    assert list(current) == [*complete, "2024-01-03"]


def test_what_has_no_partitions() -> None:
    assert partition_config(model()) is None
    assert partition_config(model({"materialized": "table"}, grain="day", start="2024-01-01")) is None
    assert partition_config({**model(), "resource_type": "seed", "config": {"materialized": "seed"}}) is None


def test_a_source_says_its_partitions_in_its_meta() -> None:
    meta = {"dagster": {"partitions": {"grain": "day", "start": "2024-01-01"}}}
    source = {"resource_type": "source", "name": "orders", "original_file_path": "models/raw.yml", "config": {}}
    assert partition_config({**source, "meta": meta}) == PartitionConfig("day", datetime(2024, 1, 1, tzinfo=UTC))
    assert partition_config({**source, "config": {"meta": meta}}) == partition_config({**source, "meta": meta})
    assert partition_config(source) is None


TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
PARTITIONS = "meta.dagster.partitions"


@pytest.mark.parametrize(
    ("node", "key", "what"),
    [
        (
            model(grain="fortnight", start="2024-01-01"),
            f"{PARTITIONS}.grain",
            "'fortnight' is neither a cron nor one of",
        ),
        (model(grain="61 * * * *", start="2024-01-01"), f"{PARTITIONS}.grain", "neither a cron"),
        (model(start="2024-01-01"), f"{PARTITIONS}.grain", "missing"),
        (model(grain="day"), f"{PARTITIONS}.start", "missing"),
        (model(grain="day", start=""), f"{PARTITIONS}.start", "missing"),
        (model(grain="day", start="in spring"), f"{PARTITIONS}.start", "'in spring' is not an ISO date"),
        (model(grain="day", start=TOMORROW), f"{PARTITIONS}.start", "in the future"),
        (model(grain="day", start="2024-01-01T00:00:00+05:00"), f"{PARTITIONS}.start", "not of the zone UTC"),
        (model(grain="day", start="2024-01-01", timezone="Europe/Atlantis"), f"{PARTITIONS}.timezone", "not an IANA"),
        (model(grain="day", start="2024-01-01", timezone="../etc"), f"{PARTITIONS}.timezone", "not an IANA"),
        (model(grain="day", start="2024-01-01", timezone="Europe"), f"{PARTITIONS}.timezone", "not an IANA"),
        (model(grain="week", start="0001-01-01"), f"{PARTITIONS}.start", "'0001-01-01' is before 1000"),
        (model(grain="day", start="2024-01-01", end_offset=10**9), f"{PARTITIONS}.end_offset", "from 0 to 100,000"),
        (model(grain="day", start="2024-01-01", lookback=10**9), f"{PARTITIONS}.lookback", "from 0 to 100,000"),
        (model({"meta": {"dagster": {"partitions": {5: 5, "grain": "day"}}}}), f"{PARTITIONS}.5", "unknown key"),
        (model(grain="day", start="2024-01-01", lookback=-1), f"{PARTITIONS}.lookback", "not a whole number"),
        (model(grain="day", start="2024-01-01", lookback="1"), f"{PARTITIONS}.lookback", "not a whole number"),
        (model(grain="day", start="2024-01-01", end_offset=True), f"{PARTITIONS}.end_offset", "not a whole number"),
        (model(grain="day", start="2024-01-01", zone="UTC"), f"{PARTITIONS}.zone", "unknown key"),
        (model({"meta": {"dagster": {"partitions": "day"}}}), PARTITIONS, "not a mapping"),
        (
            model(grain="day", start="2024-01-01", replaces_window="yes"),
            f"{PARTITIONS}.replaces_window",
            "neither true nor false",
        ),
        (model({**MICROBATCH, "event_time": None}), "event_time", "needs it"),
        (model({**MICROBATCH, "begin": None}), "begin", "needs it"),
        (model({**MICROBATCH, "batch_size": None}), "batch_size", "needs it"),
        (model({**MICROBATCH, "batch_size": "week"}), "batch_size", "'week' is none of"),
        (model({**MICROBATCH, "begin": TOMORROW}), "begin", "in the future"),
        (model({**MICROBATCH, "lookback": -1}), "lookback", "not a whole number"),
    ],
)
def test_wrong_config_is_one_line_with_the_file_and_the_key(node: Config, key: str, what: str) -> None:
    with pytest.raises(DbtConfigError) as raised:
        partition_config(node)
    message = str(raised.value)
    assert message.startswith(f"models/visits.sql: visits: config {key}: ")
    assert what in message
    assert "\n" not in message


@settings(max_examples=40)
@given(
    grain=st.sampled_from(GRAINS),
    zone=st.sampled_from(ZONES),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2024, 1, 1)),  # noqa: DTZ001
    ordinal=st.integers(0, 30_000),
)
def test_windows_of_consecutive_partitions_tile_time(grain: str, zone: str, start: datetime, ordinal: int) -> None:
    partitions = definition(model(grain=grain, start=start.isoformat(), timezone=zone))
    first = partitions.time_window_for_partition_key(str(partitions.get_first_partition_key()))
    asked = start.replace(tzinfo=first.start.tzinfo)
    assert first.start.astimezone(UTC) <= asked.astimezone(UTC) < first.end.astimezone(UTC)

    somewhere = asked + timedelta(hours=ordinal * {"hour": 1, "day": 24}.get(grain, 5))
    until = somewhere + timedelta(days=5 if grain == "hour" else 70)
    keys = partitions.get_partition_keys_in_time_window(dg.TimeWindow(somewhere, until))
    windows = [partitions.time_window_for_partition_key(key) for key in keys]
    for before, after in pairwise(windows):
        assert before.end.astimezone(UTC) == after.start.astimezone(UTC)
        assert before.start.astimezone(UTC) < before.end.astimezone(UTC)

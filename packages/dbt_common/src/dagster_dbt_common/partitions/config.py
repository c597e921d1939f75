"""What partitions a dbt model has, read from the model's own config."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dagster import (
    DagsterInvalidDefinitionError,
    DailyPartitionsDefinition,
    HourlyPartitionsDefinition,
    MonthlyPartitionsDefinition,
    TimeWindowPartitionsDefinition,
    WeeklyPartitionsDefinition,
)
from dagster_shared.check import CheckError

from dagster_dbt_common.errors import config_error
from dagster_dbt_common.partitions.promise import REPLACES_WINDOW
from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Mapping

Grain = Literal["hour", "day", "week", "month", "year"]

_GRAINS: tuple[Grain, ...] = ("hour", "day", "week", "month", "year")
_KEYS = {"grain", "start", "timezone", "lookback", "end_offset", REPLACES_WINDOW}
_FIRST_YEAR = 1000  # the names of earlier years are no ISO dates
_MOST = 100_000  # eleven years of hours
_MICROBATCH_GRAINS = ("hour", "day", "month", "year")


@dataclass(frozen=True)
class PartitionConfig:
    """The partitions of one model, as its config says them.

    Args:
        grain: one of hour, day, week (from Monday), month and year, or a cron that says where partitions begin.
        start: the first instant that belongs to a partition, in `timezone`. It is floored to its grain, so that the
            rows between the start of its month and itself are in the first month, not in none.
        timezone: an IANA name.
        lookback: how many earlier partitions of its upstreams a partition reads, besides its own.
        end_offset: how many partitions after the last complete one exist; 1 adds the current one.
    """

    grain: str
    start: datetime
    timezone: str = "UTC"
    lookback: int = 0
    end_offset: int = 0

    def definition(self) -> TimeWindowPartitionsDefinition:
        """Return Dagster's definition of these partitions."""
        start, zone, offset = self.start, self.timezone, self.end_offset
        match self.grain:
            case "hour":
                first = start.replace(minute=0, second=0, microsecond=0)
                return HourlyPartitionsDefinition(first, timezone=zone, end_offset=offset)
            case "day":
                return DailyPartitionsDefinition(_midnight(start), timezone=zone, end_offset=offset)
            case "week":
                monday = _midnight(start) - timedelta(days=start.weekday())
                return WeeklyPartitionsDefinition(monday, timezone=zone, end_offset=offset, day_offset=1)
            case "month":
                return MonthlyPartitionsDefinition(_midnight(start).replace(day=1), timezone=zone, end_offset=offset)
            case "year":
                return TimeWindowPartitionsDefinition(
                    start=_midnight(start).replace(month=1, day=1),
                    fmt="%Y",
                    timezone=zone,
                    cron_schedule="0 0 1 1 *",
                    end_offset=offset,
                )
            case cron:
                return TimeWindowPartitionsDefinition(
                    start=start, fmt="%Y-%m-%dT%H:%M", timezone=zone, cron_schedule=cron, end_offset=offset
                )


def partition_config(props: Mapping[str, Any]) -> PartitionConfig | None:
    """Return the partitions of a dbt node, None for one that is not partitioned.

    A microbatch model says them in dbt's own words (`batch_size`, `begin`, `lookback`), any other incremental model
    or a source in `meta.dagster.partitions`. dbt's own inheritance has decided before: this reads the node's config.

    Args:
        props: a node of a manifest (`nodes` or `sources`).

    Raises:
        DbtConfigError: the config cannot be run; the message names the node's file and the key.
    """
    config = props.get("config", {})
    declared = dagster_meta(props).get("partitions")
    is_source = props.get("resource_type") == "source"
    if not is_source and config.get("materialized") != "incremental":
        return None
    if not is_source and config.get("incremental_strategy") == "microbatch":
        return _microbatch(props, config)
    if declared is None:
        return None
    return _declared(props, declared)


def _microbatch(props: Mapping[str, Any], config: Mapping[str, Any]) -> PartitionConfig:
    for key in ("event_time", "batch_size", "begin"):
        if not config.get(key):
            raise config_error(props, key, "a microbatch model needs it")
    if config["batch_size"] not in _MICROBATCH_GRAINS:
        raise config_error(props, "batch_size", f"{config['batch_size']!r} is none of {', '.join(_MICROBATCH_GRAINS)}")
    # dbt's default lookback is 1. Under Dagster a batch is built because its partition was asked for, and the followers
    # of a late one through the partition mapping, so the same number means the same rows.
    return PartitionConfig(
        grain=config["batch_size"],
        start=_start(props, "begin", config["begin"], ZoneInfo("UTC")),
        lookback=_count(props, "lookback", config.get("lookback", 1)),
    )


def _declared(props: Mapping[str, Any], declared: Any) -> PartitionConfig:
    where = "meta.dagster.partitions"
    if not isinstance(declared, dict):
        raise config_error(props, where, f"{declared!r} is not a mapping with the keys grain and start")
    unknown = sorted(map(str, set(declared) - _KEYS))
    if unknown:
        raise config_error(props, f"{where}.{unknown[0]}", f"unknown key; the keys are {', '.join(sorted(_KEYS))}")
    for key in ("grain", "start"):
        if declared.get(key) in (None, ""):
            raise config_error(props, f"{where}.{key}", "it is missing")
    grain = str(declared["grain"])
    zone_name = str(declared.get("timezone", "UTC"))
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # of `Europe`, a folder, and of `` on some Pythons
        raise config_error(props, f"{where}.timezone", f"{zone_name!r} is not an IANA time zone") from None
    config = PartitionConfig(
        grain=grain,
        start=_start(props, f"{where}.start", declared["start"], zone),
        timezone=zone_name,
        lookback=_count(props, f"{where}.lookback", declared.get("lookback", 0)),
        end_offset=_count(props, f"{where}.end_offset", declared.get("end_offset", 0)),
    )
    if not isinstance(declared.get(REPLACES_WINDOW, False), bool):
        raise config_error(
            props, f"{where}.{REPLACES_WINDOW}", f"{declared[REPLACES_WINDOW]!r} is neither true nor false"
        )
    if grain not in _GRAINS:
        try:
            config.definition()
        except (DagsterInvalidDefinitionError, CheckError):
            message = f"{grain!r} is neither a cron nor one of {', '.join(_GRAINS)}"
            raise config_error(props, f"{where}.grain", message) from None
    return config


def _start(props: Mapping[str, Any], key: str, value: Any, zone: ZoneInfo) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        start = datetime(value.year, value.month, value.day, tzinfo=zone)
    else:
        try:
            start = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            raise config_error(props, key, f"{value!r} is not an ISO date or time") from None
    if start.tzinfo is None:
        start = start.replace(tzinfo=zone)
    elif start.utcoffset() != start.astimezone(zone).utcoffset():
        raise config_error(props, key, f"{value!r} has an offset that is not of the zone {zone.key}: leave it out")
    if start.year < _FIRST_YEAR:
        raise config_error(props, key, f"{value!r} is before {_FIRST_YEAR}, where no partitions can begin")
    if start > datetime.now(UTC):
        raise config_error(props, key, f"{value!r} is in the future, so there would be no partition")
    return start.astimezone(zone)


def _count(props: Mapping[str, Any], key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise config_error(props, key, f"{value!r} is not a whole number from 0 to {_MOST:,}")
    return int(value)


def _midnight(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)

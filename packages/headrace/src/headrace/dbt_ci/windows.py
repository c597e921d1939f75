"""Which window of time CI builds of partitioned models: whole partitions that production has."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from headrace.cli.user_errors import UserError
from headrace.dbt_ci.warehouse import Warehouse, quoted, relation_of

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Partitions:
    """The partitions of a model.

    Args:
        grain: hour, day, week, month or year; any other counts as a day.
        column: the model's column of time, where it names one.
        zone: the time zone of the partitions' ends.
    """

    grain: str
    column: str | None
    zone: str

    def first_day(self, day: date) -> date:
        """Return the first day of the partition that a day is in."""
        if self.grain == "week":
            return day - timedelta(days=day.weekday())
        if self.grain == "month":
            return day.replace(day=1)
        return day.replace(month=1, day=1) if self.grain == "year" else day

    def next_day(self, day: date) -> date:
        """Return the first day after the partition that a day is in."""
        longest = {"week": 7, "month": 31, "year": 366}.get(self.grain, 1)
        return self.first_day(self.first_day(day) + longest * _DAY)


@dataclass(frozen=True)
class Window:
    """A half-open window of days.

    Args:
        start: the first day.
        end: the first day after it.
    """

    start: date
    end: date

    def flags(self) -> Sequence[str]:
        """Return dbt's options: the variables of `in_window()`, and the event time of microbatch models."""
        start, end = self.start.isoformat(), self.end.isoformat()
        window = json.dumps({"min_date": start, "max_date": end})
        return ["--vars", window, "--event-time-start", start, "--event-time-end", end]

    def predicate(self, partitions: Partitions, type_: str) -> str:
        """Return the SQL by which rows of a model are in the window.

        Args:
            partitions: the model's, with a column.
            type_: the type of the column.
        """
        column = quoted(partitions.column or "")
        if type_ == "DATE":
            return f"({column} >= '{self.start}' and {column} < '{self.end}')"
        zone = ZoneInfo(partitions.zone)
        start, end = (
            datetime.combine(day, time(), zone).astimezone(UTC).replace(tzinfo=None) for day in (self.start, self.end)
        )
        instant = f"cast({column} as timestamp)"
        return f"({instant} >= timestamp '{start}' and {instant} < timestamp '{end}')"


def partitions_of(node: Mapping[str, Any]) -> Partitions | None:
    """Return the partitions of a node by its config, None for one that has none."""
    config = node["config"]
    if config.get("materialized") != "incremental":
        return None
    if config.get("incremental_strategy") == "microbatch":
        return Partitions(str(config.get("batch_size")), config.get("event_time"), "UTC")
    declared = ((config.get("meta") or {}).get("dagster") or {}).get("partitions")
    if not declared:
        return None
    return Partitions(str(declared.get("grain")), config.get("event_time"), str(declared.get("timezone", "UTC")))


def window_of(
    built: Iterable[Mapping[str, Any]],
    production: Iterable[Mapping[str, Any]],
    warehouse: Warehouse,
    *,
    first: date | None,
    last: date | None,
    days: int,
) -> Window | None:
    """Return the window that CI builds, None where no model that is built has partitions.

    By default it is the last whole partitions that production has of all these models: what production has not built
    yet would be a difference that no change made. It is wider where a coarser partition would be cut in two.

    Args:
        built: the nodes that are built.
        production: production's nodes of these models; all of its nodes where none of them is in production.
        warehouse: production.
        first: the first day, where it is given.
        last: the last day, where it is given.
        days: how many days, where no first one is given.

    Raises:
        UserError: there is nothing to tell a window by, or the days are not in order.
    """
    partitions = [found for node in built if (found := partitions_of(node))]
    if not partitions:
        return None
    if last is not None:
        end = _widened(last + _DAY, partitions)
    else:
        ends = [there for node in production if (there := _bounds(node, warehouse))]
        if not ends:
            raise UserError(
                "production has no rows of a partitioned model to choose a window from: give --from and --to"
            )
        end = min(end for _, end in ends)
        whole = _narrowed(end, partitions)
        # A month that has begun is better than none.
        end = whole if whole > min(start for start, _ in ends) else _widened(end, partitions)
    start = _narrowed(first if first is not None else end - days * _DAY, partitions)
    if start >= end:
        raise UserError(f"--from {start} is not before {end}, where the window ends: change --from or --to")
    return Window(start, end)


def _bounds(node: Mapping[str, Any], warehouse: Warehouse) -> tuple[date, date] | None:
    """Return the first day of a model's first partition in production, and the first day after its last one."""
    partitions = partitions_of(node)
    relation = relation_of(node)
    types = warehouse.columns(relation) if partitions and partitions.column else None
    if not partitions or not partitions.column or not types or partitions.column not in types:
        return None
    column = quoted(partitions.column)
    instant = column if types[partitions.column] == "DATE" else f"cast({column} as timestamp)"
    [(first, last)] = warehouse.rows(f"select min({instant}), max({instant}) from {relation}")  # noqa: S608
    if first is None:
        return None
    days = [_day(value, partitions.zone) for value in (first, last)]
    return partitions.first_day(days[0]), partitions.next_day(days[1])


def _day(value: date | datetime, zone: str) -> date:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()
    return value


def _narrowed(day: date, partitions: Collection[Partitions]) -> date:
    """Return the latest day up to this one at which a partition of each grain begins."""
    while (earlier := min(each.first_day(day) for each in partitions)) < day:
        day = earlier
    return day


def _widened(day: date, partitions: Collection[Partitions]) -> date:
    """Return the earliest day from this one on at which a partition of each grain begins."""
    while (later := max(each.next_day(day - _DAY) for each in partitions)) > day:
        day = later
    return day

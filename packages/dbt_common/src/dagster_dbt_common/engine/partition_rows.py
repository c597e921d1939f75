"""How many rows of each partition a table has, by one scan of one column through dbt's adapter."""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dagster import TimeWindow, get_dagster_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dagster import TimeWindowPartitionsDefinition
    from dbt.adapters.base.impl import BaseAdapter

_DAY = 24 * 60 * 60
_TYPE_OF = {"duckdb": "typeof({})", "postgres": "pg_typeof({})::text", "spark": "typeof({})"}
_SECONDS_OF = {"spark": "cast(cast({} as timestamp) as double)"}
_SECONDS = "extract(epoch from {})"
_WIDER = timedelta(days=2)
"""More than any zone is from UTC: what is read is pruned by a comparison that may take a local time for one of UTC."""
_LOG = get_dagster_logger()


class PartitionRows:
    """Counts the rows of partitions that are neighbours.

    Args:
        definition: the partitions.
        keys: those that are counted, in the order of time.
    """

    def __init__(self, definition: TimeWindowPartitionsDefinition, keys: Sequence[str]) -> None:
        self.keys = keys
        self._definition = definition
        self._zone = ZoneInfo(definition.timezone)

    @cached_property
    def _windows(self) -> Sequence[TimeWindow]:
        # 8,760 of them take half a second: only where something is counted.
        return [self._definition.time_window_for_partition_key(key) for key in self.keys]

    @cached_property
    def _starts(self) -> Sequence[float]:
        return [window.start.timestamp() for window in self._windows]

    @cached_property
    def _ends(self) -> Sequence[float]:
        return [window.end.timestamp() for window in self._windows]

    @cached_property
    def _seconds(self) -> int:
        """Return so many seconds that no window begins or ends within them, and no date either."""
        return math.gcd(_DAY, *map(int, self._starts), *map(int, self._ends))

    def of(self, adapter: BaseAdapter, props: Mapping[str, Any]) -> Mapping[str, int] | None:
        """Return the rows of each partition, 0 among them; rows without a time are in none.

        None is what cannot be counted: a model without `event_time`, a warehouse other than DuckDB, Postgres and
        Spark, or one that gave an error, which is logged.

        Args:
            adapter: dbt's adapter.
            props: the node of the model.
        """
        counted = self._counted(adapter, props)
        return None if counted is None else self._by_partition(counted)[0]

    def of_all(self, adapter: BaseAdapter, props: Mapping[str, Any]) -> tuple[Mapping[str, int], int] | None:
        """Return the same, and how many rows are in none of these partitions; it reads all of the table.

        Args:
            adapter: dbt's adapter.
            props: the node of the model.
        """
        counted = self._counted(adapter, props, bounded=False)
        return None if counted is None else self._by_partition(counted)

    def _by_partition(self, counted: Sequence[tuple[int | None, int]]) -> tuple[Mapping[str, int], int]:
        found = dict.fromkeys(self.keys, 0)
        outside = 0
        for place, count in counted:
            if place is None:
                outside += count
            else:
                found[self.keys[place]] += count
        return found, outside

    def _counted(
        self, adapter: BaseAdapter, props: Mapping[str, Any], *, bounded: bool = True
    ) -> Sequence[tuple[int | None, int]] | None:
        """Return counts of rows with the place of their partition among the keys, None for one of no partition."""
        column, type_of = props["config"].get("event_time"), _TYPE_OF.get(adapter.type())
        if not column or not type_of or not self.keys:
            return None
        seconds = _SECONDS_OF.get(adapter.type(), _SECONDS).format(column)
        inside = (
            f"{column} >= cast('{self._day(self._windows[0].start - _WIDER)}' as date) "
            f"and {column} < cast('{self._day(self._windows[-1].end + _WIDER)}' as date)"
        )
        query = (
            f"select floor({seconds} / {self._seconds}), count(*), "  # noqa: S608 - dbt's own names
            f"min({type_of.format(column)}) from {props['relation_name']} "
            f"where {inside if bounded else f'{column} is not null'} group by 1"
        )
        try:
            with adapter.connection_named(f"partition_rows_{props['unique_id']}"):
                _, table = adapter.execute(query, fetch=True)
        except Exception as error:  # the adapter's own kind of error; a count that is missing must not fail a model
            _LOG.warning(f"no rows by partition of {props['relation_name']}: {error}")
            return None
        return [(self._place(bucket, str(kind)), int(count)) for bucket, count, kind in table.rows]

    def _place(self, bucket: float | None, kind: str) -> int | None:
        """Return the place of the partition of rows in a bucket of so many seconds since 1970; that of a date is local.

        None is outside of them all, as infinity is, which DuckDB gives no number.
        """
        moment = math.inf if bucket is None else float(bucket) * self._seconds
        beyond = _WIDER.total_seconds()
        if not self._starts[0] - beyond <= moment <= self._ends[-1] + beyond:
            return None
        if kind.lower() == "date":
            moment = datetime.fromtimestamp(moment, UTC).replace(tzinfo=self._zone).timestamp()
        place = bisect_right(self._starts, moment) - 1
        return place if place >= 0 and moment < self._ends[place] else None

    @staticmethod
    def _day(moment: datetime) -> str:
        return moment.astimezone(UTC).date().isoformat()


def can_count(adapter: BaseAdapter) -> bool:
    """Return whether the adapter is one whose SQL is known here."""
    return adapter.type() in _TYPE_OF


def tables(adapter: BaseAdapter) -> Collection[tuple[str, str, str]]:
    """Return database, schema and name of all tables and views, in lower case, by the standard's `information_schema`.

    Not by the adapter's `get_relation`, which runs a macro, and needs a manifest for that. Spark has no such schema,
    and no databases: they are empty.
    """
    if adapter.type() == "spark":
        with adapter.connection_named("tables"):
            _, schemas = adapter.execute("show schemas", fetch=True)
            there = [adapter.execute(f"show tables in `{row[0]}`", fetch=True)[1] for row in schemas.rows]
        return {("", str(row[0]).lower(), str(row[1]).lower()) for table in there for row in table.rows}
    query = "select lower(table_catalog), lower(table_schema), lower(table_name) from information_schema.tables"
    with adapter.connection_named("tables"):
        _, found = adapter.execute(query, fetch=True)
    return {(str(row[0]), str(row[1]), str(row[2])) for row in found.rows}

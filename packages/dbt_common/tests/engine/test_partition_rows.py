"""How many rows each partition has: exactly, whatever the windows are and however few of them are counted."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import duckdb
import pytest
from dagster import DailyPartitionsDefinition, TimeWindowPartitionsDefinition

from dagster_dbt_common.engine.partition_rows import PartitionRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from dbt.adapters.base.impl import BaseAdapter

PROPS = {"unique_id": "model.shop.visits", "relation_name": "visits", "config": {"event_time": "seen"}}


class Adapter:
    """What is asked of dbt's adapter, over DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def type(self) -> str:
        return "duckdb"

    def connection_named(self, _name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def execute(self, query: str, *, fetch: bool) -> tuple[None, Any]:
        assert fetch
        return None, SimpleNamespace(rows=self._connection.execute(query).fetchall())


@pytest.fixture(params=["UTC", "America/New_York"])
def connection(request: pytest.FixtureRequest) -> Iterator[duckdb.DuckDBPyConnection]:
    """A row each minute of four days around a change of the clock, and rows of no time."""
    with duckdb.connect() as opened:
        opened.execute(f"set TimeZone = '{request.param}'")
        opened.execute(
            "create table minutes as select unnest(generate_series(timestamp '2024-03-30', "
            "timestamp '2024-04-02 23:59', interval 1 minute)) as seen"
        )
        for odd in ("null", "'infinity'", "'-infinity'", "'0001-01-01'"):
            opened.execute(f"insert into minutes values ({odd})")
        yield opened


def counted(
    connection: duckdb.DuckDBPyConnection, kind: str, definition: TimeWindowPartitionsDefinition, keys: Sequence[str]
) -> Sequence[int]:
    column = "seen at time zone 'UTC'" if kind == "timestamptz" else f"seen::{kind}"
    connection.execute(f"create view visits as select {column} as seen from minutes")
    found = PartitionRows(definition, keys).of(cast("BaseAdapter", Adapter(connection)), PROPS)
    assert found is not None
    assert list(found) == list(keys)
    return [*found.values()]


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
@pytest.mark.parametrize(
    ("cron", "keys", "minutes"),
    [
        ("*/10 * * * *", ["2024-03-30-00:00"], [10]),
        ("*/10 * * * *", ["2024-03-30-00:10", "2024-03-30-00:20"], [10, 10]),
        ("5 * * * *", ["2024-03-30-00:05"], [60]),
        ("10 6 * * *", ["2024-03-30-06:10", "2024-03-31-06:10"], [1440, 1440]),
    ],
)
def test_of_any_grain(
    connection: duckdb.DuckDBPyConnection, kind: str, cron: str, keys: Sequence[str], minutes: Sequence[int]
) -> None:
    definition = TimeWindowPartitionsDefinition(start="2024-03-30-00:00", cron_schedule=cron, fmt="%Y-%m-%d-%H:%M")
    assert counted(connection, kind, definition, keys) == minutes


@pytest.mark.parametrize(("kind", "outside"), [("timestamp", 1440 + 3), ("timestamptz", 1440 + 3), ("date", 1440 + 3)])
def test_rows_of_no_partition_are_counted_too(connection: duckdb.DuckDBPyConnection, kind: str, outside: int) -> None:
    days = DailyPartitionsDefinition("2024-03-31")
    column = "seen at time zone 'UTC'" if kind == "timestamptz" else f"seen::{kind}"
    connection.execute(f"create view visits as select {column} as seen from minutes")
    keys = ["2024-03-31", "2024-04-01", "2024-04-02"]
    found = PartitionRows(days, keys).of_all(cast("BaseAdapter", Adapter(connection)), PROPS)
    assert found == (dict.fromkeys(keys, 1440), outside)


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_of_local_days(connection: duckdb.DuckDBPyConnection, kind: str) -> None:
    days = DailyPartitionsDefinition("2024-03-30", timezone="Europe/Oslo")
    keys = ["2024-03-31", "2024-04-01"]
    assert counted(connection, kind, days, keys) == [23 * 60, 24 * 60], "the first of them has 23 hours"


@pytest.mark.parametrize("zone", ["Europe/Oslo", "America/New_York"])
def test_a_date_is_a_day_of_the_partitions_zone(connection: duckdb.DuckDBPyConnection, zone: str) -> None:
    """East of UTC its midnight there is in the same day as that of UTC, west of it in the day before."""
    days = DailyPartitionsDefinition("2024-03-30", timezone=zone)
    # The first and the last day that have rows, and one after them.
    assert counted(connection, "date", days, ["2024-03-30"]) == [1440]
    connection.execute("drop view visits")
    assert counted(connection, "date", days, ["2024-04-02", "2024-04-03"]) == [1440, 0]

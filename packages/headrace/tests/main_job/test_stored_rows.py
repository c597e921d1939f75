"""Which partitions have lost all of their rows, by the time of the rows in the zone of the partitions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pytest
from dagster import AssetKey, DailyPartitionsDefinition, HourlyPartitionsDefinition, TimeWindowPartitionsDefinition

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.stored_rows import StoredRows

if TYPE_CHECKING:
    from pathlib import Path

    from headrace_staleness import Partition

OSLO_DAYS = DailyPartitionsDefinition("2024-03-30", timezone="Europe/Oslo", end_offset=0)
NEW_YORK_DAYS = DailyPartitionsDefinition("2024-03-30", timezone="America/New_York")
HOURS = HourlyPartitionsDefinition("2024-03-30-00:00")
SHIFTS = TimeWindowPartitionsDefinition(start="2024-03-30-06:10", cron_schedule="10 6 * * *", fmt="%Y-%m-%d-%H:%M")


def node(file: Path, definition: TimeWindowPartitionsDefinition, column: str | None = "seen") -> AssetNode:
    return AssetNode(
        AssetKey("visits"),
        "analytics",
        frozenset(),
        definition,
        "1",
        is_virtual=False,
        duckdb_file=str(file),
        table="w.main.visits",
        event_time=column,
    )


def write(file: Path, kind: str, time: str) -> None:
    with duckdb.connect(file) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"create or replace table visits (seen {kind})")
        connection.execute(f"insert into visits values ('{time}')")


@pytest.mark.parametrize(
    ("definition", "kind", "time", "filled", "empty"),
    [
        # The day before the change of the clock begins at 23:00 UTC, and the day of the change ends at 22:00.
        (OSLO_DAYS, "timestamptz", "2024-03-30 22:59:59+00", "2024-03-30", "2024-03-31"),
        (OSLO_DAYS, "timestamptz", "2024-03-30 23:00:00+00", "2024-03-31", "2024-03-30"),
        (OSLO_DAYS, "timestamp", "2024-03-31 22:00:00", "2024-04-01", "2024-03-31"),
        (OSLO_DAYS, "date", "2024-03-31", "2024-03-31", "2024-03-30"),
        (NEW_YORK_DAYS, "date", "2024-03-31", "2024-03-31", "2024-03-30"),
        (HOURS, "timestamp", "2024-03-30 01:59:59.999999", "2024-03-30-01:00", "2024-03-30-02:00"),
        (SHIFTS, "timestamp", "2024-03-31 06:09:59", "2024-03-30-06:10", "2024-03-31-06:10"),
    ],
)
def test_a_partition_without_a_row_is_emptied(  # noqa: PLR0917 - a case has five parts
    tmp_path: Path,
    definition: TimeWindowPartitionsDefinition,
    kind: str,
    time: str,
    filled: Partition,
    empty: Partition,
) -> None:
    file = tmp_path / "w.duckdb"
    write(file, kind, time)
    visits = node(file, definition)
    assert StoredRows(tmp_path).emptied(visits, {filled: 1, empty: 2}) == [empty]
    # One that was built empty, or of which nobody knows how it was built, has lost nothing.
    assert StoredRows(tmp_path).emptied(visits, {filled: 1, empty: 0}) == []
    assert StoredRows(tmp_path).emptied(visits, {filled: 1, empty: None}) == []


def test_a_file_in_which_nothing_was_lost_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    write(file, "timestamp", "2024-03-30 12:00:00")
    visits, rows = node(file, HOURS), {"2024-03-30-12:00": 1}
    with StoredRows(tmp_path) as stored:
        assert stored.emptied(visits, rows) == []
    assert not StoredRows(tmp_path).emptied(visits, {"2024-03-30-13:00": 1}), "it is not read"
    write(file, "timestamp", "2024-03-30 11:00:00")
    for _ in range(2):
        with StoredRows(tmp_path) as stored:
            assert stored.emptied(visits, {"2024-03-30-11:00": 1}) == []
            assert stored.emptied(visits, rows) == ["2024-03-30-12:00"], "what was lost is told until it is back"
            assert stored.emptied(visits, rows) == ["2024-03-30-12:00"], "of each model of the file"


def test_what_was_committed_is_seen_before_it_is_in_the_file(tmp_path: Path) -> None:
    """A tool that is killed leaves what it has committed in DuckDB's log, beside a file that is as it was."""
    file, rows = tmp_path / "w.duckdb", {"2024-03-30-12:00": 1}
    write(file, "timestamp", "2024-03-30 12:00:00")
    with StoredRows(tmp_path) as stored:
        assert stored.emptied(node(file, HOURS), rows) == []
    before = file.stat()
    code = "import duckdb, os; c = duckdb.connect('w.duckdb'); c.execute('delete from visits'); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert StoredRows(tmp_path).emptied(node(file, HOURS), rows) == ["2024-03-30-12:00"]


@pytest.mark.parametrize("time", ["infinity", "-infinity", "20000-01-01 00:00:00", "0001-01-01 00:00:00"])
def test_a_time_of_no_partition_fills_none(tmp_path: Path, time: str) -> None:
    file = tmp_path / "w.duckdb"
    write(file, "timestamp", time)
    assert StoredRows(tmp_path).emptied(node(file, HOURS), {"2024-03-30-12:00": 1}) == ["2024-03-30-12:00"]


def test_a_name_that_needs_quotes_is_read_and_a_partition_of_former_days_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "my-ware.duckdb"
    with duckdb.connect(file) as connection:
        connection.execute("""create table "order-items" as select timestamp '2024-03-30 12:00:00' as seen""")
    visits = replace(node(file, HOURS), table="my-ware.main.order-items")
    rows = {"2024-03-30-12:00": 1, "2024-03-30-13:00": 1, "2024-03-29-12:00": 1, "2024-03-30": 1}
    assert StoredRows(tmp_path).emptied(visits, rows) == ["2024-03-30-13:00"]


def test_what_cannot_be_read_has_lost_nothing(tmp_path: Path) -> None:
    rows = {"2024-03-30-12:00": 1}
    (tmp_path / "w.duckdb").write_bytes(b"as if another process were writing it")
    assert not StoredRows(tmp_path).emptied(node(tmp_path / "w.duckdb", HOURS), rows)
    assert not StoredRows(tmp_path).emptied(node(tmp_path / "w.duckdb", HOURS, None), rows)

"""How many partitions of a run are loaded at once, and what an end in the middle leaves."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ingest.exports import ExportError
from ingest.loading import AT_ONCE, Loaded, load_each

if TYPE_CHECKING:
    import duckdb

DAYS = [f"2024-01-{day:02}" for day in range(1, 31)]
DEADLINE_SECONDS = 60


def loaded(day: str) -> Loaded:
    return Loaded(
        Path(day), "", day, rows=1, bytes=1, extra_columns=[], preview="", quarantined_rows=0, quarantine=None
    )


def test_some_are_loaded_at_once_each_by_a_cursor_of_its_own(connection: duckdb.DuckDBPyConnection) -> None:
    met = threading.Barrier(AT_ONCE)
    at_work: set[int] = set()

    def load_one(cursor: duckdb.DuckDBPyConnection, day: str) -> Loaded:
        assert id(cursor) not in at_work
        at_work.add(id(cursor))
        met.wait(DEADLINE_SECONDS)
        assert cursor.sql("select current_setting('TimeZone')").fetchall() == [("UTC",)]
        at_work.remove(id(cursor))
        if day == DAYS[3]:
            raise ExportError(f"{day} is wrong")
        return loaded(day)

    done, failed = load_each(connection, load_one, DAYS)
    assert list(done) == [day for day in DAYS if day != DAYS[3]]
    assert failed == {DAYS[3]: f"{DAYS[3]} is wrong"}


def test_an_error_ends_it_and_begins_no_other_one(connection: duckdb.DuckDBPyConnection) -> None:
    begun = []

    def load_one(_cursor: duckdb.DuckDBPyConnection, day: str) -> Loaded:
        begun.append(day)
        if day == DAYS[1]:
            raise KeyboardInterrupt
        threading.Event().wait(0.05)
        return loaded(day)

    with pytest.raises(KeyboardInterrupt):
        load_each(connection, load_one, DAYS)
    assert len(begun) < len(DAYS)
    assert not [one.name for one in threading.enumerate() if one.name.startswith("loads an export")]

"""The matrix of partitioned models on DuckDB: each kind has the rows of a full build however it is built.

All models of the same partitions are built together. `make nightly` builds every cell, `make test` one grain in one
zone, chosen by the revision. What is refused when a project is loaded is in `test_promise.py`; what only the warehouse
can tell is here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from kinds_warehouse import Warehouse, build_in_every_way, refusal_of_a_date
from partition_kinds import CRON, SESSIONS, Cell, around, cells, neighbours, partition_of, partitions, source_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = [pytest.mark.slow("builds each kind of partitioned model two dozen times"), pytest.mark.timeout(900)]

THOROUGH = bool(os.environ.get("HEADRACE_THOROUGH"))


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Warehouse]:
    """Return what opens the warehouse whose sessions have a zone, each once."""
    opened: dict[str, Warehouse] = {}

    def open_(session: str) -> Warehouse:
        if session not in opened:
            root = tmp_path_factory.mktemp("duckdb")
            file = root / "warehouse.duckdb"

            def query(statement: str) -> Sequence[tuple[Any, ...]]:
                with duckdb.connect(file) as connection:
                    connection.execute("set TimeZone = 'UTC'")
                    return connection.execute(statement).fetchall()

            profile = f"{{type: duckdb, path: '{file}', settings: {{TimeZone: '{session}'}}}}"
            opened[session] = Warehouse(root, profile, query, [*cells()])
        return opened[session]

    return open_


@pytest.mark.some_of("kinds of partitions on DuckDB", 1)
@pytest.mark.parametrize(("grain", "zone"), [*partitions()])
@pytest.mark.parametrize("session", SESSIONS)
def test_all_kinds_of_these_partitions_equal_a_full_build(
    open_: Callable[[str], Warehouse], session: str, grain: str, zone: str
) -> None:
    build_in_every_way(open_(session), grain, zone, seed=f"{session} {grain} {zone}", thorough=THOROUGH)


@pytest.mark.some_of("dates of hours on DuckDB", 1)
@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.is_told_by_the_run], ids=lambda cell: cell.name)
def test_a_date_is_refused_where_partitions_begin_at_hours(open_: Callable[[str], Warehouse], cell: Cell) -> None:
    said = refusal_of_a_date(open_("UTC"), cell)
    if cell.strategy == "microbatch":
        assert f"event_time local_day of {cell.name} is a date, and its partitions do not begin at midnight" in said
    else:
        assert f" of {cell.reads_in}: it is a date, and the partitions do not begin at midnight" in said


def test_a_date_as_event_time_is_refused_there_too(open_: Callable[[str], Warehouse]) -> None:
    """The first build has the rows of its shift, by another column; the next one cannot replace them."""
    warehouse = open_("UTC")
    begin = neighbours(around("UTC", "spring"), CRON, "UTC")[1]
    assert warehouse.build(["shifts_by_time"], begin, begin).success
    of_shift = [number for number, at in source_rows() if partition_of(at, CRON, "UTC") == begin]
    assert warehouse.ids(["shifts_by_time"]) == {"shifts_by_time": of_shift}
    result = warehouse.build(["shifts_by_time"], begin, begin)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    said = "event_time local_day of shifts_by_time is a date, and its partitions do not begin at midnight"
    assert said in str(failure.step_failure_data.error)
    assert warehouse.ids(["shifts_by_time"]) == {"shifts_by_time": of_shift}

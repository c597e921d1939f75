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
from kinds_warehouse import Warehouse, build_in_every_way, build_what_looks_back, refusal_of_a_date
from partition_kinds import CRON, SESSIONS, Cell, around, cells, neighbours, partitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = [pytest.mark.slow("builds each kind of partitioned model two dozen times"), pytest.mark.timeout(900)]

THOROUGH = bool(os.environ.get("HEADRACE_THOROUGH"))


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Warehouse]]:
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

    yield open_
    for warehouse in opened.values():
        warehouse.close()


@pytest.mark.some_of("kinds of partitions", 1)
@pytest.mark.parametrize(("grain", "zone"), [*partitions()])
@pytest.mark.parametrize("session", SESSIONS)
def test_all_kinds_of_these_partitions_equal_a_full_build(
    open_: Callable[[str], Warehouse], session: str, grain: str, zone: str
) -> None:
    build_in_every_way(open_(session), grain, zone, seed=f"{session} {grain} {zone}", thorough=THOROUGH)
    build_what_looks_back(open_(session), grain, zone, seed=f"{session} {grain} {zone}")


@pytest.mark.some_of("dates of hours on DuckDB", 1)
@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.is_told_by_the_run], ids=lambda cell: cell.name)
def test_a_date_is_refused_where_partitions_begin_at_hours(open_: Callable[[str], Warehouse], cell: Cell) -> None:
    said = refusal_of_a_date(open_("UTC"), cell)
    assert "a date, and " in said
    assert "partitions do not begin at midnight: take a timestamp" in said
    assert cell.name in said


def test_a_date_as_event_time_is_refused_though_the_window_is_of_another_column(
    open_: Callable[[str], Warehouse],
) -> None:
    """In the first build by its type in the warehouse, and in the next before a row is replaced."""
    warehouse = open_("UTC")
    begin = neighbours(around("UTC", "spring"), CRON, "UTC")[1]
    for _ in range(2):
        result = warehouse.build(["shifts_by_time"], begin, begin)
        assert not result.success
        assert result.get_asset_materialization_events() == []
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        said = str(failure.step_failure_data.error)
        assert "is a date, and the partitions do not begin at midnight: take a timestamp" in said

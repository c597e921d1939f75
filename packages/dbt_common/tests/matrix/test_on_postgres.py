"""The matrix of `test_on_duckdb.py` on a real Postgres."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg2
import pytest
from kinds_warehouse import Warehouse, build_in_every_way, build_what_looks_back, refusal_of_a_date
from partition_kinds import SESSIONS, Cell, around, cells, neighbours, partitions
from postgres_server import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = [pytest.mark.slow("builds each kind of partitioned model in Postgres"), pytest.mark.timeout(900)]

THOROUGH = bool(os.environ.get("HEADRACE_THOROUGH"))
MODELS = [*cells()]


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Warehouse]]:
    """Return what opens the database whose sessions have a zone, each once."""
    opened: dict[str, Warehouse] = {}
    connections = []
    with postgres() as home:

        def open_(session: str) -> Warehouse:
            if session in opened:
                return opened[session]
            name = f"in_{session.rpartition('/')[2].lower()}"
            made = psycopg2.connect(host=str(home), user="postgres", dbname="postgres")
            made.autocommit = True
            connections.append(made)
            with made.cursor() as cursor:
                cursor.execute(f"create database {name}")
                cursor.execute(f"alter database {name} set timezone = '{session}'")
            connection = psycopg2.connect(host=str(home), user="postgres", dbname=name)
            connection.autocommit = True
            connections.append(connection)

            def query(statement: str) -> Sequence[tuple[Any, ...]]:
                with connection.cursor() as cursor:
                    cursor.execute("set timezone = 'UTC'")
                    cursor.execute(statement)
                    return cursor.fetchall() if cursor.description else []

            profile = f"type: postgres, host: '{home}', port: 5432, user: postgres, password: none, dbname: {name}"
            root = tmp_path_factory.mktemp("postgres")
            opened[session] = Warehouse(root, f"{{{profile}, schema: public, threads: 4}}", query, MODELS)
            return opened[session]

        yield open_
        for warehouse in opened.values():
            warehouse.close()
        for connection in connections:
            connection.close()


@pytest.mark.some_of("kinds of partitions", 1)
@pytest.mark.parametrize(("grain", "zone"), [*partitions()])
@pytest.mark.parametrize("session", SESSIONS)
def test_all_kinds_of_these_partitions_equal_a_full_build(
    open_: Callable[[str], Warehouse], session: str, grain: str, zone: str
) -> None:
    build_in_every_way(open_(session), grain, zone, seed=f"{session} {grain} {zone}", thorough=THOROUGH)
    build_what_looks_back(open_(session), grain, zone, seed=f"{session} {grain} {zone}")


@pytest.mark.some_of("dates of hours on Postgres", 1)
@pytest.mark.parametrize("cell", [cell for cell in MODELS if cell.is_told_by_the_run], ids=lambda cell: cell.name)
def test_a_date_is_refused_where_partitions_begin_at_hours(open_: Callable[[str], Warehouse], cell: Cell) -> None:
    said = refusal_of_a_date(open_("UTC"), cell)
    # A microbatch reads no `in_window`: it is told by the column that was built.
    told = cell.name if cell.strategy == "microbatch" else f" of {cell.reads_in}: it is a date, and the partitions"
    assert told in said
    assert "partitions do not begin at midnight: take a timestamp" in said


def test_columns_have_the_types_of_the_warehouse_and_their_lineage(open_: Callable[[str], Warehouse]) -> None:
    name = "dw_month_timestamptz_utc_ephemeral"
    begin = neighbours(around("UTC", "spring"), "month", "UTC")[1]
    (event,) = open_("UTC").build([name], begin, begin).get_asset_materialization_events()
    schema = event.materialization.metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert [(column.name, column.type) for column in schema.columns] == [
        ("id", "integer"),
        ("seen", "timestamp with time zone"),
    ]
    lineage = event.materialization.metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    deps = [[(dep.asset_key.path, dep.column_name) for dep in deps] for deps in lineage.deps_by_column.values()]
    assert deps == [[(["raw", "visits"], "id")], [(["raw", "visits"], "seen")]]

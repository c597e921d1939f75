"""The matrix of `test_on_duckdb.py` on a DuckLake whose catalog is a real Postgres."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, closing
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg2
import pytest
from kinds_warehouse import Warehouse, build_in_every_way, build_what_looks_back, refusal_of_a_date
from partition_kinds import SESSIONS, Cell, cells, partitions
from postgres_server import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = [pytest.mark.slow("builds each kind of partitioned model in a DuckLake"), pytest.mark.timeout(900)]

THOROUGH = bool(os.environ.get("HEADRACE_THOROUGH"))
EXTENSIONS = ("ducklake", "postgres_scanner")


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Warehouse]]:
    """Return what opens the DuckLake whose sessions have a zone, each once."""
    opened: dict[str, Warehouse] = {}
    with postgres() as home, ExitStack() as stack:

        def open_(session: str) -> Warehouse:
            if session in opened:
                return opened[session]
            root = tmp_path_factory.mktemp("ducklake")
            name = f"in_{session.rpartition('/')[2].lower()}"
            with closing(psycopg2.connect(host=str(home), user="postgres", dbname="postgres")) as server:
                server.autocommit = True
                server.cursor().execute(f"create database {name}")
            catalog = f"ducklake:postgres:host={home} user=postgres dbname={name}"
            connection = stack.enter_context(duckdb.connect(config={"autoinstall_known_extensions": "false"}))
            for extension in EXTENSIONS:
                (file,) = files(f"duckdb_extension_{extension}").joinpath("extensions").iterdir()
                connection.load_extension(str(file / f"{extension}.duckdb_extension"))
            connection.execute(f"attach '{catalog}' as lake (data_path '{root}/files/')")
            connection.execute("use lake")
            connection.execute("set TimeZone = 'UTC'")

            def query(statement: str) -> Sequence[tuple[Any, ...]]:
                return connection.execute(statement).fetchall()

            profile = {
                "type": "duckdb",
                "path": ":memory:",
                "database": "lake",
                "schema": "main",
                "threads": 1,
                "settings": {"TimeZone": session},
                "extensions": [*EXTENSIONS],
                "config_options": {
                    "autoinstall_known_extensions": False,
                    "extension_directory": f"{root}/extensions",
                },
                "attach": [
                    {
                        "path": catalog,
                        "alias": "lake",
                        "is_ducklake": True,
                        "options": {"create_if_not_exists": False},
                    }
                ],
            }
            opened[session] = Warehouse(root, json.dumps(profile), query, [*cells()])
            stack.callback(opened[session].close)
            return opened[session]

        yield open_


@pytest.mark.some_of("kinds of partitions", 1)
@pytest.mark.parametrize(("grain", "zone"), [*partitions()])
@pytest.mark.parametrize("session", SESSIONS)
def test_all_kinds_of_these_partitions_equal_a_full_build(
    open_: Callable[[str], Warehouse], session: str, grain: str, zone: str
) -> None:
    build_in_every_way(open_(session), grain, zone, seed=f"{session} {grain} {zone}", thorough=THOROUGH)
    build_what_looks_back(open_(session), grain, zone, seed=f"{session} {grain} {zone}")


@pytest.mark.some_of("dates of hours on DuckLake", 1)
@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.is_told_by_the_run], ids=lambda cell: cell.name)
def test_a_date_is_refused_where_partitions_begin_at_hours(open_: Callable[[str], Warehouse], cell: Cell) -> None:
    said = refusal_of_a_date(open_("UTC"), cell)
    assert "a date, and " in said
    assert "partitions do not begin at midnight: take a timestamp" in said
    assert cell.name in said

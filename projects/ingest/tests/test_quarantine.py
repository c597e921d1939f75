"""Rows that a table lets be set aside: they are in a file of their own, the others in the lake, and none is lost."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.assets import raw_asset
from ingest.exports import ExportError
from ingest.lake import FolderLake
from ingest.loading import Loaded, load
from ingest.tables import Column, Table
from ingest.validation import Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAYS = ("2024-02-03", "2024-02-04")
DAY = DAYS[0]
HEADER = "id,part,at,who,line\n"
GOOD = "a,1,2024-02-03T10:00:00,x,\n"


def events(most: int) -> Table:
    return Table(
        name="events",
        description="",
        columns=(
            Column("id", "varchar", ""),
            Column("part", "bigint", ""),
            Column("at", "timestamp", ""),
            Column("who", "varchar", "", required=True),
            Column("line", "double", ""),
        ),
        key=("id", "part"),
        daily=True,
        event_time="at",
        max_quarantined_rows=most,
    )


class Shop:
    """The exports of a table that lets rows be set aside, and the lake that they are loaded into."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, most: int = 10) -> None:
        self.connection, self.exports, self.root = connection, folder / "exports", folder / "lake"
        self.table = events(most)
        self.day = self.exports / "events"
        self.day.mkdir(parents=True, exist_ok=True)
        self.data = self.root / f"raw/events/day={DAY}/data.parquet"
        self.aside = self.root / f"quarantine/events/day={DAY}/rows.parquet"

    def load(self) -> Loaded:
        window = Window(datetime(2024, 2, 3), datetime(2024, 2, 4))  # noqa: DTZ001 - the lake's times have no zone
        return load(
            self.connection, self.table, exports=self.exports, lake=FolderLake(self.root), day=DAY, window=window
        )

    def csv(self, text: str) -> Loaded:
        (self.day / f"{DAY}.csv").write_text(text)
        return self.load()

    def rows(self, path: Path, columns: str = "*") -> list[tuple[object, ...]]:
        return self.connection.read_parquet(str(path), hive_partitioning=False).project(columns).fetchall()


@pytest.fixture
def shop(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Shop:
    return Shop(connection, tmp_path)


def test_wrong_rows_are_set_aside_with_their_line_and_all_that_is_wrong(shop: Shop) -> None:
    text = (
        HEADER
        + 'b,1,2024-02-03,"two\nlines",1\n'
        + "c,zwei,2024-02-03,x,much\n"
        + "\n"
        + ",1,2024-02-03,x,\n"
        + "d,1,2024-02-04,,\n"
        + "e,1,2024-02-03,x,\n"
        + "e,01,2024-02-03,y,\n"
        + GOOD
    )
    loaded = shop.csv(text)
    assert [row[0] for row in shop.rows(shop.data, "id")] == ["b", "a"]
    assert shop.rows(shop.aside, "quarantine_line, quarantine_problem") == [
        (4, "part is not a bigint; line is not a double"),
        (6, "id is not a key: every row needs one"),
        (
            7,
            "who is no value: the column is required; at is outside [2024-02-03 00:00:00, 2024-02-04 00:00:00)",
        ),
        (8, "the key is that of 2 rows"),
        (9, "the key is that of 2 rows"),
    ]
    assert shop.rows(shop.aside, 'id, part, "at", who, line')[0] == ("c", "zwei", "2024-02-03", "x", "much")
    assert (loaded.rows, loaded.quarantined_rows, loaded.quarantine) == (2, 5, str(shop.aside))


def test_a_key_of_which_one_row_is_wrong_is_told_by_neither(shop: Shop) -> None:
    shop.csv(HEADER + GOOD + "a,1,2024-02-03,x,much\n" + "b,1,2024-02-03,x,\n")
    assert [row[0] for row in shop.rows(shop.data, "id")] == ["b"]
    assert [row[0] for row in shop.rows(shop.aside, "quarantine_line")] == [2, 3]


def test_more_than_the_table_lets_be_set_aside_fail_the_export(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    shop = Shop(connection, tmp_path, most=1)
    shop.csv(HEADER + GOOD + "b,x,2024-02-03,x,\n")
    before = shop.data.read_bytes(), shop.aside.read_bytes()
    with pytest.raises(ExportError) as caught:
        shop.csv(HEADER + GOOD + "b,x,2024-02-03,x,\n" + "c,1,2024-02-03,,\n")
    assert str(caught.value) == (
        f"{shop.day / DAY}.csv, line 3, column part: 'x' is not a bigint; "
        "2 rows are wrong, of which 1 at most are set aside"
    )
    assert (shop.data.read_bytes(), shop.aside.read_bytes()) == before


@pytest.mark.parametrize("text", [HEADER + GOOD + "b,1\n", "id,part\na,1\n", HEADER + '"', ""])
def test_a_file_whose_rows_cannot_be_told_is_refused_whole(shop: Shop, text: str) -> None:
    with pytest.raises(ExportError):
        shop.csv(text)
    assert not shop.root.exists()


def test_a_load_without_wrong_rows_removes_what_was_set_aside(shop: Shop) -> None:
    shop.csv(HEADER + GOOD + "b,x,2024-02-03,x,\n")
    killed = shop.aside.with_name(f".{shop.aside.name}.0.tmp")
    killed.touch()
    loaded = shop.csv(HEADER + GOOD)
    assert (loaded.quarantined_rows, loaded.quarantine) == (0, None)
    assert not shop.aside.exists()
    assert not killed.exists()
    (shop.day / f"{DAY}.csv").unlink()
    (shop.day / f"{DAY}.empty").touch()
    assert shop.load().rows == 0


def test_rows_of_each_format_are_set_aside(shop: Shop) -> None:
    rows = [
        {"id": "a", "part": 1, "at": "2024-02-03", "who": "x", "line": None},
        {"id": "b", "part": 1, "at": "2024-02-03", "who": None, "line": None},
    ]
    (shop.day / f"{DAY}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert shop.load().quarantined_rows == 1
    assert shop.rows(shop.aside, "quarantine_line, id, who") == [(2, "b", None)]
    (shop.day / f"{DAY}.jsonl").unlink()
    others = f"""1 as part, timestamp '{DAY}' as "at", case when id = 'a' then 'x' end as who, null::double as line"""
    select = f"select id, {others} from (values ('a'), ('b')) rows(id)"
    shop.connection.sql(select).write_parquet(str(shop.day / f"{DAY}.parquet"))
    assert shop.load().quarantined_rows == 1
    assert shop.rows(shop.aside, "quarantine_line, id, who") == [(2, "b", None)]
    (shop.day / f"{DAY}.parquet").unlink()
    (shop.day / f"{DAY}.csv.gz").write_bytes(gzip.compress((HEADER + GOOD + "b,1,2024-02-03,,\n").encode()))
    assert shop.load().quarantined_rows == 1
    assert shop.rows(shop.aside, "quarantine_line, id, who") == [(3, "b", "")]


def test_a_required_column_fails_its_export_where_nothing_may_be_set_aside(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    shop = Shop(connection, tmp_path, most=0)
    with pytest.raises(ExportError, match=r"line 3, column who: '' is no value: the column is required$"):
        shop.csv(HEADER + GOOD + "b,1,2024-02-03,,\n")
    assert not shop.root.exists()


CELLS = st.sampled_from(["a", "b", "1", "01", "x", "", "2024-02-03", "2024-02-04", "nan"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS, CELLS), max_size=8))
def test_each_row_is_in_one_of_the_two_files(shop: Shop, lines: Sequence[tuple[str, ...]]) -> None:
    shop.aside.unlink(missing_ok=True)
    loaded = shop.csv(HEADER + "".join(f"{','.join(line)}\n" for line in lines))
    assert loaded.rows + loaded.quarantined_rows == len(lines)
    aside = [row for (row,) in shop.rows(shop.aside, "quarantine_line - 2")] if shop.aside.exists() else []
    assert [row for row, line in enumerate(lines) if row in aside] == aside
    kept = [line for row, line in enumerate(lines) if row not in aside]
    assert sorted(shop.rows(shop.data, "id, part, who")) == sorted((line[0], int(line[1]), line[3]) for line in kept)
    # What is kept is what a table that lets nothing be set aside loads.
    strict = Shop(shop.connection, shop.exports.parent / "strict", most=0)
    assert strict.csv(HEADER + "".join(f"{','.join(line)}\n" for line in kept)).rows == len(kept)


def test_a_run_warns_of_its_days_until_they_are_loaded_without_such_rows(exports: Path, lake: Path) -> None:
    asset = raw_asset(events(1), dg.DailyPartitionsDefinition(DAY))
    (exports / "events").mkdir(parents=True)

    def write(day: str, *lines: str) -> None:
        (exports / "events" / f"{day}.csv").write_text(HEADER + f"{day},1,{day},x,\n" + "".join(lines))

    def run(first: str, last: str | None = None) -> tuple[bool, dg.AssetCheckEvaluation, Sequence[object]]:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        result = dg.materialize([asset], instance=instance, tags=tags)
        checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
        assert checks["keys_unique"].passed
        assert checks["not_empty"].passed
        events = result.asset_materializations_for_node("raw__events")
        counted = [event.metadata["quarantined_rows"].value for event in events]
        return result.success, checks["no_rows_quarantined"], counted

    write(DAYS[0], "b,x,2024-02-03,x,\n")
    write(DAYS[1])
    with dg.DagsterInstance.ephemeral() as instance:
        success, check, counted = run(*DAYS)
        assert (success, check.passed, check.severity) == (True, False, dg.AssetCheckSeverity.WARN)
        assert check.description == f"rows are set aside of {DAYS[0]}"
        assert check.blocking is False
        assert counted == [1, 0]
        with duckdb.connect() as connection:
            found = connection.read_parquet(str(lake / "quarantine/events/*/*.parquet"), hive_partitioning=True)
            assert found.project("quarantine_line, id, part, day::varchar").fetchall() == [(3, "b", "x", DAYS[0])]
        # Another day's run does not clear it, its own does.
        assert run(DAYS[1])[1].passed is False
        write(DAYS[0])
        assert run(DAYS[0])[1].passed is True
        assert run(DAYS[1])[1].passed is True

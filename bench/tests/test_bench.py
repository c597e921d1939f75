"""The generated project, the measured processes, and what the report makes of samples."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import duckdb
import pytest
from bench import history, peer
from bench.engines import AGAIN, FROM_NOTHING, REVISED, Point, fitted, lines, measure
from bench.generate import DAILY, write_lake, write_project
from bench.memory import tree_mb
from bench.peer import DifferentRowsError, PeerShop
from bench.processes import ROOT, Child, ChildFailedError, Sample, environment, run
from bench.replay import statements
from bench.report import Results
from bench.rows import FURTHER, PARTITION, RANGE
from bench.sites import DBT, OURS, PLAIN, STOCK

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("models", [12, 13, 2000])
def test_a_project_has_as_many_models_as_asked_for(tmp_path: Path, models: int) -> None:
    write_project(tmp_path / "project", models=models)
    written = list((tmp_path / "project" / "models").rglob("*.sql"))
    assert len(written) == models
    assert len({path.stem for path in written}) == models
    assert len(DAILY) == 12


def test_fewer_models_than_the_daily_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="11 models are too few"):
        write_project(tmp_path / "project", models=11)


def test_a_lake_is_the_same_each_time_and_no_order_is_in_two_days(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_lake(tmp_path / name, days=3, rows=100)
    one, two = (f"read_parquet('{tmp_path / name}/events/*/*.parquet')" for name in ("one", "two"))
    assert duckdb.sql(f"(from {one} except from {two}) union all (from {two} except from {one})").fetchall() == []
    assert duckdb.sql(f"select day, count(*) from {one} group by day order by day").fetchall()[0][1] == 100
    days = f"select max(days) from (select count(distinct day) as days from {one} group by order_id)"
    assert duckdb.sql(days).fetchall() == [(1,)]


def test_the_statements_of_a_log_are_those_of_its_nodes_in_order(tmp_path: Path) -> None:
    def event(name: str, node: str | None, sql: str) -> str:
        return json.dumps(
            {"info": {"name": name}, "data": {"node_info": {"unique_id": node} if node else {}, "sql": sql}}
        )

    log = tmp_path / "dbt.log"
    lines = [
        event("SQLQuery", None, "list schemas"),
        event("SQLQuery", "model.b", "first of b"),
        event("SQLQuery", "model.a", "first of a"),
        event("SQLQueryStatus", "model.a", "no statement"),
        event("SQLQuery", "model.b", "second of b"),
    ]
    log.write_text("\n".join(lines))
    assert list(statements(log).items()) == [("model.b", ["first of b", "second of b"]), ("model.a", ["first of a"])]


@pytest.mark.slow
def test_a_process_that_fails_ends_the_benchmark_with_its_output() -> None:
    with pytest.raises(
        ChildFailedError, match=r"(?s)bench\.load no_such_module ended with exit code 1.*No module named"
    ):
        run("bench.load", "no_such_module", env=environment())


@pytest.mark.slow
def test_a_live_process_that_dies_is_not_waited_for() -> None:
    with (
        pytest.raises(ChildFailedError, match="No module named"),
        Child("bench.live", "no_such_module", env=environment()) as child,
    ):
        child.ask()


def test_a_process_says_its_own_memory() -> None:
    sample = run("this", env=environment()).sample
    assert sample.seconds > 0
    assert sample.own_mb is not None
    assert 3 < sample.own_mb < 40


def test_memory_is_of_a_process_and_its_descendants() -> None:
    sleeper = "import time; held = b'x' * 50_000_000; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])"
    before = tree_mb(os.getpid())
    with subprocess.Popen([sys.executable, "-c", parent], start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 60
            while tree_mb(process.pid) < 55 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert 55 < tree_mb(process.pid) < 150
            assert tree_mb(os.getpid()) > before + 50
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_targets_are_met_missed_or_not_measured() -> None:
    samples = {
        (PARTITION, STOCK): [Sample(9.0), Sample(10.0), Sample(30.0)],
        (PARTITION, OURS): [Sample(3.0)],
        (PARTITION, PLAIN): [Sample(2.0)],
        (RANGE, OURS): [Sample(31.0)],
        (RANGE, DBT): [Sample(10.0)],
        (RANGE, PLAIN): [Sample(12.0)],
        (FURTHER, OURS): [Sample(1.0)],
    }
    targets = {target.what: target for target in Results({12: samples}).targets()}
    partition = targets["one partition, 12 models: b/a"]
    assert partition.measured == pytest.approx(0.3)
    assert partition.met == "yes"
    year = targets["365 partitions, 12 models: b/c"]
    assert year.limit == pytest.approx(3.0)
    assert year.measured == pytest.approx(3.1)
    assert year.met == "no"
    assert targets["one partition, 2000 models: b/a"].met == "not measured"


def test_the_rows_beside_sqlmesh_and_of_the_history_have_their_targets() -> None:
    beside = {(peer.ONE, peer.OURS): [Sample(9.0), Sample(8.0)], (peer.ONE, peer.PEER): [Sample(2.0), Sample(3.0)]}
    results = Results({}, beside_peer=beside, of_history={(history.EVENT, history.OURS): [Sample(0.9)]})
    targets = {target.what: target for target in results.targets()}
    one = targets["one revised day: headrace run / SQLMesh"]
    assert one.measured == pytest.approx(8.5 / 2.5)
    assert (one.limit, one.met) == (2.0, "no")
    assert targets[history.EVENT].met == "yes"
    assert targets["nothing changed: headrace run / SQLMesh"].met == "not measured"
    tables = dict(results.tables())
    assert tables["The demo beside SQLMesh"][2] == [peer.ONE, "8.50 (8.00-9.00)", "2.50 (2.00-3.00)", "3.40 x"]
    assert results.as_json()["others"][0]["row"] == peer.ONE


def test_no_time_counts_where_a_table_has_other_rows(tmp_path: Path) -> None:
    shop = PeerShop(tmp_path, tmp_path)
    files = {tmp_path / "state/warehouse.duckdb": "main", tmp_path / "peer/peer.duckdb": "shop"}
    for file, schema in files.items():
        file.parent.mkdir()
        with duckdb.connect(file) as connection:
            connection.execute(f"create schema if not exists {schema}")
            for table in peer.TABLES:
                connection.execute(f"create table {schema}.{table} as select 1 as id, 'a' as name")
    shop.compare()
    with duckdb.connect(tmp_path / "peer/peer.duckdb") as connection:
        connection.execute("insert into shop.orders values (1, 'a')")
    with pytest.raises(DifferentRowsError, match="orders"):
        shop.compare()
    for file, schema in files.items():
        with duckdb.connect(file) as connection:
            connection.execute(f"delete from {schema}.orders")
    with pytest.raises(DifferentRowsError, match="orders"):
        shop.compare()  # nothing is equal to nothing, and says nothing


def test_both_sides_have_one_duckdb() -> None:
    pinned = (ROOT / "bench/sqlmesh/requirements.txt").read_text().splitlines()
    assert f"duckdb=={duckdb.__version__}" in pinned


@pytest.mark.slow
@pytest.mark.some_of("other targets and workers", 2)
def test_a_shop_is_built_revised_and_built_again_and_each_of_it_is_measured(tmp_path: Path) -> None:
    points = list(measure(tmp_path / "site", "duckdb", orders=100, days=2))
    assert [(point.target, point.orders, point.step) for point in points] == [
        ("duckdb", 100, step) for step in (FROM_NOTHING, REVISED, AGAIN)
    ]
    assert all(point.seconds and point.marts_seconds and point.peak_mb for point in points), "all of it is measured"
    assert [bool(point.ingest_seconds) for point in points] == [True, True, False], "the lake is not lost"


def test_a_line_is_what_a_million_orders_cost_and_what_none_do() -> None:
    assert fitted([(0.1, 3.0), (1.0, 12.0), (10.0, 102.0)]) == pytest.approx((2.0, 10.0))
    points = [
        Point("spark", orders, REVISED, seconds, 0, 0, 0) for orders, seconds in ((100_000, 3.0), (1_000_000, 12.0))
    ]
    assert list(lines([*points, Point("duckdb", 1, REVISED, 1, 0, 0, 0)])) == [
        "spark, one revised day: 2.0 s and 10.0 s for each million orders"
    ]

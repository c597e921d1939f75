"""The target `spark`: the same rows as in a DuckDB file, of a whole main job on a cluster of this machine."""

from __future__ import annotations

import shutil
import socket
import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import psutil
import pytest
from marts import assert_target_is_proved

hive = pytest.importorskip("pyhive.hive", reason="analytics[spark] is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.conftest import OpenShop, Shop

pytestmark = [
    pytest.mark.slow("starts a cluster, and builds a shop in it and in a file"),
    pytest.mark.timeout(900),
    pytest.mark.some_of("other targets and workers", 2),
    pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed"),
]

pytest.importorskip("pyspark", reason="it is in the group scale")

DAYS = ("2024-01-30", "2024-01-31")


@contextmanager
def connected(shop: Shop) -> Iterator[Any]:
    made = hive.connect("localhost", int(shop.more["HEADRACE_SPARK_PORT"]))
    with closing(made) as connection, closing(connection.cursor()) as cursor:
        yield cursor


def query(shop: Shop, sql: str) -> Sequence[tuple[Any, ...]]:
    with connected(shop) as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def contents(shop: Shop) -> Mapping[str, Any]:
    """Return names and types of the columns, and the rows, of each table."""
    views = {row[1] for row in query(shop, "show views in main")}
    found = {}
    for _, name, _ in query(shop, "show tables in main"):
        if name in views:
            continue
        described = query(shop, f"describe main.{name}")
        ends = next((place for place, row in enumerate(described) if row[0].startswith("#")), len(described))
        columns = sorted((row[0], row[1]) for row in described[:ends] if row[0] not in {"", "dbt_window"})
        # The driver makes a text of a date.
        kinds = [date.fromisoformat if type_ == "date" else None for _, type_ in columns]
        rows = query(shop, f"select {', '.join(column for column, _ in columns)} from main.{name}")
        typed = (tuple(make(value) if make else value for make, value in zip(kinds, row, strict=True)) for row in rows)
        found[name] = (columns, sorted(typed, key=repr))
    return found


TYPES = {"varchar": "string"}


def contents_of_file(file: Path) -> Mapping[str, Any]:
    found = {}
    with duckdb.connect(file, read_only=True) as connection:
        for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall():
            if name == "product_prices":  # a snapshot, which Spark's files cannot have
                continue
            described = connection.execute(f"describe {name}").fetchall()
            columns = sorted((row[0], TYPES.get(row[1].lower(), row[1].lower())) for row in described)
            names = ", ".join(column for column, _ in columns)
            found[name] = (columns, sorted(connection.execute(f"select {names} from {name}").fetchall(), key=repr))
    return found


@pytest.fixture(scope="module")
def shop(open_shop: OpenShop) -> Iterator[Shop]:
    """Return a shop of two days whose warehouse is a Spark that `headrace engine up` has started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    shop = open_shop(folder / "shop", DAYS[0])
    shop = replace(shop, more={"HEADRACE_TARGET": "spark", "HEADRACE_SPARK_PORT": str(port)})
    shop.demo_data("--from", DAYS[0], "--to", DAYS[1], "--orders-per-day", "60")
    started = shop.call("engine", "up", "spark")
    assert started.returncode == 0, started.stderr
    try:
        yield shop
    finally:
        ended = shop.call("engine", "down", "spark")
        assert ended.stdout == "spark: master, worker-1, worker-2, thrift ended\n"
        assert not [each for each in psutil.process_iter() if str(folder) in " ".join(_command(each))]
        shutil.rmtree(folder)


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def built(shop: Shop) -> Shop:
    """Build what is not fresh."""
    shop.run()
    return shop


def test_a_server_that_does_not_answer_is_a_line_and_nothing_is_loaded(shop: Shop) -> None:
    failed = replace(shop, more={**shop.more, "HEADRACE_SPARK_PORT": "1"}).call("run")
    assert failed.returncode == 2
    assert "spark, the target: Could not connect" in failed.stderr.splitlines()[-1]
    assert not shop.lake.exists()


def test_the_main_job_builds_what_it_builds_in_a_file(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory, open_shop: OpenShop
) -> None:
    told = shop.run()
    in_a_file = open_shop(tmp_path_factory.mktemp("file") / "shop", DAYS[0])
    shutil.copytree(shop.exports, in_a_file.exports)
    expected = in_a_file.run()
    del expected["product_prices"]
    assert contents(shop) == contents_of_file(in_a_file.warehouse)
    counted = {name: (asset["planned"], asset["partitions"], asset["rows"]) for name, asset in told.items()}
    assert counted == {name: (asset["planned"], asset["partitions"], asset["rows"]) for name, asset in expected.items()}
    assert "everything is fresh" in shop.call("run").stderr
    assert shop.call("engine", "up", "spark").stdout.startswith("spark: master, worker-1, worker-2, thrift on port ")


def test_a_revised_day_replaces_its_rows_and_an_hour_that_became_empty_is_dropped(built: Shop) -> None:
    hours = "select hour(hour), sum(orders) from main.store_hours where hour >= '2024-01-31' group by 1 order by 1"
    first = query(built, hours)[0][0]
    others = "select order_id, dbt_window from main.orders where dbt_window = '2024-01-30' order by 1"
    before = query(built, others)
    # The first hour of the day is taken back, and so are the items of its orders.
    for name, column in (("orders", 2), ("items", 1)):
        file = built.exports / name / f"{DAYS[1]}.csv"
        header, *lines = file.read_text().splitlines(keepends=True)
        if name == "orders":
            gone = {line.split(",")[0] for line in lines if f"T{first:02}:" in line or f" {first:02}:" in line}
            kept = [line for line in lines if line.split(",")[0] not in gone]
        else:
            kept = [line for line in lines if line.split(",")[column] not in gone]
        assert len(kept) < len(lines)
        file.write_text("".join((header, *kept)))
    last_id = built.last_id()
    built.run()
    assert built.built(after=last_id)["orders"] == {DAYS[1]}
    assert first not in [hour for hour, _ in query(built, hours)]
    assert query(built, others) == before
    with duckdb.connect() as connection:
        left = connection.execute(f"select id from '{built.exports}/orders/{DAYS[1]}.csv' order by 1").fetchall()
    assert query(built, "select order_id from main.orders where dbt_window = '2024-01-31' order by 1") == left
    customers = "select count(*) from main.customer_days where ordered_on = '2024-01-31'"
    assert query(built, customers) == query(
        built, "select count(distinct customer_id) from main.orders where dbt_window = '2024-01-31'"
    )


def test_the_target_is_proved_and_nothing_is_left_of_it(built: Shop) -> None:
    assert_target_is_proved(built)
    assert not [name for (name,) in query(built, "show schemas") if "check" in name]


def test_a_day_that_became_empty_is_empty(built: Shop) -> None:
    kept = {}
    for name in ("orders", "items"):
        kept[name] = (built.exports / name / f"{DAYS[1]}.csv").read_text()
        (built.exports / name / f"{DAYS[1]}.csv").unlink()
        (built.exports / name / f"{DAYS[1]}.empty").touch()
    built.run()
    for model in ("orders", "order_items", "customer_days"):
        assert query(built, f"select count(*) from main.{model} where dbt_window = '2024-01-31'") == [(0,)]
        assert query(built, f"select count(*) > 0 from main.{model} where dbt_window = '2024-01-30'") == [(True,)]
    for name, text in kept.items():
        (built.exports / name / f"{DAYS[1]}.empty").unlink()
        (built.exports / name / f"{DAYS[1]}.csv").write_text(text)
    built.run()
    assert query(built, "select count(*) > 0 from main.orders where dbt_window = '2024-01-31'") == [(True,)]


def test_a_table_that_was_dropped_is_missing_and_emptied_partitions_come_back(built: Shop) -> None:
    whole = contents(built)
    query(built, "drop table main.store_months")
    last_id = built.last_id()
    built.run()
    told = built.built(after=last_id)
    assert "store_months" in told
    assert not told.keys() & {"raw/orders", "orders", "store_hours"}
    query(built, "alter table main.orders drop partition (dbt_window = '2024-01-31')")
    healed = built.call("reconcile", "--heal")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert contents(built) == whole

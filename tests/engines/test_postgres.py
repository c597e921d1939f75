"""The target `postgres`: the same rows as in a DuckDB file, of a whole main job on a real server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg2
import psycopg2.extensions
import pytest
from ci_beside import Beside
from marts import assert_target_is_proved

from ingest.postgres import OtherColumnsError, prepare
from ingest.postgres import replace as replace_rows
from ingest.tables import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.conftest import OpenShop, RunPostgres, Shop

pytestmark = [
    pytest.mark.slow("builds a shop in a Postgres and in a file"),
    pytest.mark.timeout(600),
    pytest.mark.some_of("other targets and workers", 2),
]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DAYS = ("2024-01-30", "2024-01-31")
# The server asks for none, and takes any.
PASSWORD = "planted-3f9a7c"  # noqa: S105 - it opens nothing
# What says when a snapshot was taken.
OF_THE_CLOCK = {"dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to"}
COLUMNS = (
    "select column_name from information_schema.columns where table_schema = 'main' and table_name = %s order by 1"
)
TABLES = "select table_name from information_schema.tables where table_schema = 'main' and table_type = 'BASE TABLE'"


@contextmanager
def connected(shop: Shop) -> Iterator[psycopg2.extensions.cursor]:
    host, port = shop.more["PGHOST"], shop.more["PGPORT"]
    made = psycopg2.connect(host=host, port=port, user="postgres", dbname="postgres")
    with closing(made) as connection, connection, connection.cursor() as cursor:
        yield cursor


def query(shop: Shop, sql: str, *values: str) -> Sequence[tuple[Any, ...]]:
    with connected(shop) as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def contents(shop: Shop) -> Mapping[str, Any]:
    """Return names of the columns, and the rows, of each table."""
    found = {}
    for (name,) in query(shop, TABLES):
        columns = [column for (column,) in query(shop, COLUMNS, name) if column not in OF_THE_CLOCK]
        found[name] = (columns, sorted(query(shop, f"select {', '.join(columns)} from main.{name}"), key=repr))
    return found


def contents_of_file(file: Path) -> Mapping[str, Any]:
    found = {}
    with duckdb.connect(file, read_only=True) as connection:
        for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall():
            described = connection.execute(f"describe {name}").fetchall()
            columns = sorted(column[0] for column in described if column[0] not in OF_THE_CLOCK)
            rows = connection.execute(f"select {', '.join(columns)} from {name}").fetchall()
            found[name] = (columns, sorted(rows, key=repr))
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, run_postgres: RunPostgres, open_shop: OpenShop) -> Iterator[Shop]:
    """Return a shop of two days whose warehouse is a Postgres."""
    top = Path(tempfile.mkdtemp(prefix="hr-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shop = open_shop(tmp_path_factory.mktemp("postgres") / "shop", DAYS[0])
    where = {"PGHOST": str(top / "pg"), "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "postgres"}
    shop = replace(shop, more={"HEADRACE_TARGET": "postgres", "PGPASSWORD": PASSWORD, **where})
    shop.demo_data("--from", DAYS[0], "--to", DAYS[1], "--orders-per-day", "60")
    try:
        with run_postgres(top / "pg", port):
            yield shop
    finally:
        shutil.rmtree(top)


@pytest.fixture
def built(shop: Shop) -> Shop:
    """Build what is not fresh."""
    shop.run()
    return shop


def test_a_server_that_does_not_answer_is_a_line_and_nothing_is_loaded(shop: Shop) -> None:
    failed = replace(shop, more={**shop.more, "PGPORT": "1"}).call("run")
    assert failed.returncode == 2
    assert "postgres, the target: connection to server" in failed.stderr.splitlines()[-1]
    assert not shop.lake.exists()


def test_the_main_job_builds_what_it_builds_in_a_file(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory, open_shop: OpenShop
) -> None:
    told = shop.run()
    in_a_file = open_shop(tmp_path_factory.mktemp("file") / "shop", DAYS[0])
    shutil.copytree(shop.exports, in_a_file.exports)
    expected = in_a_file.run()
    assert contents(shop) == contents_of_file(in_a_file.warehouse)
    counted = {name: (asset["planned"], asset["partitions"], asset["rows"]) for name, asset in told.items()}
    assert counted == {name: (asset["planned"], asset["partitions"], asset["rows"]) for name, asset in expected.items()}
    assert "everything is fresh" in shop.call("run").stderr


def test_a_revised_day_replaces_its_rows_in_each_table(built: Shop) -> None:
    before = query(built, "select day, count(*) from raw.orders group by 1 order by 1")
    file = built.exports / "orders" / f"{DAYS[1]}.csv"
    lines = file.read_text().splitlines(keepends=True)
    fields = [line.split(",") for line in lines]
    fields[1][1], fields[2][1] = fields[2][1], fields[1][1]  # two orders change their customers
    assert fields[1][1] != fields[2][1]
    file.write_text("".join(",".join(each) for each in fields))
    last_id = built.last_id()
    built.run()
    assert built.built(after=last_id)["raw/orders"] == {DAYS[1]}
    assert query(built, "select day, count(*) from raw.orders group by 1 order by 1") == before
    customers = "select order_id, customer_id from main.orders where ordered_at >= %s order by 1"
    with duckdb.connect() as connection:
        of_export = connection.execute(f"select id, customer from '{file}' order by 1").fetchall()
    assert query(built, customers, DAYS[1]) == of_export


def test_a_day_that_is_not_there_or_of_another_export_is_loaded_again(built: Shop) -> None:
    """As after a load that was cut off, or days that were loaded while another target was built."""
    query(built, "delete from raw.loaded_exports where (table_name, day) = ('orders', %s)", DAYS[0])
    query(built, "delete from raw.orders where day = %s", DAYS[0])
    query(
        built, "update raw.loaded_exports set source_sha256 = 'other' where (table_name, day) = ('items', %s)", DAYS[1]
    )
    last_id = built.last_id()
    built.run()
    told = built.built(after=last_id)
    assert (told["raw/orders"], told["raw/items"]) == ({DAYS[0]}, {DAYS[1]})
    assert "raw/tweets" not in told
    assert query(built, "select count(distinct day) from raw.orders") == [(2,)]
    assert "everything is fresh" in built.call("run").stderr


def test_a_day_that_was_emptied_by_hand_is_missing(built: Shop) -> None:
    """`reconcile` counts, and names it; a main job sees it too, and reads nothing again while nothing was written."""
    before = query(built, "select * from main.orders order by 1")
    seen = built.folder / "state/dagster/headrace-warehouses.json"
    for _ in range(2):
        assert "everything is fresh" in built.call("run").stderr
        written = seen.stat().st_mtime_ns
    assert json.loads(seen.read_text())["postgres postgres.main.orders"]
    assert "everything is fresh" in built.call("run").stderr
    assert seen.stat().st_mtime_ns == written, "nothing was read again"
    query(built, "delete from main.orders where ordered_at::date = %s", DAYS[0])
    query(built, "delete from main.store_hours where hour = (select min(hour) from main.store_hours)")
    told = built.call("reconcile", "--format", "json")
    assert told.returncode == 1, told.stderr
    gone = {each["key"]: each["partitions"].get("gone") for each in json.loads(told.stdout) if each["partitions"]}
    assert (gone["orders"], len(gone["store_hours"])) == ([DAYS[0]], 1)
    last_id = built.last_id()
    built.run()
    told_of = built.built(after=last_id)
    assert told_of["orders"] == {DAYS[0]}
    assert len(told_of["store_hours"]) >= 1
    assert query(built, "select * from main.orders order by 1") == before
    assert "everything is fresh" in built.call("run").stderr


def test_a_table_that_was_dropped_is_missing(built: Shop) -> None:
    query(built, "drop table raw.tweets cascade")
    query(built, "drop table main.store_months")
    last_id = built.last_id()
    built.run()
    told = built.built(after=last_id)
    assert told["raw/tweets"] == set(DAYS)
    assert {"stg_tweets", "customers", "store_months"} <= told.keys()
    assert not told.keys() & {"raw/orders", "orders", "store_hours"}


@pytest.mark.parametrize(
    ("model", "day", "key"),
    [
        pytest.param("orders", "ordered_at::date", "order_id", id="delete_window+insert"),
        pytest.param("customer_days", "ordered_on", "(customer_id, ordered_on)", id="microbatch"),
    ],
)
def test_the_first_load_of_a_day_by_two_at_once_is_there_once(
    built: Shop, tmp_path: Path, model: str, day: str, key: str
) -> None:
    """No row is deleted, so that by Postgres alone both would insert: they meet at the lock of the table."""
    of_day = f"select count(*) from main.{model} where {day} = %s"
    query(built, f"delete from main.{model} where {day} = %s", DAYS[1])
    assert query(built, of_day, DAYS[1]) == [(0,)]
    command = [str(BIN / "dg"), "launch", "--assets", model, "--partition", DAYS[1]]
    hosts = [host(built, tmp_path / name) for name in ("first", "second")]
    with connected(built) as held:
        # Both have read before either writes.
        held.execute(f"lock table main.{model} in share mode")
        runs = [
            subprocess.Popen(
                command,
                cwd=ROOT / "projects/analytics",
                env=each,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for each in hosts
        ]
        while query(built, "select count(*) from pg_stat_activity where wait_event_type = 'Lock'") < [(2,)]:
            assert [run.poll() for run in runs] == [None, None]
            time.sleep(0.2)
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert query(built, f"select count(*) - count(distinct {key}) from main.{model}") == [(0,)]
    assert query(built, of_day, DAYS[1]) != [(0,)]


def test_texts_come_back_and_what_postgres_does_not_take_is_a_line(
    built: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.setenv(name, built.more[name])
    table = Table("texts", "", (Column("id", "varchar", ""), Column("value", "varchar", "")), key=("id",))
    texts = ["", "\\N", "\\.", 'a "quoted", text', "two\nlines", "\t;|'", "ä€🎉", None]
    with duckdb.connect() as connection:
        connection.execute("create table texts as select 'a' as id, unnest($1::varchar[]) as value", [texts])
        rows = connection.table("texts")
        for _ in range(2):
            prepare(table)
            replace_rows(rows, table, None, "hash")
        assert query(built, "select value from raw.texts") == [(text,) for text in texts]
        with pytest.raises(OSError, match="postgres: invalid byte sequence"):
            replace_rows(connection.sql("select 'a' as id, 'a' || chr(0) as value"), table, None, "other")
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        replace_rows(connection.sql("select 'a' as id, 'Müller' as value"), table, None, "other")
    assert query(built, "select value from raw.texts") == [("Müller",)]
    other = Table("texts", "", (Column("id", "varchar", ""), Column("value", "bigint", "")), key=("id",))
    with pytest.raises(OtherColumnsError, match=r"\"texts\" in Postgres has other columns .*drop table .* cascade"):
        prepare(other)
    query(built, "drop table raw.texts")


def test_the_target_is_proved_and_nothing_is_left_of_it(built: Shop) -> None:
    assert_target_is_proved(built)
    assert query(built, "select nspname from pg_namespace where nspname like '%%check%%'") == []


def test_the_password_is_in_no_log_event_manifest_or_answer(built: Shop) -> None:
    broken = built.exports / "orders" / f"{DAYS[1]}.csv"
    text = broken.read_text()
    broken.write_text(text.replace("\n", "\nbroken", 1))
    query(built, "alter table main.customers rename to other")
    query(built, "create table main.customers (id int)")  # a table that dbt has to replace, and a view above it
    said = []
    for command in (("run", "--profile"), ("doctor",), ("reconcile",), ("contract", "export", "analytics"), ("init",)):
        called = built.call(*command)
        said.append(called.stdout + called.stderr)
    assert "failed in" in said[0]
    broken.write_text(text)
    query(built, "drop table if exists main.other cascade")
    built.run()
    assert not [words for words in said if PASSWORD in words]
    files = [path for path in built.folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def host(shop: Shop, home: Path) -> Mapping[str, str]:
    """Return the environment of another Dagster instance that writes the shop's warehouse."""
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    said = dict(
        line.removeprefix("export ").split("=", 1) for line in shop.call("init").stdout.splitlines() if "=" in line
    )
    names = ("HEADRACE_LAKE", "HEADRACE_WAREHOUSE")
    return {**shop.environment, **{name: said[name] for name in names}, "DAGSTER_HOME": str(home)}


def written(folder: Path) -> Sequence[Path]:
    """Return what is in a folder, without this file of a clone."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != Path(__file__).name]


def test_dbt_ci_builds_and_compares_beside_it(built: Shop, tmp_path: Path) -> None:
    def schemas() -> Sequence[str]:
        return [name for (name,) in query(built, "select nspname from pg_namespace where nspname !~ '^pg_' order by 1")]

    beside = Beside.of(built, tmp_path, schemas, lambda: contents(built))
    beside.assert_is_compared()
    beside.assert_a_signal_leaves_nothing()
    beside.assert_production_s_tables_are_not_taken()
    exported = beside.clone.call("headrace", "contract", "export", "analytics", "--out", tmp_path, **beside.variables)
    assert PASSWORD not in exported
    assert not [path for path in written(tmp_path) if PASSWORD.encode() in path.read_bytes()]
    wrong = beside.clone.try_(*beside.command(), **{**beside.variables, "PGPORT": "1"})
    assert wrong.returncode == 2
    assert "target postgres: " in wrong.stderr.splitlines()[-1]
    assert PASSWORD not in wrong.stderr

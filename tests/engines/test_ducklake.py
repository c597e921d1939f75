"""The target `ducklake`: the same rows as in a DuckDB file, and many writers at once, of two hosts if need be."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from ci_beside import Beside
from lakes import attached, contents, create_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tests.conftest import OpenShop, RunPostgres, Shop

pytestmark = [pytest.mark.slow("builds a shop in a DuckLake and in a file, and both at once"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DAYS = ("2024-01-30", "2024-01-31")
DAILY = ("order_items", "orders", "customer_days")
WRITERS = pytest.mark.some_of("other targets and workers", 2)
RUNS_OF_A_HOST = 20 if os.environ.get("HEADRACE_THOROUGH") else 2


@dataclass(frozen=True)
class Lake:
    """A shop whose warehouse is a DuckLake.

    Args:
        shop: the shop.
        catalog: the database of the catalog, as libpq has it.
    """

    shop: Shop
    catalog: str

    @property
    def extensions(self) -> Path:
        return self.shop.folder / "state/duckdb_extensions"

    def connected(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Connect to a database in memory, with the lake attached."""
        return attached(self.catalog, self.extensions)

    def writing(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Connect to a database in memory, with the lake attached to be written."""
        return attached(self.catalog, self.extensions, "")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, run_postgres: RunPostgres, open_shop: OpenShop) -> Iterator[Lake]:
    """Build two days into a DuckLake that one command has made."""
    top = Path(tempfile.mkdtemp(prefix="hr-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    catalog = f"host={top}/pg port={port} dbname=postgres user=postgres"
    shop = open_shop(tmp_path_factory.mktemp("ducklake") / "shop", DAYS[0])
    shop = replace(shop, more={"HEADRACE_TARGET": "ducklake", "HEADRACE_DUCKLAKE_CATALOG": catalog})
    shop.demo_data("--from", DAYS[0], "--to", DAYS[1], "--orders-per-day", "60")
    try:
        with run_postgres(top / "pg", port):
            yield Lake(shop, catalog)
    finally:
        shutil.rmtree(top)


@pytest.fixture
def built(lake: Lake) -> Lake:
    """Build what is not fresh in the lake."""
    made = lake.shop.call("engine", "init", "ducklake")
    assert made.returncode == 0, made.stderr
    lake.shop.run()
    return lake


def test_a_run_before_it_is_made_is_a_line(lake: Lake) -> None:
    failed = lake.shop.call("run")
    assert failed.returncode == 2
    assert "headrace engine init ducklake" in failed.stderr.splitlines()[-1]
    assert not lake.shop.lake.exists(), "nothing was loaded"


def test_several_make_it_at_once_and_again(lake: Lake) -> None:
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(lake.shop.call, "engine", "init", "ducklake") for _ in range(4)]
        done = [call.result() for call in calls]
    assert {one.returncode for one in done} == {0}, [one.stderr for one in done]
    assert "password" not in done[0].stdout
    assert lake.shop.call("engine", "init", "ducklake", "--schema", "main", "--schema", "finance").returncode == 0
    with lake.connected() as connection:
        schemas = "select schema_name from duckdb_schemas() where database_name = 'lake'"
        assert {"main", "finance"} <= {name for (name,) in connection.execute(schemas).fetchall()}


def test_what_does_not_fit_is_refused_in_a_line(lake: Lake, tmp_path: Path) -> None:
    for more, said in (
        ({"HEADRACE_DUCKLAKE_CATALOG": ""}, "HEADRACE_DUCKLAKE_CATALOG is not set"),
        ({"HEADRACE_DUCKLAKE_CATALOG": "host=/nowhere password=hidden"}, "a password into PGPASSWORD"),
        ({"HEADRACE_DUCKLAKE_CATALOG": "postgresql://me:hidden@host/db"}, "a password into PGPASSWORD"),
        ({"HEADRACE_DUCKLAKE_CATALOG": "host=/nowhere dbname=lake"}, "ducklake at host=/nowhere dbname=lake: "),
        ({"HEADRACE_DUCKLAKE_DATA": str(tmp_path)}, "does not match existing data path in the catalog"),
        ({"HEADRACE_DUCKLAKE_DATA": "http://bucket/lake"}, "give a folder, or a URL like s3://bucket/folder"),
    ):
        failed = replace(lake.shop, more={**lake.shop.more, **more}).call("engine", "init", "ducklake")
        assert (failed.returncode, failed.stderr.count("\n")) == (2, 1), failed.stderr
        assert said in failed.stderr
        assert "hidden" not in failed.stdout + failed.stderr


def test_another_catalog_has_a_folder_of_its_own(lake: Lake) -> None:
    """Each would take the files of the other for its own, which nobody reads any more."""
    catalog = create_database(lake.catalog, "other", lake.extensions)
    (lake.shop.folder / "state/ducklake/main").mkdir(exist_ok=True)
    other = {**lake.shop.more, "HEADRACE_DUCKLAKE_CATALOG": catalog}
    failed = replace(lake.shop, more=other).call("engine", "init", "ducklake")
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1), failed.stderr
    assert "it holds files, and the catalog is new" in failed.stderr


@pytest.mark.some_of("other targets and workers", 2)
def test_the_main_job_builds_what_it_builds_in_a_file(lake: Lake) -> None:
    """The same state builds into a file first: what is in the file is not in the lake."""
    file = replace(lake.shop, more={})
    in_file = file.run()
    assert lake.shop.call("engine", "init", "ducklake").returncode == 0
    built = lake.shop.run()
    assert {key for key in in_file if not key.startswith("raw/")} == set(built)
    assert all(asset["partitions"] == in_file[key]["partitions"] for key, asset in built.items())
    assert lake.shop.run() == {}, "everything is fresh"
    with lake.writing() as connection:
        connection.execute("drop table lake.main.locations")
        connection.execute(f"delete from lake.main.orders where ordered_at::date = '{DAYS[0]}'")
    healed = lake.shop.call("reconcile", "--heal", "--format", "json")
    assert healed.returncode == 0, healed.stderr
    differing = {each["key"]: each["partitions"] for each in json.loads(healed.stdout)}
    lost = {"orders": {"gone": [DAYS[0]]}, "locations": {"gone": [None]}}
    assert {key: kinds for key, kinds in differing.items() if kinds} == lost
    with lake.writing() as connection:
        connection.execute(f"delete from lake.main.orders where ordered_at::date = '{DAYS[1]}'")
    last_id = lake.shop.last_id()
    lake.shop.run()
    assert lake.shop.built(after=last_id)["orders"] == {DAYS[1]}, "an emptied day is seen by the main job itself"
    seen = lake.shop.folder / "state/dagster/headrace-warehouses.json"
    assert lake.shop.run() == {}, "everything is fresh"
    written = seen.stat().st_mtime_ns
    assert lake.shop.run() == {}
    assert seen.stat().st_mtime_ns == written, "nothing was read again"
    with lake.connected() as connection, duckdb.connect(file.warehouse, read_only=True) as other:
        ours, theirs = contents(connection, "lake"), contents(other, "warehouse")
    assert set(ours) == set(theirs) >= {*DAILY, "store_hours", "customers"}
    for name, content in theirs.items():
        assert ours[name] == content, name


@WRITERS
def test_its_files_may_be_in_an_object_store_as_the_raw_lake_is(
    lake: Lake, tmp_path: Path, open_shop: OpenShop, object_store: Mapping[str, str]
) -> None:
    lake.shop.call("engine", "init", "ducklake")
    catalog = create_database(lake.catalog, "in_s3", lake.extensions)
    places = {"HEADRACE_LAKE": "s3://lake/raw", "HEADRACE_DUCKLAKE_DATA": "s3://lake/ducklake"}
    more = {**lake.shop.more, **object_store, **places, "HEADRACE_DUCKLAKE_CATALOG": catalog}
    shop = replace(open_shop(tmp_path / "shop", DAYS[0]), more=more)
    shutil.copytree(lake.shop.exports, shop.exports)
    made = shop.call("engine", "init", "ducklake")
    assert made.returncode == 0, made.stderr
    shop.run()
    assert shop.run() == {}, "everything is fresh"
    assert not list(shop.folder.glob("state/**/*.parquet"))
    in_file = open_shop(tmp_path / "file", DAYS[0])
    shutil.copytree(lake.shop.exports, in_file.exports)
    in_file.run()
    in_s3 = Lake(shop, catalog)
    with (
        attached(catalog, in_s3.extensions, store=object_store) as connection,
        duckdb.connect(in_file.warehouse, read_only=True) as other,
    ):
        assert contents(connection, "lake") == contents(other, "warehouse")


@WRITERS
def test_two_hosts_build_the_same_days_at_once(built: Lake, tmp_path: Path) -> None:
    """Each has a Dagster of its own, whose pools the other does not see: what meets is a conflict, and is run again."""
    with built.connected() as connection:
        before = contents(connection, "lake")
    hosts = [_host(built.shop, tmp_path / name) for name in ("one", "other")]
    with ThreadPoolExecutor(len(hosts)) as pool:
        calls = [pool.submit(_build, host, seed) for seed, host in enumerate(hosts)]
        done = [one for call in calls for one in call.result()]
    assert [one.stderr[-3000:] for one in done if one.returncode] == []
    with built.connected() as connection:
        after = contents(connection, "lake")
    for name in DAILY:
        assert after[name] == before[name], name


@WRITERS
@pytest.mark.parametrize(
    ("model", "day", "key"),
    [
        pytest.param("orders", "ordered_at::date", "order_id", id="delete_window+insert"),
        pytest.param("customer_days", "ordered_on", "(customer_id, ordered_on)", id="microbatch"),
    ],
)
def test_the_first_load_of_a_day_by_two_at_once_is_there_once(
    built: Lake, tmp_path: Path, model: str, day: str, key: str
) -> None:
    """No row is deleted, so that by DuckLake alone both would commit: what both change is the table itself."""
    of_day = f"select count(*) from lake.main.{model} where {day} = '{DAYS[1]}'"
    with built.writing() as connection:
        connection.execute(f"delete from lake.main.{model} where {day} = '{DAYS[1]}'")
    with built.connected() as connection:
        assert connection.execute(of_day).fetchall() == [(0,)]
    hosts = [_host(built.shop, tmp_path / name) for name in ("first", "second")]
    command = [str(BIN / "dg"), "launch", "--assets", model, "--partition", DAYS[1]]
    folder = ROOT / "projects/analytics"
    with built.writing() as held:
        # Commits wait: both have read, deleted and inserted before either of them is there.
        held.execute(f"attach '{built.catalog}' as catalog (type postgres)")
        held.execute("begin")
        held.execute("call postgres_execute('catalog', 'lock table ducklake_snapshot in share mode')")
        runs = [
            subprocess.Popen(command, cwd=folder, env=host, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for host in hosts
        ]
        _await_waiting(built, 2)
        held.execute("commit")
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum(text.count("STEP_UP_FOR_RETRY") for text in said) >= 1, "they have met"
    with built.connected() as connection:
        twice = f"select count(*) - count(distinct {key}) from lake.main.{model}"
        assert connection.execute(twice).fetchall() == [(0,)]
        assert connection.execute(of_day).fetchall() != [(0,)]


def _await_waiting(lake: Lake, number: int) -> None:
    """Wait until so many sessions of the catalog wait for a lock."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    with duckdb.connect(config={"extension_directory": lake.extensions}) as connection:
        connection.load_extension("postgres_scanner")
        connection.execute(f"attach '{lake.catalog}' as catalog (type postgres, read_only)")
        while connection.execute("from postgres_query('catalog', ?)", [waiting]).fetchall() < [(number,)]:
            time.sleep(0.2)


@WRITERS
def test_its_upkeep_leaves_the_rows_and_fewer_files(built: Lake, tmp_path: Path) -> None:
    """A microbatch leaves a file a day, a build a snapshot: the first are merged, the second go with their time."""
    host = _host(built.shop, tmp_path / "upkeep")
    command = [str(BIN / "dg"), "launch", "--job", "dbt_analytics__maintenance"]

    def keep_up() -> None:
        folder = ROOT / "projects/analytics"
        done = subprocess.run(command, check=False, cwd=folder, env=host, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    with built.connected() as connection:
        before, files = contents(connection, "lake"), _files_of(connection, "customer_days")
        (snapshots,) = connection.execute("select count(*) from ducklake_snapshots('lake')").fetchall()
    assert files > 1
    keep_up()
    with built.connected() as connection:
        assert _files_of(connection, "customer_days") == 1
        assert connection.execute("select count(*) from ducklake_snapshots('lake')").fetchall() > [snapshots]
    stored = {*Path(built.shop.folder, "state/ducklake").rglob("*.parquet")}
    with duckdb.connect(config={"extension_directory": built.extensions}) as connection:
        connection.load_extension("postgres_scanner")
        connection.execute(f"attach '{built.catalog}' as catalog (type postgres)")
        for table, column in (("snapshot", "snapshot_time"), ("files_scheduled_for_deletion", "schedule_start")):
            connection.execute(f"update catalog.public.ducklake_{table} set {column} = {column} - interval '8 days'")
    keep_up()
    # What was scheduled for removal just now goes when it is a week old.
    with duckdb.connect(config={"extension_directory": built.extensions}) as connection:
        connection.load_extension("postgres_scanner")
        connection.execute(f"attach '{built.catalog}' as catalog (type postgres)")
        scheduled = "catalog.public.ducklake_files_scheduled_for_deletion"
        connection.execute(f"update {scheduled} set schedule_start = schedule_start - interval '8 days'")
    keep_up()
    with built.connected() as connection:
        assert contents(connection, "lake") == before
        assert connection.execute("select count(*) from ducklake_snapshots('lake')").fetchall() < [snapshots]
    assert {*Path(built.shop.folder, "state/ducklake").rglob("*.parquet")} < stored


def _files_of(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    found = "select file_count from ducklake_table_info('lake') where table_name = ?"
    ((files,),) = connection.execute(found, [table]).fetchall()
    return int(files)


def _host(shop: Shop, home: Path) -> Mapping[str, str]:
    """Return the environment of another Dagster instance that writes the shop's warehouse."""
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    names = ("HEADRACE_DUCKLAKE_DATA", "HEADRACE_DUCKDB_EXTENSIONS", "HEADRACE_LAKE", "HEADRACE_WAREHOUSE")
    said = dict(
        line.removeprefix("export ").split("=", 1) for line in shop.call("init").stdout.splitlines() if "=" in line
    )
    return {**shop.environment, **{name: said[name] for name in names}, "DAGSTER_HOME": str(home)}


def _build(host: Mapping[str, str], seed: int) -> Sequence[subprocess.CompletedProcess[str]]:
    """Build days in a random order, each in a run of its own."""
    chosen = random.Random(seed)  # noqa: S311 - no secret
    done = []
    for _ in range(RUNS_OF_A_HOST):
        command = [str(BIN / "dg"), "launch", "--assets", ",".join(DAILY), "--partition", chosen.choice(DAYS)]
        folder = ROOT / "projects/analytics"
        done.append(subprocess.run(command, check=False, cwd=folder, env=host, capture_output=True, text=True))
    return done


@pytest.mark.some_of("other targets and workers", 2)
def test_dbt_ci_builds_and_compares_beside_it(built: Lake, tmp_path: Path) -> None:
    def schemas() -> Sequence[str]:
        with built.connected() as connection:
            found = connection.execute(
                "select schema_name from duckdb_schemas() where database_name = 'lake' order by 1"
            )
            return [name for (name,) in found.fetchall()]

    def tables() -> object:
        with built.connected() as connection:
            return contents(connection, "lake")

    beside = Beside.of(built.shop, tmp_path, schemas, tables)
    beside.assert_is_compared()
    beside.assert_a_signal_leaves_nothing()
    beside.assert_production_s_tables_are_not_taken()

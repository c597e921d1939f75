"""The code location as Dagster loads it."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from ingest.definitions import defs
from ingest.tables import TABLES

# Fails on a connection, on a file opened for writing other than bytecode, and on dbt.
IMPORT_PROBE = """
import os, sys
def watch(event, args):
    if event == "socket.connect":
        raise AssertionError(args)
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if "__pycache__" not in str(args[0]) and str(args[0]) != "/dev/null":
            raise AssertionError(args)
sys.addaudithook(watch)
import ingest.defs.raw
from ingest.definitions import defs
# Before `dg` looks for component plugins, of which the shared environment has dbt's.
assert not [name for name in sys.modules if name.partition(".")[0] in ("dbt", "dagster_dbt", "dagster_dbt_common")]
defs()
"""


def test_every_table_is_an_asset_with_blocking_checks() -> None:
    graph = defs().resolve_asset_graph()
    assert graph.get_all_asset_keys() == {dg.AssetKey(["raw", table.name]) for table in TABLES}
    checks = {key.asset_key.path[-1]: set[str]() for key in graph.asset_check_keys}
    for key in graph.asset_check_keys:
        checks[key.asset_key.path[-1]].add(key.name)
        assert graph.get(key).blocking
    assert checks == {table.name: {"keys_unique", "not_empty"} for table in TABLES}


def test_daily_tables_share_one_partitions_definition_and_load_a_range_in_one_run() -> None:
    specs = {spec.key.path[-1]: spec for spec in defs().resolve_all_asset_specs()}
    for table in TABLES:
        days = specs[table.name].partitions_def
        if table.daily:
            assert isinstance(days, dg.DailyPartitionsDefinition)
            assert days.end is None
        else:
            assert days is None
        schema = specs[table.name].metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema)
        assert [column.name for column in schema.columns] == [column.name for column in table.columns]
    graph = defs().resolve_asset_graph()
    daily = [dg.AssetKey(["raw", table.name]) for table in TABLES if table.daily]
    for key in daily:
        policy = graph.get(key).backfill_policy
        assert policy is not None
        assert (policy.max_partitions_per_run or sys.maxsize) > 20 * 366


def test_runs_stay_in_their_own_process() -> None:
    executor = defs().executor
    assert isinstance(executor, dg.ExecutorDefinition)
    assert executor.name == dg.in_process_executor.name


@pytest.mark.slow
def test_loading_the_location_writes_nothing_and_connects_nowhere(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_PROBE],
        check=False,
        cwd=tmp_path,
        env={**environment, "DAGSTER_HOME": "", "HEADRACE_START": "2018-09-01"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []

"""The blocking checks on a raw table, made on the lake's own files after they were written."""

from collections.abc import Mapping

import dagster as dg
import duckdb

from ingest.lake import Lake
from ingest.loading import Loaded
from ingest.parsing import quoted
from ingest.tables import Table

SAMPLES = 5


def check_specs(table: Table, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks that each raw table has."""
    names = ", ".join(table.key)
    span = " within a day and across the days of a run" if table.daily else ""
    marked = ", except for days that the source marks as empty" if table.daily else ""
    return [
        dg.AssetCheckSpec("keys_unique", asset=key, blocking=True, description=f"{names} is unique{span}."),
        dg.AssetCheckSpec("not_empty", asset=key, blocking=True, description=f"There are rows{marked}."),
    ]


def check(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table, loaded: Mapping[str, Loaded]
) -> list[dg.AssetCheckResult]:
    """Return the results for the files that a run wrote, by partition; there must be at least one."""
    lake.connect(connection)
    paths = [partition.location for partition in loaded.values()]
    rows = connection.read_parquet(paths, filename=True, hive_partitioning=False)
    return [_keys_unique(rows, table), _not_empty(rows, loaded)]


def _keys_unique(rows: duckdb.DuckDBPyRelation, table: Table) -> dg.AssetCheckResult:
    names = ", ".join(quoted(name) for name in table.key)
    repeated = (
        rows.aggregate(f"{names}, count(*) as repeats, min(filename), max(filename)", names)
        .filter("repeats > 1")
        .order(names)
    )
    count = repeated.aggregate("count(*)").fetchone()
    total = int(count[0]) if count else 0
    samples = repeated.limit(SAMPLES).fetchall() if total else []
    shown = [f"{', '.join(map(repr, key))} in {first} and {last}" for *key, _, first, last in samples]
    return dg.AssetCheckResult(
        passed=total == 0,
        check_name="keys_unique",
        metadata={"repeated_keys": total, "samples": "\n".join(shown)},
        description=f"{total} keys stand in more than one row: {shown[0]}" if shown else None,
    )


def _not_empty(rows: duckdb.DuckDBPyRelation, loaded: Mapping[str, Loaded]) -> dg.AssetCheckResult:
    filled = {path for (path,) in rows.project("filename").distinct().fetchall()}
    empty = [
        partition for partition, file in loaded.items() if not file.empty_on_purpose and file.location not in filled
    ]
    return dg.AssetCheckResult(
        passed=not empty,
        check_name="not_empty",
        metadata={"files": len(loaded), "empty": len(empty)},
        description=f"no rows in {', '.join(empty)}" if empty else None,
    )

"""The blocking checks on a raw table, made on the lake's own files after they were written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
import duckdb

from ingest.lake import Lake
from ingest.parsing import quoted
from ingest.tables import Table

SAMPLES = 5

_KEYS_UNIQUE, _NOT_EMPTY, _NO_ROWS_QUARANTINED = "keys_unique", "not_empty", "no_rows_quarantined"
_FAILED = "failed_partitions"
_EVALUATION = dg.DagsterEventType.ASSET_CHECK_EVALUATION
_LOOKED_BACK = 20
"""Records of runs that planned the check and died before it are passed over, up to so many."""


def check_specs(table: Table, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks that each raw table has."""
    names = ", ".join(table.key)
    span = " within a day and across the days of a run, and those that failed before" if table.daily else ""
    marked = ", except for days that the source marks as empty" if table.daily else ""
    specs = [
        dg.AssetCheckSpec(_KEYS_UNIQUE, asset=key, blocking=True, description=f"{names} is unique{span}."),
        dg.AssetCheckSpec(_NOT_EMPTY, asset=key, blocking=True, description=f"There are rows{marked}."),
    ]
    if table.max_quarantined_rows:
        most = f"No row was set aside; of up to {table.max_quarantined_rows} of an export this warns."
        specs.append(dg.AssetCheckSpec(_NO_ROWS_QUARANTINED, asset=key, description=most))
    return specs


@dataclass(frozen=True)
class CheckedFile:
    """A file of the lake that a check reads, and whether the source says that it has no rows."""

    location: str
    empty_on_purpose: bool = False


def failed_partitions(
    instance: dg.DagsterInstance, key: dg.AssetKey, names: Sequence[str] = (_KEYS_UNIQUE, _NOT_EMPTY)
) -> frozenset[str]:
    """Return the partitions because of which checks of a raw table failed when they last ran.

    Dagster knows one result of a check, not one for each partition. So a run checks these again beside its own: a good
    day would else clear a bad one, and release what waits for its mend.
    """
    found: set[str] = set()
    for name in names:
        history = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, name), _LOOKED_BACK
        )
        events = (record.event.dagster_event for record in history if record.event)
        # The newest record is of the run that goes on, and says only that the check is planned.
        evaluated = (event for event in events if event and event.event_type is _EVALUATION)
        failed = next((event.asset_check_evaluation_data.metadata.get(_FAILED) for event in evaluated), None)
        found.update(map(str, failed.value) if failed and isinstance(failed.value, list) else ())
    return frozenset(found)


def check(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table, files: Mapping[str, CheckedFile]
) -> list[dg.AssetCheckResult]:
    """Return the results for files of the lake, by partition; there must be at least one."""
    lake.connect(connection)
    paths = [file.location for file in files.values()]
    rows = connection.read_parquet(paths, filename=True, hive_partitioning=False)
    return [_keys_unique(rows, table, files), _not_empty(rows, files)]


def no_rows_quarantined(
    instance: dg.DagsterInstance, key: dg.AssetKey, quarantined: Mapping[str, int]
) -> dg.AssetCheckResult:
    """Return the warning of rows that were set aside, of a table that lets some be.

    Args:
        instance: knows the partitions that warned before, which go on to warn until they are loaded without such rows.
        key: the table's asset.
        quarantined: how many rows were set aside now, by partition.
    """
    before = failed_partitions(instance, key, [_NO_ROWS_QUARANTINED]) - set(quarantined)
    now = {partition: rows for partition, rows in quarantined.items() if rows}
    failed = sorted({*before, *now})
    return dg.AssetCheckResult(
        passed=not failed,
        check_name=_NO_ROWS_QUARANTINED,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"quarantined_rows": sum(now.values()), _FAILED: failed},
        description=f"rows are set aside of {', '.join(failed)}" if failed else None,
    )


def _keys_unique(rows: duckdb.DuckDBPyRelation, table: Table, files: Mapping[str, CheckedFile]) -> dg.AssetCheckResult:
    names = ", ".join(quoted(name) for name in table.key)
    repeated = (
        rows.aggregate(f"{names}, count(*) as repeats, list_sort(list(distinct filename)) as files", names)
        .filter("repeats > 1")
        .order(names)
    )
    count = repeated.aggregate("count(*)").fetchone()
    total = int(count[0]) if count else 0
    samples = repeated.limit(SAMPLES).fetchall() if total else []
    shown = [f"{', '.join(map(repr, key))} in {found[0]} and {found[-1]}" for *key, _, found in samples]
    wrong = {path for (path,) in repeated.project("unnest(files)").distinct().fetchall()} if total else set()
    return dg.AssetCheckResult(
        passed=total == 0,
        check_name=_KEYS_UNIQUE,
        metadata={
            "repeated_keys": total,
            "samples": "\n".join(shown),
            _FAILED: [partition for partition, file in files.items() if file.location in wrong],
        },
        description=f"{total} keys are in more than one row: {shown[0]}" if shown else None,
    )


def _not_empty(rows: duckdb.DuckDBPyRelation, files: Mapping[str, CheckedFile]) -> dg.AssetCheckResult:
    filled = {path for (path,) in rows.project("filename").distinct().fetchall()}
    empty = [
        partition for partition, file in files.items() if not file.empty_on_purpose and file.location not in filled
    ]
    return dg.AssetCheckResult(
        passed=not empty,
        check_name=_NOT_EMPTY,
        metadata={"files": len(files), "empty": len(empty), _FAILED: empty},
        description=f"no rows in {', '.join(empty)}" if empty else None,
    )

"""What Dagster knows of loads: what a partition was last loaded from, and which tables a run is loading."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from ingest.tables import Table

_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_UNFINISHED = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
# A killed run stays unfinished for ever; a load is over long before.
_LONGEST_LOAD = timedelta(hours=1)
# Databases limit the values in one query.
_PAGE = 500


@dataclass(frozen=True)
class Load:
    """The last load of a partition: where Dagster stores it, and the SHA-256 of its export, or `empty` for a marker."""

    storage_id: int
    source_sha256: str


def raw_key(table: Table) -> dg.AssetKey:
    """Return the key of the asset that loads `table`."""
    return dg.AssetKey(["raw", table.name])


def last_loads(instance: dg.DagsterInstance, table: Table, days: Collection[str | None]) -> Mapping[str | None, Load]:
    """Return the last load of each of the `days` (ISO dates; None for a table that is not daily) that has one."""
    key = raw_key(table)
    records: list[dg.EventLogRecord] = []
    if table.daily:
        wanted = {day for day in days if day is not None}
        stored = instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
        ids = [storage_id for day, storage_id in stored.items() if day in wanted]
        for start in range(0, len(ids), _PAGE):
            page = dg.AssetRecordsFilter(key, storage_ids=ids[start : start + _PAGE])
            records += instance.fetch_materializations(page, limit=_PAGE).records
    else:
        records += instance.fetch_materializations(key, limit=1).records
    return {
        event.partition: Load(record.storage_id, _source(event))
        for record in records
        if (event := record.asset_materialization) is not None
    }


def tables_being_loaded(instance: dg.DagsterInstance, tables: Sequence[Table]) -> Mapping[Table, str]:
    """Return the tables that a run is loading or waits to load, each with that run's id."""
    unfinished = dg.RunsFilter(statuses=_UNFINISHED, created_after=datetime.now(UTC) - _LONGEST_LOAD)
    selected = {key: run.run_id for run in instance.get_runs(unfinished) for key in run.asset_selection or ()}
    return {table: selected[raw_key(table)] for table in tables if raw_key(table) in selected}


def _source(event: dg.AssetMaterialization) -> str:
    source = event.metadata.get("source_sha256")
    return str(source.value) if source else ""

"""Makes the Dagster asset of a raw table from its declaration."""

import inspect
import warnings
from collections.abc import Iterator

import dagster as dg
import duckdb

from ingest import settings, tables
from ingest.checks import CheckedFile, check, check_specs, failed_partitions, no_rows_quarantined
from ingest.engine import engine
from ingest.lake import open_lake
from ingest.loading import Loaded, column_schema, lake_name, load, load_each, metadata
from ingest.tables import Table
from ingest.validation import Window

# A backfill over several locations puts assets of the same partitions and backfill policy into one run request,
# whatever their locations, and such a run cannot be launched (Dagster 1.13.27). So these policies are not the ones
# that dagster-dbt gives its assets, single_run() and none, and mean the same: 27 years of days are one run.
_MOST_PARTITIONS = 10_000
_ONE_RUN_UNPARTITIONED = dg.BackfillPolicy.single_run()

RawEvent = dg.AssetMaterialization | dg.AssetCheckResult | dg.MaterializeResult[None]


def raw_asset(table: Table, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset `raw/<table>`, partitioned by `days` where the table is daily.

    A run over a range of days loads two at once. Where some fail, the others are recorded, and the run fails at its
    end with the reason of each. Each run asks the environment where exports and lake are.
    """
    key = dg.AssetKey(["raw", table.name])

    spec = dg.AssetSpec(
        key,
        description=table.description,
        group_name="raw",
        owners=["team:platform"],
        kinds={"python", "parquet", *(["postgres"] if settings.is_read_by_postgres() else [])},
        metadata={
            "dagster/column_schema": column_schema(table),
            "dagster/code_references": _declaration(table),
            # What a reader of the folders gets as a column, and no file has.
            **({"partition_expr": "day"} if table.daily else {}),
            **({"dagster/table_name": settings.postgres_table(table.name)} if settings.is_read_by_postgres() else {}),
        },
        partitions_def=days if table.daily else None,
    )

    # Not `@dg.asset`, in which `backfill_policy` is beta and warns.
    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[spec],
        backfill_policy=dg.BackfillPolicy.multi_run(settings.partitions_per_run() or _MOST_PARTITIONS)
        if table.daily
        else _ONE_RUN_UNPARTITIONED,
        check_specs=check_specs(table, key),
        # Two runs at once would each check without the other's days.
        pool=f"raw_{table.name}",
    )
    def load_raw(context: dg.AssetExecutionContext) -> Iterator[RawEvent]:
        partitions = _partitions(context, days) if table.daily else {table.name: None}
        try:
            exports, lake = settings.exports(), open_lake(settings.lake())
        except settings.SettingError as error:
            raise dg.Failure(str(error)) from error
        if settings.is_read_by_postgres():
            _prepare_in_postgres(table)
        with engine() as connection:

            def load_one(cursor: duckdb.DuckDBPyConnection, partition: str) -> Loaded:
                window = partitions[partition]
                day = partition if window else None
                return load(cursor, table, exports=exports, lake=lake, day=day, window=window)

            loaded, failed = load_each(connection, load_one, list(partitions))
            files = {
                partition: CheckedFile(lake.location(lake_name(table, partition)))
                for partition in failed_partitions(context.instance, key)
            } | {partition: CheckedFile(file.location, file.empty_on_purpose) for partition, file in loaded.items()}
            results = check(connection, lake, table, files) if loaded else []
        if loaded and table.max_quarantined_rows:
            rows = {partition: file.quarantined_rows for partition, file in loaded.items()}
            results.append(no_rows_quarantined(context.instance, key, rows))
        if failed:
            # An output would record every partition of the run, so the good ones are recorded one by one.
            for partition, file in loaded.items():
                yield dg.AssetMaterialization(key, partition=partition, metadata=metadata(table, file))
            yield from results
            raise dg.Failure(_summary(key, failed, len(loaded)))
        for partition, file in loaded.items():
            context.add_asset_metadata(
                metadata(table, file), asset_key=key, partition_key=partition if table.daily else None
            )
        yield dg.MaterializeResult(asset_key=key, check_results=results)

    return load_raw


def _prepare_in_postgres(table: Table) -> None:
    from ingest import postgres  # noqa: PLC0415 - of one target, and a driver

    try:
        postgres.prepare(table)
    except (OSError, postgres.OtherColumnsError) as error:
        raise dg.Failure(str(error)) from error


def _declaration(table: Table) -> dg.CodeReferencesMetadataValue:
    """Return where the table is declared."""
    lines, _ = inspect.getsourcelines(tables)
    line = next((number for number, text in enumerate(lines, 1) if f'name="{table.name}"' in text), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=inspect.getfile(tables), line_number=line, label="table")
        return dg.CodeReferencesMetadataValue(code_references=[reference])


def _partitions(context: dg.AssetExecutionContext, days: dg.DailyPartitionsDefinition) -> dict[str, Window | None]:
    windows = [(day, days.time_window_for_partition_key(day)) for day in context.partition_keys]
    last = days.get_last_partition_window()
    # Dagster's API launches what looks like a partition.
    for day, window in windows:
        if last is None or window.end > last.end:
            raise dg.Failure(f"{day}: this day is not over: its partition is there when it is")
    # The lake's times are UTC without zone.
    return {day: Window(w.start.replace(tzinfo=None), w.end.replace(tzinfo=None)) for day, w in windows}


def _summary(key: dg.AssetKey, failed: dict[str, str], loaded: int) -> str:
    if len(failed) == 1 and not loaded:
        return next(iter(failed.values()))
    reasons = "\n".join(f"{partition}: {reason}" for partition, reason in failed.items())
    of = f"{len(failed)} of {len(failed) + loaded} partitions failed, {loaded} loaded"
    return f"{key.to_user_string()}: {of}\n{reasons}"

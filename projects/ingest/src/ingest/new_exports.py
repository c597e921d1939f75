"""Makes the sensor that loads exports as they arrive, so that nobody has to ask for it."""

import time
from collections.abc import Sequence
from datetime import date

import dagster as dg

from ingest import settings
from ingest.arrivals import Batch, Look, Seen, batches, look
from ingest.recorded import last_loads, raw_key, tables_being_loaded
from ingest.tables import Table

_SOONEST, _LATEST = 5, 30
_AT_EACH_LOOK = 3
"""Dagster's daemon looks at its sensors each 5 seconds: one that says 5 is looked at every second time, as a rule."""
_EXPORTS_A_SECOND = 650
"""A look takes 75 ms for a thousand exports: at this pace it takes a twentieth of the time."""
_REASONS = 5


def new_exports_sensor(tables: Sequence[Table], days: dg.DailyPartitionsDefinition) -> dg.SensorDefinition:
    """Return the sensor `new_exports`, which requests a run for each export that is new or changed.

    The cursor holds the version of each export that was dealt with, so a tick reads Dagster's history only for others.
    An export is requested once for each version of it: one that could not be loaded waits to be mended. A range of
    days is one run. An export that is gone is not a change. It looks each 5 s; over more than 3,000 exports less often,
    and at least each 30 s.
    """
    next_look = 0.0
    exports = 0

    @dg.sensor(
        name="new_exports",
        asset_selection=[raw_key(table) for table in tables],
        minimum_interval_seconds=_AT_EACH_LOOK,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Loads the exports that are new or changed.",
    )
    def new_exports(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        nonlocal next_look, exports
        first, last = days.get_first_partition_key(), days.get_last_partition_key()
        if first is None or last is None:
            return dg.SkipReason("no day has a partition yet: the first is in the future; see HEADRACE_START")
        try:
            folder = settings.exports()
            if not folder.is_dir():
                return dg.SkipReason(f"{folder}: no such folder; set HEADRACE_EXPORTS to where the exports arrive")
            if (left := next_look - time.monotonic()) > 0:
                return dg.SkipReason(f"{folder} has {exports:,} exports: looking again in {left:.0f} s")
            found = look(
                folder,
                tables,
                Seen.from_cursor(context.cursor),
                first=date.fromisoformat(first),
                last=date.fromisoformat(last),
                now=time.time(),
                last_loads=lambda table, wanted: last_loads(context.instance, table, wanted),
                being_loaded=lambda: tables_being_loaded(context.instance, tables),
                settled=settings.settled_seconds(),
            )
        except (settings.SettingError, OSError) as error:
            return dg.SkipReason(str(error))
        exports = len(found.seen.done) + len(found.seen.waiting)
        pause = seconds_between_looks(exports)
        next_look = time.monotonic() + pause if pause > _SOONEST else 0.0
        requests = [
            _request(batch, {table.name: raw_key(table) for table in tables}) for batch in batches(found.arrivals)
        ]
        return dg.SensorResult(
            run_requests=requests or None,
            skip_reason=None if requests else _skip_reason(found, str(folder)),
            cursor=found.seen.to_cursor(),
        )

    return new_exports


def seconds_between_looks(exports: int) -> int:
    """Return after how many seconds a folder of so many exports is looked at again."""
    return min(max(_SOONEST, exports // _EXPORTS_A_SECOND), _LATEST)


def _request(batch: Batch, keys: dict[str, dg.AssetKey]) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=batch.run_key,
        asset_selection=[keys[table] for table in batch.tables],
        partition_key=batch.first if batch.first == batch.last else None,
        tags={
            "dagster/asset_partition_range_start": batch.first,
            "dagster/asset_partition_range_end": batch.last,
        }
        if batch.first and batch.last and batch.first != batch.last
        else None,
    )


def _skip_reason(found: Look, folder: str) -> str:
    if not found.waiting:
        return f"nothing new in {folder}"
    reasons = [f"{partition} {reason}" for partition, reason in found.waiting.items()]
    more = [f"and {len(reasons) - _REASONS} more"] if len(reasons) > _REASONS else []
    return "; ".join([*reasons[:_REASONS], *more])

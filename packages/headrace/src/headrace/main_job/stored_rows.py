"""Which partitions have lost all of their rows in a DuckDB file since they were recorded with some.

A file that is as it was when nothing was lost is not read again. `headrace reconcile` compares the numbers, on each
warehouse; this is the part of it that is cheap enough for each main job.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dagster import TimeWindowPartitionsDefinition

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.remembered import write_json
from headrace_staleness import AllWindows, Partition

if TYPE_CHECKING:
    import duckdb

_FILE = "headrace-warehouses.json"
_DAY = timedelta(days=1)
_WIDER = 2 * _DAY  # more than any zone is from UTC


class StoredRows:
    """Compares tables with what was recorded of them.

    Args:
        home: the folder of the instance, in which is kept how the files were when nothing was lost.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / _FILE
        self._windows = AllWindows()
        self._as_seen: dict[str, object] = {}
        self._now: dict[str, object] = {}
        self._not_kept: set[str] = set()
        self._stack = ExitStack()
        self._open: dict[str, duckdb.DuckDBPyConnection] = {}
        with suppress(OSError, ValueError):
            self._as_seen = dict(json.loads(self._file.read_bytes()))

    def emptied(self, node: AssetNode, rows: Mapping[Partition, int | None]) -> Collection[Partition]:
        """Return the partitions that were recorded with rows and have none.

        Args:
            node: an asset whose table is there, if it is in a DuckDB file of its location.
            rows: the rows of each partition as they were recorded; None where that is not known.
        """
        definition, file = node.partitions_def, node.duckdb_file
        if not isinstance(definition, TimeWindowPartitionsDefinition) or not node.event_time or not file:
            return ()
        # A table of an attached database is in another file.
        if not any(rows.values()) or (node.table or "").partition(".")[0].lower() != Path(file).stem.lower():
            return ()
        if file not in self._now:
            self._now[file] = _state(Path(file))
        if self._as_seen.get(file) == self._now[file]:
            return ()
        filled = self._filled(node, definition, file)
        windows = self._windows.of(definition)
        # Keys of former partitions are in no window by now.
        there = windows.numbers if windows and filled is not None else {}
        lost = [key for key, number in rows.items() if number and key in there and key not in (filled or ())]
        if lost or filled is None:
            self._not_kept.add(file)
        return lost

    def close(self) -> None:
        """Close the files, and keep how those are in which nothing was lost, and which could be read."""
        self._stack.close()
        kept = {file: state for file, state in {**self._as_seen, **self._now}.items() if file not in self._not_kept}
        if kept != self._as_seen:
            write_json(self._file, kept)

    def _filled(
        self, node: AssetNode, definition: TimeWindowPartitionsDefinition, file: str
    ) -> Collection[Partition] | None:
        """Return the partitions that have rows; None where the table cannot be read now."""
        import duckdb  # noqa: PLC0415 - a workspace may have no such file

        windows, zone = self._windows.of(definition), ZoneInfo(definition.timezone)
        if windows is None or not windows.keys:
            return ()
        starts, ends = ([moment.timestamp() for moment in moments] for moments in (windows.starts, windows.ends))
        # No window begins or ends within so many seconds, and neither does a date.
        seconds = math.gcd(int(_DAY.total_seconds()), *map(int, starts), *map(int, ends))
        column = node.event_time
        name = ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in (node.table or "").split("."))
        query = (
            f"select distinct floor(epoch({column}) / {seconds})::bigint, typeof({column}) from {name} "  # noqa: S608
            f"where {column} >= cast(? as date) and {column} < cast(? as date)"
        )
        bounds = [(windows.starts[0] - _WIDER).date(), (windows.ends[-1] + _WIDER).date()]
        with suppress(duckdb.Error):
            if file not in self._open:
                self._open[file] = self._stack.enter_context(duckdb.connect(file, read_only=True))
            found = self._open[file].execute(query, bounds).fetchall()
            moments = [_moment(number * seconds, zone if kind == "DATE" else None) for number, kind in found]
            places = [bisect_right(starts, moment) - 1 for moment in moments]
            pairs = zip(moments, places, strict=True)
            return {windows.keys[place] for moment, place in pairs if place >= 0 and moment < ends[place]}
        return None


def _moment(seconds: int, zone: ZoneInfo | None) -> float:
    """Return a moment in seconds since the epoch; that of a date is the midnight of the partitions' zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=zone).timestamp() if zone else seconds


def _state(file: Path) -> object:
    """Return what changes when somebody writes a DuckDB file: what was committed may be in its log."""
    states = []
    for each in (file, file.with_name(f"{file.name}.wal")):
        with suppress(OSError):
            found = each.stat()
            states.append([each.name, found.st_mtime_ns, found.st_size])
    return states

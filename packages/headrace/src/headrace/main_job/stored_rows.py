"""Which partitions have lost all of their rows since they were recorded with some.

A warehouse that is as it was when nothing was lost is not read again. `headrace reconcile` compares the numbers, on
each one; this is the part of it that is cheap enough for each main job.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

from dagster import TimeWindowPartitionsDefinition

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.remembered import write_json
from headrace.main_job.warehouses import Warehouse, Warehouses
from headrace_staleness import AllWindows, Partition

_FILE = "headrace-warehouses.json"
_DAY = timedelta(days=1)
_WIDER = 2 * _DAY  # more than any zone is from UTC


class StoredRows:
    """Compares tables with what was recorded of them.

    Args:
        home: the folder of the instance, in which is kept how the warehouses were when nothing was lost.
        warehouses: those of the assets; DuckDB files by default.
    """

    def __init__(self, home: Path, warehouses: Warehouses | None = None) -> None:
        self._file = home / _FILE
        self._warehouses = warehouses or Warehouses()
        self._windows = AllWindows()
        self._as_seen: dict[str, object] = {}
        self._now: dict[str, object] = {}
        self._not_kept: set[str] = set()
        with suppress(OSError, ValueError):
            self._as_seen = dict(json.loads(self._file.read_bytes()))

    def emptied(self, node: AssetNode, rows: Mapping[Partition, int | None]) -> Collection[Partition]:
        """Return the partitions that were recorded with rows and have none.

        Args:
            node: an asset whose table is there.
            rows: the rows of each partition as they were recorded; None where that is not known.
        """
        definition = node.partitions_def
        if not isinstance(definition, TimeWindowPartitionsDefinition) or not node.event_time or not any(rows.values()):
            return ()
        warehouse = self._warehouses.of(node)
        if warehouse is None:
            return ()
        name = warehouse.name_of(node)
        if name not in self._now:
            self._now[name] = warehouse.state(node)
        if self._now[name] is None or self._as_seen.get(name) == self._now[name]:
            return ()
        filled = self._filled(node, definition, warehouse)
        windows = self._windows.of(definition)
        # Keys of former partitions are in no window by now.
        there = windows.numbers if windows and filled is not None else {}
        lost = [key for key, number in rows.items() if number and key in there and key not in (filled or ())]
        if lost or filled is None:
            self._not_kept.add(name)
        return lost

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the warehouses, and keep how those are in which nothing was lost, and which could be read."""
        self._warehouses.close()
        if kind is None:
            self._keep()

    def _keep(self) -> None:
        kept = {name: state for name, state in {**self._as_seen, **self._now}.items() if name not in self._not_kept}
        if kept != self._as_seen:
            write_json(self._file, kept)

    def _filled(
        self, node: AssetNode, definition: TimeWindowPartitionsDefinition, warehouse: Warehouse
    ) -> Collection[Partition] | None:
        """Return the partitions that have rows; None where the table cannot be read now."""
        windows, zone = self._windows.of(definition), ZoneInfo(definition.timezone)
        if windows is None or not windows.keys:
            return ()
        starts, ends = ([moment.timestamp() for moment in moments] for moments in (windows.starts, windows.ends))
        # No window begins or ends within so many seconds, and neither does a date.
        seconds = math.gcd(int(_DAY.total_seconds()), *map(int, starts), *map(int, ends))
        bounds = [(windows.starts[0] - _WIDER).date(), (windows.ends[-1] + _WIDER).date()]
        found = warehouse.times(node, seconds, bounds)
        if found is None:
            return None
        moments = [_moment(number * seconds, zone if is_date else None) for number, is_date in found]
        places = [bisect_right(starts, moment) - 1 for moment in moments]
        pairs = zip(moments, places, strict=True)
        return {windows.keys[place] for moment, place in pairs if place >= 0 and moment < ends[place]}


def _moment(seconds: int, zone: ZoneInfo | None) -> float:
    """Return a moment in seconds since the epoch; that of a date is the midnight of the partitions' zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=zone).timestamp() if zone else seconds

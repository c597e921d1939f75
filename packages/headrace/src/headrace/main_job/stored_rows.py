"""Which partitions have lost all of their rows in a DuckDB file since they were recorded with some.

A file that is as it was when nothing was lost is not read again. `headrace reconcile` compares the numbers, on each
warehouse; this is the part of it that is cheap enough for each main job.
"""

import json
from bisect import bisect_right
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from dagster import TimeWindowPartitionsDefinition

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.plan import Partition
from headrace.main_job.remembered import write_json
from headrace.main_job.windows import AllWindows

_FILE = "headrace-warehouses.json"
_SECONDS = 60  # each window begins with a minute


class StoredRows:
    """Compares tables with what was recorded of them.

    Args:
        home: the folder of the instance, in which is kept how the files were when nothing was lost.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / _FILE
        self._windows = AllWindows()
        self._as_seen: dict[str, list[int]] = {}
        self._now: dict[str, list[int]] = {}
        with suppress(OSError, ValueError):
            self._as_seen = dict(json.loads(self._file.read_bytes()))

    def emptied(self, node: AssetNode, rows: Mapping[Partition, int | None]) -> Collection[Partition]:
        """Return the partitions that were recorded with rows and have none.

        Args:
            node: an asset whose table is in a DuckDB file, and there.
            rows: the rows of each partition as they were recorded; None where that is not known.
        """
        definition, file = node.partitions_def, node.duckdb_file
        if not isinstance(definition, TimeWindowPartitionsDefinition) or not node.event_time or not file:
            return ()
        if not any(rows.values()):
            return ()
        if file not in self._now:
            found = Path(file).stat()
            self._now[file] = [found.st_mtime_ns, found.st_size]
        if self._as_seen.get(file) == self._now[file]:
            return ()
        filled = self._filled(node, definition, file)
        lost = [] if filled is None else [key for key, number in rows.items() if number and key not in filled]
        if lost or filled is None:
            self._now[file] = []  # to be looked at again
        return lost

    def keep(self) -> None:
        """Keep how the files are in which nothing was lost."""
        if any(self._as_seen.get(file) != state for file, state in self._now.items()):
            write_json(self._file, {**self._as_seen, **self._now})

    def _filled(
        self, node: AssetNode, definition: TimeWindowPartitionsDefinition, file: str
    ) -> Collection[Partition] | None:
        """Return the partitions that have rows; None where the table cannot be read now."""
        import duckdb  # noqa: PLC0415 - a workspace may have no such file

        query = (
            f"select distinct floor(epoch({node.event_time}) / {_SECONDS})::bigint, typeof({node.event_time}) "  # noqa: S608
            f"from {node.table} where {node.event_time} is not null"
        )
        with suppress(duckdb.Error), duckdb.connect(file, read_only=True) as connection:
            moments = connection.execute(query).fetchall()
            windows, zone = self._windows.of(definition), ZoneInfo(definition.timezone)
            assert windows is not None  # noqa: S101 - the definition is of windows
            found = set()
            for minute, kind in moments:
                moment = datetime.fromtimestamp(minute * _SECONDS, UTC)
                if kind == "DATE":  # one of the partitions' zone
                    moment = moment.replace(tzinfo=zone)
                place = bisect_right(windows.starts, moment) - 1
                if place >= 0 and moment < windows.ends[place]:
                    found.add(windows.keys[place])
            return found
        return None

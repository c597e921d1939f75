"""Dagster's event log in SQLite, for the many events of a range of partitions.

The files, their tables, the events and the order of their ids are those of Dagster's own storage, so that either can
read what the other wrote. What differs is how they are written:

- A batch of asset events, which Dagster hands over where `DAGSTER_EVENT_BATCH_SIZE` is set, is one transaction of the
  run's file and one of the index. Dagster's own storage writes each event in three transactions of its own.
- The planned checks of a range, a row for each partition, hold one text, which is made once: Dagster makes it anew for
  each, in all 4,320 times for two checks of 90 days by hours.
- `synchronous=NORMAL`: with a write-ahead log a commit does not wait for the disk. A process that is killed loses
  nothing. A power cut may lose the last seconds of the log, never its integrity: a partition whose event is lost
  counts as not built, and is built again.
- The connection to the index, and that to the file of the last run, stay open. When the last connection to a file is
  closed, SQLite moves the log into the file and waits for the disk: Dagster's own storage does so after each statement.
- The file of a run begins as a copy of the empty one that Dagster made for the former run of this process. To make the
  tables anew takes as long as all else that goes before a run.

Adapter of a private Dagster module, for `event_log_storage` in `dagster.yaml`, by its address `headrace.event_log`. It
can be deleted when Dagster's own storage writes batches. `tests/local_dagster/test_event_log.py` fails if it moves.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from dagster import DagsterEventType, DagsterInvariantViolationError, EventLogEntry, Field, StringSource
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData, serialize_value
from sqlalchemy import Connection, Engine, create_engine, insert
from sqlalchemy.event import listen
from sqlalchemy.pool import QueuePool

_BATCHED = {
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_OBSERVATION,
}
_ROWS_OF_A_STATEMENT = 1000  # of seven columns: SQLite takes 32,766 variables


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's storage, with batches and without a wait for the disk at each commit.

    Args:
        base_dir: the folder of the files.
        inst_data: what Dagster's configuration says of the class.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._empty: bytes | None = None
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> Any:
        """Return what `dagster.yaml` may say: `base_dir`, which is otherwise Dagster's own below `DAGSTER_HOME`."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "BatchingSqliteEventLogStorage":
        """Make the storage that `dagster.yaml` describes.

        Raises:
            DagsterInvariantViolationError: it says no folder, and there is no `DAGSTER_HOME`.
        """
        home = os.environ.get("DAGSTER_HOME")
        folder = config_value.get("base_dir") or (home and str(Path(home, "history", "runs")))
        if not folder:
            raise DagsterInvariantViolationError(
                "dagster.yaml: event_log_storage has no base_dir, and DAGSTER_HOME is not set: set one of them"
            )
        return cls(folder, inst_data)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events; those of one kind, of assets, and of one run in two transactions."""
        if len(events) < 2 or len({event.run_id for event in events}) > 1 or not _are_of_assets(events):  # noqa: PLR2004
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        parts = [rows[start : start + _ROWS_OF_A_STATEMENT] for start in range(0, len(rows), _ROWS_OF_A_STATEMENT)]
        with self.run_connection(events[0].run_id) as connection:
            for part in parts:
                connection.execute(insert(SqlEventLogStorageTable).values(part))
        with self.index_transaction() as connection:
            ids: list[int] = []
            for part in parts:
                added = insert(SqlEventLogStorageTable).values(part).returning(SqlEventLogStorageTable.c.id)
                # In the order of the rows: the ids of one transaction only grow.
                ids += sorted(connection.execute(added).scalars())
            self._store_asset_event_tags(connection, events, ids)
            # What the assets' last events are: that of the last one of each is enough.
            last = {event.get_dagster_event().asset_key: (event, id_) for event, id_ in zip(events, ids, strict=True)}
            for event, id_ in last.values():
                self._store_asset_event(connection, event, id_)

    def store_asset_check_event(self, event: EventLogEntry, event_id: int | None) -> None:
        """Store the event of a check, that of a planned one for all partitions of its run in one statement."""
        planned: Any = event.get_dagster_event().event_specific_data
        is_planned = event.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
        if not is_planned or not planned.partitions_subset:
            super().store_asset_check_event(event, event_id)
            return
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None),
            "evaluation_event_storage_id": event_id,
        }
        rows = [{**row, "partition": key} for key in planned.partitions_subset.get_partition_keys()]
        with self.index_connection() as connection:
            connection.execute(insert(AssetCheckExecutionsTable), rows)

    def dispose(self) -> None:
        """Close what is open."""
        super().dispose()
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                if not self._is_initialized(shard):
                    self._copy_empty(shard)
                if not self._is_initialized(shard):
                    self._initdb(engine)
                    self._keep_empty(shard)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _engine(self, shard: str) -> Engine:
        """Return the engine of a file; those of other runs are closed, since a server sees thousands of them."""
        if shard not in self._engines:
            for other in [name for name in self._engines if name != INDEX_SHARD_NAME]:
                self._engines.pop(other).dispose()
            engine = create_engine(
                self.conn_string_for_shard(shard),
                # One at a time, of whichever thread has the lock.
                poolclass=QueuePool,
                pool_size=1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            listen(engine, "connect", _do_not_wait_for_the_disk)
            self._engines[shard] = engine
        return self._engines[shard]

    def _keep_empty(self, shard: str) -> None:
        """Keep the content of a file that has its tables and, but for another process that was as fast, no events."""
        with closing(sqlite3.connect(self.path_for_shard(shard))) as file:
            if file.execute("select count(*) from event_logs").fetchone() == (0,):
                self._empty = file.serialize()

    def _copy_empty(self, shard: str) -> None:
        """Make a file from the empty one, if there is one; a file that is there by then is left alone."""
        if self._empty is not None:
            path = Path(self.path_for_shard(shard))
            with NamedTemporaryFile(dir=path.parent, prefix=f".{shard}-") as new, suppress(FileExistsError):
                new.write(self._empty)
                new.flush()
                shutil.copymode(self.path_for_shard(INDEX_SHARD_NAME), new.name)
                path.hardlink_to(new.name)

    def _is_initialized(self, shard: str) -> bool:
        """Return whether a file has its tables, which Alembic would be asked for."""
        try:
            file = sqlite3.connect(f"file:{self.path_for_shard(shard)}?mode=ro", uri=True)
        except sqlite3.OperationalError:
            return False
        try:
            return file.execute("select version_num from alembic_version").fetchone() is not None
        except sqlite3.OperationalError:
            return False
        finally:
            file.close()


def _are_of_assets(events: Sequence[EventLogEntry]) -> bool:
    """Return whether all events are of one kind, and of assets: other ones change more than the index of assets."""
    (kind, *others) = {event.dagster_event_type for event in events}
    return not others and kind in _BATCHED and all(event.get_dagster_event().asset_key for event in events)


def _do_not_wait_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")

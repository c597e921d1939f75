"""What the last materialization of each partition says of code, source, reading and rows, kept between main jobs.

Dagster's index answers in one query which materialization is a partition's last one. What that one says of its code and
of its export is in the event, and to read an event takes 0.3 ms: half a minute for ten years of hours. So it is read
once, and known by its storage id. A file that is gone or broken is made again.

SQLite gives an id again where the last ones were deleted, with their run or by a wipe. Then the last one that is known
of the asset is another event, or gone, and nothing that is known of the asset counts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, EventLogRecord

from headrace.main_job.code_versions import is_same_code
from headrace.main_job.remembered import write_json
from headrace_staleness import Partition

_FORMAT = 3
_FILE = "headrace-details.json"
_PAGE = 1000
_CODE_VERSION_TAG = "dagster/code_version"
_SOURCE = "source_sha256"
_ROWS = "dagster/partition_row_count"
_READ_UP_TO = "dagster_dbt_common/read_up_to"
"""The tag by which `dagster-dbt-common` says the newest storage id when a build began; a test holds them equal."""


class Detail(NamedTuple):
    """What a materialization says.

    Args:
        storage_id: its id.
        code_version: the code version that it was made with; empty where it says none.
        source: the content hash of the export file that it was loaded from; empty where it says none.
        code_since: of a view, the id of the first materialization with the code of this one; else None.
        read_up_to: the newest storage id when its build began, or that of the one in `code_since`; None where it says
            none.
        run: the first letters of the id of that build's run.
        rows: the rows that the partition had; None where it says none.
    """

    storage_id: int
    code_version: str
    source: str
    code_since: int | None = None
    read_up_to: int | None = None
    run: str = ""
    rows: int | None = None


class Details:
    """The details of an instance's materializations.

    Args:
        instance: the instance.
        home: its folder, in which they are kept.
    """

    def __init__(self, instance: DagsterInstance, home: Path) -> None:
        self._instance = instance
        self._file = home / _FILE
        self._known: dict[str, _Known] = {}
        self._has_news = False
        # Whatever is wrong with it, it can be read again from the events.
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(self._file.read_bytes())
            if content["format"] == _FORMAT:
                for key, (last, details) in content["assets"].items():
                    self._known[key] = _Known(_Event(*last), {name: Detail(*one) for name, one in details.items()})

    def of(
        self, key: AssetKey, last: EventLogRecord, ids: Mapping[Partition, int], *, is_view: bool = False
    ) -> Mapping[Partition, Detail]:
        """Return the details of an asset's last materializations.

        Args:
            key: the asset.
            last: its last materialization.
            ids: the storage id of the last materialization of each partition.
            is_view: whether it is to be told since when the view has its code.
        """
        known = self._still_known(key, last)
        missing = [id_ for partition, id_ in ids.items() if known.get(_name(partition), _NONE).storage_id != id_]
        if missing:
            read = self._read_view(key) if is_view else self._read(key, missing)
            found = {**known, **read}
            known = {name: found[name] for name, id_ in _named(ids) if name in found and found[name].storage_id == id_}
            # Of what came after the last one nothing would show that its id was given again.
            kept = {name: detail for name, detail in known.items() if detail.storage_id <= last.storage_id}
            self._known[key.to_string()] = _Known(_Event(last.storage_id, last.timestamp), kept)
            self._has_news = True
        return {partition: known.get(_name(partition), _NONE) for partition in ids}

    def keep(self) -> None:
        """Keep what was read for the next main job."""
        if self._has_news:
            assets = {key: [known.last, known.details] for key, known in self._known.items()}
            write_json(self._file, {"format": _FORMAT, "assets": assets})

    def _still_known(self, key: AssetKey, last: EventLogRecord) -> Mapping[str, Detail]:
        """Return what is known of an asset, unless its events were deleted and their ids given again."""
        known = self._known.get(key.to_string())
        if known is None:
            return {}
        now: EventLogRecord | None = last
        if last.storage_id != known.last.storage_id:
            wanted = AssetRecordsFilter(key, storage_ids=[known.last.storage_id])
            now = next(iter(self._instance.fetch_materializations(wanted, limit=1).records), None)
        return known.details if now and now.timestamp == known.last.timestamp else {}

    def _read(self, key: AssetKey, ids: Sequence[int]) -> Mapping[str, Detail]:
        found = {}
        for start in range(0, len(ids), _PAGE):
            wanted = AssetRecordsFilter(key, storage_ids=list(ids[start : start + _PAGE]))
            for record in self._instance.fetch_materializations(wanted, limit=_PAGE).records:
                if materialization := record.asset_materialization:
                    source, rows = (materialization.metadata.get(name) for name in (_SOURCE, _ROWS))
                    tags = materialization.tags or {}
                    detail = Detail(
                        record.storage_id,
                        tags.get(_CODE_VERSION_TAG, ""),
                        str(source.value) if source else "",
                        read_up_to=_read_up_to(tags),
                        run=_run(record),
                        rows=rows.value if rows and isinstance(rows.value, int) else None,
                    )
                    found[_name(materialization.partition)] = detail
        return found

    def _read_view(self, key: AssetKey) -> Mapping[str, Detail]:
        """Read a view's materializations, newest first, until one with other code."""
        newest: Detail | None = None
        cursor, has_more = None, True
        while has_more:
            page = self._instance.fetch_materializations(AssetRecordsFilter(key), limit=_PAGE, cursor=cursor)
            for record in page.records:
                materialization = record.asset_materialization
                tags = (materialization.tags if materialization else None) or {}
                version = tags.get(_CODE_VERSION_TAG, "")
                if newest is None:
                    read_up_to = _read_up_to(tags)
                    newest = Detail(record.storage_id, version, "", record.storage_id, read_up_to, _run(record))
                elif is_same_code(version, newest.code_version):
                    newest = newest._replace(
                        code_since=record.storage_id, read_up_to=_read_up_to(tags), run=_run(record)
                    )
                else:
                    return {_name(None): newest}
            cursor, has_more = page.cursor, page.has_more
        return {_name(None): newest} if newest else {}


class _Event(NamedTuple):
    storage_id: int
    timestamp: float


class _Known(NamedTuple):
    last: _Event
    details: Mapping[str, Detail]


_NONE = Detail(-1, "", "")


def _run(record: EventLogRecord) -> str:
    return record.run_id[:8]


def _read_up_to(tags: Mapping[str, str]) -> int | None:
    return int(tags[_READ_UP_TO]) if _READ_UP_TO in tags else None


def _named(ids: Mapping[Partition, int]) -> Iterator[tuple[str, int]]:
    return ((_name(partition), id_) for partition, id_ in ids.items())


def _name(partition: Partition) -> str:
    return "" if partition is None else partition

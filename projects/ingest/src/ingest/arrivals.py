"""Which exports have arrived: new or changed since the last look, written to their end, and not loaded yet."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from ingest.exports import Export, list_exports
from ingest.recorded import Load
from ingest.tables import Table

# A tick that hashes files is given up by Dagster after a minute.
HASHING_SECONDS = 20.0

_CURSOR_FORMAT = 1

LastLoads = Callable[[Table, Collection[str | None]], Mapping[str | None, Load]]


@dataclass(frozen=True)
class Partition:
    """A partition of a raw table: an ISO date, or None for a table that is not daily."""

    table: str
    day: str | None

    def __str__(self) -> str:
        """Name it in a message."""
        return f"raw/{self.table}" + (f" of {self.day}" if self.day else "")


@dataclass(frozen=True)
class Arrival:
    """An export that is to be loaded, its version, and the storage id of the load that it follows, or 0."""

    partition: Partition
    version: str
    follows: int


@dataclass(frozen=True)
class Seen:
    """What earlier looks found.

    Args:
        done: the version of each export that is dealt with.
        waiting: `VERSION SECONDS` of each that waits: since when (seconds since the epoch) it has been seen so.
    """

    done: Mapping[Partition, str] = field(default_factory=dict)
    waiting: Mapping[Partition, str] = field(default_factory=dict)

    def since(self, partition: Partition, version: str, now: float) -> float:
        """Return since when an export has been seen waiting in one version; `now` where it has not.

        It is `now` too where the clock was set back since then: a wait until it is there again may be a long one.
        """
        seen, _, seconds = self.waiting.get(partition, "").partition(" ")
        return min(float(seconds or now), now) if seen == version else now

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Seen":
        """Read a cursor; one of another format counts as none, so all exports are compared with what was loaded."""
        stored = json.loads(cursor) if cursor else {}
        if stored.get("format") != _CURSOR_FORMAT:
            return cls()
        return cls(_partitions(stored["done"]), _partitions(stored["waiting"]))

    def to_cursor(self) -> str:
        """Write the cursor: about 40 bytes a partition."""
        stored = {"format": _CURSOR_FORMAT, "done": _nested(self.done), "waiting": _nested(self.waiting)}
        return json.dumps(stored, separators=(",", ":"))


@dataclass(frozen=True)
class Look:
    """What one look found: what is to be loaded, what waits and why, and what the next look has to know."""

    arrivals: Sequence[Arrival]
    waiting: Mapping[Partition, str]
    seen: Seen


@dataclass(frozen=True)
class Batch:
    """Arrivals that one run loads: the same daily tables from day to day, or the other tables.

    `first` and `last` are ISO dates, both included, or None.
    """

    tables: Sequence[str]
    first: str | None
    last: str | None
    arrivals: Sequence[Arrival]

    @property
    def run_key(self) -> str:
        """Identify the request: the same exports in place of the same loads are one request, however often made."""
        content = sorted((str(arrival.partition), arrival.version, arrival.follows) for arrival in self.arrivals)
        days = f"{self.first}..{self.last} " if self.first else ""
        return f"{'+'.join(self.tables)} {days}{_digest(content)}"


def look(
    folder: Path,
    tables: Sequence[Table],
    seen: Seen,
    *,
    first: date,
    last: date,
    now: float,
    last_loads: LastLoads,
    being_loaded: Callable[[], Mapping[Table, str]],
    settled: float,
) -> Look:
    """Compare the export folder with what earlier looks have `seen` and with what was loaded.

    A day waits as a whole while one of its exports may still be written or a run loads one of its tables, so that its
    tables are loaded together. An export waits until it is older than `settled`, or has been seen the same for as
    long; one that changed between two looks waits again. An export with the content that was loaded is done.

    Args:
        folder: the export folder.
        tables: the tables to look for.
        seen: what earlier looks found.
        first: the first day (UTC) that has a partition.
        last: the last such day, included; later ones are left until they are over.
        now: seconds since the epoch.
        last_loads: returns the last loads of days of a table; called only for exports that are not done.
        being_loaded: returns the tables that a run loads, each with its id; called only where there is such an export.
        settled: the seconds after which an export counts as written to its end; a source that writes in place touches
            its file more often than this.

    Raises:
        OSError: a folder cannot be read.
    """
    found = {
        table: {file.partition: file for file in _files(folder, table, first.isoformat(), last.isoformat())}
        for table in tables
    }
    versions = {partition: file.version for files in found.values() for partition, file in files.items()}
    done = {partition: version for partition, version in versions.items() if seen.done.get(partition) == version}
    fresh = {table: [file for file in files.values() if file.partition not in done] for table, files in found.items()}

    waiting = {
        file.partition: "may still be written"
        for files in fresh.values()
        for file in files
        if not _is_settled(file, seen, now, settled)
    }
    for table, run_id in being_loaded().items() if any(fresh.values()) else ():
        waiting |= {file.partition: f"waits for run {run_id}" for file in fresh.get(table, ())}
    held = {partition.day for partition in waiting if partition.day}

    arrivals: list[Arrival] = []
    deadline = time.monotonic() + HASHING_SECONDS
    for table, files in fresh.items():
        ready = [file for file in files if file.partition not in waiting and file.partition.day not in held]
        loads = last_loads(table, [file.partition.day for file in ready]) if ready else {}
        for file in ready:
            load = loads.get(file.partition.day)
            if load and time.monotonic() > deadline:
                waiting[file.partition] = "not compared with what was loaded yet"
                continue
            done[file.partition] = file.version
            if not (load and file.has(load.source_sha256)):
                arrivals.append(Arrival(file.partition, file.version, load.storage_id if load else 0))
    later = {
        partition: f"{version} {seen.since(partition, version, now):.3f}"
        for partition, version in versions.items()
        if partition not in done
    }
    return Look(arrivals, waiting, Seen(done, later))


def batches(arrivals: Sequence[Arrival]) -> Iterator[Batch]:
    """Put arrivals into as few runs as there can be: one for each range of days on which the same tables arrived."""
    by_day: dict[str | None, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        by_day[arrival.partition.day].append(arrival)
    whole = by_day.pop(None, [])
    if whole:
        yield Batch(_tables(whole), None, None, whole)
    days = sorted(day for day in by_day if day is not None)
    start = 0
    for index, day in enumerate(days):
        following = days[index + 1] if index + 1 < len(days) else None
        if (
            following is None
            or following != (date.fromisoformat(day) + timedelta(days=1)).isoformat()
            or _tables(by_day[following]) != _tables(by_day[day])
        ):
            members = days[start : index + 1]
            yield Batch(
                _tables(by_day[day]), members[0], day, [arrival for member in members for arrival in by_day[member]]
            )
            start = index + 1


@dataclass(frozen=True)
class _File:
    """What stands for a partition: one export, or several of which the source has to remove all but one."""

    partition: Partition
    exports: Sequence[Export]
    version: str
    written: float

    def has(self, sha256: str) -> bool:
        """Return whether it is one readable export with that digest: any other is a run's to refuse."""
        try:
            return len(self.exports) == 1 and self.exports[0].sha256() == sha256
        except OSError:
            return False


def _files(folder: Path, table: Table, first: str, last: str) -> Iterator[_File]:
    for day, exports in list_exports(folder, table).items():
        if day is None or first <= day <= last:
            try:
                versions = sorted((export.path.name, *export.version()) for export in exports)
            except FileNotFoundError:
                # Removed or renamed while the folder was listed: the next look sees what became of it.
                continue
            written = max(nanoseconds for *_, nanoseconds in versions) / 1e9
            yield _File(Partition(table.name, day), exports, _digest(versions), written)


def _is_settled(file: _File, seen: Seen, now: float, settled: float) -> bool:
    since = seen.since(file.partition, file.version, now)
    if since == now and file.partition in seen.waiting:
        return False  # it has changed since the last look, whatever its time says
    # Where the file server's clock is ahead the age is negative, and how long it has been the same decides.
    return now - min(since, file.written) >= settled


def _tables(arrivals: Sequence[Arrival]) -> Sequence[str]:
    return sorted({arrival.partition.table for arrival in arrivals})


def _digest(content: object) -> str:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()


def _nested(versions: Mapping[Partition, str]) -> Mapping[str, Mapping[str, str]]:
    nested: dict[str, dict[str, str]] = defaultdict(dict)
    for partition, version in versions.items():
        nested[partition.table][partition.day or ""] = version
    return nested


def _partitions(nested: Mapping[str, Mapping[str, str]]) -> Mapping[Partition, str]:
    return {Partition(table, day or None): version for table, days in nested.items() for day, version in days.items()}

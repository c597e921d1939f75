"""The export files of a folder, as `ingest` finds them: what a raw partition would be loaded from now.

`headrace` may not import a location, so the layout is known here too; a test holds the two equal.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

_DAY_FILE = re.compile(r"(\d{4}-\d{2}-\d{2})\.(csv|csv\.gz|parquet|jsonl|empty)")
_TABLE_FILE = re.compile(r"(\w+)\.(csv|csv\.gz|parquet|jsonl)")


@dataclass(frozen=True)
class ExportFiles:
    """The export files of a folder, by table.

    Args:
        tables: the file of each reference table.
        days: the file, or the marker of an empty day, of each day of each event table.
    """

    tables: Mapping[str, Path]
    days: Mapping[str, Mapping[str, Path]]

    @classmethod
    def of(cls, folder: Path) -> "ExportFiles":
        """List a folder in the layout of exports; other files are nobody's."""
        tables, days = {}, {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_dir():
                files = {day: file for file in path.iterdir() if (day := _day_of(file)) and file.is_file()}
                if files:
                    days[path.name] = files
            elif match := _TABLE_FILE.fullmatch(path.name):
                tables[match[1]] = path
        return cls(tables, days)

    def bounds(self, tables: Collection[str] | None = None, until: date = date.max) -> tuple[date, date] | None:
        """Return the first and the last day of these tables; None where there is none.

        Args:
            tables: the tables that the locations load: a folder of anything else, such as dated notes, has no days
                to build. All folders with dated files where it is None.
            until: the last day that counts.
        """
        of_tables = (files for table, files in self.days.items() if tables is None or table in tables)
        days = sorted(day for files in of_tables for day in files if day <= until.isoformat())
        return (date.fromisoformat(days[0]), date.fromisoformat(days[-1])) if days else None

    def hashes(self, first: date, last: date) -> Mapping[str, Mapping[str | None, str]]:
        """Return what `ingest` records as the source of each partition of the days: the file's hash, or `empty`.

        Args:
            first: the first day.
            last: the last day, included.

        Returns:
            The hashes by table, then by day; by None for a reference table.
        """
        wanted = {(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)}
        hashes: dict[str, Mapping[str | None, str]] = {
            table: {None: _hash(path)} for table, path in self.tables.items()
        }
        for table, files in self.days.items():
            hashes[table] = {day: _hash(path) for day, path in files.items() if day in wanted}
        return hashes


def _day_of(file: Path) -> str | None:
    """Return the day that a file's name says, as an ISO date; None for a name of another form or a day that is none."""
    match = _DAY_FILE.fullmatch(file.name)
    try:
        return date.fromisoformat(match[1]).isoformat() if match else None
    except ValueError:
        return None


def _hash(path: Path) -> str:
    if path.suffix == ".empty":
        return "empty"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

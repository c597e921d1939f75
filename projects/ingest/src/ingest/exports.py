"""Finds the one export file that stands for a table or for a day of it."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from ingest.tables import Table

Format = Literal["csv", "parquet", "jsonl", "empty"]

_FORMATS: dict[str, Format] = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
_DAILY_FORMATS: dict[str, Format] = {**_FORMATS, ".empty": "empty"}
_DAY_FILE = re.compile(rf"(\d{{4}}-\d\d-\d\d)({'|'.join(map(re.escape, _DAILY_FORMATS))})")


class ExportError(Exception):
    """An export is missing or wrong; the message is one line that names the file and what to mend.

    Bytes that are not UTF-8 stand in it as escapes, since pages and terminals take no others.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.encode(errors="backslashreplace").decode())


@dataclass(frozen=True)
class Export:
    """A file with rows in one of the formats, or a marker that says that a day is empty on purpose."""

    path: Path
    format: Format

    def sha256(self) -> str:
        """Return the hex digest of the file's bytes, or `empty` for a marker: equal means unchanged."""
        if self.format == "empty":
            return "empty"
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def version(self) -> tuple[int, int, int]:
        """Return what changes when the source writes the file anew, without reading it."""
        status = self.path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns


def find_export(folder: Path, table: Table, day: str | None) -> Export:
    """Return the export of `table`, for a daily table that of `day` (ISO date).

    Raises `ExportError` where there is none, or more than one: which one counts is the source's to say; or where it is
    a link out of the folder, whose file is somebody else's.
    """
    stem = folder / table.name if day is None else folder / table.name / day
    formats = _FORMATS if day is None else _DAILY_FORMATS
    found = _with_stem(stem, formats)
    if len(found) > 1:
        names = " and ".join(export.path.name for export in found)
        raise ExportError(f"{stem.parent}: {names} hold the same rows; keep one of them")
    if not found:
        for path in (stem.with_name(stem.name + suffix) for suffix in formats):
            if path.is_symlink() or path.exists():
                kind = "a folder" if path.is_dir() else "no file" if path.exists() else "a link that leads nowhere"
                raise ExportError(f"{path}: is {kind}: put the export there")
        suffixes = ", ".join(_FORMATS)
        advice = "" if day is None else f", or an empty file {day}.empty where the day has no rows"
        raise ExportError(f"{stem}.csv: no such export ({suffixes} are accepted); add it{advice}")
    if not found[0].path.resolve().is_relative_to(folder.resolve()):
        raise ExportError(f"{found[0].path}: is a link to {found[0].path.resolve()}: put the export itself there")
    return found[0]


def list_exports(folder: Path, table: Table) -> Mapping[str | None, Sequence[Export]]:
    """Return the exports of `table` by day (ISO date); that of a table that is not daily stands under None.

    Files of other names are nobody's. Raises `OSError` where a folder cannot be read.
    """
    if not table.daily:
        exports = _with_stem(folder / table.name, _FORMATS)
        return {None: exports} if exports else {}
    found: dict[str | None, list[Export]] = defaultdict(list)
    days = folder / table.name
    for path in sorted(days.iterdir()) if days.is_dir() else ():
        match = _DAY_FILE.fullmatch(path.name)
        if match and _is_date(match[1]) and path.is_file():
            found[match[1]].append(Export(path, _DAILY_FORMATS[match[2]]))
    return found


def _with_stem(stem: Path, formats: Mapping[str, Format]) -> Sequence[Export]:
    paths = {stem.with_name(stem.name + suffix): format_ for suffix, format_ in formats.items()}
    return [Export(path, format_) for path, format_ in paths.items() if path.is_file()]


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True

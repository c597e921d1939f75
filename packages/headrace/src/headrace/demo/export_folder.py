"""An export folder: how its files are laid out, written from DuckDB tables, and put in place."""

import filecmp
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Literal

import duckdb

from headrace.cli.user_errors import UserError

FileFormat = Literal["csv", "csv.gz", "parquet", "jsonl"]

# Columns and DuckDB types of the public generator jafgen.
REFERENCE_TABLES: dict[str, dict[str, str]] = {
    "customers": {"id": "varchar", "name": "varchar"},
    "products": {
        "sku": "varchar",
        "name": "varchar",
        "type": "varchar",
        "price": "bigint",
        "description": "varchar",
    },
    "stores": {"id": "varchar", "name": "varchar", "opened_at": "timestamp", "tax_rate": "double"},
    "supplies": {
        "id": "varchar",
        "name": "varchar",
        "cost": "bigint",
        "perishable": "boolean",
        "sku": "varchar",
    },
}
# In the order in which days are put in place: whoever sees an order already finds its items.
EVENT_TABLES: dict[str, dict[str, str]] = {
    "items": {"id": "varchar", "order_id": "varchar", "sku": "varchar"},
    "tweets": {"id": "varchar", "user_id": "varchar", "tweeted_at": "timestamp", "content": "varchar"},
    "orders": {
        "id": "varchar",
        "customer": "varchar",
        "ordered_at": "timestamp",
        "store_id": "varchar",
        "subtotal": "bigint",
        "tax_paid": "bigint",
        "order_total": "bigint",
    },
}

_COPY_OPTIONS: dict[FileFormat, str] = {
    "csv": "format csv, header",
    "csv.gz": "format csv, header, compression gzip",
    "parquet": "format parquet",
    "jsonl": "format json",
}
_RECORD = ".headrace-export.json"
_STAGING = ".headrace-export-"


@dataclass(frozen=True)
class ExportRecord:
    """What made an export folder; kept in the folder, so that only its own kind adds to it."""

    source: Literal["demo-data", "jafgen"]
    file_format: FileFormat
    last: str
    seed: int | None = None
    orders_per_day: int | None = None
    revisions: dict[str, int] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the record into a staged folder."""
        (folder / _RECORD).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class ExportSummary:
    """What one call wrote: days, files (markers of empty days included), and rows of orders and items."""

    days: int
    files: int
    orders: int
    items: int


def read_record(folder: Path) -> ExportRecord | None:
    """Return the record of an export folder; None where the folder is missing or has nothing in it.

    Raises:
        UserError: it is a file, or holds anything that no command of Headrace wrote.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder for the export")
    path = folder / _RECORD
    if not path.exists():
        if all(entry.name.startswith(_STAGING) for entry in folder.iterdir()):
            return None
        raise UserError(f"{folder} has files that demo-data did not write: name a new or empty folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ExportRecord(**{name.name: content[name.name] for name in fields(ExportRecord)})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: remove {folder} and write it anew") from error


def whole_days(folder: Path) -> set[str]:
    """Return the days, as ISO dates, for which every event table has a file or an empty marker."""
    return set.intersection(
        *({file.name.split(".")[0] for file in (folder / table).glob("*")} for table in EVENT_TABLES)
    )


def copy_reference_table(con: duckdb.DuckDBPyConnection, table: str, folder: Path, file_format: FileFormat) -> None:
    """Write the DuckDB table of that name as one file."""
    file = folder / f"{table}.{file_format}"
    con.execute(
        f"copy (from {table} select {_columns(REFERENCE_TABLES[table], file_format)}) "
        f"to $file ({_COPY_OPTIONS[file_format]})",
        {"file": str(file)},
    )


def copy_days(
    con: duckdb.DuckDBPyConnection,
    days: Sequence[date],
    folder: Path,
    file_format: FileFormat,
    *,
    on_day: Callable[[], object],
    tables: Sequence[str] = tuple(EVENT_TABLES),
) -> ExportSummary:
    """Write one file a day of each event table, which has a further column `day` in DuckDB.

    A day without rows gets an empty marker in place of its file.
    """
    rows = dict.fromkeys(EVENT_TABLES, 0)
    for table in tables:
        (folder / table).mkdir(exist_ok=True)
    for day in days:
        for table in tables:
            file = folder / table / f"{day}.{file_format}"
            copied = con.execute(
                f"copy (from {table} select {_columns(EVENT_TABLES[table], file_format)} where day = $day) "
                f"to $file ({_COPY_OPTIONS[file_format]})",
                {"day": day, "file": str(file)},
            ).fetchone()
            count = int(copied[0]) if copied else 0
            if not count:
                file.unlink()
                file.with_name(f"{day}.empty").touch()
            rows[table] += count
        on_day()
    return ExportSummary(len(days), len(days) * len(tables), rows["orders"], rows["items"])


@contextmanager
def staged_export(out: Path, *, replace: bool = False) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """Lend an in-memory DuckDB and a folder; at the end, move what was written there into `out`.

    A new `out` appears as a whole. In an existing one each file appears whole, the record first, and files of
    the same content stay untouched. With `replace`, the tables that were there go first. After an exception
    `out` is as it was.
    """
    out = out.resolve()
    existing = out.exists()
    # An existing folder may be a mount point: only a folder inside it is surely on its file system.
    parent = out if existing else out.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=_STAGING) as temporary:
        staged = Path(temporary, "new")
        staged.mkdir()
        spill = str(Path(temporary, "spill"))
        with duckdb.connect(config={"temp_directory": spill, "preserve_insertion_order": True}) as con:
            yield con, staged
        if not existing:
            staged.rename(out)
            return
        if replace:
            _move_tables_away(out, Path(temporary, "old"))
        for file in _in_order(staged):
            target = out / file.relative_to(staged)
            if not (target.exists() and filecmp.cmp(file, target, shallow=False)):
                target.parent.mkdir(exist_ok=True)
                file.replace(target)


def _in_order(staged: Path) -> Iterator[Path]:
    yield staged / _RECORD
    yield from sorted(path for path in staged.iterdir() if path.is_file() and path.name != _RECORD)
    for table in EVENT_TABLES:
        yield from sorted((staged / table).glob("*"))


def _move_tables_away(out: Path, old: Path) -> None:
    old.mkdir()
    for table in EVENT_TABLES:
        if (out / table).exists():
            shutil.move(out / table, old)
    for table in REFERENCE_TABLES:
        for file_format in _COPY_OPTIONS:
            (out / f"{table}.{file_format}").unlink(missing_ok=True)


def _columns(columns: dict[str, str], file_format: FileFormat) -> str:
    """Select the columns of a table; times in text as jafgen writes them, with a `T`."""
    if file_format == "parquet":
        return ", ".join(columns)
    return ", ".join(
        f"replace({name}::varchar, ' ', 'T') as {name}" if kind == "timestamp" else name
        for name, kind in columns.items()
    )

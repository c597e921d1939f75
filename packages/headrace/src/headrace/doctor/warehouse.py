"""The DuckDB file of the warehouse: who has it open, and whether it can be read."""

from collections.abc import Iterator
from pathlib import Path

import duckdb

from headrace.doctor.finding import Finding, one_line
from headrace.doctor.locks import held_finding, holders_of

_MEND = "restore it from a backup, or remove it and build it again: headrace run"


def check_warehouse(file: Path) -> Iterator[Finding]:
    """Look at the file; it is opened read-only, and only where no other process has it open."""
    if not file.exists():
        yield Finding("warehouse", "ok", f"{file} is not made yet: the first run makes it")
        return
    if not file.is_file():
        yield Finding("warehouse", "wrong", f"{file} is not a file", "remove it, or set HEADRACE_WAREHOUSE")
        return
    try:
        holders = holders_of(file)
    except OSError as error:
        yield Finding("warehouse", "unknown", f"{file}: who has it open cannot be read: {error}")
        return
    if holders:
        for holder in holders:
            yield held_finding("warehouse", file, holder)
        return
    try:
        duckdb.connect(str(file), read_only=True).close()
    except duckdb.Error as error:
        yield Finding("warehouse", "wrong", f"{file}: DuckDB {duckdb.__version__}: {one_line(error)}", _MEND)
        return
    yield Finding("warehouse", "ok", f"{file} is readable, and no process has it open")

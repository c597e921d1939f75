"""The in-memory DuckDB that parses exports and writes Parquet: bounded, offline, never the warehouse."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

# Of all connections together; what does not fit spills to the temporary folder.
MEMORY_LIMIT = "512MB"
THREADS = 2


@contextmanager
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB of its own for one step, and remove what it spilled when the step is over.

    Its cursors have the same settings, and share its memory and threads.
    """
    with tempfile.TemporaryDirectory(prefix="ingest-") as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "threads": THREADS,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            # A step reads a file once. With it a file that had just been replaced could not be read, once in a test.
            "enable_external_file_cache": False,
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            # A Parquet timestamp with a zone becomes text on the way in; without this, in the machine's zone.
            connection.execute("set global timezone = 'UTC'")
            yield connection

"""Makes the storage of a Dagster instance ready for the processes that share it.

As a command, `python -m headrace.storage`, it makes the tables of the instance in `DAGSTER_HOME`, and says nothing.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dagster import DagsterInstance
from filelock import FileLock

from headrace.local_dagster.dead_runs import DeadRuns


@contextmanager
def prepared_instance() -> Iterator[DagsterInstance]:
    """Open the instance in `DAGSTER_HOME`, its databases made and its runs ended that were killed with their servers.

    Raises:
        KeyError: there is no `DAGSTER_HOME`.
    """
    with _opened() as instance:
        DeadRuns(instance).mend()
        yield instance


def create_storage() -> None:
    """Prepare the instance in `DAGSTER_HOME`, before several processes would do it at once."""
    with prepared_instance():
        pass


def create_tables_of_home() -> None:
    """Make the tables of the instance in `DAGSTER_HOME`; what the command does."""
    with _opened():
        pass


def create_tables(instance: DagsterInstance) -> None:
    """Ask each storage for something, which makes its tables."""
    instance.get_runs_count()
    instance.get_asset_keys(limit=1)
    instance.all_instigator_state()


@contextmanager
def _opened() -> Iterator[DagsterInstance]:
    """Open the instance, one process at a time until its tables are there.

    A schema is stamped by each process that finds it empty: of two that do so together one fails, or they leave two
    versions in a SQLite file, which no process opens after that.
    """
    lock = FileLock(Path(os.environ["DAGSTER_HOME"]).expanduser() / "headrace-storage.lock")
    with ExitStack() as alone:
        with suppress(OSError):  # a home that this user may only read has its databases elsewhere, or has them already
            alone.enter_context(lock)
        with DagsterInstance.get() as instance:
            create_tables(instance)
            alone.close()
            yield instance

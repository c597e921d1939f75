"""Makes the storage of a Dagster instance ready for the processes that share it.

As a command, `python -m headrace.storage`, it makes the tables of the instance in `DAGSTER_HOME`, and says nothing.
"""

from dagster import DagsterInstance

from headrace.local_dagster.dead_runs import DeadRuns


def create_storage() -> None:
    """Create the databases of the instance in `DAGSTER_HOME`, before several processes would do it at once and fail.

    Runs that were killed with their servers are ended, and what they held is free.
    """
    with DagsterInstance.get() as instance:
        prepare_storage(instance)


def prepare_storage(instance: DagsterInstance) -> None:
    """Create the databases of an instance, and end its runs that were killed with their servers."""
    create_tables(instance)
    DeadRuns(instance).mend()


def create_tables(instance: DagsterInstance) -> None:
    """Ask each storage for something, which makes its tables.

    A schema is stamped by each process that finds it empty; two that do so together leave two versions, or fail.
    """
    instance.get_runs_count()
    instance.get_asset_keys(limit=1)
    instance.all_instigator_state()


def create_tables_of_home() -> None:
    """Make the tables of the instance in `DAGSTER_HOME`; what the command does."""
    with DagsterInstance.get() as instance:
        create_tables(instance)

"""Makes the storage of a Dagster instance ready for the processes that share it."""

from dagster import DagsterInstance

from headrace.dead_runs import DeadRuns


def create_storage() -> None:
    """Create the databases of the instance in `DAGSTER_HOME`, before several processes would do it at once and fail.

    SQLite's schema is stamped by each process that finds it empty; two that do so together leave two versions. Runs
    that were killed with their servers are ended, and what they held is free.
    """
    with DagsterInstance.get() as instance:
        instance.get_runs_count()
        instance.get_asset_keys(limit=1)
        instance.all_instigator_state()
        DeadRuns(instance).mend()

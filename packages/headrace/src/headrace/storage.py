"""Creates the databases of a Dagster instance."""

from dagster import DagsterInstance


def create_storage() -> None:
    """Create the databases of the instance in `DAGSTER_HOME`, before several processes would do it at once and fail.

    SQLite's schema is stamped by each process that finds it empty; two that do so together leave two versions.
    """
    with DagsterInstance.get() as instance:
        instance.get_runs_count()
        instance.get_asset_keys(limit=1)
        instance.all_instigator_state()

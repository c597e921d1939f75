"""The address by which `dagster.yaml` files name the event log in SQLite; it is `local_dagster.event_log`'s."""

from headrace.local_dagster.event_log import BatchingSqliteEventLogStorage

__all__ = ["BatchingSqliteEventLogStorage"]

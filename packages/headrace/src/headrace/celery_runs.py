"""The address by which `dagster.yaml` files name the launcher for Celery; it is `deployed.celery_launcher`'s."""

from headrace.deployed.celery_launcher import WatchedCeleryRunLauncher

__all__ = ["WatchedCeleryRunLauncher"]

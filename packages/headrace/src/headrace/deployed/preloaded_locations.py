"""Imported by the process that runs are forked from (`forked_launcher`): loads what every run would load."""

from contextlib import suppress
from importlib import import_module

from headrace.deployed.forked_launcher import forked_locations

# What a run imports besides the definitions.
_OF_RUNS = (
    *("dagster._cli.api", "dagster._core.storage.event_log", "dagster._core.storage.runs"),
    *("dagster._core.storage.schedules", "dbt.cli.main", "dbt.task.build", "dbt.adapters.duckdb"),
)

for _name in (*_OF_RUNS, *filter(None, forked_locations().values())):
    # What does not load is told by the server of the location, and by the run that needs it.
    with suppress(Exception):
        _definitions = getattr(import_module(_name), "defs", None)
        if callable(_definitions):
            _definitions()

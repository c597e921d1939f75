"""Imported by the process that is forked (`fork_server`): loads what every server and every run would load.

A resource with a method `warm_up()` is asked to do what each process does before its first work, such as to read a
manifest. It leaves no connection open, no thread and no lock.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from headrace.deployed.fork_server import forked_locations

# What a server and a run import besides the definitions.
_OF_ALL = (
    *("dagster._cli.api", "dagster._core.storage.event_log", "dagster._core.storage.runs", "dagster._grpc.server"),
    *("dagster._core.storage.schedules", "headrace.event_log"),
)


def _load(definitions: Callable[[], Any]) -> None:
    loaded = definitions()
    repository = loaded.get_repository_def()
    repository.load_all_definitions()
    for job in repository.get_implicit_asset_job_names():
        repository.get_job(job)
    for resource in (loaded.resources or {}).values():
        warm_up = getattr(resource, "warm_up", None)
        if callable(warm_up):
            warm_up()


for _name in (*_OF_ALL, *filter(None, forked_locations().values())):
    # What does not load is told by the server of the location, and by the run that needs it.
    with suppress(Exception):
        _definitions = getattr(import_module(_name), "defs", None)
        if callable(_definitions):
            _load(_definitions)

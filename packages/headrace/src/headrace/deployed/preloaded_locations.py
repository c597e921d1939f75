"""Imported by the process that is forked (`fork_server`): loads what every server and every run would load.

A resource with a method `warm_up()` is asked to do what each process does before its first work, such as to read a
manifest. It leaves no connection open, no thread and no lock.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from headrace.deployed.fork_server import forked_locations
from headrace.deployed.load_trace import LoadTrace

trace = LoadTrace()
"""What the loading has read."""

# What a server and a run import besides the definitions.
_OF_ALL = (
    *("dagster._cli.api", "dagster._core.storage.event_log", "dagster._core.storage.runs", "dagster._grpc.server"),
    *("dagster._core.storage.schedules", "headrace.event_log"),
)


def _load(name: str, module: str | None) -> Iterator[Callable[[], object]]:
    """Load a location; yield the `warm_up` of its resources."""
    try:
        if module is None:
            trace.fail(f"{name} is a file")
            return
        definitions = getattr(import_module(module), "defs", None)
        if callable(definitions):
            loaded: Any = definitions()
            repository = loaded.get_repository_def()
            repository.load_all_definitions()
            for job in repository.get_implicit_asset_job_names():
                repository.get_job(job)
            warm_ups = [getattr(resource, "warm_up", None) for resource in (loaded.resources or {}).values()]
            yield from filter(callable, warm_ups)
    except Exception:
        trace.fail(f"{name} does not load")


for _module in _OF_ALL:
    with suppress(ImportError):
        import_module(_module)
_warm_ups = [warm_up for name, module in forked_locations().items() for warm_up in _load(name, module)]
trace.stop()
for _warm_up in _warm_ups:
    with suppress(Exception):  # the run that needs the resource tells
        _warm_up()

"""Imported by the process that is forked (`fork_server`): loads what every server and every run would load.

A resource with a method `warm_up()` is asked to do what each process does before its first work, such as to read a
manifest. It leaves no connection open, no thread and no lock.

Adapter of a private Dagster module: definitions may be made from a state that Dagster keeps, such as that of a hosted
loader, and a run is then told of which. Only the context of their loading says so. The tests of forked runs fail if it
moves.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from headrace.cli.imports import long_lived_imports
from headrace.deployed import loaded_definitions
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
    # Dagster is imported within `long_lived_imports`.
    from dagster._core.definitions.definitions_load_context import (  # noqa: PLC0415
        DefinitionsLoadContext,
        DefinitionsLoadType,
    )

    try:
        if module is None:
            trace.fail(f"{name} is a file")
            return
        definitions = getattr(import_module(module), loaded_definitions.ATTRIBUTE, None)
        if callable(definitions):
            context = DefinitionsLoadContext(DefinitionsLoadType.INITIALIZATION)
            with DefinitionsLoadContext.scoped(context):
                loaded: Any = definitions()
                repository = loaded.get_repository_def()
                repository.load_all_definitions()
                # Dagster names the job of all assets also where there are none.
                for job in filter(repository.has_job, repository.get_implicit_asset_job_names()):
                    repository.get_job(job)
            state = context.accessed_defs_state_info
            if not (context.get_pending_reconstruction_metadata() or (state and state.info_mapping)):
                loaded_definitions.keep(name, loaded)
            warm_ups = [getattr(resource, "warm_up", None) for resource in (loaded.resources or {}).values()]
            yield from filter(callable, warm_ups)
    except Exception:
        trace.fail(f"{name} does not load")


def _load_all() -> None:
    for module in _OF_ALL:
        with suppress(ImportError):
            import_module(module)
    warm_ups = [warm_up for name, module in forked_locations().items() for warm_up in _load(name, module)]
    trace.stop()
    for warm_up in warm_ups:
        with suppress(Exception):  # the run that needs the resource tells
            warm_up()
    # Else the first collection of each fork would write to, and so copy, all that it shares with this process.
    gc.collect()


with long_lived_imports():
    _load_all()

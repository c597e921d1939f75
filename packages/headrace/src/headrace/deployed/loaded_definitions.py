"""The definitions of the locations that this process has loaded, each an attribute by the name of its location.

A server and a run that are forked from such a process would make them again, and a run does so twice: half of its
computing. They take them from here: `dagster api grpc --module-name headrace.deployed.loaded_definitions --attribute
analytics`. A process that a run starts anew, such as a step of the multiprocess executor, loads the location.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.deployed.fork_server import forked_locations

if TYPE_CHECKING:
    from dagster import Definitions

ATTRIBUTE = "defs"
"""The attribute of a location's module that is taken."""

_loaded: "dict[str, Definitions]" = {}


def keep(name: str, definitions: "Definitions") -> None:
    """Keep the definitions of a location for what is forked from this process."""
    _loaded[name] = definitions


def arguments_for(name: str) -> list[str] | None:
    """Return the arguments of Dagster's server for a location that this process has loaded; else None."""
    return ["--module-name", __name__, "--attribute", name] if name in _loaded else None


def __getattr__(name: str) -> Any:
    if name in _loaded:
        return _loaded[name]
    module = forked_locations().get(name)
    if module is None:
        raise AttributeError(f"{name}: no location that this process has loaded")
    return getattr(import_module(module), ATTRIBUTE)

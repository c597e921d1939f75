"""Python's cyclic garbage collector, kept from walking modules while they are imported. It imports nothing else."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def long_lived_imports() -> Iterator[None]:
    """Collect no cycles while a block imports modules, and leave what it made out of every later collection.

    To import Dagster and dbt makes a million objects that stay. The collections that this sets off walk them again and
    again: without this, a fifth of the time that the imports take. `long_lived_objects` of dagster-dbt-common, which is
    not where every command is, does so for the definitions.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()

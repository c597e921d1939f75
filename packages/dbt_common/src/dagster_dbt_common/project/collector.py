"""Python's cyclic garbage collector, kept from walking what lives as long as the process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_ONE_AT_A_TIME = RLock()  # The collector is global to a process.


@contextmanager
def long_lived_objects() -> Iterator[None]:
    """Collect no cycles while a block makes objects that stay, and leave these out of every later collection.

    A manifest and the definitions of 2,000 models are millions of objects. Their making sets off many collections, and
    each full one walks them all: without this, a third of the time from the launch of a run to its end. A process that
    has switched the collector off keeps it so. Only for what is made once: cycles that are garbage by the end of the
    block stay in memory.
    """
    with _ONE_AT_A_TIME:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            if was_enabled:
                gc.enable()

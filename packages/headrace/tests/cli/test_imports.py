"""The collector while modules are imported."""

import gc
from contextlib import suppress

from headrace.cli.imports import long_lived_imports


def test_nothing_is_collected_meanwhile_and_the_collector_is_as_before() -> None:
    assert gc.isenabled()
    try:
        with long_lived_imports():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        with suppress(ImportError), long_lived_imports():
            raise ImportError
        assert gc.isenabled()
        gc.disable()
        with long_lived_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()

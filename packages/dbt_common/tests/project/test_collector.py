"""The garbage collector leaves alone what stays, and is as it was afterwards."""

import gc
from collections.abc import Iterator
from threading import Thread

import pytest

from dagster_dbt_common.project.collector import long_lived_objects


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Give back what a test has frozen."""
    yield
    gc.unfreeze()
    gc.enable()


def test_no_collection_runs_in_the_block_and_later_ones_skip_its_objects() -> None:
    """Nothing is collected while the objects are made, and none of them is in a generation afterwards."""
    before = sum(generation["collections"] for generation in gc.get_stats())
    with long_lived_objects():
        made = [[number] for number in range(200_000)]
        during = sum(generation["collections"] for generation in gc.get_stats())
    young = {id(found) for found in gc.get_objects()}

    assert during == before
    assert gc.isenabled()
    assert not young & {id(item) for item in made}


def test_a_collector_that_was_off_stays_off() -> None:
    """The process's own choice is kept."""
    gc.disable()

    with long_lived_objects():
        pass

    assert not gc.isenabled()


def test_it_is_on_again_after_an_error_and_after_blocks_in_two_threads() -> None:
    """Neither a failure nor another thread's block leaves it off."""

    def fail() -> None:
        with pytest.raises(ZeroDivisionError), long_lived_objects(), long_lived_objects():
            _ = 1 / 0

    threads = [Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert gc.isenabled()

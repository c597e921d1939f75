"""`headrace engine check` on the embedded default; the other targets' tests have it too."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest
from marts import assert_target_is_proved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import OpenShop, Shop


class Begun(NamedTuple):
    """Proofs that have begun."""

    shop: Shop
    process: subprocess.Popen[str]
    temporary: Path

    def nothing_is_left_of(self, children: list[psutil.Process]) -> None:
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert (len(gone), alive) == (len(children), [])
        assert list(self.temporary.glob("headrace-check-*")) == []
        assert self.shop.query("select schema_name from duckdb_schemas() where schema_name like '%check%'") == []


pytestmark = [
    pytest.mark.slow("two dozen builds, with dbt by hand before each"),
    pytest.mark.timeout(600),
]


@pytest.mark.some_of("proofs of a target", 0)
def test_a_duckdb_file_is_proved_and_nothing_is_left_in_it(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = open_shop(tmp_path / "shop", "2024-01-30")
    assert_target_is_proved(shop)
    assert shop.query("select schema_name from duckdb_schemas() where schema_name like '%check%'") == []


@pytest.fixture
def begun(tmp_path: Path, open_shop: OpenShop) -> Iterator[Begun]:
    """Begin the proofs, as a script does, and wait for the first one."""
    shop = open_shop(tmp_path / "shop", "2024-01-30")
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("headrace"), "engine", "check"],
        cwd=Path(__file__).parents[2],
        env=shop.environment | {"TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == "days_of_timestamps, built first, alone: equal\n"
        yield Begun(shop, process, tmp_path / "tmp")
    finally:
        process.kill()
        process.communicate()


AN_END = pytest.mark.some_of("ends of the proofs of a target", 1)


@AN_END
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_proofs_end_by_a_signal_and_leave_nothing(begun: Begun, number: signal.Signals) -> None:
    children = psutil.Process(begun.process.pid).children(recursive=True)
    assert children
    begun.process.send_signal(number)
    begun.process.send_signal(signal.SIGINT)
    _, says = begun.process.communicate(timeout=120)
    # Of two that come at once Python answers that of the lower number first.
    assert begun.process.returncode in (128 + number, 128 + signal.SIGINT)
    assert says.splitlines() == ["dagster-dbt-common: ended by a signal: what the proofs had made is dropped"]
    begun.nothing_is_left_of(children)


@AN_END
def test_builds_that_are_killed_leave_nothing(begun: Begun) -> None:
    (builds,) = psutil.Process(begun.process.pid).children()
    children = builds.children(recursive=True)
    builds.kill()
    _, says = begun.process.communicate(timeout=120)
    # Python itself tells the semaphores of a process that was killed.
    assert (begun.process.returncode, says.splitlines()[-1]) == (
        1,
        "dagster-dbt-common: the process that builds has ended by signal 9: begin again",
    )
    begun.nothing_is_left_of([builds, *children])


def test_a_target_that_is_none_is_a_line(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = open_shop(tmp_path / "shop", "2024-01-30")
    refused = shop.call("engine", "check", "--target", "nonsense")
    assert refused.returncode == 1
    assert "does not have a target named 'nonsense'" in refused.stderr.splitlines()[-1]
    shutil.rmtree(tmp_path / "shop")

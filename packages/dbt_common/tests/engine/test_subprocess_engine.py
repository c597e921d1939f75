"""The engine for another dbt than this environment's: a child process, which the run hears as it hears its own dbt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dagster_dbt_common import DbtResource, prepared_project

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagster as dg
    from conftest import Minimal

# dbt is started anew for each group of a run, and once more for its version.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DAILY = ("events_daily", "large_events", "slow_events", "store_days")


@pytest.fixture
def subprocess_engine(minimal: Minimal, tmp_path: Path) -> DbtResource:
    """Return the engine for another dbt: a script, beside which a file has a line for each call."""
    executable = tmp_path / "dbt"
    executable.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {Path(sys.executable).parent}/dbt "$@"\n')
    executable.chmod(0o755)
    project = prepared_project(minimal.root / "project")
    return DbtResource(project, engine="subprocess", dbt_executable=str(executable))


@pytest.mark.some_of("dbt in a subprocess", 1)
def test_a_subprocess_says_the_same_as_this_process(
    minimal: Minimal, subprocess_engine: DbtResource, tmp_path: Path
) -> None:
    minimal.run_upstream()
    here = minimal.run(*DAILY, start="2024-01-01", end="2024-01-02")
    rows = minimal.rows("from events_daily order by all")
    there = minimal.run(*DAILY, start="2024-01-01", end="2024-01-02", resource=subprocess_engine)
    assert there.success
    assert "build" in (tmp_path / "calls").read_text()
    one, other = (
        {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
        for result in (here, there)
    )
    assert one == other
    for one, other in zip(_by_asset(here), _by_asset(there), strict=True):
        assert one == other
    assert minimal.rows("from events_daily order by all") == rows


@pytest.mark.some_of("dbt in a subprocess", 1)
def test_the_warehouse_can_be_opened_by_another_process_after_a_run_of_a_subprocess(
    minimal: Minimal, subprocess_engine: DbtResource
) -> None:
    minimal.run_upstream()
    assert minimal.run("events_daily", start="2024-01-01", resource=subprocess_engine).success
    assert minimal.can_be_opened()


@pytest.mark.some_of("dbt in a subprocess", 1)
def test_rows_are_counted_once_a_subprocess_has_ended_which_has_the_file_until_then(minimal: Minimal) -> None:
    """The profile tries to connect once, and one model goes on when another is there already."""
    profiles = minimal.root / "project/profiles.yml"
    profiles.write_text(
        "".join(line for line in profiles.read_text().splitlines(keepends=True) if "retries" not in line)
    )
    minimal.run_upstream()
    minimal.write_delay(25_000)
    project = prepared_project(minimal.root / "project")
    resource = DbtResource(project, engine="subprocess", dbt_executable=str(Path(sys.executable).with_name("dbt")))
    done = minimal.run("events_daily", "slow_events", start="2024-01-01", resource=resource)
    assert done.success
    counted = {name: rows for name, _, _, rows in _by_asset(done)}
    assert counted.keys() == {"events_daily", "slow_events"}
    assert all(isinstance(rows, int) for rows in counted.values()), counted


def _by_asset(result: dg.ExecuteInProcessResult) -> Sequence[tuple[str, str, set[str], object]]:
    return sorted(
        (
            event.materialization.asset_key.to_user_string(),
            str(event.partition),
            set(event.materialization.metadata),
            event.materialization.metadata["dagster/row_count"].value,
        )
        for event in result.get_asset_materialization_events()
    )

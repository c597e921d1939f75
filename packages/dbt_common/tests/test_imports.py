"""What a process imports: a code location loads in each of them, so what only a run needs must wait for the run."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

# A dbt that only runs, or parses: what dagster-dbt's own import brings along is none of these.
HEAVY = {"dbt.cli", "dbt.task", "dbt.parser", "dbt.compilation", "dbt.adapters.duckdb", "duckdb"}


def modules_after(code: str) -> set[str]:
    """Return the names of the modules that a fresh process has after some code."""
    program = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_the_package_imports_nothing_more_of_dbt_than_dagster_dbt() -> None:
    stock, ours = modules_after("import dagster_dbt"), modules_after("import dagster_dbt_common")
    own = {name for name in ours - stock if name.partition(".")[0] != "dagster_dbt_common"}
    assert {name for name in own if name.partition(".")[0] in {"dbt", "dbt_common", "agate", "duckdb"}} == set()
    # The lock of the manifest is all that is new, what is stale, and two modules of the standard library.
    assert {name.partition(".")[0] for name in own} <= {"filelock", "gc", "graphlib", "headrace_staleness"}


@pytest.mark.slow
def test_loading_a_project_that_was_parsed_imports_no_dbt_that_runs(
    minimal_root: Path, minimal_definitions: dg.Definitions
) -> None:
    assert minimal_definitions.assets
    project = str(minimal_root / "project")
    loaded = modules_after(f"from dagster_dbt_common import dbt_definitions\ndbt_definitions({project!r})")
    assert "dagster_dbt" in loaded
    assert loaded & HEAVY == set()

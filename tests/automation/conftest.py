"""The dbt project under the automation tests, parsed once, and a changed one for reloads."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from simulation import World

from dagster_dbt_common import dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
DAYS = 5


@pytest.fixture(scope="session")
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRST_DAY", (datetime.now(UTC).date() - timedelta(DAYS)).isoformat())
        yield


@pytest.fixture(scope="session")
def project(_environment: None, tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    """Return the definitions of the project, every asset eager."""
    folder = tmp_path_factory.mktemp("automation") / "project"
    shutil.copytree(HERE / "project", folder)
    return dbt_definitions(folder, name="follows", automation="eager")


@pytest.fixture(scope="session")
def changed_project(_environment: None, tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    """Return the definitions after an edit: a new model, and a mart that reads one table more."""
    folder = tmp_path_factory.mktemp("automation") / "changed"
    shutil.copytree(HERE / "project", folder)
    (folder / "models/daily/line_counts.sql").write_text(
        "select * from {{ ref('lines') }} where {{ in_window('ordered_at') }}"
    )
    with (folder / "models/marts/customers.sql").open("a") as mart:
        mart.write("left join {{ ref('line_counts') }} using (id)\n")
    return dbt_definitions(folder, name="follows", automation="eager")


@pytest.fixture
def world(project: dg.Definitions) -> Iterator[World]:
    """Return a world in which nothing has happened yet."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(project, instance)

"""A conflict that another writer won is a retry of the step; what else fails is a failure."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import MACROS_DIR, dbt_definitions
from dagster_dbt_common.assets.conflicts import is_conflict

if TYPE_CHECKING:
    from pathlib import Path

LOST = (
    "Transaction conflict - attempting to insert into table with index 3, but another transaction has deleted from it"
)


@pytest.mark.parametrize(
    "message",
    [
        f"TransactionContext Error: Failed to commit: Failed to commit DuckLake transaction. {LOST}",
        "TransactionContext Error: Conflict on update!",
        'Catalog Error: Table with name "customers__dbt_backup" already exists!',
        "ERROR:  could not serialize access due to concurrent update",
        "deadlock detected\nDETAIL:  Process 1 waits",
        'duplicate key value violates unique constraint "pg_type_typname_nsp_index"',
        'duplicate key value violates unique constraint "pg_class_relname_nsp_index"',
        'relation "store_hours" already exists',
    ],
)
def test_what_a_conflict_says(message: str) -> None:
    assert is_conflict(f"Runtime Error in model orders (models/orders.sql)\n  {message}")


@pytest.mark.parametrize(
    "message",
    ["Conversion Error: a lot", 'unique constraint "orders_key"', "Got 3 results, configured to fail if != 0"],
)
def test_what_no_conflict_says(message: str) -> None:
    assert not is_conflict(message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "several_writers", "attempts"), [(LOST, True, 3), ("Conversion Error: a lot", True, 1), (LOST, False, 1)]
)
@pytest.mark.parametrize("full_refresh", [False, True])
def test_a_step_that_lost_is_run_again(
    tmp_path: Path, said: str, attempts: int, *, several_writers: bool, full_refresh: bool
) -> None:
    """Each attempt leaves a file, by which the model sees how many there were; the third one wins.

    A DuckDB file that the profile calls a DuckLake stands for one: what fails is the model's own SQL.
    """
    (tmp_path / "attempts").mkdir()
    (tmp_path / "models").mkdir()
    warehouse = tmp_path / "warehouse.duckdb"
    lake = f"path: ':memory:', database: lake, attach: [{{path: '{warehouse}', alias: lake, is_ducklake: true}}]"
    output = lake if several_writers else f"path: '{warehouse}'"
    files = {
        "dbt_project.yml": f"{{name: shop, profile: shop, macro-paths: ['{MACROS_DIR}']}}",
        "profiles.yml": f"shop: {{target: duckdb, outputs: {{duckdb: {{type: duckdb, {output}}}}}}}",
        "models/before.sql": "{{ config(materialized='table') }} select 1 as a",
        "models/lost.sql": f"""
            {{{{ config(
                materialized='table',
                pre_hook="copy (select 1) to '{tmp_path}/attempts/{{{{ invocation_id }}}}.csv'"
            ) }}}}
            select case when there < 3 then error('{said}') else a end as a
            from (select count(*) as there from glob('{tmp_path}/attempts/*')) cross join {{{{ ref('before') }}}}
        """,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(dedent(text))
    definitions = dbt_definitions(tmp_path, name="shop")
    with dg.DagsterInstance.ephemeral() as instance:
        if full_refresh:
            job = definitions.resolve_job_def("shop__full_refresh")
            result = job.execute_in_process(instance=instance, raise_on_error=False)
        else:
            result = dg.materialize(
                [one for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition)],
                resources=definitions.resources,
                instance=instance,
                raise_on_error=False,
            )
    assert len([*(tmp_path / "attempts").iterdir()]) == attempts
    assert result.success is (attempts == 3)
    if result.success:
        with duckdb.connect(warehouse, read_only=True) as connection:
            assert connection.execute("select a from lost").fetchall() == [(1,)]

"""Whether the warehouse has what was recorded: rows that went away, that came by hand, and a table that was dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest
from kinds_warehouse import observations

from dagster_dbt_common.assets.stored_rows import FOUND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conftest import Minimal

pytestmark = pytest.mark.slow

JOB = "dbt_minimal__stored_rows"
ROWS = "dagster/partition_row_count"
AS_RECORDED = ("3 as recorded", {})
EVENTS = dg.AssetKey("events_daily")
CHANGES = {
    "delete from events_daily where id = 'a'": {"gone": ["2024-01-01"]},
    "delete from events_daily where id = 'b'": {"fewer": ["2024-01-02"]},
    "insert into events_daily from events_daily where id = 'a'": {"more": ["2024-01-01"]},
    "insert into events_daily (id, occurred_at) values ('x', '2024-01-04 10:00:00')": {"unrecorded": ["2024-01-04"]},
    "drop table events_daily cascade": {"gone": ["2024-01-01", "2024-01-02", "2024-01-03"]},
    "drop view stg_stores": {},
}


@pytest.fixture
def built(minimal: Minimal) -> Minimal:
    """Build three days of which the second has two rows and the third has none."""
    minimal.write_events(
        ("a", "2024-01-01 10:00:00", "oslo", "1"),
        ("b", "2024-01-02 00:00:00", "oslo", "2"),
        ("c", "2024-01-02 23:59:59", "oslo", "3"),
    )
    minimal.run_upstream()
    assert minimal.run("events_daily", start="2024-01-01", end="2024-01-03").success
    return minimal


def looked(built: Minimal) -> tuple[str | None, Mapping[str, Any]]:
    """Run the job, and return what it says of the daily events, and which of their partitions differ."""
    job = built.definitions.resolve_job_def(JOB)
    done = job.execute_in_process(instance=built.instance, raise_on_error=False)
    observed = {each.asset_key: each for each in observations(built.instance, done.run_id)}
    found: Mapping[Any, Any] = {key: each.metadata[FOUND].value for key, each in observed.items()}
    assert done.success is not any(each["partitions"] for each in found.values())
    assert found[EVENTS]["compared"] is ("not compared" not in str(observed[EVENTS].description))
    return observed[EVENTS].description, found[EVENTS]["partitions"]


def change(built: Minimal, statement: str) -> None:
    with duckdb.connect(built.warehouse) as connection:
        connection.execute(statement)


def test_what_is_not_as_recorded_is_told_by_partition(built: Minimal) -> None:
    page = built.instance.fetch_materializations(EVENTS, limit=10)
    events = [record.asset_materialization for record in page.records]
    recorded = {event.partition: event.metadata[ROWS].value for event in events if event}
    assert recorded == {"2024-01-01": 1, "2024-01-02": 2, "2024-01-03": 0}
    assert looked(built) == AS_RECORDED

    content = built.warehouse.read_bytes()
    for statement, said in CHANGES.items():
        change(built, statement)
        assert looked(built)[1] == said, statement
        stores = built.instance.fetch_observations(dg.AssetKey("stg_stores"), limit=1).records[0].asset_observation
        gone = "its table is gone" if "stg_stores" in statement else "there"
        assert stores is not None
        assert stores.description == gone
        built.warehouse.write_bytes(content)
    assert looked(built) == AS_RECORDED


def test_what_is_built_again_passes(built: Minimal) -> None:
    change(built, "delete from events_daily where id <> 'a'")
    assert looked(built) == ("1 gone", {"gone": ["2024-01-02"]})
    assert built.run("events_daily", start="2024-01-02").success
    assert looked(built) == AS_RECORDED


def test_a_model_that_is_being_built_is_not_looked_at(built: Minimal) -> None:
    change(built, "delete from events_daily")
    run = built.instance.create_run_for_job(
        built.definitions.resolve_implicit_global_asset_job_def(), asset_selection=frozenset([EVENTS])
    )
    built.instance.report_run_canceling(run)
    assert looked(built) == ("not compared: it is being built now", {})
    built.instance.report_run_canceled(run)
    assert looked(built)[0] == "2 gone"

"""A month of a foreign project, built group by group: all of it recorded once, and equal to dbt's own build."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conftest import OpenWholesale, Wholesale

# One run has the events of a month.
pytestmark = pytest.mark.slow("builds a month of a project of 40 models, by groups and by dbt itself")

# The first and the last instant are a month's first and a Monday: no window cuts a partition of any grain. dbt cuts
# the event times to its batches, so the sensors' first day is a month of invoices.
WIDE_VARS = {"min_date": "2024-01-01", "max_date": "2024-04-01"}
WIDE_EVENT_TIMES = ["--event-time-start", "2024-03-30", "--event-time-end", "2024-04-01"]


@pytest.fixture(scope="module")
def month(wholesale: Wholesale) -> Sequence[dg.ExecuteInProcessResult]:
    wholesale.forget()
    return wholesale.build_month()


@pytest.mark.some_of("a month of the wholesale project", 1)
def test_a_month_records_each_partition_of_each_asset_once(
    wholesale: Wholesale, month: Sequence[dg.ExecuteInProcessResult]
) -> None:
    built = Counter(
        (event.materialization.asset_key, event.partition)
        for result in month
        for event in result.get_asset_materialization_events()
    )
    expected = Counter(
        (spec.key, key)
        for group in wholesale.groups
        for spec in group.specs
        for key in (wholesale.keys_of_month(spec.partitions_def) if spec.partitions_def else (None,))
    )
    assert built == expected
    invocations = [
        {event.materialization.metadata["invocation_id"].value for event in result.get_asset_materialization_events()}
        for result in month
    ]
    assert [len(one) for one in invocations] == [1] * len(month), "a range is one invocation of dbt"
    hooks = wholesale.rows("select count(*), count(distinct invocation) from run_log")
    assert hooks == [(len(month), len(month))]


def test_every_test_of_the_project_ran_as_a_check_and_passed(
    wholesale: Wholesale, month: Sequence[dg.ExecuteInProcessResult]
) -> None:
    assert month
    recorded = wholesale.check_evaluations()
    specs = {spec.key: spec for group in wholesale.groups for spec in group.check_specs}
    assert {evaluation.asset_check_key for evaluation in recorded} == set(specs)
    assert [evaluation.check_name for evaluation in recorded if not evaluation.passed] == []


@pytest.mark.some_of("a month of the wholesale project", 1)
def test_a_month_by_groups_equals_the_build_of_dbt_itself(
    wholesale: Wholesale, month: Sequence[dg.ExecuteInProcessResult]
) -> None:
    assert month
    full = wholesale.root / "complete.duckdb"
    wholesale.dbt("build", "--full-refresh", "--vars", json.dumps(WIDE_VARS), *WIDE_EVENT_TIMES, warehouse=full)
    empty, different = [], {}
    with duckdb.connect() as connection:
        # Each has the name that dbt gave it: the views in it say it.
        connection.sql(f"attach '{wholesale.warehouse}' as dagster (read_only)")
        connection.sql(f"attach '{full}' as complete (read_only)")
        for unique_id, node in wholesale.asset_nodes().items():
            table = f'"{node["schema"]}"."{node["alias"]}"'
            # When a snapshot was taken is another time in each file.
            columns = "* exclude (dbt_scd_id, dbt_updated_at, dbt_valid_from, dbt_valid_to)"
            chosen = columns if node["resource_type"] == "snapshot" else "*"
            ours, theirs = (f"select {chosen} from {file}.{table}" for file in ("dagster", "complete"))
            counts = [connection.sql(f"select count(*) from ({query})").fetchone() for query in (ours, theirs)]
            extra = connection.sql(f"({ours} except all {theirs}) limit 3").fetchall()
            missing = connection.sql(f"({theirs} except all {ours}) limit 3").fetchall()
            if extra or missing or counts[0] != counts[1]:
                different[unique_id] = (counts, extra, missing)
            if counts[0] == (0,):
                empty.append(unique_id)
    assert different == {}
    assert empty == [], "an empty table proves nothing"


def test_the_warehouse_can_be_opened_by_another_process_after_each_run(wholesale: Wholesale) -> None:
    wholesale.forget()
    code = "import sys, duckdb; duckdb.connect(sys.argv[1])"
    opened = []
    for _ in range(4):
        assert wholesale.run({dg.AssetKey("stg_tms__shipments")}, []).success
        done = subprocess.run([sys.executable, "-c", code, wholesale.warehouse], check=False, capture_output=True)
        opened.append(done.returncode == 0)
    assert opened == [True] * 4


# Tests between groups of which neither is built from the other.
CROSS_GROUP_TESTS = {
    "tests/hours_are_of_known_warehouses.sql": """
        select hours.warehouse_id
        from {{ ref('sensor_hours') }} as hours
        where hours.warehouse_id not in (select warehouse_id from {{ ref('dim_warehouses') }})
    """,
    "tests/late_shipments_agree.sql": """
        select 1 as disagreement
        where (select sum(late_shipments) from {{ ref('carrier_weeks') }})
            <> (select count(*) from {{ ref('fct_shipments') }} where is_late)
            or (select sum(late_shipments) from {{ ref('warehouse_months') }})
            <> (select count(*) from {{ ref('fct_shipments') }} where is_late)
    """,
}


@pytest.mark.some_of("a month of the wholesale project", 1)
def test_a_test_between_groups_waits_for_the_group_that_is_built_last(
    tmp_path: Path, open_wholesale: OpenWholesale
) -> None:
    with open_wholesale(tmp_path, CROSS_GROUP_TESTS) as project:
        project.build_month()
        names = Counter(evaluation.check_name for evaluation in project.check_evaluations() if evaluation.passed)
        assert names["hours_are_of_known_warehouses"] == 1
        assert names["late_shipments_agree"] == 1

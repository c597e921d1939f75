"""The project under Dagster by `dagster_dbt_common`, with the in-process executor as in `projects/analytics`."""

import os

import dagster as dg

from dagster_dbt_common import dbt_definitions

defs = dg.Definitions.merge(
    dbt_definitions(os.environ["BENCH_PROJECT"], name="dbt"),
    dg.Definitions(executor=dg.in_process_executor),
)

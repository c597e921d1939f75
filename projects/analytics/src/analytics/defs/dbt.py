"""The team's dbt project: every model, seed, snapshot and test of `dbt/`."""

import dagster as dg

from analytics import settings
from dagster_dbt_common import dbt_definitions


@dg.definitions
def defs() -> dg.Definitions:
    """Return the dbt project's assets, partitioned by its own config."""
    settings.export_paths()
    return dbt_definitions(
        settings.dbt_project(),
        name="dbt_analytics",
        automation="eager",
        test_all_rows="0 3 * * *",
        ducklake_keep_days=7,
        partitions_per_run=settings.partitions_per_run(),
    )

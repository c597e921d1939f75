"""The project under Dagster as the guide of dagster-dbt writes it: https://docs.dagster.io/integrations/libraries/dbt."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

INCREMENTAL_SELECTOR = "config.materialized:incremental"

project = DbtProject(project_dir=Path(os.environ["BENCH_PROJECT"]))
project.prepare_if_dev()


@dbt_assets(manifest=project.manifest_path, exclude=INCREMENTAL_SELECTOR)
def dbt_models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """Build what has no partitions."""
    yield from dbt.cli(["build"], context=context).stream()


@dbt_assets(
    manifest=project.manifest_path,
    select=INCREMENTAL_SELECTOR,
    partitions_def=dg.DailyPartitionsDefinition(start_date="2024-01-01"),
)
def incremental_dbt_models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """Build the window of the run's partitions."""
    window = context.partition_time_window
    variables = {"min_date": window.start.strftime("%Y-%m-%d"), "max_date": window.end.strftime("%Y-%m-%d")}
    yield from dbt.cli(["build", "--vars", json.dumps(variables)], context=context).stream()


defs = dg.Definitions(
    assets=[dbt_models, incremental_dbt_models],
    resources={"dbt": DbtCliResource(project_dir=project)},
    # The default executor starts another process for the one step of a run; BENCH_EXECUTOR measures it without.
    executor=dg.in_process_executor if os.environ.get("BENCH_EXECUTOR") == "in_process" else None,
)

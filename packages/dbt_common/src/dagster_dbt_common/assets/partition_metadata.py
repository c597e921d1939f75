"""Metadata of each partition that a step makes of an asset.

Adapter of a private Dagster class. `AssetExecutionContext.add_asset_metadata` takes one partition at a time; for each
it lists the partitions of the run, and checks all that it was given before: 8,760 hours would take half an hour. What
it does at its end is done here once for all of them. `tests/assets/test_stored_rows.py` fails if it moves. It can go
when Dagster's own takes several partitions.
"""

from collections.abc import Mapping
from typing import Any

from dagster import AssetExecutionContext, AssetKey
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator


def add_partition_metadata(
    context: AssetExecutionContext, key: AssetKey, metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """Add metadata to the materializations that a step will record.

    Args:
        context: that of the step.
        key: the asset.
        metadata: what each partition has, by its key.
    """
    if not metadata:
        return
    step = context.get_step_execution_context()
    known = step._metadata_accumulator.per_output_metadata  # noqa: SLF001 - see above
    handles = {partition: AssetMetadataHandle(asset_key=key, partition_key=partition) for partition in metadata}
    added: dict[Any, Mapping[str, Any]] = {
        handle: {**known.get(handle, {}), **metadata[partition]} for partition, handle in handles.items()
    }
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata={**known, **added})  # noqa: SLF001

"""Materializations that an op logs as one batch, as Dagster logs those of an output of an asset with partitions.

Where `DAGSTER_EVENT_BATCH_SIZE` is set, the event log gets so many of them at once. It goes when an op can do so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from dagster import AssetMaterialization, DagsterEvent, OpExecutionContext
from dagster._core.events import DagsterEventBatchMetadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def in_one_batch(
    context: OpExecutionContext, materializations: Sequence[AssetMaterialization]
) -> Iterator[DagsterEvent]:
    """Log materializations, and yield their events, which the op yields in turn.

    Args:
        context: the op's.
        materializations: all that belong together; what is not asked for any more is not logged.
    """
    batch, last = str(uuid4()), len(materializations) - 1
    step = context.get_step_execution_context()
    for number, materialization in enumerate(materializations):
        metadata = DagsterEventBatchMetadata(batch, number == last)
        yield DagsterEvent.asset_materialization(step, materialization, metadata)

"""Materializations of an op reach the event log as one batch."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from dagster_dbt_common.assets.event_batches import in_one_batch

KEY = dg.AssetKey("days")
DAYS = [f"2024-01-0{day}" for day in range(1, 6)]


@pytest.mark.parametrize(
    ("size", "stored_before"), [("1000", [0, 0, 0, 0, 5]), ("2", [0, 2, 2, 4, 5]), (None, [1, 2, 3, 4, 5])]
)
def test_they_are_stored_together(monkeypatch: pytest.MonkeyPatch, size: str | None, stored_before: list[int]) -> None:
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    if size:
        monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", size)
    stored = []

    @dg.op(out={})
    def records(context: dg.OpExecutionContext) -> Iterator[Any]:
        for event in in_one_batch(context, [dg.AssetMaterialization(KEY, partition=day) for day in DAYS]):
            stored.append(len(context.instance.fetch_materializations(KEY, limit=10).records))
            yield event

    @dg.job(executor_def=dg.in_process_executor)
    def record() -> None:
        records()

    with dg.DagsterInstance.ephemeral() as instance:
        result = record.execute_in_process(instance=instance)
        found = instance.fetch_materializations(KEY, limit=10, ascending=True).records
    assert stored == stored_before
    assert [each.partition_key for each in found] == DAYS
    events = [event for event in result.all_events if event.is_step_materialization]
    assert [event.partition for event in events] == DAYS

"""The checks that did not pass for what is there now.

Adapter of private Dagster modules: what the UI says of a check, whose execution may have failed, been skipped or be of
an older materialization, is public only by GraphQL, which would need a webserver.
`tests/local_dagster/test_failed_checks.py` fails if it moves.
"""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from dagster import AssetCheckKey, AssetKey, DagsterInstance
from dagster._core.loader import LoadingContext
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus

from headrace.local_dagster.asset_node import AssetNode


def failed_checks(instance: DagsterInstance, nodes: Sequence[AssetNode]) -> Sequence[tuple[AssetKey, str]]:
    """Return each blocking check that did not pass for the last materialization: its asset, and its run."""
    return asyncio.run(_failed_checks(_Context(instance), nodes))


class _Context(LoadingContext):
    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance

    @property
    def instance(self) -> DagsterInstance:
        return self._instance

    @cached_property
    def loaders(self) -> dict[type, Any]:
        return {}


async def _failed_checks(context: _Context, nodes: Sequence[AssetNode]) -> Sequence[tuple[AssetKey, str]]:
    blocking = [AssetCheckKey(node.key, name) for node in nodes for name in sorted(node.blocking_checks)]
    found = context.instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
    failed = []
    for key, execution in found.items():
        passed = await execution.resolve_status(context) is AssetCheckExecutionResolvedStatus.SUCCEEDED
        if not passed and await execution.targets_latest_materialization(context):
            failed.append((key.asset_key, execution.run_id))
    return failed

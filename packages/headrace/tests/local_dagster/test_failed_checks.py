"""The checks that did not pass, as the UI shows them: an adapter of private modules, which fails here if they move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from headrace.local_dagster.asset_node import AssetNode
from headrace.local_dagster.failed_checks import failed_checks

if TYPE_CHECKING:
    from collections.abc import Sequence


def definitions(*, passed: bool, ends: bool = True) -> Sequence[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    @dg.asset
    def orders() -> None: ...

    @dg.asset_check(asset=orders, blocking=True)
    def is_right() -> dg.AssetCheckResult:
        if not ends:
            raise RuntimeError
        return dg.AssetCheckResult(passed=passed)

    @dg.asset_check(asset=orders)
    def is_pretty() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    return [orders, is_right, is_pretty]


def node(*blocking: str) -> AssetNode:
    return AssetNode(
        dg.AssetKey("orders"), "here", frozenset(), None, None, is_virtual=False, blocking_checks=frozenset(blocking)
    )


def test_a_blocking_check_fails_until_it_passes() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert failed_checks(instance, [node("is_right")]) == []
        bad = dg.materialize(definitions(passed=False), instance=instance, raise_on_error=False)
        assert failed_checks(instance, [node("is_right")]) == [(dg.AssetKey("orders"), bad.run_id)]
        assert failed_checks(instance, [node()]) == []
        dg.materialize(definitions(passed=True), instance=instance)
        assert failed_checks(instance, [node("is_right")]) == []


def test_one_that_does_not_end_did_not_pass() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        bad = dg.materialize(definitions(passed=True, ends=False), instance=instance, raise_on_error=False)
        assert failed_checks(instance, [node("is_right")]) == [(dg.AssetKey("orders"), bad.run_id)]


def test_a_check_of_a_former_materialization_says_nothing_of_the_last_one() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(definitions(passed=False), instance=instance, raise_on_error=False)
        dg.materialize(definitions(passed=False)[:1], instance=instance)
        assert failed_checks(instance, [node("is_right")]) == []

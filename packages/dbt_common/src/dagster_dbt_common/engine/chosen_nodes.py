"""Exactly which dbt nodes a Dagster step runs: its assets, its checks, and the tests that its assets make possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_dbt.asset_utils import get_asset_check_key_for_test

from dagster_dbt_common.partitions.groups import LAST_PARENTS_KEY
from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import AssetCheckSpec, AssetExecutionContext, AssetKey, DagsterInstance
    from dagster_dbt import DagsterDbtTranslator, DbtProject

_UNIQUE_ID = "dagster_dbt/unique_id"


@dataclass(frozen=True)
class ChosenNodes:
    """What a step runs.

    Args:
        unique_ids: the dbt nodes.
        late_tests: those of them that are tests of checks which the step was not asked for: they belong to an asset
            that was built before, and could not run then for want of another of their parents.
    """

    unique_ids: Sequence[str]
    late_tests: frozenset[str]


def choose_nodes(
    context: AssetExecutionContext,
    manifest: Mapping[str, Any],
    translator: DagsterDbtTranslator,
    project: DbtProject | None,
) -> ChosenNodes:
    """Return what a step of `@dbt_assets` runs.

    A test with several parents waits until each of them was built: a backfill may build two views, of which neither
    is made from the other, in two runs, and a test of both can only run in the second one. There it is late. A test
    that waited for a parent in another group is late in that group's step, once: from then on it runs with its own
    asset, since the two groups are built one after the other, and between them they need not agree.
    """
    assets_def = context.assets_def
    selected = context.selected_asset_keys
    asked = context.selected_asset_check_keys
    built = _Built(context.instance, selected)

    def last_parents(test: str) -> Sequence[AssetKey]:
        return [translator.get_asset_spec(manifest, id_, project).key for id_ in _last_parents(manifest, test)]

    unique_ids = [str(assets_def.get_asset_spec(key).metadata[_UNIQUE_ID]) for key in selected]
    late = set()
    own_tests = {_unique_id(spec): spec for spec in assets_def.node_check_specs_by_output_name.values()}
    for test, spec in own_tests.items():
        parents = last_parents(test)
        # Checks that run by themselves, without an asset, are somebody's wish: they run, and say what is missing.
        ready = not selected or all(built.has(key) for key in parents)
        if spec.key in asked:
            if ready:
                unique_ids.append(test)
            else:
                context.log.info(f"{spec.name} waits until each of its parents was built")
        elif ready and selected.intersection(parents) and built.has(spec.asset_key):
            late.add(test)
    for test in manifest["nodes"]:
        parents = () if test in own_tests else last_parents(test)
        if selected.intersection(parents) and all(built.has(key) for key in parents):
            key = get_asset_check_key_for_test(manifest, translator, test, project)
            record = context.instance.get_latest_asset_check_evaluation_record(key) if key else None
            # A check that was planned and waited has a record too.
            if key and (record is None or record.status.value == "PLANNED"):
                late.add(test)
    return ChosenNodes(sorted({*unique_ids, *late}), frozenset(late))


class _Built:
    def __init__(self, instance: DagsterInstance, selected: set[AssetKey] | frozenset[AssetKey]) -> None:
        self._instance = instance
        self._known = dict.fromkeys(selected, True)

    def has(self, key: AssetKey) -> bool:
        """Return whether an asset is built in this step, or was before."""
        if key not in self._known:
            self._known[key] = bool(self._instance.fetch_materializations(key, limit=1).records)
        return self._known[key]


def _unique_id(spec: AssetCheckSpec) -> str:
    return str((spec.metadata or {})[_UNIQUE_ID])


def _last_parents(manifest: Mapping[str, Any], test: str) -> Sequence[str]:
    parents: Sequence[str] = dagster_meta(manifest["nodes"][test]).get(LAST_PARENTS_KEY, ())
    return parents

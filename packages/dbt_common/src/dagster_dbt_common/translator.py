"""How a dbt node becomes an asset spec: keys, partitions, partition mappings and checks."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckSpec,
    AssetKey,
    AssetSpec,
    AutomationCondition,
    BetaWarning,
    LastPartitionMapping,
    PartitionMapping,
    PartitionsDefinition,
    PreviewWarning,
    TimeWindowPartitionMapping,
)
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from dagster_dbt_common.errors import config_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster_dbt_common.selectors import PartitionGroup, PartitionPlan


class PartitionedDbtTranslator(DagsterDbtTranslator):
    """dagster-dbt's translator, which also knows partitions; a project's own translator is a subclass of it.

    Views are virtual assets: partition lineage and automation look through them. Tests are checks of the group that
    runs them, tests of sources too.

    Args:
        plan: the project's partition plan.
        group: the group whose assets this translator describes.
        settings: dagster-dbt's settings; by default views are virtual assets and source tests are checks.
        automation: the automation condition of each model whose own config says none.
    """

    def __init__(
        self,
        plan: PartitionPlan,
        group: PartitionGroup,
        settings: DagsterDbtTranslatorSettings | None = None,
        automation: AutomationCondition[AssetKey] | None = None,
    ) -> None:
        super().__init__(
            settings
            or DagsterDbtTranslatorSettings(enable_dbt_views_as_virtual_assets=True, enable_source_tests_as_checks=True)
        )
        self._plan = plan
        self._group = group
        self._automation = automation

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> AssetSpec:
        """Return the spec of a node, without Dagster's warnings that what this uses on purpose is new."""
        with warnings.catch_warnings():
            for category in (BetaWarning, PreviewWarning):  # allow_nonexistent_upstream_partitions; virtual assets
                warnings.simplefilter("ignore", category)
            return super().get_asset_spec(manifest, unique_id, project)

    def get_partitions_def(self, dbt_resource_props: Mapping[str, Any]) -> PartitionsDefinition[str] | None:
        """Return the partitions that the node's own config says; a source's are its own location's to say."""
        config = self._plan.configs.get(dbt_resource_props["unique_id"])
        return config.definition() if config and dbt_resource_props["resource_type"] != "source" else None

    def get_partition_mapping(
        self,
        dbt_resource_props: Mapping[str, Any],
        dbt_parent_resource_props: Mapping[str, Any],
    ) -> PartitionMapping | None:
        """Return how a node's partitions read its parent's; None is Dagster's default, which is right for the rest.

        Between grains a window reads the parent's windows that it overlaps, and the first window of a coarser grain
        may begin before its parent does. `lookback` of the node reads that many earlier partitions of a parent of the
        same grain. An unpartitioned node reads all of a partitioned parent, or with
        `meta.dagster.partitioned_upstreams: last` the last one.

        Raises:
            DbtConfigError: `partitioned_upstreams` is neither all nor last, or Dagster can not map the two: it maps no
                windows between time zones, and no lookback between grains (a microbatch model's lookback, which dbt
                sets by default, then is of the same grain only).
        """
        child = self._plan.configs.get(dbt_resource_props["unique_id"])
        parent = self._plan.configs.get(dbt_parent_resource_props["unique_id"])
        if parent is None or dbt_resource_props["unique_id"] == dbt_parent_resource_props["unique_id"]:
            return None
        if child is None:
            return self._unpartitioned_mapping(dbt_resource_props)
        name = dbt_parent_resource_props["name"]
        if child.timezone != parent.timezone:
            raise config_error(
                dbt_resource_props,
                "meta.dagster.partitions.timezone",
                f"{child.timezone} is not the zone of {name}, {parent.timezone}, and Dagster maps no windows between "
                f"zones: use one zone, or read {name} through a model without partitions",
            )
        same = child.definition() == parent.definition()
        if same and not child.lookback:
            return None
        is_microbatch = dbt_resource_props["config"].get("incremental_strategy") == "microbatch"
        if child.lookback and child.grain != parent.grain and not is_microbatch:
            raise config_error(
                dbt_resource_props,
                "meta.dagster.partitions.lookback",
                f"{name} is by {parent.grain}, not by {child.grain}, and Dagster looks back between partitions of one "
                f"grain only: set it to 0, or read {name} through a model by {child.grain}",
            )
        return TimeWindowPartitionMapping(
            start_offset=-child.lookback if same else 0, allow_nonexistent_upstream_partitions=True
        )

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> AutomationCondition[AssetKey] | None:
        """Return the model's own condition, or the project's; seeds and snapshots have no default."""
        own: AutomationCondition[AssetKey] | None = super().get_automation_condition(dbt_resource_props)
        return own or (self._automation if dbt_resource_props["resource_type"] == "model" else None)

    def get_asset_check_spec(
        self, asset_spec: AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> AssetCheckSpec | None:
        """Return the check of a test that the group runs; None for a test that touches it and runs with another."""
        if unique_id not in self._group.tests:
            return None
        return super().get_asset_check_spec(asset_spec, manifest, unique_id, project)

    def _unpartitioned_mapping(self, props: Mapping[str, Any]) -> PartitionMapping | None:
        meta = props.get("config", {}).get("meta") or props.get("meta") or {}
        choice = (meta.get("dagster") or {}).get("partitioned_upstreams", "all")
        if choice not in ("all", "last"):
            raise config_error(props, "meta.dagster.partitioned_upstreams", f"{choice!r} is neither all nor last")
        return LastPartitionMapping() if choice == "last" else None

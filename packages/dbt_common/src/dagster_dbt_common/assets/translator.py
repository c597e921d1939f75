"""How a dbt node becomes an asset spec: keys, partitions, partition mappings and checks."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckSpec,
    AssetDep,
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

from dagster_dbt_common.automation.conditions import table_condition, view_condition
from dagster_dbt_common.automation.following import ProjectAutomation
from dagster_dbt_common.errors import config_error
from dagster_dbt_common.project.dagster_names import dagster_name, dagster_owner
from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster_dbt_common.automation.reconcile import Follower
    from dagster_dbt_common.partitions.groups import PartitionGroup, PartitionPlan

EVENT_TIME = "dagster_dbt_common/event_time"
"""The metadata of an asset with partitions that says by which column its rows are in them; `headrace` reads it."""


class PartitionedDbtTranslator(DagsterDbtTranslator):
    """dagster-dbt's translator, which also knows partitions; a project's own translator is a subclass of it.

    Views are virtual assets: partition lineage and automation look through them. Tests are checks of the group that
    runs them; those of a source are of what reads it first.

    Args:
        plan: the project's partition plan.
        group: the group whose assets this translator describes.
        settings: dagster-dbt's settings; by default views are virtual assets, and several sources may be one asset.
        automation: when what has no `meta.dagster.automation` of its own follows its upstreams: `eager`, `none`, or
            `cron` with a schedule; or a condition of your own, which each such model then has.
    """

    def __init__(
        self,
        plan: PartitionPlan,
        group: PartitionGroup,
        settings: DagsterDbtTranslatorSettings | None = None,
        automation: str | AutomationCondition[AssetKey] | None = None,
    ) -> None:
        super().__init__(
            settings
            or DagsterDbtTranslatorSettings(
                enable_dbt_views_as_virtual_assets=True, enable_duplicate_source_asset_keys=True
            )
        )
        self._plan = plan
        self._group = group
        self._automation = automation
        default = automation if isinstance(automation, str) else None
        self._automations = ProjectAutomation(plan, default, self._key)

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> AssetSpec:
        """Return the spec of a node, without Dagster's warnings that what this uses on purpose is new.

        A model with lookback depends on the tables under the views that it reads too: a view has no partitions, so no
        mapping to it can look back.
        """
        with warnings.catch_warnings():
            for category in (BetaWarning, PreviewWarning):  # allow_nonexistent_upstream_partitions; virtual assets
                warnings.simplefilter("ignore", category)
            spec = super().get_asset_spec(manifest, unique_id, project)
            beyond_views = self._beyond_views(manifest, unique_id, project)
            return spec.merge_attributes(deps=beyond_views) if beyond_views else spec

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return dagster-dbt's metadata of a node, and of what the project makes that of its plan.

        A subclass that overrides this calls it: `headrace` sees by it that two locations write one DuckDB file, and
        by which column the rows of a model are in partitions.
        """
        metadata = super().get_metadata(dbt_resource_props)
        if dbt_resource_props["resource_type"] == "source":
            return metadata
        column = dbt_resource_props["config"].get("event_time")
        has_partitions = dbt_resource_props["unique_id"] in self._plan.configs
        return {**metadata, **self._plan.metadata, **({EVENT_TIME: column} if column and has_partitions else {})}

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Return dagster-dbt's version of a node's own text, and behind a `+` that of all that it computes."""
        text = super().get_code_version(dbt_resource_props)
        unique_id = dbt_resource_props["unique_id"]
        return f"{text}+{self._plan.code_versions.of(unique_id)}" if unique_id in self._plan.lineage else text

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Return dagster-dbt's group of a node, in letters that Dagster takes: `sales-finance` is `sales_finance`."""
        name = super().get_group_name(dbt_resource_props)
        return name and "/".join(map(dagster_name, name.split("/")))

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        """Return dagster-dbt's owners of a node; one that is no e-mail address is a team."""
        owners = super().get_owners(dbt_resource_props)
        return owners and [dagster_owner(str(owner)) for owner in owners]

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
            DbtConfigError: `partitioned_upstreams` is neither all nor last, or Dagster cannot map the two: it maps no
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
        """Return the condition that `meta.dagster.automation` of the node or the project's default says.

        An asset whose partitions are finer than those of what it reads has none: see `finer_sensor`.

        Raises:
            DbtConfigError: it says something else than `eager`, `none`, or `cron` with a schedule.
        """
        unique_id = dbt_resource_props["unique_id"]
        if unique_id not in self._plan.lineage:
            return None
        automation = self._automations.of(unique_id)
        if automation is None:
            is_model = dbt_resource_props["resource_type"] == "model"
            return self._automation if is_model and isinstance(self._automation, AutomationCondition) else None
        if self._automations.is_finer(unique_id):
            return None
        upstreams = self._automations.upstreams(unique_id)
        if dbt_resource_props["resource_type"] == "seed" or self._plan.lineage.is_view(unique_id):
            return view_condition(automation, upstreams, tested=unique_id in self._plan.tested)
        return table_condition(automation, upstreams)

    def followers(self) -> Sequence[Follower]:
        """Return the project's assets that follow their upstreams by themselves, for the sensor that heals them."""
        return self._automations.followers()

    def get_asset_check_spec(
        self, asset_spec: AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> AssetCheckSpec | None:
        """Return the check of a test that the group runs; None for a test that touches it and runs with another."""
        if unique_id not in self._group.tests:
            return None
        return super().get_asset_check_spec(asset_spec, manifest, unique_id, project)

    def _unpartitioned_mapping(self, props: Mapping[str, Any]) -> PartitionMapping | None:
        return LastPartitionMapping() if dagster_meta(props).get("partitioned_upstreams") == "last" else None

    def _beyond_views(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> Sequence[AssetDep]:
        config = self._plan.configs.get(unique_id)
        lineage = self._plan.lineage
        if config is None or not config.lookback or not lineage.views(unique_id):
            return ()
        mapping = TimeWindowPartitionMapping(start_offset=-config.lookback, allow_nonexistent_upstream_partitions=True)
        return [
            AssetDep(self.get_asset_spec(manifest, parent, project).key, partition_mapping=mapping)
            for parent in lineage.stored(unique_id)
            if parent not in lineage.parents(unique_id)
            and (above := self._plan.configs.get(parent))
            and above.definition() == config.definition()
        ]

    def _key(self, unique_id: str) -> AssetKey:
        return self.get_asset_key(self.get_resource_props(self._plan.manifest, unique_id))

"""Which assets of a dbt project follow their upstreams by themselves, and what each has to wait for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dagster_dbt_common.automation.conditions import Automation, Upstreams
from dagster_dbt_common.automation.reconcile import Follower, Stored
from dagster_dbt_common.errors import config_error
from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dagster import AssetKey

    from dagster_dbt_common.partitions.config import PartitionConfig
    from dagster_dbt_common.partitions.groups import PartitionPlan

_MOST_WAITED_FOR = 40
"""An asset waits for its nearest followers only: below more it may be built once too often, never too seldom."""


class ProjectAutomation:
    """The automation of a project's assets, as their config says it.

    Args:
        plan: the project's partition plan.
        default: what an asset without `meta.dagster.automation` does; None for nothing.
        key_of: returns the asset key of a unique id.
    """

    def __init__(
        self,
        plan: PartitionPlan,
        default: str | None,
        key_of: Callable[[str], AssetKey],
    ) -> None:
        self._plan = plan
        self._default = default
        self._key_of = key_of

    def of(self, unique_id: str) -> Automation | None:
        """Return what an asset says, or the default; None where neither says anything.

        Raises:
            DbtConfigError: `meta.dagster.automation` is none of `eager`, `none`, and `cron` with a schedule.
        """
        return self._all[unique_id]

    def upstreams(self, unique_id: str) -> Upstreams:
        """Return what the condition of an asset needs to know of its upstreams."""
        lineage, configs = self._plan.lineage, self._plan.configs
        stored = lineage.stored(unique_id)
        followers = []
        # Below a single table there is nothing to wait for: its own update is what sets the asset off.
        for above in lineage.stored_ancestors(unique_id) if len(stored) > 1 else ():
            zones = {configs[each].timezone for each in (unique_id, above) if each in configs}
            # Dagster maps no windows between time zones.
            if self._follows_like(above, unique_id) and len(zones) <= 1:
                followers.append(self._key_of(above))
        return Upstreams(
            partitioned=unique_id in configs,
            followers=followers[:_MOST_WAITED_FOR],
            tested_views=[
                self._key_of(view)
                for view in lineage.views(unique_id)
                if view in self._plan.tested and self._follows_like(view, unique_id)
            ],
        )

    def is_finer(self, unique_id: str) -> bool:
        """Return whether a partition of an upstream is several of an asset's own, which then has no condition.

        A source whose partitions the project does not say may have some, whose updates only conditions see.
        """
        configs, nodes = self._plan.configs, self._plan.manifest["nodes"]
        own, stored = configs.get(unique_id), self._plan.lineage.stored(unique_id)
        if own is None or self._all[unique_id] in (None, Automation("none")):
            return False
        if any(above not in nodes and above not in configs for above in stored):
            return False
        others = [configs[above] for above in stored if above in configs]
        return any(_period(own) < _period(other) for other in others if other.grain != own.grain)

    def followers(self) -> Sequence[Follower]:
        """Return the assets that follow their upstreams by themselves, each after what it is made from."""
        lineage, plan = self._plan.lineage, self._plan
        found = []
        for unique_id in lineage.order:
            automation = self._all[unique_id]
            if automation is None or automation.kind == "none":
                continue
            config = plan.configs.get(unique_id)
            meta = dagster_meta(plan.manifest["nodes"][unique_id])
            found.append(
                Follower(
                    asset=self._stored(unique_id),
                    upstreams=[self._stored(above) for above in lineage.stored(unique_id)],
                    views=self.upstreams(unique_id).tested_views,
                    lookback=config.lookback if config else 0,
                    last_only=meta.get("partitioned_upstreams") == "last",
                    only_missing=lineage.is_view(unique_id) and unique_id not in plan.tested,
                    schedule=(automation.cron, automation.timezone) if automation.kind == "cron" else None,
                    is_finer=self.is_finer(unique_id),
                )
            )
        return found

    def _stored(self, unique_id: str) -> Stored:
        config = self._plan.configs.get(unique_id)
        return Stored(self._key_of(unique_id), config.definition() if config else None)

    def _follows_like(self, above: str, unique_id: str) -> bool:
        """Return whether an upstream follows what it reads as soon as the asset does; a seed reads nothing."""
        other = self._all.get(above)
        if other is None or not self._plan.lineage.parents(above):
            return False
        return other.kind == "eager" or other == self._all[unique_id]

    @cached_property
    def _all(self) -> Mapping[str, Automation | None]:
        default = None if self._default is None else Automation.parse(self._default)
        found: dict[str, Automation | None] = {}
        for unique_id in self._plan.lineage.order:
            props = self._plan.manifest["nodes"][unique_id]
            own = dagster_meta(props).get("automation")
            try:
                found[unique_id] = default if own is None else Automation.parse(own)
            except ValueError as error:
                raise config_error(props, "meta.dagster.automation", str(error)) from None
        return found


def _period(config: PartitionConfig) -> float:
    """Return how long the first partition is, in seconds."""
    definition = config.definition()
    window = definition.get_next_partition_window(definition.start, respect_bounds=False)
    return window.end.timestamp() - window.start.timestamp() if window else 0.0

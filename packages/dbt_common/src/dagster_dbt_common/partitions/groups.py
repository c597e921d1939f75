"""dbt selectors of this package, and the split of a manifest into partition groups, disjoint and complete."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dagster_dbt_common.errors import config_error
from dagster_dbt_common.partitions.config import PartitionConfig, partition_config
from dagster_dbt_common.partitions.homes_of_tests import home_of_test, is_asset, last_parents_of_tests
from dagster_dbt_common.partitions.lineage import Lineage
from dagster_dbt_common.partitions.promise import check_promises
from dagster_dbt_common.project.code_version import CodeVersions
from dagster_dbt_common.project.dagster_names import names_of_checks, not_ascii
from dagster_dbt_common.project.meta_keys import check_meta
from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import TimeWindowPartitionsDefinition

INCREMENTAL_SELECTOR = "config.materialized:incremental"
"""Selects every incremental model: the partitioned ones, in a project where each of them has partitions."""

MICROBATCH_SELECTOR = "config.incremental_strategy:microbatch"
"""Selects every microbatch model: those that dbt itself cuts into batches."""

GROUP_KEY = "partition_group"
"""The key under `meta.dagster` by which a planned manifest says a node's group, so that dbt can select it."""

LAST_PARENTS_KEY = "last_parents"
"""The key under `meta.dagster` by which a planned manifest says which parents of a test are built last."""

_UNPARTITIONED = "unpartitioned"
_ADVERB = {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly", "year": "yearly"}


@dataclass(frozen=True)
class PartitionGroup:
    """The models, seeds, snapshots and tests of a project that one `@dbt_assets` runs.

    Args:
        name: `unpartitioned`, or the grain as an adverb (`daily`), with the start where one grain has several groups.
        partitions_def: the partitions that all its models have; None for the unpartitioned group.
        assets: dbt unique ids of its models, seeds and snapshots; ephemeral models are in no group.
        tests: dbt unique ids of the tests that run with them.
    """

    name: str
    partitions_def: TimeWindowPartitionsDefinition | None
    assets: frozenset[str]
    tests: frozenset[str]

    @property
    def select(self) -> str:
        """Return the dbt selector of the group, for the manifest of its plan."""
        return f"config.meta.dagster.{GROUP_KEY}:{self.name}"

    @property
    def is_partitioned(self) -> bool:
        """Return whether the group has partitions."""
        return self.partitions_def is not None


@dataclass(frozen=True)
class PartitionPlan:
    """A manifest, split into groups.

    Args:
        manifest: dbt's manifest, in which each grouped node says its group under `meta.dagster.partition_group`, and
            each test of several parents the one that it belongs to under `meta.dagster.ref` (dagster-dbt's own key).
        configs: the partitions of each partitioned node and source, by unique id.
        groups: the groups, the unpartitioned one first; each node and each test is in exactly one.
        homes: for each test that runs, the model, seed or snapshot that it runs with.
        lineage: what is made from what.
        metadata: what each asset says of itself, besides dagster-dbt's own.
        variables: the project's variables, which its code versions depend on.
    """

    manifest: Mapping[str, Any]
    configs: Mapping[str, PartitionConfig]
    groups: Sequence[PartitionGroup]
    homes: Mapping[str, str]
    lineage: Lineage
    metadata: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def code_versions(self) -> CodeVersions:
        """Return what each node computes, as a hash."""
        return CodeVersions(self.manifest, self.variables)

    @cached_property
    def tested(self) -> frozenset[str]:
        """Return the unique ids of the models, seeds and snapshots that tests run with."""
        return frozenset(self.homes.values())


def plan_partitions(manifest: Mapping[str, Any]) -> PartitionPlan:
    """Split a dbt manifest into one unpartitioned group and one for each distinct partitions definition.

    A test belongs to the last of its parents: a relationship between `orders` and a `customers` that is built from it
    runs with `customers`. So a first build in the order of the graph never tests a table that does not exist yet, and
    no build of `orders` tests against yesterday's `customers`. A `meta.dagster.ref` of the test's own says otherwise.

    Raises:
        DbtConfigError: a model's partition config cannot be run, or its partitions would not equal a full build.
    """
    check_meta(manifest)
    nodes: Mapping[str, Mapping[str, Any]] = manifest["nodes"]
    configs = {
        unique_id: config
        for unique_id, props in [*nodes.items(), *manifest["sources"].items()]
        if (config := partition_config(props))
    }
    check_promises(manifest, configs.keys())
    assets = [unique_id for unique_id, props in nodes.items() if is_asset(props)]
    if props := not_ascii([nodes[unique_id] for unique_id in assets]):
        raise config_error(
            props, "name", "Dagster takes letters from a to z: rename its file, and keep the table's name by `alias`"
        )
    names = _group_names({configs[unique_id] for unique_id in assets if unique_id in configs})
    group_of = {
        unique_id: names[configs[unique_id]] if unique_id in configs else _UNPARTITIONED for unique_id in assets
    }
    last_parents = last_parents_of_tests(manifest)
    home_of = {
        test: home_of_test(manifest["nodes"][test], parents, group_of.keys()) for test, parents in last_parents.items()
    }
    for test, home in home_of.items():
        group_of[test] = group_of[home]
    members: dict[str, set[str]] = defaultdict(set)
    for unique_id, name in group_of.items():
        members[name].add(unique_id)
    definitions = {name: config.definition() for config, name in names.items()}
    groups = [
        PartitionGroup(
            name=name,
            partitions_def=definitions.get(name),
            assets=frozenset(members[name] - home_of.keys()),
            tests=frozenset(members[name] & home_of.keys()),
        )
        for name in (_UNPARTITIONED, *sorted(definitions))
        if members[name]
    ]
    return PartitionPlan(
        manifest=_annotated(manifest, group_of, home_of, last_parents),
        configs=configs,
        groups=groups,
        homes=home_of,
        lineage=Lineage(manifest, frozenset(assets)),
    )


def _group_names(configs: set[PartitionConfig]) -> Mapping[PartitionConfig, str]:
    """Name each group by its grain; `lookback` is a matter of the mapping, not of the partitions."""
    by_definition: dict[TimeWindowPartitionsDefinition, list[PartitionConfig]] = defaultdict(list)
    for config in configs:
        by_definition[config.definition()].append(config)
    grains = Counter(members[0].grain for members in by_definition.values())
    names = {}
    for definition, members in by_definition.items():
        grain = members[0].grain
        name = _ADVERB.get(grain, "cron")
        if grains[grain] > 1 or name == "cron":
            parts = (definition.cron_schedule if name == "cron" else "", f"{definition.start:%Y%m%dT%H%M}")
            zone, offset = definition.timezone, definition.end_offset
            name = _identifier(name, *parts, "" if zone == "UTC" else zone, str(offset) if offset else "")
        names.update(dict.fromkeys(members, name))
    return names


def _identifier(*parts: str) -> str:
    """Return an identifier for a group; what differs in punctuation only, as `6,18` and `6-18`, ends in a digest."""
    text = "_".join(part for part in parts if part)
    name = "".join(char if char.isalnum() else "_" for char in text.replace("*", "x"))
    plain = not set(text) & set(",-+") and "*/" not in text
    return name if plain else f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _annotated(
    manifest: Mapping[str, Any],
    group_of: Mapping[str, str],
    home_of: Mapping[str, str],
    last_parents: Mapping[str, Sequence[str]],
) -> Mapping[str, Any]:
    nodes = dict(manifest["nodes"])
    children = dict(manifest["child_map"])
    tests_of: dict[str, list[str]] = defaultdict(list)
    for test, its_home in home_of.items():
        tests_of[its_home].append(test)
    for tests in tests_of.values():
        for test, check in names_of_checks(tests, manifest["nodes"]).items():
            nodes[test] = {**nodes[test], "name": check}
    for unique_id, name in group_of.items():
        props = nodes[unique_id]
        extra: dict[str, Any] = {GROUP_KEY: name}
        if len(last_parents.get(unique_id, ())) > 1:
            extra[LAST_PARENTS_KEY] = last_parents[unique_id]
        home, parents = home_of.get(unique_id), props["depends_on"]["nodes"] if unique_id in home_of else []
        # A test of sources is a check of what reads them first: on a source's own key, which another location may make,
        # it would break each backfill of that asset, since Dagster asks the other location for all of its checks.
        if home and parents != [home]:
            owner = nodes[home]
            extra["ref"] = {
                "name": owner["name"],
                "package": owner["package_name"],
                "version": owner.get("version"),
            }
            if home not in parents:  # there is an ephemeral model between, and dagster-dbt looks for a node's own tests
                children[home] = [*children.get(home, []), unique_id]
        meta = props["config"].get("meta") or props.get("meta") or {}
        dagster = {**dagster_meta(props), **extra}
        nodes[unique_id] = {**props, "config": {**props["config"], "meta": {**meta, "dagster": dagster}}}
    return {**manifest, "nodes": nodes, "child_map": children}

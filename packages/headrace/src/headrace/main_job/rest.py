"""What a main job can still build after something has failed: all that does not read it.

Dagster's backfill holds back whatever is below a partition that failed, through views too, which have no partitions:
one bad day of a raw table would hold back every day of every mart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.main_job.plan import BuildPlan, ancestors, changes, ranges_of
from headrace_staleness import AllWindows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dagster import AssetKey

    from headrace.local_dagster.asset_node import AssetNode
    from headrace_staleness import Partition


def plan_rest(
    nodes: Sequence[AssetNode],
    plan: BuildPlan,
    built: Mapping[AssetKey, Collection[Partition]],
    tried: Collection[AssetKey],
    refused: Collection[AssetKey],
) -> BuildPlan:
    """Return what of a plan was not built, and reads nothing that failed, as a plan of its own.

    A partition failed when a run was to build it and did not, or when a check that its reader has to wait for failed.
    What reads such a partition, by its mapping or because their windows overlap, is left out, and so is what reads
    that. A table without partitions reads all of them. A view holds no data: it is built where a reader of it is.

    Args:
        nodes: the assets, parents before children.
        plan: what was to be built.
        built: what was.
        tried: the assets of the runs that were launched.
        refused: the assets of which a blocking check found an error.
    """
    windows = AllWindows()
    by_key = {node.key: node for node in nodes}
    failed: dict[AssetKey, Sequence[Partition]] = {}
    rest: dict[AssetKey, Sequence[Partition]] = {}
    views: set[AssetKey] = set()
    for node in nodes:
        wanted = plan.partitions.get(node.key, ())
        missing = [key for key in wanted if key not in built.get(node.key, ())]
        if node.key in refused or (missing and node.key in tried):
            failed[node.key] = wanted if node.key in refused else missing
        elif node.is_virtual:
            views |= {node.key} if missing else set()
        elif missing:
            of_parents = [(parent, failed[parent.key]) for parent in ancestors(node, by_key) if parent.key in failed]
            read = [changes(node, parent, windows, {}, keys) for parent, keys in of_parents]
            held = [key for key in missing if any(each.newer(key, None) is not None for each in read)]
            if held and node.key in node.mappings:
                held = missing[missing.index(held[0]) :]  # each reads the one before it
            if held:
                failed[node.key] = held
            if len(held) < len(missing):
                rest[node.key] = [key for key in missing if key not in set(held)]
    above = {parent.key for key in rest for parent in ancestors(by_key[key], by_key)}
    rest |= dict.fromkeys(views & above, (None,))
    in_order = [node for node in nodes if node.key in rest]
    return BuildPlan(
        partitions={node.key: rest[node.key] for node in in_order},
        ranges={node.key: ranges_of(windows.of(node.partitions_def), rest[node.key]) for node in in_order},
    )

"""What the main job has to build: the asset partitions that are missing, changed, or older than an upstream."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from dagster import AssetKey, TimeWindow, TimeWindowPartitionMapping

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.code_versions import is_same_code
from headrace.main_job.windows import AllWindows, Windows

Partition = str | None
"""A partition key; None stands for an asset without partitions."""


@dataclass(frozen=True)
class History:
    """What Dagster's storage knows of one asset.

    Args:
        storage_ids: the storage id of the last materialization of each partition that has one; ids grow with time.
        code_versions: the code version of the last materialization of each partition.
        code_since: of a view, the storage id of the first materialization with the code of the last one.
        sources: the content hash of the export file that each partition was loaded from, where it says one.
        failed: the partitions whose last build failed a blocking check.
    """

    storage_ids: Mapping[Partition, int] = field(default_factory=dict)
    code_versions: Mapping[Partition, str] = field(default_factory=dict)
    code_since: int | None = None
    sources: Mapping[Partition, str] = field(default_factory=dict)
    failed: Collection[Partition] = ()


@dataclass(frozen=True)
class BuildPlan:
    """What to build.

    Args:
        partitions: the partitions to build, by asset, parents before children.
        ranges: the same as ranges of neighbours, first and last key; none for an asset without partitions.
    """

    partitions: Mapping[AssetKey, Sequence[Partition]]
    ranges: Mapping[AssetKey, Sequence[tuple[str, str]]]

    @property
    def size(self) -> int:
        """Return how many asset partitions there are to build."""
        return sum(len(keys) for keys in self.partitions.values())


def plan_build(
    nodes: Sequence[AssetNode],
    history: Mapping[AssetKey, History],
    sources: Mapping[AssetKey, Mapping[Partition, str]],
    first: date,
    last: date,
    *,
    everything: bool = False,
) -> BuildPlan:
    """Return what has to be built so that the days from `first` to `last` are complete and fresh.

    A partition is built when it is missing, when its export file or its code changed, when its last build failed a
    check, or when an upstream partition that it reads is newer or is built too: one that its window overlaps, or an
    earlier one that it looks back at by its partition mapping. A view holds no data: its children look through it at
    the data, and it is built when it is missing or changed itself, or stands between two that are built. What it shows
    changes with its code: its children are older than that until they are built again.

    Args:
        nodes: the assets, parents before children.
        history: what storage knows of them.
        sources: the content hash of each export file now, by the asset and partition that is loaded from it.
        first: the first day (UTC).
        last: the last day (UTC), included.
        everything: build all partitions of the days, whatever storage says.
    """
    days = _window(first, last)
    windows = AllWindows()
    by_key = {node.key: node for node in nodes}
    planned: dict[AssetKey, list[Partition]] = {}
    rewritten: set[AssetKey] = set()
    for node in nodes:
        known = history.get(node.key, History())
        changed = []
        for parent in () if node.is_virtual else _ancestors(node, by_key):
            past = history.get(parent.key, History())
            if parent.is_virtual:
                since: dict[Partition, int] = {} if past.code_since is None else {None: past.code_since}
                changed.append(_Changes(node, parent, [None] if parent.key in rewritten else [], since, windows))
            else:
                changed.append(_Changes(node, parent, planned.get(parent.key, []), past.storage_ids, windows))
        keys = []
        for key in _partitions(node, days, windows):
            before = known.storage_ids.get(key)
            source = sources.get(node.key, {}).get(key)
            other_code = node.code_version is not None and not is_same_code(
                node.code_version, known.code_versions.get(key, "")
            )
            if node.is_virtual and (before is None or other_code):
                rewritten.add(node.key)
            if (
                everything
                or before is None
                or other_code
                or key in known.failed
                or (source is not None and source != known.sources.get(key))
                or any(change.newest(key) > before for change in changed)
            ):
                keys.append(key)
        if keys:
            planned[node.key] = keys
    _bridge(nodes, planned)
    in_order = [node for node in nodes if node.key in planned]
    return BuildPlan(
        partitions={node.key: planned[node.key] for node in in_order},
        ranges={node.key: _ranges(windows.of(node.partitions_def), planned[node.key]) for node in in_order},
    )


class _Changes:
    """When the partitions of a parent changed, for questions of the partitions of a child.

    Args:
        child: the child, whose partitions read the parent by its mapping, or where their windows overlap.
        parent: the parent.
        planned: its partitions that are built in any case.
        changed: when each of its partitions changed.
        windows: the windows of the graph.
    """

    def __init__(
        self,
        child: AssetNode,
        parent: AssetNode,
        planned: Iterable[Partition],
        changed: Mapping[Partition, int],
        windows: AllWindows,
    ) -> None:
        self._of_child, self._of_parent = windows.of(child.partitions_def), windows.of(parent.partitions_def)
        self._mapping = child.mappings.get(parent.key)
        when: dict[Partition, float] = {**changed, **dict.fromkeys(planned, math.inf)}
        self._last = max(when.values(), default=-1)
        self._when = [when.get(key, -1) for key in self._of_parent.keys] if self._of_parent else []

    def newest(self, key: Partition) -> float:
        """Return when what a partition of the child reads last changed: infinity where it is planned, -1 for never."""
        number = self._of_child.numbers.get(key) if self._of_child and key is not None else None
        if self._of_parent is None or self._of_child is None or number is None:
            return self._last
        if isinstance(self._mapping, TimeWindowPartitionMapping):
            # Dagster takes no offsets between different grains:
            # https://docs.dagster.io/api/dagster/partitions#dagster.TimeWindowPartitionMapping
            offsets = self._mapping.start_offset, self._mapping.end_offset
            start, end = self._of_child.moved(number, *offsets)
        elif self._of_child is self._of_parent:
            return self._when[number]
        else:
            start, end = self._of_child.starts[number], self._of_child.ends[number]
        read = self._of_parent.overlapping(start, end)
        return max(self._when[read.start : read.stop], default=-1)


def _partitions(node: AssetNode, days: TimeWindow, windows: AllWindows) -> Sequence[Partition]:
    """Return the partitions that overlap the days: the month too of which only a few days are among them."""
    if node.partitions_def is None:
        return [None]
    of_node = windows.of(node.partitions_def)
    if of_node is None:
        return node.partitions_def.get_partition_keys()
    wanted = of_node.overlapping(days.start, days.end)
    return of_node.keys[wanted.start : wanted.stop]


def _ranges(windows: Windows | None, keys: Sequence[Partition]) -> Sequence[tuple[str, str]]:
    """Return the keys as ranges of neighbours in time; each is one by itself where they are no windows."""
    ranges: list[tuple[str, str]] = []
    last_end = None
    for key in keys:
        if key is not None:
            number = windows.numbers[key] if windows else None
            follows = windows is not None and number is not None and windows.starts[number] == last_end
            ranges.append((ranges.pop()[0], key) if follows else (key, key))
            last_end = windows.ends[number] if windows is not None and number is not None else None
    return ranges


def _ancestors(node: AssetNode, by_key: Mapping[AssetKey, AssetNode]) -> Sequence[AssetNode]:
    """Return the nearest ancestors that hold data, and the views between."""
    found: dict[AssetKey, AssetNode] = {}
    waiting = list(node.parents)
    seen: set[AssetKey] = set()
    while waiting:
        key = waiting.pop()
        if key in seen or key not in by_key:
            continue
        seen.add(key)
        found[key] = parent = by_key[key]
        if parent.is_virtual:
            waiting.extend(parent.parents)
    return list(found.values())


def _bridge(nodes: Sequence[AssetNode], planned: dict[AssetKey, list[Partition]]) -> None:
    """Add the views between planned assets: Dagster's backfill orders only what it builds."""
    children: dict[AssetKey, list[AssetKey]] = defaultdict(list)
    for node in nodes:
        for parent in node.parents:
            children[parent].append(node.key)
    below: set[AssetKey] = set()
    for node in reversed(nodes):
        if any(child in planned or child in below for child in children[node.key]):
            below.add(node.key)
    above: set[AssetKey] = set()
    for node in nodes:
        if any(parent in planned or parent in above for parent in node.parents):
            above.add(node.key)
            if node.is_virtual and node.key in below:
                planned.setdefault(node.key, [None])


def _window(first: date, last: date) -> TimeWindow:
    return TimeWindow(
        datetime.combine(first, time(), tzinfo=UTC), datetime.combine(last + timedelta(days=1), time(), tzinfo=UTC)
    )

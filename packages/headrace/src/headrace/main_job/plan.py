"""What the main job has to build: the asset partitions that are missing, changed, or older than an upstream."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from dagster import AssetKey, TimeWindow, TimeWindowPartitionMapping, TimeWindowPartitionsDefinition

from headrace.local_dagster.daemon import AssetNode

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
                changed.append(_Changes(parent, [None] if parent.key in rewritten else [], since))
            else:
                changed.append(_Changes(parent, planned.get(parent.key, []), past.storage_ids))
        keys = []
        for key in _partitions(node, days):
            before = known.storage_ids.get(key)
            source = sources.get(node.key, {}).get(key)
            other_code = node.code_version is not None and node.code_version != known.code_versions.get(key)
            if node.is_virtual and (before is None or other_code):
                rewritten.add(node.key)
            if (
                everything
                or before is None
                or other_code
                or key in known.failed
                or (source is not None and source != known.sources.get(key))
                or any(change.reaches(_read(node, key, change.parent), before) for change in changed)
            ):
                keys.append(key)
        if keys:
            planned[node.key] = keys
    _bridge(nodes, planned)
    in_order = [node for node in nodes if node.key in planned]
    return BuildPlan(
        partitions={node.key: planned[node.key] for node in in_order},
        ranges={node.key: _ranges(node, planned[node.key]) for node in in_order},
    )


class _Changes:
    """The partitions of a parent, as windows of time, with when they changed; for questions of its children."""

    def __init__(self, parent: AssetNode, planned: Iterable[Partition], changed: Mapping[Partition, int]) -> None:
        self.parent = parent.key
        self._planned = sorted(_bounds(parent, key) for key in planned)
        self._built = sorted((*_bounds(parent, key), storage_id) for key, storage_id in changed.items())

    def reaches(self, window: tuple[datetime, datetime], before: int) -> bool:
        """Return whether a part of the parent that overlaps the window is planned, or newer than `before`."""
        start, end = window
        return any(a < end and b > start for a, b in self._planned) or any(
            a < end and b > start and storage_id > before for a, b, storage_id in self._built
        )


_ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def _bounds(node: AssetNode, key: Partition) -> tuple[datetime, datetime]:
    if key is None or not isinstance(node.partitions_def, TimeWindowPartitionsDefinition):
        return _ALWAYS
    window = node.partitions_def.time_window_for_partition_key(key)
    return window.start, window.end


def _read(node: AssetNode, key: Partition, parent: AssetKey) -> tuple[datetime, datetime]:
    """Return the window of a parent that a partition reads: its own, moved by the offsets of its mapping.

    Dagster counts the offsets in partitions of the parent, and takes none between different grains:
    https://docs.dagster.io/api/dagster/partitions#dagster.TimeWindowPartitionMapping
    """
    start, end = _bounds(node, key)
    mapping, definition = node.mappings.get(parent), node.partitions_def
    if (
        key is None
        or not isinstance(mapping, TimeWindowPartitionMapping)
        or not isinstance(definition, TimeWindowPartitionsDefinition)
    ):
        return start, end
    for _ in range(-mapping.start_offset):
        earlier = definition.get_prev_partition_window(start, respect_bounds=False)
        start = earlier.start if earlier else start
    for _ in range(mapping.end_offset):
        later = definition.get_next_partition_window(end, respect_bounds=False)
        end = later.end if later else end
    return start, end


def _partitions(node: AssetNode, days: TimeWindow) -> Sequence[Partition]:
    """Return the partitions that overlap the days: the month too of which only a few days are among them."""
    partitions_def = node.partitions_def
    if partitions_def is None:
        return [None]
    if not isinstance(partitions_def, TimeWindowPartitionsDefinition):
        return partitions_def.get_partition_keys()
    ends = partitions_def.get_first_partition_key(), partitions_def.get_last_partition_key()
    if ends[0] is None or ends[1] is None:
        return []
    oldest, newest = (partitions_def.time_window_for_partition_key(key) for key in ends if key)
    # Dagster lists the partitions that start in a window; one that is not longer may have started before it.
    longest = 2 * (oldest.end - oldest.start)
    start, end = max(days.start - longest, oldest.start), min(days.end, newest.end)
    if start >= end:
        return []
    keys = partitions_def.get_partition_keys_in_time_window(TimeWindow(start, end))
    return [key for key in keys if partitions_def.time_window_for_partition_key(key).end > days.start]


def _ranges(node: AssetNode, keys: Sequence[Partition]) -> Sequence[tuple[str, str]]:
    ranges: list[tuple[str, str]] = []
    last_end = None
    for key in keys:
        if key is not None:
            start, end = _bounds(node, key)
            ranges.append((ranges.pop()[0], key) if start == last_end else (key, key))
            last_end = end
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

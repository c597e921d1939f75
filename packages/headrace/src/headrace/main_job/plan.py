"""What the main job has to build: the asset partitions that are missing, changed, or older than an upstream."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from dagster import AssetKey, TimeWindow, TimeWindowPartitionMapping

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.code_versions import is_same_code
from headrace_staleness import AllWindows, Beginning, Changes, Made, Partition, Reading, Windows


@dataclass(frozen=True)
class History:
    """What Dagster's storage knows of one asset.

    Args:
        storage_ids: the storage id of the last materialization of each partition that has one; ids grow with time.
        began: when the build of that materialization began; with its own id where a partition is missing here. Of a
            view, that of the materialization in `code_since`.
        code_versions: the code version of the last materialization of each partition.
        code_since: of a view, the storage id of the first materialization with the code of the last one.
        sources: the content hash of the export file that each partition was loaded from, where it says one.
        failed: the partitions whose last build failed a blocking check.
    """

    storage_ids: Mapping[Partition, int] = field(default_factory=dict)
    began: Mapping[Partition, Beginning] = field(default_factory=dict)
    code_versions: Mapping[Partition, str] = field(default_factory=dict)
    code_since: int | None = None
    sources: Mapping[Partition, str] = field(default_factory=dict)
    failed: Collection[Partition] = ()

    def made(self) -> Mapping[Partition, Made]:
        """Return the last materialization of each partition that has one."""
        return {key: Made(id_, self.began.get(key)) for key, id_ in self.storage_ids.items()}

    def shown(self) -> Mapping[Partition, Made]:
        """Return what a view shows: what the first materialization with its code of now has made."""
        return {} if self.code_since is None else {None: Made(self.code_since, self.began.get(None))}


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
    earlier one that it looks back at by its partition mapping. What was recorded while it was being built is newer than
    what it has read, but for what the same run made. A view holds no data: its children look through it at
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
    made: dict[AssetKey, Mapping[Partition, Made]] = {}
    for node in nodes:
        known = history.get(node.key, History())
        own = known.made()
        made[node.key] = known.shown() if node.is_virtual else own
        changed = []
        for parent in () if node.is_virtual else ancestors(node, by_key):
            built: Sequence[Partition] = [None] if parent.key in rewritten else []
            if not parent.is_virtual:
                built = planned.get(parent.key, [])
            changed.append(changes(node, parent, windows, made[parent.key], built))
        keys = []
        for key in _partitions(node, days, windows):
            before = own.get(key)
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
                or any(change.newer(key, before) is not None for change in changed)
            ):
                keys.append(key)
        if keys:
            planned[node.key] = keys
    _bridge(nodes, planned)
    in_order = [node for node in nodes if node.key in planned]
    return BuildPlan(
        partitions={node.key: planned[node.key] for node in in_order},
        ranges={node.key: ranges_of(windows.of(node.partitions_def), planned[node.key]) for node in in_order},
    )


def changes(
    child: AssetNode,
    parent: AssetNode,
    windows: AllWindows,
    made: Mapping[Partition, Made],
    planned: Collection[Partition] = (),
) -> Changes:
    """Return when the partitions of a parent changed, for questions of those of a child, which reads by its mapping.

    Args:
        child: the child.
        parent: the parent.
        windows: the windows of the graph.
        made: the last materialization of each partition of the parent.
        planned: those of them that are built in any case.
    """
    # Dagster takes no offsets between different grains:
    # https://docs.dagster.io/api/dagster/partitions#dagster.TimeWindowPartitionMapping
    mapping = child.mappings.get(parent.key)
    start, end = 0, 0
    if isinstance(mapping, TimeWindowPartitionMapping):
        start, end = mapping.start_offset, mapping.end_offset
    theirs = windows.of(parent.partitions_def)
    reading = Reading(windows.of(child.partitions_def), theirs, start_offset=start, end_offset=end)
    return Changes(reading, theirs, made, planned)


def _partitions(node: AssetNode, days: TimeWindow, windows: AllWindows) -> Sequence[Partition]:
    """Return the partitions that overlap the days: the month too of which only a few days are among them."""
    if node.partitions_def is None:
        return [None]
    of_node = windows.of(node.partitions_def)
    if of_node is None:
        return node.partitions_def.get_partition_keys()
    wanted = of_node.overlapping(days.start, days.end)
    return of_node.keys[wanted.start : wanted.stop]


def ranges_of(windows: Windows | None, keys: Sequence[Partition]) -> Sequence[tuple[str, str]]:
    """Return the keys as ranges of neighbours in time; each is one by itself where they are no windows."""
    return windows.ranges(keys) if windows else [(key, key) for key in keys if key is not None]


def ancestors(node: AssetNode, by_key: Mapping[AssetKey, AssetNode]) -> Sequence[AssetNode]:
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

"""What the main job has to build: the asset partitions that are missing, changed, or older than an upstream."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from dagster import AssetKey, TimeWindow, TimeWindowPartitionMapping

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.code_versions import is_same_code
from headrace.main_job.windows import AllWindows, Windows

Partition = str | None
"""A partition key; None stands for an asset without partitions."""


class Beginning(NamedTuple):
    """When the build of a materialization began.

    Args:
        read_up_to: the newest storage id then.
        run: the run that made it: two may begin at one id.
    """

    read_up_to: int
    run: str = ""


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
    for node in nodes:
        known = history.get(node.key, History())
        changed = []
        for parent in () if node.is_virtual else ancestors(node, by_key):
            past = history.get(parent.key, History())
            if parent.is_virtual:
                since: dict[Partition, int] = {} if past.code_since is None else {None: past.code_since}
                built: Sequence[Partition] = [None] if parent.key in rewritten else []
            else:
                since, built = dict(past.storage_ids), planned.get(parent.key, [])
            changed.append(Changes(node, parent, built, since, windows, began=past.began))
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
                or any(change.is_newer(key, before, known.began.get(key, Beginning(before))) for change in changed)
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


class Changes:
    """When the partitions of a parent changed, for questions of the partitions of a child.

    Args:
        child: the child, whose partitions read the parent by its mapping, or where their windows overlap.
        parent: the parent.
        planned: its partitions that are built in any case.
        changed: the storage id of each of its partitions.
        windows: the windows of the graph.
        began: when the build of a partition began; with its own id where it is missing here.
    """

    def __init__(
        self,
        child: AssetNode,
        parent: AssetNode,
        planned: Iterable[Partition],
        changed: Mapping[Partition, int],
        windows: AllWindows,
        *,
        began: Mapping[Partition, Beginning],
    ) -> None:
        self._of_child, self._of_parent = windows.of(child.partitions_def), windows.of(parent.partitions_def)
        self._mapping = child.mappings.get(parent.key)
        when: dict[Partition, float] = {**changed, **dict.fromkeys(planned, math.inf)}
        keys: Sequence[Partition] = [*when]
        if self._of_parent:
            keys = self._of_parent.keys
        self._when = [when.get(key, -1) for key in keys]
        self._began = [began.get(key, when) for key, when in zip(keys, self._when, strict=True)]

    def is_newer(self, key: Partition, made: int, began: Beginning) -> bool:
        """Return whether a partition of the child reads one that is planned, or that was not there when it was built.

        Args:
            key: the partition of the child.
            made: its storage id.
            began: when its build began: what one run makes has one beginning, and is read within it.
        """
        read = self._read(key)
        newest = max(self._when[read], default=-1)
        if newest > made or newest <= began.read_up_to:
            return newest > made
        pairs = zip(self._when[read], self._began[read], strict=True)
        return any(when > began.read_up_to and theirs != began for when, theirs in pairs)

    def _read(self, key: Partition) -> slice:
        """Return the places of the parent's partitions that a partition of the child reads."""
        number = self._of_child.numbers.get(key) if self._of_child and key is not None else None
        if self._of_parent is None or self._of_child is None or number is None:
            return slice(None)
        if isinstance(self._mapping, TimeWindowPartitionMapping):
            # Dagster takes no offsets between different grains:
            # https://docs.dagster.io/api/dagster/partitions#dagster.TimeWindowPartitionMapping
            offsets = self._mapping.start_offset, self._mapping.end_offset
            start, end = self._of_child.moved(number, *offsets)
        elif self._of_child is self._of_parent:
            return slice(number, number + 1)
        else:
            start, end = self._of_child.starts[number], self._of_child.ends[number]
        read = self._of_parent.overlapping(start, end)
        return slice(read.start, read.stop)


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
    ranges: list[tuple[str, str]] = []
    last_end = None
    for key in keys:
        if key is not None:
            number = windows.numbers[key] if windows else None
            follows = windows is not None and number is not None and windows.starts[number] == last_end
            ranges.append((ranges.pop()[0], key) if follows else (key, key))
            last_end = windows.ends[number] if windows is not None and number is not None else None
    return ranges


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

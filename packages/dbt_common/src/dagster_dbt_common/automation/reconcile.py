"""Which partitions are older than what they are made from: compares storage ids, and nothing else.

A materialization's storage id grows with each event of the instance. A partition is behind when an upstream partition
that it reads has a newer id than it has itself, whatever the automation conditions knew of it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from dagster import AssetKey, TimeWindowPartitionsDefinition

Partition = str | None
"""A partition's key; None for an asset without partitions."""


@dataclass(frozen=True)
class Made:
    """The latest materialization of a partition.

    Args:
        id: its storage id.
        read_up_to: the newest storage id when its build began; its own where nobody recorded that.
        run: the run that made it: two may begin at one id.
    """

    id: int
    read_up_to: int
    run: str = ""

    def is_newer_than(self, reader: Made | None) -> bool:
        """Return whether a reader of this was made before it, or began before it was there.

        What one run makes has one beginning, and is read within the run.
        """
        if reader is None or self.id > reader.id:
            return True
        return self.id > reader.read_up_to and (self.read_up_to, self.run) != (reader.read_up_to, reader.run)


@dataclass(frozen=True)
class History:
    """What an instance knows of the assets.

    Args:
        made: the latest materialization of each partition of each asset.
        unsaid: the assets that have partitions which their reader's project does not say: of these, `made` has only
            the latest one, under None.
    """

    made: Mapping[AssetKey, Mapping[Partition, Made]]
    unsaid: frozenset[AssetKey] = frozenset()


@dataclass(frozen=True)
class Stored:
    """An asset as far as storage ids go.

    Args:
        key: its key.
        partitions_def: its partitions.
    """

    key: AssetKey
    partitions_def: TimeWindowPartitionsDefinition | None = None


@dataclass(frozen=True)
class Follower:
    """An asset that follows its upstreams by itself.

    Args:
        asset: the asset.
        upstreams: the tables and sources that it reads, directly or through views; none for a seed.
        views: the views with tests that it reads through, which it waits for.
        lookback: how many earlier partitions of an upstream of the same partitions it reads.
        last_only: whether, without partitions itself, it reads only the last partition of its upstreams.
        schedule: the cron and time zone at whose ticks it follows; None for at once.
        only_missing: whether it is behind only where it is missing, as a view without tests is.
        is_finer: whether a partition of an upstream is several of its own.
    """

    asset: Stored
    upstreams: Sequence[Stored]
    views: Sequence[AssetKey] = ()
    lookback: int = 0
    last_only: bool = False
    schedule: tuple[str, str] | None = None
    only_missing: bool = False
    is_finer: bool = False

    def reads(self, partition: Partition, upstream: Stored, calendars: Calendars) -> Sequence[Partition]:
        """Return the upstream partitions that a partition reads, of those that exist by now."""
        if upstream.partitions_def is None:
            return [None]
        if self.asset.partitions_def is None or partition is None:
            keys = calendars.of(upstream.partitions_def).keys
            return keys[-1:] if self.last_only else keys
        same = self.asset.partitions_def == upstream.partitions_def
        if same and not self.lookback:
            return [partition]
        mine, theirs = calendars.of(self.asset.partitions_def), calendars.of(upstream.partitions_def)
        place = mine.places[partition]
        first = max(0, place - self.lookback) if same else place
        return theirs.overlapping(mine.starts[first], mine.ends[place])


@dataclass(frozen=True)
class Behind:
    """What of an asset is behind.

    Args:
        partitions: for each partition that is, and that may be built now, the newest storage id that it reads.
        blocked: the partitions that wait for an upstream that is behind. One that is
            missing and lacks an upstream is in neither: it may lack it for ever, and nothing has to wait for it.
    """

    partitions: Mapping[Partition, int]
    blocked: frozenset[Partition]

    @property
    def mark(self) -> str:
        """Return a digest that stays as long as exactly this is behind."""
        text = json.dumps(sorted((str(partition), newest) for partition, newest in self.partitions.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def all_behind(followers: Sequence[Follower], history: History, calendars: Calendars) -> Mapping[AssetKey, Behind]:
    """Return what is behind, by asset; an asset of which nothing is, is left out.

    Args:
        followers: the assets, each after what it is made from.
        history: what was made, of their upstreams too.
        calendars: what partitions there are.
    """
    found: dict[AssetKey, Behind] = {}
    for follower in followers:
        behind = _behind(follower, history, found, calendars)
        if behind.partitions or behind.blocked:
            found[follower.asset.key] = behind
    return found


def _behind(follower: Follower, history: History, found: Mapping[AssetKey, Behind], calendars: Calendars) -> Behind:
    own = history.made.get(follower.asset.key, {})
    waits_for_view = any(view in found for view in follower.views)
    partitions: dict[Partition, int] = {}
    blocked = set()
    definition = follower.asset.partitions_def
    # Of unsaid partitions nobody can tell which one was updated: these are left to the conditions.
    upstreams = [each for each in follower.upstreams if definition is None or each.key not in history.unsaid]
    for partition in calendars.of(definition).keys if definition else [None]:
        mine = own.get(partition)
        if mine is not None and follower.only_missing:
            continue
        newer, complete, waits = [] if follower.upstreams else [0] * (mine is None), True, waits_for_view
        for upstream in upstreams:
            theirs = history.made.get(upstream.key, {})
            read = follower.reads(partition, upstream, calendars)
            there = [theirs[each] for each in read if each in theirs]
            newer += [made.id for made in there if made.is_newer_than(mine)]
            complete = complete and bool(there)
            above = found.get(upstream.key)
            if above is not None:
                waits = waits or any(each in above.partitions or each in above.blocked for each in read)
        if waits:
            blocked.add(partition)
        elif newer and complete:
            partitions[partition] = max(newer)
    return Behind(partitions, frozenset(blocked))


class Calendars:
    """The partitions of definitions as they are now; to list 25,000 hours takes a second, so they are kept."""

    def __init__(self) -> None:
        self._known: dict[TimeWindowPartitionsDefinition, Calendar] = {}

    def of(self, definition: TimeWindowPartitionsDefinition) -> Calendar:
        """Return the partitions of a definition; the same until `refresh`."""
        if definition not in self._known:
            self._known[definition] = Calendar(definition)
        return self._known[definition]

    def refresh(self) -> None:
        """Forget the definitions that have a partition more by now."""
        for definition, calendar in list(self._known.items()):
            if definition.get_last_partition_key() != (calendar.keys[-1] if calendar.keys else None):
                del self._known[definition]


class Calendar:
    """The partitions of a definition, from the first one to the last one that exists.

    Args:
        definition: the definition.
    """

    def __init__(self, definition: TimeWindowPartitionsDefinition) -> None:
        self.keys: Sequence[Partition] = [*definition.get_partition_keys()]
        self._definition = definition

    @cached_property
    def places(self) -> Mapping[Partition, int]:
        """Return the place of each key, from 0."""
        return {key: place for place, key in enumerate(self.keys)}

    @cached_property
    def starts(self) -> Sequence[float]:
        """Return where each window begins, in seconds since the epoch."""
        return [self._definition.time_window_for_partition_key(str(key)).start.timestamp() for key in self.keys]

    @cached_property
    def ends(self) -> Sequence[float]:
        """Return where each window ends, in seconds since the epoch: where the next one begins."""
        last = self.keys[-1:]
        return [
            *self.starts[1:],
            *(self._definition.time_window_for_partition_key(str(key)).end.timestamp() for key in last),
        ]

    def overlapping(self, start: float, end: float) -> Sequence[Partition]:
        """Return the keys of the windows that overlap `[start, end)`."""
        return self.keys[bisect_right(self.ends, start) : bisect_left(self.starts, end)]

    def ranges(self, wanted: Collection[Partition]) -> Iterator[tuple[str, str]]:
        """Yield the first and the last key of each run of neighbours among the wanted ones."""
        start = None
        for place, key in enumerate(self.keys):
            if key in wanted:
                start = start or key
                if place + 1 == len(self.keys) or self.keys[place + 1] not in wanted:
                    yield str(start), str(key)
                    start = None

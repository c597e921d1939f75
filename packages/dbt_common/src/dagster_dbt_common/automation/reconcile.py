"""Which assets are behind what they are made from, and which of them may be built now.

Whether a partition is older than what it reads, `headrace_staleness` says, whatever the automation conditions knew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace_staleness import Changes, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import AssetKey, TimeWindowPartitionsDefinition

    from headrace_staleness import AllWindows, Made, Partition


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

    def reading(self, upstream: Stored, windows: AllWindows) -> Reading:
        """Return which partitions of an upstream a partition reads."""
        mine, theirs = windows.of(self.asset.partitions_def), windows.of(upstream.partitions_def)
        back = self.lookback if mine is theirs else 0
        return Reading(mine, theirs, start_offset=-back, last_only=self.last_only)


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


def all_behind(followers: Sequence[Follower], history: History, windows: AllWindows) -> Mapping[AssetKey, Behind]:
    """Return what is behind, by asset; an asset of which nothing is, is left out.

    Args:
        followers: the assets, each after what it is made from.
        history: what was made, of their upstreams too.
        windows: those of the partitions that there are.
    """
    found: dict[AssetKey, Behind] = {}
    for follower in followers:
        behind = _behind(follower, history, found, windows)
        if behind.partitions or behind.blocked:
            found[follower.asset.key] = behind
    return found


def _behind(follower: Follower, history: History, found: Mapping[AssetKey, Behind], windows: AllWindows) -> Behind:
    own = history.made.get(follower.asset.key, {})
    waits_for_view = any(view in found for view in follower.views)
    partitions: dict[Partition, int] = {}
    blocked = set()
    of_asset = windows.of(follower.asset.partitions_def)
    # Of unsaid partitions nobody can tell which one was updated: these are left to the conditions.
    upstreams = [each for each in follower.upstreams if of_asset is None or each.key not in history.unsaid]
    read = []
    for each in upstreams:
        reading, made = follower.reading(each, windows), history.made.get(each.key, {})
        read.append((each, Changes(reading, windows.of(each.partitions_def), made)))
    alone: Sequence[Partition] = [None]
    for partition in of_asset.keys if of_asset else alone:
        mine = own.get(partition)
        if mine is not None and follower.only_missing:
            continue
        newer = [] if follower.upstreams else [0] * (mine is None)
        waits = waits_for_view
        for upstream, changes in read:
            newest = changes.newer(partition, mine)
            newer += [] if newest is None else [int(newest)]
            above = found.get(upstream.key)
            if above is not None:
                of_it = changes.read(partition)
                waits = waits or any(one in above.partitions or one in above.blocked for one in of_it)
        if waits:
            blocked.add(partition)
        elif newer and all(changes.is_there(partition) for _, changes in read):
            partitions[partition] = max(newer)
    return Behind(partitions, frozenset(blocked))

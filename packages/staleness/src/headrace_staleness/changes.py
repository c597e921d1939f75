"""Whether a partition of an upstream is newer than what was made from it, by storage ids and nothing else.

A materialization's storage id grows with each event of the instance. A partition is behind when an upstream partition
that it reads has a newer id than it has itself, or was recorded while it was being built.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from headrace_staleness.reading import Reading
from headrace_staleness.windows import Windows

Partition = str | None
"""A partition key; None stands for an asset without partitions."""

_NEVER = -1


class Beginning(NamedTuple):
    """When the build of a materialization began.

    Args:
        read_up_to: the newest storage id then.
        run: the run that made it: two may begin at one id.
    """

    read_up_to: int
    run: str = ""


class Made(NamedTuple):
    """The latest materialization of a partition.

    Args:
        id: its storage id.
        began: when its build began: what one run makes has one beginning, and is read within it. None where nobody
            recorded that, as of a loader: it has read all that was there before itself.
    """

    id: int
    began: Beginning | None = None


class Changes:
    """When the partitions of an upstream changed, for questions of the partitions of its reader.

    Args:
        reading: which of them a partition of the reader reads.
        upstream: the windows of the upstream; None where it has none.
        made: the latest materialization of each of its partitions.
        planned: its partitions that are built in any case, and so are newer than all.
    """

    def __init__(
        self,
        reading: Reading,
        upstream: Windows | None,
        made: Mapping[Partition, Made],
        planned: Collection[Partition] = (),
    ) -> None:
        self._reading = reading
        self._made = made
        without_windows: Sequence[Partition] = [*dict.fromkeys((*made, *planned))] or [None]
        self.keys = upstream.keys if upstream else without_windows
        """The partitions, in the order of the places that `Reading` says."""
        ids: dict[Partition, float] = {key: each.id for key, each in made.items()}
        ids.update(dict.fromkeys(planned, math.inf))
        self._ids = [ids.get(key, _NEVER) for key in self.keys]

    def read(self, key: Partition) -> Sequence[Partition]:
        """Return the partitions of the upstream that a partition of the reader reads, of those that exist."""
        return self.keys[self._reading.places(key)]

    def is_there(self, key: Partition) -> bool:
        """Return whether any of what a partition reads was made, or is planned."""
        return max(self._ids[self._reading.places(key)], default=_NEVER) > _NEVER

    def newer(self, key: Partition, reader: Made | None) -> float | None:
        """Return the newest id of what a partition reads, and had not read when it was made; None where it has all.

        Args:
            key: the partition of the reader.
            reader: its latest materialization; None where it has none.
        """
        read = self._reading.places(key)
        newest = max(self._ids[read], default=_NEVER)
        if newest == _NEVER:
            return None
        if reader is None or newest > reader.id:
            return newest
        began = reader.began
        if began is None or newest <= began.read_up_to:
            return None
        # Recorded while the reader was being built; but what the reader's own run made, it has read.
        found = (self._made[key] for key in self.keys[read] if key in self._made)
        return max((made.id for made in found if made.id > began.read_up_to and made.began != began), default=None)

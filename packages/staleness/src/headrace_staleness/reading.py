"""Which partitions of an upstream a partition of its reader reads."""

from headrace_staleness.windows import Windows


class Reading:
    """What the partitions of an asset read of one upstream.

    A partition reads those that its window overlaps. Where both have the same partitions, it may look back at earlier
    ones. An asset without partitions reads all of them, or the last one; an upstream without partitions is read whole.

    Args:
        reader: the windows of the asset; None where it has none.
        upstream: those of the upstream; the same object where the definitions are equal.
        start_offset: by how many of its partitions the window that is read begins later, as in Dagster's
            `TimeWindowPartitionMapping`: -6 reads six earlier ones too.
        end_offset: by how many it ends later.
        last_only: whether an asset without partitions reads the last one alone.
    """

    def __init__(
        self,
        reader: Windows | None,
        upstream: Windows | None,
        *,
        start_offset: int = 0,
        end_offset: int = 0,
        last_only: bool = False,
    ) -> None:
        self._reader, self._upstream = reader, upstream
        self._offsets = start_offset, end_offset
        self._is_moved = self._offsets != (0, 0)
        self._last_only = last_only

    def places(self, key: str | None) -> slice:
        """Return the places, in the order of time, of the upstream's partitions that a partition reads.

        Of an upstream without windows it is all that there is; so too for a key that is no partition by now.
        """
        number = self._reader.numbers.get(key) if self._reader else None
        if self._upstream is None or self._reader is None or number is None:
            return slice(-1, None) if self._last_only and self._upstream is not None else slice(None)
        if self._is_moved:
            read = self._upstream.overlapping(*self._reader.moved(number, *self._offsets))
        elif self._reader is self._upstream:
            return slice(number, number + 1)
        else:
            read = self._upstream.overlapping(self._reader.starts[number], self._reader.ends[number])
        return slice(read.start, read.stop)

"""The windows of a partitions definition, sorted once; what overlaps another window is then found by bisection."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

from dagster import PartitionsDefinition, TimeWindow, TimeWindowPartitionsDefinition

_PERIODS = {"HOURLY": timedelta(hours=1), "DAILY": timedelta(days=1)}


class Windows:
    """The windows of all partitions that there are, in the order of time and in UTC; they do not overlap.

    Args:
        definition: windows of time.
    """

    def __init__(self, definition: TimeWindowPartitionsDefinition) -> None:
        self._definition = definition
        first, last = definition.get_first_partition_window(), definition.get_last_partition_window()
        period = _period(definition)
        if first is None or last is None:
            self.keys: Sequence[str] = []
            self.starts: Sequence[datetime] = []
            self.ends: Sequence[datetime] = []
        elif period is None:
            self.keys = definition.get_partition_keys_in_time_window(TimeWindow(first.start, last.end))
            windows = [definition.time_window_for_partition_key(key) for key in self.keys]
            # To Python two datetimes of a zone are equal where its clock shows the same: in the doubled hour of autumn.
            self.starts = [one.start.astimezone(UTC) for one in windows]
            self.ends = [one.end.astimezone(UTC) for one in windows]
        else:
            # Dagster works each out by a cron iterator, and its key by strftime and strptime: 30 µs.
            start = first.start.astimezone(UTC)
            self.starts = [start + period * number for number in range((last.end - first.start) // period)]
            self.ends = [*self.starts[1:], last.end.astimezone(UTC)]
            self.keys = [start.strftime(definition.fmt) for start in self.starts]

    @cached_property
    def numbers(self) -> Mapping[str | None, int]:
        """Return the number of each key in the order of time."""
        return {key: number for number, key in enumerate(self.keys)}

    def overlapping(self, start: datetime, end: datetime) -> range:
        """Return the numbers of the windows that overlap another one, which is half-open."""
        return range(bisect_right(self.ends, start), bisect_left(self.starts, end))

    def ranges(self, keys: Iterable[str | None]) -> Sequence[tuple[str, str]]:
        """Return partitions as the first and the last key of each run of neighbours in time."""
        ranges: list[tuple[int, int]] = []
        for number in sorted(self.numbers[key] for key in keys if key in self.numbers):
            follows = ranges and ranges[-1][1] == number - 1 and self.ends[number - 1] == self.starts[number]
            ranges.append((ranges.pop()[0], number) if follows else (number, number))
        return [(self.keys[first], self.keys[last]) for first, last in ranges]

    def moved(self, number: int, start_offset: int, end_offset: int) -> tuple[datetime, datetime]:
        """Return a window whose ends are moved by partitions, also beyond the first and the last one that there is."""
        return self._start(number, start_offset), self._end(number, end_offset)

    def _start(self, number: int, offset: int) -> datetime:
        if 0 <= number + offset < len(self.keys):
            return self.starts[number + offset]
        start = self.starts[number]
        for _ in range(-offset):
            earlier = self._definition.get_prev_partition_window(start, respect_bounds=False)
            start = earlier.start.astimezone(UTC) if earlier else start
        return start

    def _end(self, number: int, offset: int) -> datetime:
        if 0 <= number + offset < len(self.keys):
            return self.ends[number + offset]
        end = self.ends[number]
        for _ in range(offset):
            later = self._definition.get_next_partition_window(end, respect_bounds=False)
            end = later.end.astimezone(UTC) if later else end
        return end


class AllWindows:
    """The windows of each definition of a graph as they are now, worked out once for all assets that have it."""

    def __init__(self) -> None:
        self._known: dict[PartitionsDefinition[str], Windows] = {}

    def of(self, definition: PartitionsDefinition[str] | None) -> Windows | None:
        """Return the windows of a definition; None where it has none."""
        if not isinstance(definition, TimeWindowPartitionsDefinition):
            return None
        if definition not in self._known:
            self._known[definition] = Windows(definition)
        return self._known[definition]

    def refresh(self) -> None:
        """Forget the definitions that have a partition more by now."""
        for definition, windows in list(self._known.items()):
            if definition.get_last_partition_key() != (windows.keys[-1] if windows.keys else None):
                del self._known[definition]


def _period(definition: TimeWindowPartitionsDefinition) -> timedelta | None:
    """Return the length of each window, where all of them have one: hours and days of UTC, without exclusions."""
    has_one = definition.timezone == "UTC" and not definition.exclusions
    return _PERIODS.get(definition.schedule_type.value) if has_one and definition.schedule_type else None

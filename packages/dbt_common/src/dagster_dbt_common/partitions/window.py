"""The half-open time window `[start, end)` of the partitions that a run builds, as dbt needs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import MultiPartitionsDefinition, TimeWindowPartitionsDefinition

from dagster_dbt_common.errors import WindowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import AssetExecutionContext


@dataclass(frozen=True)
class Window:
    """A half-open window of time: a row belongs to it where `start <= time < end`.

    Args:
        start: the first instant, with a time zone.
        end: the first instant after the window, with the same time zone.
        by_date: whether both ends are midnights in that zone, and dbt gets them as dates. False for grains that
            are finer than a day.

    Raises:
        WindowError: an end has no time zone, the window is empty, or `by_date` and an end is not a midnight.
    """

    start: datetime
    end: datetime
    by_date: bool = True

    def __post_init__(self) -> None:
        for name, instant in (("start", self.start), ("end", self.end)):
            if instant.tzinfo is None:
                raise WindowError(f"window {name} {instant.isoformat()} has no time zone: give it one")
            if self.by_date and (instant.hour, instant.minute, instant.second, instant.microsecond) != (0, 0, 0, 0):
                raise WindowError(f"window {name} {instant.isoformat()} is not a midnight: use by_date=False")
        if self.start.astimezone(UTC) >= self.end.astimezone(UTC):
            raise WindowError(f"window [{self.start.isoformat()}, {self.end.isoformat()}) is empty")

    @classmethod
    def from_context(cls, context: AssetExecutionContext) -> Window | None:
        """Return the window of a run's partitions, in the zone of their definition; None where it has none.

        A run over a range of partitions has one window, from the start of the first to the end of the last.

        Raises:
            WindowError: the run's partitions are not of a time-window definition, or there are none such yet, which the
                API of Dagster launches.
        """
        partitions_def = context.assets_def.partitions_def
        if partitions_def is None or not (context.has_partition_key or context.has_partition_key_range):
            return None
        if isinstance(partitions_def, MultiPartitionsDefinition) or not isinstance(
            partitions_def, TimeWindowPartitionsDefinition
        ):
            raise WindowError(f"partitions of {context.assets_def.key} are not windows of time: {partitions_def}")
        start, end = context.partition_time_window
        first, last = partitions_def.get_first_partition_window(), partitions_def.get_last_partition_window()
        if first is None or last is None or start < first.start or end > last.end:
            there = f"they begin at {first.start} and end at {last.end}" if first and last else "there is none yet"
            raise WindowError(f"from {start} to {end} there are no partitions: {there}")
        return cls(start, end, by_date=is_by_date(partitions_def))

    def vars(self) -> Mapping[str, str]:
        """Return the dbt variables `min_date` and `max_date` (exclusive) that the macro `in_window` reads.

        ISO dates in the window's zone for a grain of a day and coarser, ISO timestamps with an offset for finer ones.
        `window_timezone` names the zone: an ephemeral model and a test, which have no partitions of their own, read the
        dates in it.
        """
        zone = getattr(self.start.tzinfo, "key", "UTC")
        return {"min_date": self._text(self.start), "max_date": self._text(self.end), "window_timezone": zone}

    def event_time_flags(self) -> Sequence[str]:
        """Return dbt's flags for microbatch models. dbt reads both as UTC and takes no offset.

        Source: https://docs.getdbt.com/docs/build/incremental-microbatch (event time is UTC).
        """
        return ["--event-time-start", _naive_utc(self.start), "--event-time-end", _naive_utc(self.end)]

    def _text(self, instant: datetime) -> str:
        return instant.date().isoformat() if self.by_date else instant.isoformat()


def is_by_date(partitions_def: TimeWindowPartitionsDefinition) -> bool:
    """Whether every partition starts at a midnight of its zone: the cron has one minute and one hour, both 0."""
    minute, hour = partitions_def.cron_schedule.split()[:2]
    return (minute, hour) == ("0", "0")


def _naive_utc(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")

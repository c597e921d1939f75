"""Whether a consumer's partitions find those of what it reads, by the rules of Dagster's partition mappings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from headrace.contracts.contract import Asked, NamedPartitions, PartitionMapping, Partitions, TimePartitions

if TYPE_CHECKING:
    from datetime import datetime

    from dagster import TimeWindow


@dataclass(frozen=True)
class Misfit:
    """Why partitions do not fit.

    Args:
        kind: what has to change: the zone, the start, or the grain (with the end and the kind of partitions).
        reason: a clause that says what is and what is asked for.
    """

    kind: Literal["timezone", "start", "grain"]
    reason: str


def misfit(asked: Asked, promised: Partitions | None) -> Misfit | None:
    """Return why a reader's partitions do not map to those that a producer promises; None where they do.

    Dagster maps windows of one zone, of whatever grains: each to those that it overlaps, or with offsets, which shift
    by partitions and so mean something between equal grains only. Where such a window does not exist it raises an
    error. A mapping that allows that, and one through views, reads what there is: it may begin before the producer
    does, as the first month of a daily table that starts on the 15th, but no partition may read nothing at all.
    """
    reader, mapping = asked.partitions, asked.mapping
    if reader is None or promised is None:
        if reader and mapping.kind == "time_window":
            return Misfit("grain", f"has no partitions, and {asked.by} reads it by {_grain(reader)}")
        return None
    if mapping.kind in ("all", "last", "other"):
        return None
    if isinstance(reader, TimePartitions) and isinstance(promised, TimePartitions):
        return _windows_misfit(reader, mapping, promised, asked.by)
    # How multi-dimensional partitions meet is the location's to say, and Dagster's to refuse when it loads.
    if _is_multi(reader) or _is_multi(promised) or _named_fit(reader, promised):
        return None
    return Misfit("grain", f"is by {_grain(promised)}, and {asked.by} reads it by {_grain(reader)}")


def expectation_misfit(expected: Partitions, promised: Partitions | None) -> Misfit | None:
    """Return why a producer's partitions are not those that a consumer says they are; None where they are.

    The same grain and zone, from no later than the consumer says, and no shorter.
    """
    if not isinstance(expected, TimePartitions) or not isinstance(promised, TimePartitions):
        if _named_fit(expected, promised):
            return None
        return Misfit("grain", f"is by {_grain(promised)}, and is expected by {_grain(expected)}")
    if expected.timezone != promised.timezone:
        return Misfit("timezone", f"is in {promised.timezone}, and is expected in {expected.timezone}")
    if expected.grain != promised.grain or expected.end_offset > promised.end_offset:
        return Misfit("grain", f"is by {_grain(promised)}, and is expected by {_grain(expected)}")
    if _first(expected) < _first(promised):
        return Misfit("start", f"starts at {_at(_first(promised))}, and is expected from {_at(_first(expected))}")
    return _end_misfit(expected, promised, "the consumer")


def _windows_misfit(
    reader: TimePartitions, mapping: PartitionMapping, promised: TimePartitions, by: str
) -> Misfit | None:
    if reader.timezone != promised.timezone:
        return Misfit("timezone", f"is in {promised.timezone}, and {by} reads it in {reader.timezone}")
    if reader.grain != promised.grain and (mapping.start_offset or mapping.end_offset):
        return Misfit("grain", f"is by {promised.grain}, and {by} looks back on it by {reader.grain}")
    windows = _Windows(reader)
    start, end = windows.first()
    # Dagster cuts what an offset adds before the producer's start.
    needed = windows.shifted(start, max(mapping.start_offset, 0))
    if mapping.allow_nonexistent or mapping.kind == "virtual":
        begins = windows.shifted(end, mapping.end_offset) > _first(promised)
    else:
        begins = needed >= _first(promised)
    late = (
        None if begins else Misfit("start", f"starts at {_at(_first(promised))}, and {by} reads it from {_at(needed)}")
    )
    return late or _end_misfit(reader, promised, by)


def _end_misfit(reader: TimePartitions, promised: TimePartitions, by: str) -> Misfit | None:
    if promised.end is None or (reader.end is not None and reader.end <= promised.end):
        return None
    return Misfit("grain", f"ends at {_at(promised.end)}, and {by} reads on")


def _named_fit(reader: Partitions, promised: Partitions | None) -> bool:
    if not isinstance(reader, NamedPartitions) or not isinstance(promised, NamedPartitions):
        return False
    return reader.kind == promised.kind and set(reader.names) <= set(promised.names)


def _is_multi(partitions: Partitions) -> bool:
    return partitions.kind == "multi"


def _grain(partitions: Partitions | None) -> str:
    match partitions:
        case TimePartitions(grain=grain, end_offset=offset):
            return f"{grain}, with {offset} not over yet" if offset else grain
        case NamedPartitions(kind=kind):
            return f"{kind} keys"
    return "no partitions"


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d}" if (instant.hour, instant.minute) == (0, 0) else f"{instant:%Y-%m-%dT%H:%M}"


class _Windows:
    """The windows of a definition, without its bounds."""

    def __init__(self, partitions: TimePartitions) -> None:
        # Dagster takes a second to import, and many a deploy has no such partitions.
        from dagster import TimeWindowPartitionsDefinition  # noqa: PLC0415

        from headrace.locations.script import GRAINS  # noqa: PLC0415

        crons = {grain: cron for cron, grain in GRAINS.items()}
        self._definition = TimeWindowPartitionsDefinition(
            start=partitions.start,
            fmt="%Y-%m-%dT%H:%M:%S",
            timezone=partitions.timezone,
            cron_schedule=crons.get(partitions.grain, partitions.grain),
        )

    def first(self) -> tuple[datetime, datetime]:
        return self._window(self._definition.get_next_partition_window(self._definition.start, respect_bounds=False))

    def shifted(self, boundary: datetime, count: int) -> datetime:
        """Return the boundary that is some windows later than another one, or earlier where it is negative."""
        for _ in range(count):
            boundary = self._window(self._definition.get_next_partition_window(boundary, respect_bounds=False))[1]
        for _ in range(-count):
            boundary = self._window(self._definition.get_prev_partition_window(boundary, respect_bounds=False))[0]
        return boundary

    @staticmethod
    def _window(found: TimeWindow | None) -> tuple[datetime, datetime]:
        assert found is not None  # noqa: S101 - windows without bounds go on
        return found.start, found.end


def _first(partitions: TimePartitions) -> datetime:
    return _Windows(partitions).first()[0]

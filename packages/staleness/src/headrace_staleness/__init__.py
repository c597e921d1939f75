"""Which partitions are older than what they are made from: the one core of a main job's plan and of the automation."""

from headrace_staleness.changes import Beginning, Changes, Made, Partition
from headrace_staleness.reading import Reading
from headrace_staleness.windows import AllWindows, Windows

__all__ = ["AllWindows", "Beginning", "Changes", "Made", "Partition", "Reading", "Windows"]

"""What Dagster's history costs: an event, a year of hours in one run, and the plan over years of which all is fresh."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.processes import Sample, environment, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OURS, DAGSTER = "ours", "dagster"
EVENT_HOURS, YEAR_HOURS = 1_000, 8_760
EVENT = f"a materialization, in a run of {EVENT_HOURS:,}, in ms"
YEAR = f"a year by hours ({YEAR_HOURS:,}) in one run, events alone"
PLANS: Mapping[str, int] = {
    "the plan, 3 years of days and hours (31,823 partitions), all fresh": 3,
    "the plan, 10 years (106,031 partitions), all fresh": 10,
}
THREE, TEN = PLANS
TARGETS: Mapping[str, float] = {EVENT: 1.0, YEAR: 12.0, THREE: 0.5, TEN: 1.5}
"""The most that ours may be, in the row's unit."""

# What a workspace of Headrace sets for its processes.
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    OURS: {"DAGSTER_EVENT_BATCH_SIZE": "1000", "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true"},
    DAGSTER: {},
}


@dataclass
class HistoryMeasurements:
    """The samples, by row and by whose event log it is.

    Args:
        rounds: how many samples of each.
        progress: called with a line of text before each measurement.
    """

    rounds: int
    progress: Callable[[str], None]
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def measure(self) -> None:
        """Take all samples.

        Raises:
            ChildFailedError: a measured process failed.
        """
        for _ in range(self.rounds):
            for whose in (OURS, DAGSTER):
                self.progress(f"{EVENT}: {whose}")
                seconds = self._events(whose, EVENT_HOURS)
                each = 1000 * (seconds["range"] - seconds["one"]) / (EVENT_HOURS - 1)
                self.samples[EVENT, whose].append(Sample(each))
            for row, years in PLANS.items():
                self.progress(row)
                (said,) = run("bench.plans", str(years), env=environment()).said
                self.samples[row, OURS].append(Sample(said["seconds"]))
            self.progress(f"{YEAR}: {OURS}")
            self.samples[YEAR, OURS].append(Sample(self._events(OURS, YEAR_HOURS)["range"]))

    @staticmethod
    def _events(whose: str, hours: int) -> Mapping[str, float]:
        said = run("bench.events", whose, str(hours), env=environment(**_SETTINGS[whose])).said
        return {name: seconds for each in said for name, seconds in each.items()}

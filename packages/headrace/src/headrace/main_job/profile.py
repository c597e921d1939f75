"""Where the seconds of a main job went, for whoever wants it faster. It is made before anything else is imported."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.main_job.report import RunReport


class Profile:
    """Takes the time of the stages of a command; it begins with the stage `start`."""

    def __init__(self) -> None:
        self._stages: dict[str, float] = {}
        self._stage, self._since = "start", time.monotonic()

    def begin(self, stage: str) -> None:
        """End the stage that goes, and begin another one, or one again."""
        now = time.monotonic()
        self._stages[self._stage] = self._stages.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def seconds(self, report: RunReport | None) -> Mapping[str, float]:
        """Return the seconds of each stage until now, and what of the build is told by the events of its runs.

        Keys: `start` is the imports, and the locations until they are served; `plan`; `build`; of it `build.idle`, in
        which no run was going, `build.launch`, from a run's request to its first step, `build.steps`, the steps without
        the time of their own statements, `build.statements`, and `build.finish`, from a run's last step to its end; and
        `end`. Runs that go at once count each: what is below `build` may be more than it.
        """
        self.begin(self._stage)
        found = {}
        for name, spent in self._stages.items():
            found[name] = spent
            if name == "build" and report:
                found.update(_of_runs(report, spent))
        return {name: round(spent, 3) for name, spent in found.items()}


def _of_runs(report: RunReport, build: float) -> Mapping[str, float]:
    statements = sum(asset.seconds for asset in report.assets.values())
    runs = [times for times in report.times.values() if times.ended is not None]
    busy = sum(end - start for start, end in _joined([(run.requested, run.ended or 0.0) for run in runs]))
    steps = sum(run.last_step - run.first_step for run in runs if run.first_step and run.last_step)
    return {
        "build.idle": max(0.0, build - busy),
        "build.launch": sum(run.first_step - run.requested for run in runs if run.first_step),
        "build.steps": max(0.0, steps - statements),
        "build.statements": statements,
        "build.finish": sum(run.ended - run.last_step for run in runs if run.ended and run.last_step),
    }


def sum_of_stages(seconds: Mapping[str, float]) -> float:
    """Return the time of all stages."""
    return sum(spent for name, spent in seconds.items() if "." not in name)


def _joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return spans of time that overlap as one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined

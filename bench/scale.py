"""What a long history costs a day: the SQL of one day's models, and that of its tests, over 10,000 days and over 100.

Each day has a thousand rows of the source. The SQL is what dbt sent for the newest day, in DuckDB and nothing else, so
that what dbt takes to start hides nothing. Each sample builds that day again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.generate import DAILY, write_lake, write_project
from bench.processes import Sample, run
from bench.replay import statements
from bench.sites import DBT, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SHORT, LONG = "100 days", "10,000 days"
DAYS: Mapping[str, int] = {SHORT: 100, LONG: 10_000}
ROWS_A_DAY = 1_000
MODELS = "the SQL of one day's models"
TESTS = "the SQL of one day's tests"
ROWS: Mapping[str, float] = {MODELS: 1.2, TESTS: 1.3}
"""The rows, and how many times the short history's seconds those of the long one may be."""

_COMMANDS: Mapping[str, str] = {MODELS: "run", TESTS: "test"}


@dataclass
class ScaleMeasurements:
    """The samples, by row and by history.

    Args:
        folder: a folder for the lakes and the warehouses.
        rounds: how many samples of each.
        progress: called with a line of text before each measurement.
    """

    folder: Path
    rounds: int
    progress: Callable[[str], None]
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def measure(self) -> None:
        """Take all samples.

        Raises:
            ChildFailedError: a measured process failed.
        """
        sites = {history: self._prepared(history) for history in DAYS}
        for _ in range(self.rounds):
            for row in ROWS:
                for history, site in sites.items():
                    self.progress(f"{row}: {history}")
                    saved = str(site.folder / f"{_COMMANDS[row]}.json")
                    (said,) = run("bench.replay", saved, str(site.warehouse), env=site.env()).said
                    self.samples[row, history].append(Sample(float(said["seconds"])))

    def _prepared(self, history: str) -> Site:
        self.progress(f"prepare: {history}")
        folder, last = self.folder / history, DAYS[history] - 1
        site = Site(DBT, folder, folder / "lake")
        (folder / "home").mkdir(parents=True)
        write_lake(site.lake, days=last + 1, rows=ROWS_A_DAY)
        write_project(site.project, models=len(DAILY))
        run("dbt.cli.main", *site.dbt_args(0, last, select=("stores", *DAILY)), env=site.env())
        in_json = ("--log-level-file", "debug", "--log-format-file", "json")
        for command in _COMMANDS.values():
            log = site.folder / "logs" / "dbt.log"
            log.unlink(missing_ok=True)
            run("dbt.cli.main", *site.dbt_args(last, last, *in_json, command=command), env=site.env())
            (folder / f"{command}.json").write_text(json.dumps(statements(log)))
        return site

"""The rows of the benchmark: what is measured of each way, in rounds in which the ways take turns."""

from __future__ import annotations

import shutil
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.generate import DAILY
from bench.processes import Child, ChildFailedError, Sample, run
from bench.sites import DBT, DEPLOYED, HISTORY_DAYS, OURS, PLAIN, SQL, STOCK, STOCK_IN_PROCESS, Site, day

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PARTITION = "one partition, launch to end"
FURTHER = "a further partition, live process"
LAUNCHED = "one partition, launched where it is served"
RANGE = "365 partitions in one run"
COLD = "load, no manifest"
WARM = "load, with a manifest"
WARM_DEV = "load under dagster dev, with a manifest"
SERVERS = "the servers, with a run at a time"
LIVE = "the live process, start to exit"
ROWS = (PARTITION, LAUNCHED, FURTHER, RANGE, COLD, WARM, WARM_DEV)

RANGE_DAYS = 365
_TRIES = 20


@dataclass
class Measurements:
    """The samples of one size, by row and way.

    Args:
        sites: where each way runs.
        rounds: how many samples of each.
        progress: called with a line of text before each measurement.
    """

    sites: Mapping[str, Site]
    rounds: int
    progress: Callable[[str], None]
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, *, range_rounds: int) -> None:
        """Take all samples. The cold loads are first: they make the manifests that the rest needs.

        Args:
            range_rounds: how many samples of the range of a year.

        Raises:
            ChildFailedError: a measured process failed.
        """
        self._load(COLD, dev=True, cold=True)
        self._prepare_stock_in_process()
        self._load(WARM, dev=False)
        self._load(WARM_DEV, dev=True)
        self._partitions()
        self._launched()
        self._further_partitions()
        if range_rounds:
            self._ranges(range_rounds)

    def _load(self, row: str, *, dev: bool, cold: bool = False) -> None:
        for _ in range(self.rounds):
            for way in (STOCK, OURS):
                site = self.sites[way]
                if cold:
                    shutil.rmtree(site.project / "target", ignore_errors=True)
                self.progress(f"{row}: {way}")
                self._add(row, way, run("bench.load", site.module, env=site.env(dev=dev)).sample)

    def _prepare_stock_in_process(self) -> None:
        self.progress(f"prepare: {STOCK_IN_PROCESS}")
        site = self.sites[STOCK_IN_PROCESS]
        run("bench.load", site.module, env=site.env(dev=True))

    def _partitions(self) -> None:
        for number in range(HISTORY_DAYS, HISTORY_DAYS + self.rounds):
            for way in (STOCK, STOCK_IN_PROCESS, OURS, PLAIN):
                self._run_of_dagster(PARTITION, way, "--partition", day(number))
            self._dbt_alone(PARTITION, number, number)
            self._sql_alone()

    def _launched(self) -> None:
        """Launch a partition into servers that run; the first ones of ours load the location."""
        kinds = {STOCK: "dev", OURS: "dev", DEPLOYED: "deployed"}
        with ExitStack() as stack:
            children = {}
            for way, kind in kinds.items():
                self.progress(f"{LAUNCHED}: {way}, first")
                site = self.sites[way]
                children[way] = stack.enter_context(Child("bench.served", kind, site.module, env=site.env()))
                children[way].ask()
                for _ in range(_TRIES):
                    if children[way].ask(day(HISTORY_DAYS))["forked"] or way == STOCK:
                        break
            for number in range(self.rounds):
                for way in kinds:
                    self.progress(f"{LAUNCHED}: {way}")
                    answer = children[way].ask(day(HISTORY_DAYS + number))
                    if answer["forked"] != (way != STOCK):
                        raise ChildFailedError(
                            f"{LAUNCHED}: {way}: the run was{'' if answer['forked'] else ' not'} forked"
                        )
                    self._add(LAUNCHED, way, Sample(float(answer["seconds"])))
        for way in kinds:
            self._add(SERVERS, way, children[way].sample)

    def _further_partitions(self) -> None:
        ways = (STOCK, OURS, PLAIN)
        with ExitStack() as stack:
            children = {}
            for way in ways:
                self.progress(f"{FURTHER}: {way}, first")
                site = self.sites[way]
                children[way] = stack.enter_context(Child("bench.live", site.module, env=site.env()))
                children[way].ask()
                children[way].ask(day(HISTORY_DAYS + self.rounds))
            for number in range(self.rounds):
                for way in ways:
                    self.progress(f"{FURTHER}: {way}")
                    answer = children[way].ask(day(HISTORY_DAYS + self.rounds + 1 + number))
                    self._add(FURTHER, way, Sample(float(answer["seconds"])))
        for way in ways:
            self._add(LIVE, way, children[way].sample)

    def _ranges(self, rounds: int) -> None:
        days = f"{day(0)}...{day(RANGE_DAYS - 1)}"
        # No target reads stock's range, and a sample of it takes minutes: one shows its place.
        self._run_of_dagster(RANGE, STOCK, "--partition-range", days)
        for _ in range(rounds):
            for way in (OURS, PLAIN):
                self._run_of_dagster(RANGE, way, "--partition-range", days)
            self._dbt_alone(RANGE, 0, RANGE_DAYS - 1)

    def _run_of_dagster(self, row: str, way: str, *partitions: str) -> None:
        self.progress(f"{row}: {way}")
        site = self.sites[way]
        command = ("asset", "materialize", "--module-name", site.module, "--select", ",".join(DAILY), *partitions)
        self._add(row, way, run("dagster", *command, env=site.env()).sample)

    def _dbt_alone(self, row: str, first: int, last: int) -> None:
        self.progress(f"{row}: {DBT}")
        site = self.sites[DBT]
        self._add(row, DBT, run("dbt.cli.main", *site.dbt_args(first, last), env=site.env()).sample)

    def _sql_alone(self) -> None:
        self.progress(f"{PARTITION}: {SQL}")
        site = self.sites[SQL]
        done = run("bench.replay", str(site.saved_statements), str(site.warehouse), env=site.env())
        self._add(PARTITION, SQL, done.sample)
        self._add(FURTHER, SQL, Sample(float(done.said[0]["seconds"])))

    def _add(self, row: str, way: str, sample: Sample) -> None:
        self.samples[row, way].append(sample)

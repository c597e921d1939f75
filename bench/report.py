"""What the samples say: medians, ratios, and which of the project's targets are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import history, peer, scale
from bench.generate import DAILY
from bench.rows import (
    COLD,
    FURTHER,
    LAUNCHED,
    LIVE,
    PARTITION,
    RANGE,
    RANGE_DAYS,
    ROWS,
    SERVERS,
    WARM,
    WARM_DEV,
)
from bench.sites import DBT, DEPLOYED, OURS, PLAIN, SQL, STOCK, STOCK_IN_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bench.processes import Sample

Table = list[list[str]]

_WAYS = {STOCK: "(a) stock", STOCK_IN_PROCESS: "(a) in one process", OURS: "(b) ours", DBT: "(c) dbt", SQL: "(d) SQL"}
_COLUMNS = {**_WAYS, DEPLOYED: "(b) deployed", PLAIN: "dagster alone"}
_RATIOS = {"a/b": (STOCK, OURS), "a/b deployed": (STOCK, DEPLOYED), "b/c": (OURS, DBT), "b/d": (OURS, SQL)}
_SMALL, _LARGE = 12, 2000


@dataclass(frozen=True)
class Target:
    """A target of the project.

    Args:
        what: in words.
        limit: the most that it may be; None where that was not measured.
        measured: what it is; None where it was not measured.
        unit: `s`, `ms` or `x`.
    """

    what: str
    limit: float | None
    measured: float | None
    unit: str = "x"

    @property
    def met(self) -> str:
        """Return yes, no, or that it was not measured."""
        if self.measured is None or self.limit is None:
            return "not measured"
        return "yes" if self.measured <= self.limit else "no"


Samples = Mapping[tuple[str, str], Sequence["Sample"]]
"""The samples by row and way."""


class Results:
    """The samples of all sizes, and those that have no size.

    Args:
        sizes: for each number of models, the samples.
        beside_peer: those of the main job beside SQLMesh.
        of_history: those of Dagster's history.
        of_scale: those of a long history of rows.
    """

    def __init__(
        self,
        sizes: Mapping[int, Samples],
        *,
        beside_peer: Samples | None = None,
        of_history: Samples | None = None,
        of_scale: Samples | None = None,
    ) -> None:
        self._sizes = sizes
        self._peer = beside_peer or {}
        self._history = of_history or {}
        self._scale = of_scale or {}

    def seconds(self, models: int, row: str, way: str) -> float | None:
        """Return the median; dbt alone is the same process for a first and for a further partition."""
        return _median(self._samples(models, row, way))

    def ratio(self, models: int, row: str, way: str, other: str) -> float | None:
        """Return the ratio of two ways' medians."""
        return _divided(self.seconds(models, row, way), self.seconds(models, row, other))

    def event_seconds(self, models: int) -> float | None:
        """Return what Dagster alone takes for a year's events: its run of a year less its run of a day."""
        year, one_day = (self.seconds(models, row, PLAIN) for row in (RANGE, PARTITION))
        return year - one_day if year is not None and one_day is not None else None

    def targets(self) -> Sequence[Target]:
        """Return the targets with what was measured."""
        growth = _divided(self.seconds(_LARGE, PARTITION, OURS), self.seconds(_SMALL, PARTITION, OURS))
        launched = [
            target
            for models, limit in ((_SMALL, 0.12), (_LARGE, 0.06))
            for way, where in ((OURS, "dev"), (DEPLOYED, "deployed"))
            for target in (
                Target(f"{LAUNCHED}, {models} models, {where}", 1.5, self.seconds(models, LAUNCHED, way), "s"),
                Target(f"{LAUNCHED}, {models} models, {where}: b/a", limit, self.ratio(models, LAUNCHED, way, STOCK)),
            )
        ]
        targets = [
            *launched,
            Target(f"one partition, {_SMALL} models: b/a", 0.33, self.ratio(_SMALL, PARTITION, OURS, STOCK)),
            Target(f"one partition, {_LARGE} models: b/a", 0.15, self.ratio(_LARGE, PARTITION, OURS, STOCK)),
            Target(f"one partition, b: {_LARGE} models / {_SMALL} models", 1.5, growth),
            Target(f"a further partition, {_LARGE} models: b", 1.0, self.seconds(_LARGE, FURTHER, OURS), "s"),
        ]
        for models in self._sizes:
            of_the_year = self.ratio(models, RANGE, OURS, DBT)
            targets.append(Target(f"{RANGE_DAYS} partitions, {models} models: b/c", 3.0, of_the_year))
        targets.append(Target(f"load, {_LARGE} models: b/a", 0.5, self.ratio(_LARGE, WARM, OURS, STOCK)))
        for row, limit in peer.ROWS.items():
            by = [_median(self._peer.get((row, who), [])) for who in (peer.OURS, peer.PEER)]
            targets.append(Target(f"{row}: {peer.OURS} / {peer.PEER}", limit, _divided(*by)))
        for row, limit in scale.ROWS.items():
            by = [_median(self._scale.get((row, days), [])) for days in (scale.LONG, scale.SHORT)]
            targets.append(Target(f"{row}: {scale.LONG} / {scale.SHORT}", limit, _divided(*by)))
        for row, limit in history.TARGETS.items():
            unit = "ms" if row == history.EVENT else "s"
            targets.append(Target(row, limit, _median(self._history.get((row, history.OURS), [])), unit))
        return targets

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Yield the titles and tables of the report; the first line of each table is its head."""
        if self._sizes:
            yield "Seconds, median (least-most)", self._seconds_table()
            yield "Ratios of medians", self._ratios_table()
            yield "Peak memory in MB: the process / with its descendants", self._memory_table()
            yield "Dagster's own cost of a year's events", self._events_table()
        if self._peer:
            yield "The demo beside SQLMesh", self._simple_table(self._peer, peer.ROWS, (peer.OURS, peer.PEER))
        if self._scale:
            yield "A long history", self._simple_table(self._scale, scale.ROWS, (scale.LONG, scale.SHORT))
        if self._history:
            yield (
                "Dagster's history",
                self._simple_table(self._history, history.TARGETS, (history.OURS, history.DAGSTER)),
            )
        yield "Targets", self._targets_table()

    def as_json(self) -> Mapping[str, Any]:
        """Return everything, for a machine."""
        return {
            "measurements": [
                {"models": models, "row": row, "way": way, "samples": [asdict(sample) for sample in samples]}
                for models, by_key in self._sizes.items()
                for (row, way), samples in by_key.items()
            ],
            "others": [
                {"row": row, "way": way, "samples": [asdict(sample) for sample in samples]}
                for (row, way), samples in (*self._peer.items(), *self._scale.items(), *self._history.items())
            ],
            "ratios": [
                {"models": models, "row": row, "ratio": name, "value": self.ratio(models, row, way, other)}
                for models in self._sizes
                for row in ROWS
                for name, (way, other) in _RATIOS.items()
            ],
            "event_seconds": {models: self.event_seconds(models) for models in self._sizes},
            "targets": [{**asdict(target), "met": target.met} for target in self.targets()],
        }

    def _samples(self, models: int, row: str, way: str) -> Sequence[Sample]:
        row = PARTITION if (row, way) == (FURTHER, DBT) else row
        return self._sizes.get(models, {}).get((row, way), [])

    def _seconds_table(self) -> Table:
        def cell(models: int, row: str, way: str) -> str:
            return _spread(self._samples(models, row, way))

        return self._table(ROWS, _COLUMNS, cell)

    def _ratios_table(self) -> Table:
        table = self._table(
            (PARTITION, LAUNCHED, FURTHER, RANGE, COLD, WARM, WARM_DEV),
            _RATIOS,
            lambda models, row, name: _shown(self.ratio(models, row, *_RATIOS[name])),
        )
        for row in ROWS:
            growth = _divided(self.seconds(_LARGE, row, OURS), self.seconds(_SMALL, row, OURS))
            if growth is not None:
                table.append([f"{_LARGE} / {_SMALL}", f"{row}: b", _shown(growth), "", "", ""])
        return table

    def _memory_table(self) -> Table:
        def cell(models: int, row: str, way: str) -> str:
            samples = self._samples(models, row, way)
            own = max((sample.own_mb or 0 for sample in samples), default=0)
            tree = max((sample.tree_mb or 0 for sample in samples), default=0)
            return f"{own:.0f} / {tree:.0f}" if tree else ""

        return self._table((PARTITION, SERVERS, LIVE, RANGE, WARM), _COLUMNS, cell)

    def _events_table(self) -> Table:
        table = [["models", "seconds", "ms a materialization"]]
        for models in self._sizes:
            seconds = self.event_seconds(models)
            if seconds is not None:
                each = 1000 * seconds / (len(DAILY) * (RANGE_DAYS - 1))
                table.append([str(models), f"{seconds:.2f}", f"{each:.2f}"])
        return table

    def _simple_table(self, samples: Samples, rows: Iterable[str], ways: Sequence[str]) -> Table:
        table = [["row", *ways, "ratio"]]
        for row in rows:
            by = [samples.get((row, way), []) for way in ways]
            table.append([row, *map(_spread, by), _shown(_divided(*map(_median, by)))])
        return table

    def _targets_table(self) -> Table:
        rows = [
            [target.what, _shown(target.limit, target.unit), _shown(target.measured, target.unit), target.met]
            for target in self.targets()
        ]
        return [["target", "at most", "measured", "met"], *rows]

    def _table(self, rows: Sequence[str], columns: Mapping[str, Any], cell: Callable[[int, str, str], str]) -> Table:
        table = [["models", "row", *(title if isinstance(title, str) else key for key, title in columns.items())]]
        for row in rows:
            for models in self._sizes:
                cells = [cell(models, row, key) for key in columns]
                if any(cells):
                    table.append([str(models), row, *cells])
        return table


def _median(samples: Sequence[Sample]) -> float | None:
    return median(sample.seconds for sample in samples) if samples else None


def _spread(samples: Sequence[Sample]) -> str:
    seconds = [sample.seconds for sample in samples]
    return f"{median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})" if seconds else ""


def _divided(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None


def _shown(value: float | None, unit: str = "x") -> str:
    return "" if value is None else f"{value:.2f} {unit}"

"""Every kind of partitioned model that a project may have, as cells of a matrix: its SQL, and its rows.

What is expected is worked out here from the source's rows with the standard library alone: nothing of the package, of
dbt or of Dagster says which rows belong to a partition.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MACROS = Path(__file__).parents[2] / "src/dagster_dbt_common/macros"
ADAPTERS = ("duckdb", "postgres")
SESSIONS = ("UTC", "America/New_York", "Asia/Kolkata")
"""The zones of the warehouse's sessions: UTC, one west of it with summer time, one east of it by half an hour more."""

CRON = "0 6 * * *"
GRAINS = {
    "hour": "2024-03-08",
    "day": "2024-02-01",
    "week": "2024-01-01",
    "month": "2023-11-01",
    "year": "2022-01-01",
    CRON: "2024-03-01T06:00",
}
"""Each grain with the first instant of its partitions."""

TYPES = ("date", "timestamp", "timestamptz")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
FARTHEST = ("Pacific/Kiritimati", "Pacific/Pago_Pago")
"""The zones whose days differ most from those of UTC, which dates by day have too."""
PLACES = ("model", "ephemeral", "macro", "typed")
"""Where the window is: in the model, in an ephemeral one below it, in a macro around `in_window`; or in the model, with
the type to which its ends are cast."""

MICROBATCH = ("hour", "day", "month", "year")

CHANGES_OF_CLOCK = {
    "spring": {"Europe/Berlin": datetime(2024, 3, 31, 1, tzinfo=UTC)},
    "autumn": {
        "Europe/Berlin": datetime(2024, 10, 27, 1, tzinfo=UTC),
        "America/New_York": datetime(2024, 11, 3, 6, tzinfo=UTC),
    },
}
_NEW_YORK_SPRING = datetime(2024, 3, 10, 7, tzinfo=UTC)
DENSE = (
    (datetime(2024, 3, 8, tzinfo=UTC), datetime(2024, 4, 3, tzinfo=UTC)),
    (datetime(2024, 10, 25, tzinfo=UTC), datetime(2024, 11, 6, tzinfo=UTC)),
)
"""Between these the source has a row each half hour; elsewhere one each ten days, from 2021 on."""


def around(zone: str, season: str) -> datetime:
    """Return an instant at which clocks change in a zone; in one whose clocks do not, that of New York."""
    return CHANGES_OF_CLOCK[season].get(
        zone, _NEW_YORK_SPRING if season == "spring" else CHANGES_OF_CLOCK[season]["America/New_York"]
    )


@dataclass(frozen=True)
class Cell:
    """A kind of partitioned model.

    Args:
        strategy: `delete_window+insert`, or `microbatch`, whose window is dbt's own, on inputs with an `event_time`.
        grain: of the partitions.
        type: of the time column.
        zone: of the partitions.
        place: where the window is.
    """

    strategy: str
    grain: str
    type: str
    zone: str
    place: str

    @property
    def name(self) -> str:
        """Return the name of its model."""
        grain = "shift" if self.grain == CRON else self.grain
        prefix = "mb" if self.strategy == "microbatch" else "dw"
        return "_".join((prefix, grain, self.type, self.zone.rpartition("/")[2].lower(), self.place))

    @property
    def is_told_by_the_run(self) -> bool:
        """Return whether its run refuses it: a date has no hours, which only the warehouse knows of a column."""
        return self.type == "date" and self.grain in ("hour", CRON)

    @property
    def reads_in(self) -> str:
        """Return the name of the model that has the window."""
        return f"{self.name}_below" if self.place == "ephemeral" else self.name

    def files(self) -> Mapping[str, str]:
        """Return its model, by file, and what that reads."""
        if self.strategy == "microbatch":
            config = (
                f"materialized='incremental', incremental_strategy='microbatch', event_time='{_COLUMN[self.type]}', "
                f"batch_size='{self.grain}', begin='{GRAINS[self.grain]}', lookback=0"
            )
            return {f"models/{self.name}.sql": f"{{{{ config({config}) }}}} {self._rows('source')}"}
        partitions = f"grain: '{self.grain}', start: '{GRAINS[self.grain]}', timezone: '{self.zone}'"
        config = (
            f"materialized='incremental', incremental_strategy='{self.strategy}', event_time='{_COLUMN[self.type]}', "
            f'meta=fromyaml("{{dagster: {{partitions: {{{partitions}}}}}}}")'
        )
        head = f"{{{{ config({config}) }}}}"
        call = "windowed" if self.place == "macro" else "in_window"
        cast = f', "{self.type}"' if self.place == "typed" else ""
        filtered = f'{self._rows("source")} where {{{{ {call}("{self._read}"{cast}) }}}}'
        if self.place == "macro":
            # A test that is no generic one has no model's config, from which the zone of its window could be read.
            bad = f"select * from {{{{ ref('{self.name}') }}}} where id = 0"
            window = f"{{{{ in_window_or_all('{_COLUMN[self.type]}') }}}}"
            test = {f"tests/bad_{self.name}.sql": f"{bad} and {window}"}
            return {f"models/{self.name}.sql": f"{head} {filtered}", **test}
        if self.place in {"model", "typed"}:
            return {f"models/{self.name}.sql": f"{head} {filtered}"}
        return {
            f"models/{self.reads_in}.sql": f"{{{{ config(materialized='ephemeral') }}}} {filtered}",
            f"models/{self.name}.sql": f"{head} select * from {{{{ ref('{self.reads_in}') }}}}",
        }

    @property
    def _read(self) -> str:
        """Return the time of a row of the source, as an expression of this type."""
        if self.type == "date" and self.zone != "UTC":
            return f"cast(ts at time zone 'UTC' at time zone '{self.zone}' as date)"
        return _COLUMN[self.type]

    def _rows(self, source: str) -> str:
        if self.strategy == "microbatch":
            # Its inputs are narrowed by dbt, each by a column of its own.
            return f"select id, {_COLUMN[self.type]} from {{{{ source('raw', 'by_{self.type}') }}}}"
        return f"select id, {self._read} as {_COLUMN[self.type]} from {{{{ {source}('raw', 'visits') }}}}"


_COLUMN = {"date": "local_day", "timestamp": "ts", "timestamptz": "seen"}


@dataclass(frozen=True)
class Trailing:
    """A kind of model that counts, beside each of its rows, those before it, also in the two partitions before its own.

    Args:
        base: the model that it reads, of the same partitions.
    """

    base: Cell

    @property
    def name(self) -> str:
        """Return the name of its model."""
        return f"back_{self.base.name}"

    @property
    def rows(self) -> str:
        """Return what a full build of it selects."""
        column = _COLUMN[self.base.type]
        back = "3" if self.base.type == "date" else f"interval '{LOOKED_BACK[self.base.grain]}'"
        # A day before an instant is one of the session's clock.
        of = "at time zone 'UTC'" if self.base.type == "timestamptz" else ""
        earlier = f"w.{column} {of} > v.{column} {of} - {back} and w.{column} <= v.{column}"
        base = f"{{{{ ref('{self.base.name}') }}}}"
        return f"select v.id, v.{column}, (select count(*) from {base} w where {earlier}) as earlier from {base} v"

    def files(self) -> Mapping[str, str]:
        """Return its model, by file."""
        column = _COLUMN[self.base.type]
        partitions = (
            f"grain: '{self.base.grain}', start: '{GRAINS[self.base.grain]}', timezone: '{self.base.zone}', lookback: 2"
        )
        config = (
            f"materialized='incremental', incremental_strategy='delete_window+insert', event_time='{column}', "
            f'meta=fromyaml("{{dagster: {{partitions: {{{partitions}}}}}}}")'
        )
        window = f"{{{{ in_window('v.{column}') }}}}"
        return {f"models/{self.name}.sql": f"{{{{ config({config}) }}}} {self.rows} where {window}"}


LOOKED_BACK = {"hour": "2 hours", "day": "46 hours", "month": "58 days"}
"""How far each grain is looked back at, in no two partitions less: a day has 23 hours, and two months have 59 days."""


def trailing() -> Iterator[Trailing]:
    """Yield the kinds of models that look back."""
    for grain, zone, type_ in product(LOOKED_BACK, ("UTC", "America/New_York"), TYPES):
        if type_ != "date" or grain == "day":
            yield Trailing(Cell("delete_window+insert", grain, type_, zone, "model"))


def partitions() -> Iterator[tuple[str, str]]:
    """Yield each grain with each zone of partitions."""
    yield from product(GRAINS, ZONES)
    yield from product(["day"], FARTHEST)


def cells() -> Iterator[Cell]:
    """Yield the cells whose project loads."""
    for (grain, zone), type_, place in product(partitions(), TYPES, PLACES):
        yield Cell("delete_window+insert", grain, type_, zone, place)
    for grain, type_ in product(MICROBATCH, TYPES):
        yield Cell("microbatch", grain, type_, "UTC", "model")


def source_rows() -> Sequence[tuple[int, datetime]]:
    """Return the source's rows: a number, and an instant in UTC."""
    sparse = [datetime(2021, 12, 20, tzinfo=UTC) + timedelta(days=10 * n) for n in range(130)]
    instants = [each for each in sparse if not any(first <= each < last for first, last in DENSE)]
    for first, last in DENSE:
        instants += [first + timedelta(minutes=30 * n) for n in range((last - first) // timedelta(minutes=30))]
    return [(number, instant) for number, instant in enumerate(sorted(instants), 1)]


def begin_of_partition(instant: datetime, grain: str, zone: str) -> datetime:
    """Return when the partition of an instant begins, on the clock of a zone.

    `fold` tells the second one of an hour that is there twice.
    """
    local = instant.astimezone(ZoneInfo(zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match grain:
        case "hour":
            return local.replace(minute=0, second=0, microsecond=0)
        case "day":
            return midnight
        case "week":
            return midnight - timedelta(days=local.weekday())
        case "month":
            return midnight.replace(day=1)
        case "year":
            return midnight.replace(month=1, day=1)
    assert grain == CRON
    return midnight.replace(hour=6) - timedelta(days=local.hour < 6)


def partition_of(instant: datetime, grain: str, zone: str) -> datetime:
    """Return the instant, in UTC, at which the partition of another one begins."""
    return begin_of_partition(instant, grain, zone).astimezone(UTC)


def neighbours(instant: datetime, grain: str, zone: str) -> Sequence[datetime]:
    """Return four partitions one after another, around an instant; two of a year, by when they begin in UTC."""
    found = [partition_of(instant, grain, zone)]
    while len(found) < (2 if grain == "year" else 3):
        found.insert(0, partition_of(found[0] - timedelta(seconds=1), grain, zone))
    if grain != "year":
        later = instant
        while partition_of(later, grain, zone) == found[-1]:
            later += timedelta(minutes=30)
        found.append(partition_of(later, grain, zone))
    return found


def table() -> str:
    """Return what becomes of each kind of model, as the table of the README."""
    outcomes: dict[tuple[str, str, str], set[str]] = {}
    for cell in cells():
        outcome = "refused by the run" if cell.is_told_by_the_run else "equal"
        outcomes.setdefault((cell.strategy, cell.grain, cell.type), set()).add(outcome)
    head = [*(f"{type_}" for type_ in TYPES), "microbatch"]
    lines = [f"| grain | {' | '.join(head)} |", "|---|" + "---|" * len(head)]
    for grain in GRAINS:
        kinds = [("delete_window+insert", grain, type_) for type_ in TYPES]
        found = [" ".join(outcomes[kind]) for kind in kinds]
        batches = {outcome for type_ in TYPES for outcome in outcomes.get(("microbatch", grain, type_), ())}
        by_batch = ", ".join(sorted(batches)) or "refused when it loads"
        lines.append(f"| {f'`{grain}`' if grain == CRON else grain} | {' | '.join([*found, by_batch])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201 - what it is called for

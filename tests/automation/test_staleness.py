"""One definition of stale: what `headrace run` plans, what automation finds behind, and the definition read aloud."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from dagster import (
    AssetKey,
    DailyPartitionsDefinition,
    HourlyPartitionsDefinition,
    MonthlyPartitionsDefinition,
    TimeWindowPartitionMapping,
    TimeWindowPartitionsDefinition,
)
from hypothesis import given, note, settings
from hypothesis import strategies as st

from dagster_dbt_common.automation.reconcile import Follower, Stored, all_behind
from dagster_dbt_common.automation.reconcile import History as MadeOfAll
from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.plan import History, plan_build
from headrace_staleness import AllWindows, Beginning, Made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Partition = str | None

FIRST, LAST = date(2024, 1, 30), date(2024, 2, 2)
GRAINS: Mapping[str, TimeWindowPartitionsDefinition | None] = {
    "none": None,
    "hour": HourlyPartitionsDefinition("2024-01-30-00:00", end_date="2024-02-03-00:00"),
    "day": DailyPartitionsDefinition("2024-01-30", end_date="2024-02-03"),
    "month": MonthlyPartitionsDefinition("2024-01-01", end_date="2024-03-01"),
}
KEYS: Mapping[str, Sequence[Partition]] = {
    grain: [*definition.get_partition_keys()] if definition else [None] for grain, definition in GRAINS.items()
}


@dataclass(frozen=True)
class Table:
    """A table of a random graph.

    Args:
        name: its name.
        grain: of its partitions, a key of `GRAINS`.
        reads: the tables that it reads.
        through_views: those of them that it reads through a view.
        lookback: how many earlier partitions of a table of its grain it reads.
    """

    name: str
    grain: str
    reads: Sequence[Table] = ()
    through_views: frozenset[str] = frozenset()
    lookback: int = 0

    @property
    def key(self) -> AssetKey:
        return AssetKey(self.name)

    def partitions_read(self, partition: Partition, upstream: Table) -> Sequence[Partition]:
        """Return which partitions of a table a partition reads, by the clock alone."""
        mine, theirs = GRAINS[self.grain], GRAINS[upstream.grain]
        if mine is None or theirs is None or partition is None:
            return KEYS[upstream.grain]
        place = KEYS[self.grain].index(partition)
        earliest = KEYS[self.grain][max(0, place - self.lookback)] if self.grain == upstream.grain else partition
        start = mine.time_window_for_partition_key(str(earliest)).start
        end = mine.time_window_for_partition_key(partition).end
        windows = {key: theirs.time_window_for_partition_key(str(key)) for key in KEYS[upstream.grain]}
        return [key for key, window in windows.items() if window.start < end and start < window.end]


@dataclass
class Log:
    """What was recorded, as Dagster numbers it: each event has a greater id than those before."""

    last: int = 0
    runs: int = 0
    made: dict[str, dict[Partition, Made]] = field(default_factory=lambda: defaultdict(dict))

    def load(self, table: Table, partition: Partition) -> None:
        """Record a partition of a loader, which does not say when it began."""
        self.last += 1
        self.made[table.name][partition] = Made(self.last)

    def build(self, table: Table, partition: Partition, began: int, run: str) -> None:
        """Record a partition of a run that began when `began` was the newest id."""
        self.last += 1
        self.made[table.name][partition] = Made(self.last, Beginning(began, run))


@st.composite
def graphs(draw: st.DrawFn) -> Sequence[Table]:
    tables = [
        Table(f"raw{number}", draw(st.sampled_from(["day", "none"]))) for number in range(draw(st.integers(1, 2)))
    ]
    for number in range(draw(st.integers(1, 4))):
        reads = draw(st.lists(st.sampled_from(tables), min_size=1, max_size=3, unique_by=lambda table: table.name))
        views = draw(st.sets(st.sampled_from([table.name for table in reads])))
        grain = draw(st.sampled_from(["day", "day", *GRAINS]))
        lookback = draw(st.integers(0, 2)) if grain in ("hour", "day") else 0
        tables.append(Table(f"model{number}", grain, reads, frozenset(views), lookback))
    return tables


@st.composite
def logs(draw: st.DrawFn, tables: Sequence[Table]) -> Log:
    """Load all, and build all perhaps; then build ranges of some tables of one grain, while a loader loads.

    Another run may begin at the same id, and end later: it has not read what the first one made.
    """
    log = Log()
    raws, models = [table for table in tables if not table.reads], [table for table in tables if table.reads]
    for table in raws:
        for key in KEYS[table.grain]:
            log.load(table, key)
    for table in models if draw(st.booleans()) else ():
        _build(draw, log, [table], raws, log.last)
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.booleans()):
            _load(draw, log, raws)
        else:
            began = log.last
            for _ in range(draw(st.integers(1, 2))):
                grain = draw(st.sampled_from(sorted({table.grain for table in models})))
                first = draw(st.integers(0, len(KEYS[grain]) - 1))
                of_run = [table for table in models if table.grain == grain and draw(st.booleans())]
                _build(draw, log, of_run, raws, began, slice(first, draw(st.integers(first + 1, len(KEYS[grain])))))
    return log


def _load(draw: st.DrawFn, log: Log, raws: Sequence[Table]) -> None:
    raw = draw(st.sampled_from(raws))
    log.load(raw, draw(st.sampled_from(KEYS[raw.grain])))


def _build(  # noqa: PLR0917 - hypothesis hands over the first
    draw: st.DrawFn,
    log: Log,
    tables: Sequence[Table],
    raws: Sequence[Table],
    began: int,
    places: slice = slice(None),
) -> None:
    log.runs += 1
    run = f"run {log.runs}"
    for table in tables:
        if draw(st.booleans()):
            _load(draw, log, raws)
        for key in KEYS[table.grain][places]:
            log.build(table, key, began, run)


def stale_by_definition(tables: Sequence[Table], log: Log) -> set[tuple[str, Partition]]:
    """A partition is stale that is missing, or reads one that is stale, or one that was not there for its build."""
    stale: set[tuple[str, Partition]] = set()
    for table in tables:
        for partition in KEYS[table.grain] if table.reads else ():
            mine = log.made[table.name].get(partition)
            for upstream in table.reads:
                for read in table.partitions_read(partition, upstream):
                    theirs = log.made[upstream.name].get(read)
                    came_later = mine is not None and theirs is not None and theirs.id > mine.id
                    came_meanwhile = (
                        mine is not None
                        and mine.began is not None
                        and theirs is not None
                        and theirs.id > mine.began.read_up_to
                        and (theirs.began is None or theirs.began.run != mine.began.run)
                    )
                    if mine is None or came_later or came_meanwhile or (upstream.name, read) in stale:
                        stale.add((table.name, partition))
    return stale


def stale_of_automation(tables: Sequence[Table], log: Log) -> set[tuple[str, Partition]]:
    stored = {table.name: Stored(table.key, GRAINS[table.grain]) for table in tables}
    followers = [
        Follower(stored[table.name], [stored[each.name] for each in table.reads], lookback=table.lookback)
        for table in tables
        if table.reads
    ]
    history = MadeOfAll({AssetKey(name): made for name, made in log.made.items()})
    behind = all_behind(followers, history, AllWindows())
    return {
        (key.to_user_string(), partition)
        for key, found in behind.items()
        for partition in (*found.partitions, *found.blocked)
    }


def stale_of_main_job(tables: Sequence[Table], log: Log) -> set[tuple[str, Partition]]:
    nodes = []
    for table in tables:
        for name in sorted(table.through_views):
            view = AssetKey(f"{table.name}_{name}")
            nodes.append(AssetNode(view, "here", frozenset([AssetKey(name)]), None, "1", is_virtual=True))
        views = {AssetKey(f"{table.name}_{name}") for name in table.through_views}
        direct = {each.key for each in table.reads if each.name not in table.through_views}
        back = {each.key for each in table.reads if each.grain == table.grain and table.lookback}
        mapping = TimeWindowPartitionMapping(start_offset=-table.lookback)
        parents = frozenset(views | direct | back)
        nodes.append(
            AssetNode(
                table.key,
                "here",
                parents,
                GRAINS[table.grain],
                "1" if table.reads else None,
                is_virtual=False,
                mappings=dict.fromkeys(back, mapping),
            )
        )
    history = {
        AssetKey(name): History(
            storage_ids={partition: each.id for partition, each in made.items()},
            began={partition: each.began for partition, each in made.items() if each.began},
            code_versions=dict.fromkeys(made, "1"),
        )
        for name, made in log.made.items()
    }
    of_views = {node.key: History({None: 0}, {}, {None: "1"}, code_since=0) for node in nodes if node.is_virtual}
    planned = plan_build(nodes, {**of_views, **history}, {}, FIRST, LAST).partitions
    return {
        (key.to_user_string(), partition) for key, keys in planned.items() if key not in of_views for partition in keys
    }


@settings(max_examples=300)
@given(data=st.data())
def test_the_main_job_and_automation_find_stale_what_the_definition_says(data: st.DataObject) -> None:
    tables = data.draw(graphs())
    log = data.draw(logs(tables))
    expected = stale_by_definition(tables, log)
    note(f"{len(expected)} stale")
    assert stale_of_automation(tables, log) == expected
    assert stale_of_main_job(tables, log) == expected

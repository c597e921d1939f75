"""Whatever happened, in whatever order: at rest all is newer than what it reads, and nothing was built for nothing."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import ITEMS, NAMES, ORDERS, Build, World

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.slow("evaluates the conditions of all assets at each tick of a history")

THOROUGH = bool(os.environ.get("HEADRACE_THOROUGH"))
DAYS = 5

Event = tuple[str, int, int]

_MODELS = tuple(dg.AssetKey(name) for name in ("orders", "lines", "trailing", "customers", "summary", "stg_orders"))
_DAILY = tuple(dg.AssetKey(name) for name in ("orders", "lines", "trailing", "line_counts"))
_TESTED = dg.AssetCheckKey(dg.AssetKey("orders"), "not_null_orders_id")

events = st.one_of(
    st.tuples(st.just("load"), st.integers(0, 2), st.integers(0, DAYS - 1)),
    st.tuples(st.just("load bad"), st.integers(0, 1), st.integers(0, DAYS - 1)),
    st.tuples(st.just("build by hand"), st.integers(0, len(_MODELS) - 1), st.integers(0, DAYS - 1)),
    st.tuples(st.just("fail"), st.integers(0, len(_MODELS) - 1), st.integers(1, 2)),
    st.tuples(st.just("fail test"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("tick"), st.just(0), st.just(0)),
    st.tuples(st.just("look"), st.just(0), st.just(0)),
    st.tuples(st.just("look at finer"), st.just(0), st.just(0)),
    st.tuples(st.just("reload"), st.integers(0, 1), st.just(0)),
)


def reads(world: World, build: Build) -> Sequence[Build]:
    """Say by hand what a partition reads in `tests/automation/project`: nothing here is computed by what is tested."""
    day, days = build.partition, world.days
    months = world.specs[dg.AssetKey("line_months")].partitions_def
    assert months is not None

    def of(name: str, *partitions: str | None) -> list[Build]:
        return [Build(dg.AssetKey(name.split("/")), each) for each in partitions or (None,)]

    changed = of("line_counts", *days) if dg.AssetKey("line_counts") in world.specs else []
    read: Mapping[str, Sequence[Build]] = {
        "stg_orders": of("raw/orders", *days),
        "stg_items": of("raw/items", *days),
        "orders": of("raw/orders", day),
        "lines": [*of("orders", day), *of("raw/items", day), *of("kinds")],
        "line_counts": of("lines", day),
        "trailing": of("raw/orders", *[each for each in days if day and each < day][-1:], day),
        "halves": of("orders", day and day[:10]),
        "line_months": of("lines", *[each for each in days if day and each[:7] == day[:7]]),
        "customers": [*of("raw/names"), *of("orders", *days), *of("lines", *days), *changed],
        "summary": [*of("customers"), *of("line_months", *months.get_partition_keys()), *of("trailing", *days)],
    }
    return read.get(build.key.to_user_string(), [])


def has_all(world: World, build: Build, made: dict[Build, int]) -> bool:
    """Return whether something of each upstream of a partition is there."""
    inputs = reads(world, build)
    return {each.key for each in inputs} == {each.key for each in inputs if each in made}


class History:
    """Plays events in a world, and watches each build."""

    def __init__(self, world: World, others: Sequence[dg.Definitions]) -> None:
        self.world = world
        self.others = others
        self.made: dict[Build, int] = {}
        self._clock = count(1)
        self.by_hand = False
        self._has_failed = False
        self.wrong: list[str] = []
        world.before_build = self.watch

    def watch(self, build: Build) -> None:
        """See a build before it is recorded."""
        if not self.by_hand:
            newest = max((self.made[each] for each in reads(self.world, build) if each in self.made), default=0)
            if self.made.get(build, -1) > newest:
                self.wrong.append(f"{build} was built again although nothing that it reads had changed")
            for each in {each.key for each in reads(self.world, build)}:
                if self.world.bad_days.get(each):
                    self.wrong.append(f"{build} was built although {each.to_user_string()} failed its check")
        self.made[build] = next(self._clock)

    def hand(self, *keys: dg.AssetKey, partition: str | None = None) -> None:
        """Materialize as a person does."""
        self.by_hand = True
        self.world.materialize(*keys, partition=partition)
        self.by_hand = False

    def play(self, event: Event) -> None:
        """Let one thing happen."""
        kind, first, second = event
        match kind:
            case "load" | "load bad":
                self.load((ORDERS, ITEMS, NAMES)[first], self.world.days[second], bad=kind == "load bad")
            case "build by hand":
                key = _MODELS[first]
                self.hand(key, partition=self.world.days[second] if key in _DAILY else None)
            case "fail":
                self.world.failing[_MODELS[first]] = second
            case "fail test":
                self._has_failed |= bool(first)
                (self.world.bad_checks.add if first else self.world.bad_checks.discard)(_TESTED)
            case "reload":
                self.world.load(self.others[first])
            case "tick":
                self.world.tick()
            case "look at finer":
                self.world.look_at_finer()
            case _:
                self.world.look()

    def load(self, table: dg.AssetKey, day: str, *, bad: bool) -> None:
        """Load a raw table, with rows that fail its check or without."""
        if table == NAMES:
            self.hand(table)
            return
        (self.world.bad_days[table].add if bad else self.world.bad_days[table].discard)(day)
        self.hand(table, partition=day)

    def mend(self) -> None:
        """Take back what is bad, and let everything come to rest."""
        world = self.world
        for table, days in world.bad_days.items():
            for day in sorted(days):
                days.discard(day)
                self.hand(table, partition=day)
        if self._has_failed:
            # What waits for the test hears only from a run that it passes.
            world.bad_checks.discard(_TESTED)
            self.hand(_TESTED.asset_key, partition=world.days[0])
        world.failing.clear()
        world.rest()

    def behind(self) -> Sequence[str]:
        """Return what is older than what it reads, or missing."""
        found = []
        for key, spec in self.world.specs.items():
            if spec.automation_condition is None or (spec.is_virtual and not reads(self.world, Build(key, None))):
                continue
            existing: Sequence[str | None] = (
                [*spec.partitions_def.get_partition_keys()] if spec.partitions_def else [None]
            )
            for partition in existing:
                build = Build(key, partition)
                inputs = [each for each in reads(self.world, build) if each in self.made]
                if has_all(self.world, build, self.made) and self.made.get(build, -1) <= max(
                    (self.made[each] for each in inputs), default=0
                ):
                    found.append(str(build))
        return found


@pytest.mark.timeout(3600 if THOROUGH else 300)  # two seconds for a history
@settings(
    # The same few each time; each night many others.
    max_examples=400 if THOROUGH else 8,
    derandomize=not THOROUGH,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(events, min_size=3, max_size=12))
def test_any_history_comes_to_rest(
    project: dg.Definitions, changed_project: dg.Definitions, history: Sequence[Event]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(project, instance)
        played = History(world, (project, changed_project))
        world.tick()
        for event in history:
            played.play(event)
        played.mend()
        assert played.wrong == []
        assert played.behind() == []

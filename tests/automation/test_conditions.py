"""The silent cases of Dagster's own conditions, and that each is no longer silent here."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from simulation import ITEMS, NAMES, ORDERS, World

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [
    pytest.mark.slow("evaluates the conditions of all assets at each tick"),
    pytest.mark.some_of("histories of conditions", 2),
]


def named(world: World, start: int = 0) -> Sequence[str]:
    """Return what was built since, without raw tables and without views, which hold no rows."""
    return sorted(
        str(build)
        for build in world.builds[start:]
        if build.key.path[0] != "raw" and not world.specs[build.key].is_virtual
    )


@pytest.fixture
def loaded(world: World) -> World:
    """Return a world at rest, in which every day but the last is loaded and built."""
    world.tick()
    world.materialize(NAMES)
    world.materialize(ORDERS, ITEMS, partition=world.days[0], last=world.days[-2])
    world.rest()
    return world


def test_all_is_built_from_nothing_by_itself_once(world: World) -> None:
    world.tick()
    world.materialize(NAMES)
    world.materialize(ORDERS, ITEMS, partition=world.days[0], last=world.days[-1])
    world.rest()
    months = world.specs[dg.AssetKey("line_months")].partitions_def
    assert months is not None
    assert named(world) == sorted(
        [
            *(f"{name}[{day}]" for name in ("orders", "lines", "trailing") for day in world.days),
            *(f"halves[{day}T{hour}:00]" for day in world.days for hour in ("00", "12")),
            *(f"line_months[{month}]" for month in months.get_partition_keys()),
            *("customers", "summary", "kinds"),
        ]
    )


def test_a_late_day_is_that_day_and_its_lookback_follower_and_then_each_mart_once(loaded: World) -> None:
    loaded.materialize(ORDERS, ITEMS, partition=loaded.days[-1])
    loaded.rest()
    start = len(loaded.builds)
    late, after = loaded.days[1], loaded.days[2]
    loaded.materialize(ORDERS, partition=late)
    expected = sorted(
        [
            *(f"orders[{late}]", f"lines[{late}]", f"trailing[{late}]", f"trailing[{after}]"),
            *(f"halves[{late}T00:00]", f"halves[{late}T12:00]"),
            *(f"line_months[{late[:7]}-01]", "customers", "summary"),
        ]
    )
    for _ in range(7):
        loaded.tick()
        loaded.look_at_finer()
    assert named(loaded, start) == expected, "the conditions need no healing"
    loaded.rest()
    assert named(loaded, start) == expected


def test_the_halves_of_a_day_are_one_run_of_its_first_look_after_the_day(loaded: World) -> None:
    assert loaded.specs[dg.AssetKey("halves")].automation_condition is None
    assert loaded.look_at_finer() == []
    day = loaded.days[1]
    loaded.materialize(ORDERS, partition=day)
    assert loaded.look_at_finer() == [], "the day itself has not followed"
    while f"orders[{day}]" not in map(str, loaded.tick()):
        pass
    (request,) = loaded.look_at_finer()
    assert list(request.asset_selection or ()) == [dg.AssetKey("halves")]
    assert sorted(request.tags.values()) == [f"{day}T00:00", f"{day}T12:00"]
    assert loaded.look_at_finer() == []


def test_the_halves_wait_for_a_check_of_the_day(loaded: World) -> None:
    loaded.bad_checks.add(dg.AssetCheckKey(dg.AssetKey("orders"), "not_null_orders_id"))
    loaded.materialize(dg.AssetKey("orders"), partition=loaded.days[1])
    assert loaded.look_at_finer() == []
    loaded.bad_checks.clear()
    loaded.materialize(dg.AssetKey("orders"), partition=loaded.days[1])
    assert len(loaded.look_at_finer()) == 1


def test_halves_that_failed_are_left_to_the_sensor_that_heals(loaded: World) -> None:
    loaded.failing[dg.AssetKey("halves")] = 1
    loaded.materialize(dg.AssetKey("orders"), partition=loaded.days[1])
    assert len(loaded.look_at_finer()) == 1
    start = len(loaded.builds)
    assert [loaded.look_at_finer() for _ in range(3)] == [[], [], []]
    loaded.rest()
    assert [name for name in named(loaded, start) if name.startswith("halves")] == [
        f"halves[{loaded.days[1]}T{hour}:00]" for hour in ("00", "12")
    ]


def test_dagsters_own_eager_would_ignore_a_late_day(loaded: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        stock = loaded.defs.map_asset_specs(
            func=lambda spec: spec.replace_attributes(
                automation_condition=dg.AutomationCondition.eager() if spec.automation_condition else None
            )
        )
    everything = dg.AssetSelection.all()
    first = dg.evaluate_automation_conditions(stock, loaded.instance, everything)
    loaded.materialize(ORDERS, partition=loaded.days[1])
    second = dg.evaluate_automation_conditions(stock, loaded.instance, everything, cursor=first.cursor)
    assert second.get_requested_partitions(dg.AssetKey("orders")) == set()


def test_a_mart_does_not_wait_for_a_day_that_never_comes(loaded: World) -> None:
    """One day has orders and no items: the mart is built from what is there, and the day's lines wait."""
    start = len(loaded.builds)
    loaded.materialize(ORDERS, partition=loaded.days[-1])
    day = loaded.days[-1]
    halves = [f"halves[{day}T{hour}:00]" for hour in ("00", "12")]
    expected = sorted([f"orders[{day}]", f"trailing[{day}]", *halves, "customers", "summary"])
    for _ in range(7):
        loaded.tick()
        loaded.look_at_finer()
    assert named(loaded, start) == expected, "the conditions need no healing"
    loaded.rest()
    assert named(loaded, start) == expected


def test_below_a_stub_nothing_waits_for_ever(loaded: World) -> None:
    """The names are of another location and have no condition: their update alone rebuilds the mart."""
    start = len(loaded.builds)
    loaded.materialize(NAMES)
    loaded.rest()
    assert "customers" in named(loaded, start)


def test_an_upstream_that_is_updated_after_its_reader_within_one_tick_is_not_lost(loaded: World) -> None:
    loaded.materialize(ORDERS, ITEMS, partition=loaded.days[-1])
    loaded.rest()
    start = len(loaded.builds)
    day = loaded.days[1]
    loaded.materialize(dg.AssetKey("orders"), partition=day)
    loaded.materialize(ORDERS, partition=day)
    loaded.rest()
    assert named(loaded, start).count(f"orders[{day}]") == 2, "once by hand, and once after its upstream"


def test_an_upstream_that_is_loaded_while_its_reader_is_built_is_not_lost(loaded: World) -> None:
    day = loaded.days[1]
    loaded.materialize(ITEMS, partition=day)
    loaded.rest()
    start = len(loaded.builds)

    def load_once() -> None:
        loaded.during_build = lambda: None
        loaded.instance.report_runless_asset_event(dg.AssetMaterialization(ORDERS, partition=day))

    loaded.materialize(ORDERS, partition=day)
    loaded.materialize(dg.AssetKey("stg_orders"))
    loaded.during_build = load_once
    loaded.materialize(dg.AssetKey("orders"), partition=day)
    loaded.rest()
    assert named(loaded, start).count(f"orders[{day}]") == 2, "once with the older rows, and once more"


def test_a_failed_check_stops_the_other_location_and_its_mend_releases_one_run(loaded: World) -> None:
    start, day = len(loaded.builds), loaded.days[1]
    loaded.bad_days[ORDERS] = {day}
    assert not loaded.materialize(ORDERS, partition=day)
    for _ in range(4):
        assert loaded.tick() == []
        assert loaded.look() == []
    loaded.bad_days[ORDERS] = set()
    assert loaded.materialize(ORDERS, partition=day)
    loaded.rest()
    assert named(loaded, start).count(f"orders[{day}]") == 1
    assert named(loaded, start).count("customers") == 1


@pytest.mark.parametrize(
    ("check", "reader", "table"),
    [
        ("stg_orders:unique_stg_orders_id", "orders", ORDERS),
        # Another view stands between this one and its reader.
        ("stg_items:not_null_stg_items_id", "lines", ITEMS),
    ],
)
def test_a_failed_test_of_a_view_stops_its_readers(loaded: World, check: str, reader: str, table: dg.AssetKey) -> None:
    start, day = len(loaded.builds), loaded.days[1]
    view, name = check.split(":")
    loaded.bad_checks.add(dg.AssetCheckKey(dg.AssetKey(view), name))
    loaded.materialize(table, partition=day)
    for _ in range(4):
        loaded.tick()
        loaded.look()
    assert f"{reader}[{day}]" not in named(loaded, start)
    loaded.bad_checks.clear()
    loaded.materialize(dg.AssetKey(view))
    loaded.rest()
    assert f"{reader}[{day}]" in named(loaded, start)


def test_what_was_pending_at_a_reload_with_another_graph_is_built(
    loaded: World, changed_project: dg.Definitions
) -> None:
    start, day = len(loaded.builds), loaded.days[1]
    loaded.materialize(ORDERS, ITEMS, partition=day)
    loaded.load(changed_project)
    loaded.rest()
    built = named(loaded, start)
    assert built.count(f"orders[{day}]") == built.count(f"lines[{day}]") == 1
    assert [build for build in built if build.startswith("line_counts")] == [
        f"line_counts[{each}]" for each in loaded.days[:-1]
    ], "a new model is built for all days that are there"


def test_a_run_that_fails_is_tried_again_three_times_and_then_once_an_hour(loaded: World) -> None:
    day = loaded.days[1]
    lines = dg.AssetKey("lines")
    loaded.failing[lines] = 1000
    loaded.materialize(ITEMS, partition=day)
    requests = []
    for _ in range(30):
        loaded.tick()
        requests += loaded.look()
    assert [request.tags.get("headrace/repeats") for request in requests] == [None, "true", "true"]
    assert 1000 - loaded.failing[lines] == 1 + 3
    for _ in range(60):
        loaded.look()
    assert 1000 - loaded.failing[lines] == 1 + 3 + 1
    start = len(loaded.builds)
    loaded.failing.clear()
    loaded.materialize(ITEMS, partition=day)
    loaded.rest()
    assert f"lines[{day}]" in named(loaded, start)


def test_a_passing_failure_is_healed(loaded: World) -> None:
    day = loaded.days[1]
    start = len(loaded.builds)
    loaded.failing[dg.AssetKey("lines")] = 2
    loaded.materialize(ITEMS, partition=day)
    loaded.rest()
    assert named(loaded, start).count(f"lines[{day}]") == 1

"""What the main job plans, from a graph and a history that Dagster's storage could have."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from dagster import (
    AssetKey,
    DailyPartitionsDefinition,
    HourlyPartitionsDefinition,
    MonthlyPartitionsDefinition,
    PartitionsDefinition,
    TimeWindowPartitionMapping,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.plan import BuildPlan, History, plan_build
from headrace_staleness import Partition

# Within January, so its month began before the first partition.
START = date(2024, 1, 15)
FIRST, LAST = date(2024, 1, 29), date(2024, 2, 2)
DAYS = ["2024-01-29", "2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02"]
DAILY = DailyPartitionsDefinition(START.isoformat())
HOURLY = HourlyPartitionsDefinition(f"{START}-00:00")
MONTHLY = MonthlyPartitionsDefinition("2024-01-01")

Histories = Mapping[AssetKey, History]
Sources = Mapping[AssetKey, Mapping[Partition, str]]


def node(
    name: str,
    *parents: str,
    partitions: PartitionsDefinition[str] | None = None,
    is_view: bool = False,
    code: str | None = "1",
) -> AssetNode:
    keys = frozenset(AssetKey(parent.split("/")) for parent in parents)
    return AssetNode(AssetKey(name.split("/")), "here", keys, partitions, code, is_view)


NODES = [
    node("raw/stores", code=None),
    node("raw/orders", partitions=DAILY, code=None),
    node("stg_stores", "raw/stores", is_view=True),
    node("stg_orders", "raw/orders", is_view=True),
    node("catalog", "stg_stores", is_view=True),
    node("orders", "stg_orders", "catalog", partitions=DAILY),
    node("hours", "orders", partitions=HOURLY),
    node("months", "orders", partitions=MONTHLY),
    node("shown", "orders", is_view=True),
    node("stores", "stg_stores", "orders"),
    node("lonely"),
]
BY_NAME = {item.key.to_user_string(): item for item in NODES}
RAW_ORDERS, RAW_STORES = AssetKey(["raw", "orders"]), AssetKey(["raw", "stores"])
SOURCES: Sources = {
    RAW_ORDERS: {day: f"hash of {day}" for day in DAYS},
    RAW_STORES: {None: "hash of stores"},
}


def plan(
    history: Histories,
    sources: Sources = SOURCES,
    *,
    first: date = FIRST,
    last: date = LAST,
    nodes: Iterable[AssetNode] = NODES,
    everything: bool = False,
) -> BuildPlan:
    return plan_build(list(nodes), history, sources, first, last, everything=everything)


def named(built: BuildPlan) -> dict[str, list[Partition]]:
    return {key.to_user_string(): list(keys) for key, keys in built.partitions.items()}


def build(
    planned: BuildPlan, history: Histories, sources: Sources = SOURCES, nodes: Iterable[AssetNode] = NODES
) -> dict[AssetKey, History]:
    """Return the history after a build of the plan."""
    last_id = max((id_ for known in history.values() for id_ in known.storage_ids.values()), default=0)
    built = dict(history)
    for item in nodes:
        known = built.get(item.key, History())
        for key in planned.partitions.get(item.key, ()):
            last_id += 1
            code = item.code_version or ""
            same_code = known.code_since is not None and set(known.code_versions.values()) == {code}
            known = History(
                storage_ids={**known.storage_ids, key: last_id},
                code_versions={**known.code_versions, key: code},
                code_since=known.code_since if same_code else last_id,
                sources={**known.sources, key: sources.get(item.key, {}).get(key, "")},
            )
        built[item.key] = known
    return built


def changed(history: Histories, name: str, **changes: object) -> Histories:
    key = BY_NAME[name].key
    return {**history, key: replace(history[key], **changes)}  # type: ignore[arg-type]  # the caller's own fields


def rewritten(name: str) -> list[AssetNode]:
    return [replace(item, code_version="2") if item.key == BY_NAME[name].key else item for item in NODES]


def hours(day: str) -> list[Partition]:
    return [f"{day}-{hour:02}:00" for hour in range(24)]


def below(day: str) -> dict[str, list[Partition]]:
    """Return what is built of and below the orders of a day."""
    return {"orders": [day], "hours": hours(day), "months": [f"{day[:7]}-01"], "stores": [None]}


@pytest.fixture
def whole() -> Histories:
    """Return the history after everything was built once."""
    return build(plan({}), {})


def test_nothing_built_plans_all_partitions_of_the_days() -> None:
    planned = plan({})
    assert named(planned) == {
        **{name: [None] for name in BY_NAME},
        "raw/orders": DAYS,
        "orders": DAYS,
        "hours": [hour for day in DAYS for hour in hours(day)],
        # The first one began before HEADRACE_START and before the days.
        "months": ["2024-01-01", "2024-02-01"],
    }
    assert planned.size == 2 * 5 + 5 * 24 + 2 + 7
    assert list(planned.partitions) == [item.key for item in NODES]


def test_neighbours_are_one_range(whole: Histories) -> None:
    files = {**SOURCES[RAW_ORDERS], "2024-01-29": "new", "2024-01-31": "new", "2024-02-01": "new"}
    ranges = plan(whole, {RAW_ORDERS: files}).ranges
    assert ranges[AssetKey("orders")] == [("2024-01-29", "2024-01-29"), ("2024-01-31", "2024-02-01")]
    assert ranges[AssetKey("hours")] == [
        ("2024-01-29-00:00", "2024-01-29-23:00"),
        ("2024-01-31-00:00", "2024-02-01-23:00"),
    ]
    assert ranges[AssetKey("months")] == [("2024-01-01", "2024-02-01")]
    assert ranges[AssetKey("stores")] == []


def test_after_a_build_all_is_fresh_and_everything_is_all_the_same(whole: Histories) -> None:
    assert plan(whole).size == 0
    assert named(plan(whole, everything=True)) == named(plan({}))


def test_one_day_of_history_does_not_make_a_month_fresh_for_a_later_day() -> None:
    day = build(plan({}, first=FIRST, last=FIRST), {})
    planned = named(plan(day, first=date(2024, 1, 30), last=date(2024, 1, 30)))
    assert planned == {**below("2024-01-30"), "raw/orders": ["2024-01-30"], "stg_orders": [None]}


@pytest.mark.parametrize("day", DAYS)
def test_a_changed_raw_day_plans_that_day_its_hours_its_month_and_the_marts(whole: Histories, day: str) -> None:
    planned = named(plan(whole, {RAW_ORDERS: {**SOURCES[RAW_ORDERS], day: "another hash"}}))
    assert planned == {**below(day), "raw/orders": [day], "stg_orders": [None]}


def test_a_file_of_a_day_outside_the_range_is_not_looked_at(whole: Histories) -> None:
    assert plan(whole, {RAW_ORDERS: {"2024-01-29": "another hash"}}, first=date(2024, 1, 30)).size == 0


def test_a_changed_reference_table_is_looked_through_its_views(whole: Histories) -> None:
    planned = named(plan(whole, {RAW_STORES: {None: "another hash"}}))
    assert planned == {
        "raw/stores": [None],
        "stg_stores": [None],
        "catalog": [None],
        "orders": DAYS,
        "hours": [hour for day in DAYS for hour in hours(day)],
        "months": ["2024-01-01", "2024-02-01"],
        "stores": [None],
    }


def test_an_upstream_that_was_built_alone_is_newer(whole: Histories) -> None:
    ids = whole[AssetKey("orders")].storage_ids
    planned = named(plan(changed(whole, "orders", storage_ids={**ids, "2024-01-31": 10_000})))
    assert planned == {"hours": hours("2024-01-31"), "months": ["2024-01-01"], "stores": [None]}


def test_a_changed_table_is_built_with_what_is_below(whole: Histories) -> None:
    planned = named(plan(whole, nodes=rewritten("months")))
    assert planned == {"months": ["2024-01-01", "2024-02-01"]}
    planned = named(plan(whole, nodes=rewritten("orders")))
    assert set(planned) == {"orders", "hours", "months", "stores"}
    assert planned["orders"] == DAYS


def test_partitions_that_were_not_built_with_the_new_code_stay_stale(whole: Histories) -> None:
    nodes = rewritten("months")
    history = build(plan(whole, nodes=nodes, first=LAST), whole, nodes=nodes)
    assert named(plan(history, nodes=nodes)) == {"months": ["2024-01-01"]}


def test_a_view_of_which_nothing_is_made_is_built_alone(whole: Histories) -> None:
    assert named(plan(whole, nodes=rewritten("shown"))) == {"shown": [None]}


def test_a_changed_view_is_built_with_the_tables_made_of_it(whole: Histories) -> None:
    nodes = rewritten("catalog")
    planned = plan(whole, nodes=nodes)
    assert set(named(planned)) == {"catalog", "orders", "hours", "months", "stores"}
    assert named(planned)["orders"] == DAYS
    # As after an interruption: the view is there, the tables are still of the old one.
    view_only = BuildPlan({AssetKey("catalog"): [None]}, {})
    history = build(view_only, whole, nodes=nodes)
    assert set(named(plan(history, nodes=nodes))) == {"orders", "hours", "months", "stores"}
    # And the view built once more, with the same code, changes nothing for tables that are newer than that code.
    history = build(view_only, build(planned, whole, nodes=nodes), nodes=nodes)
    assert plan(history, nodes=nodes).size == 0


def test_a_partition_that_failed_its_check_is_built_again(whole: Histories) -> None:
    planned = named(plan(changed(whole, "orders", failed={"2024-02-01"})))
    assert planned == below("2024-02-01")


def test_a_missing_partition_is_built_although_its_upstream_is_fresh(whole: Histories) -> None:
    ids = dict(whole[AssetKey("hours")].storage_ids)
    del ids["2024-01-30-07:00"]
    assert named(plan(changed(whole, "hours", storage_ids=ids))) == {"hours": ["2024-01-30-07:00"]}


def test_days_before_the_first_partition_have_none() -> None:
    planned = named(plan({}, first=date(2024, 1, 1), last=START))
    assert planned["orders"] == ["2024-01-15"]
    assert planned["months"] == ["2024-01-01"]


def test_partitions_that_have_not_ended_do_not_exist() -> None:
    today = datetime.now(UTC).date()
    planned = named(plan({}, first=today - timedelta(days=1), last=today))
    assert planned["orders"] == [(today - timedelta(days=1)).isoformat()]


OFFSETS = st.integers(0, 20)
NAMES = st.sampled_from(sorted(BY_NAME))


@settings(max_examples=40)
@given(first=OFFSETS, length=OFFSETS, start=OFFSETS, forgotten=st.sets(NAMES), rewrites=st.sets(NAMES))
@pytest.mark.slow
def test_building_a_plan_leaves_nothing_to_build(
    first: int, length: int, start: int, forgotten: Collection[str], rewrites: Collection[str]
) -> None:
    sources: Sources = {
        RAW_ORDERS: {(START + timedelta(days=number)).isoformat(): "" for number in range(60)},
        RAW_STORES: {None: ""},
    }
    days = START + timedelta(days=first), START + timedelta(days=first + length)
    before = START + timedelta(days=start)
    history: Histories = build(plan({}, sources, first=before, last=before), {}, sources)
    history = {key: known for key, known in history.items() if key.to_user_string() not in forgotten}
    nodes = [replace(item, code_version="2") if item.key.to_user_string() in rewrites else item for item in NODES]
    planned = plan(history, sources, first=days[0], last=days[1], nodes=nodes)
    history = build(planned, history, sources, nodes)
    assert plan(history, sources, first=days[0], last=days[1], nodes=nodes).size == 0


def looking_back(days: int, *, through: bool = False) -> list[AssetNode]:
    """Return the graph with a table that reads some earlier days of `orders` too, as a model with lookback does."""
    trailing = node("trailing", "shown" if through else "orders", "orders", partitions=DAILY)
    mapping = TimeWindowPartitionMapping(start_offset=-days)
    return [*NODES, replace(trailing, mappings={AssetKey(["orders"]): mapping})]


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize(("days", "behind"), [(0, DAYS[1:2]), (2, DAYS[1:4]), (6, DAYS[1:])])
def test_a_revised_day_reaches_the_later_days_that_look_back_at_it(
    days: int, behind: list[str], *, through: bool
) -> None:
    nodes = looking_back(days, through=through)
    everything = plan_build(nodes, {}, SOURCES, FIRST, LAST)
    history = {
        key: History(
            storage_ids={partition: number for number, partition in enumerate(keys, 1 + 1000 * place)},
            code_versions=dict.fromkeys(keys, "1"),
            sources=SOURCES.get(key, {}),
        )
        for place, (key, keys) in enumerate(everything.partitions.items())
    }
    assert not plan_build(nodes, history, SOURCES, FIRST, LAST).size
    sources = {**SOURCES, RAW_ORDERS: {**SOURCES[RAW_ORDERS], DAYS[1]: "revised"}}
    planned = plan_build(nodes, history, sources, FIRST, LAST).partitions
    assert planned[AssetKey(["orders"])] == DAYS[1:2]
    assert planned[AssetKey(["trailing"])] == behind

"""What is still built after something failed: no more and no less than what does not read it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import (
    AssetKey,
    DailyPartitionsDefinition,
    HourlyPartitionsDefinition,
    MonthlyPartitionsDefinition,
    PartitionsDefinition,
    TimeWindowPartitionMapping,
)
from hypothesis import given
from hypothesis import strategies as st

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.plan import BuildPlan, plan_build
from headrace.main_job.rest import plan_rest

if TYPE_CHECKING:
    from headrace_staleness import Partition

DAYS = [f"2024-01-{day}" for day in (29, 30, 31)] + ["2024-02-01"]
FIRST, LAST = date(2024, 1, 29), date(2024, 2, 1)
DAILY = DailyPartitionsDefinition("2024-01-15", end_date="2024-03-01")
LOOKS_BACK = TimeWindowPartitionMapping(start_offset=-1)


def node(
    name: str,
    *parents: str,
    partitions: PartitionsDefinition[str] | None = None,
    is_view: bool = False,
    back_at: str | None = None,
) -> AssetNode:
    keys = frozenset(AssetKey(parent) for parent in parents)
    mappings = {AssetKey(back_at): LOOKS_BACK} if back_at else {}
    return AssetNode(AssetKey(name), "here", keys, partitions, "1", is_view, mappings=mappings)


NODES = [
    node("raw", partitions=DAILY),
    node("other_raw", partitions=DAILY),
    node("view", "raw", is_view=True),
    node("other_view", "other_raw", is_view=True),
    node("daily", "view", partitions=DAILY),
    node("both", "daily", "other_view", partitions=DAILY),
    node("looking_back", "daily", partitions=DAILY, back_at="daily"),
    node("hourly", "daily", partitions=HourlyPartitionsDefinition("2024-01-15-00:00", end_date="2024-03-01-00:00")),
    node("monthly", "daily", partitions=MonthlyPartitionsDefinition("2024-01-01", end_date="2024-03-01")),
    node("whole", "daily"),
    node("shown", "daily", is_view=True),
    node("apart", "other_view"),
]
BY_NAME = {item.key.to_user_string(): item for item in NODES}
PLAN = plan_build(NODES, {}, {}, FIRST, LAST)


def rest_of(failed: dict[str, set[Partition]], *, refused: set[str] = frozenset()) -> dict[str, list[Partition]]:  # type: ignore[assignment] # a set of none
    """Return the rest where these partitions failed, and what Dagster holds back was not tried."""
    tried = {"raw", "other_raw", *failed}
    built = {
        BY_NAME[name].key: [key for key in PLAN.partitions[BY_NAME[name].key] if key not in failed.get(name, ())]
        for name in tried
    }
    rest = plan_rest(NODES, PLAN, built, [BY_NAME[name].key for name in tried], [BY_NAME[name].key for name in refused])
    return named(rest)


def named(plan: BuildPlan) -> dict[str, list[Partition]]:
    return {key.to_user_string(): list(keys) for key, keys in plan.partitions.items()}


def hours(*days: str) -> list[Partition]:
    return [f"{day}-{hour:02}:00" for day in days for hour in range(24)]


def test_a_bad_day_holds_back_what_reads_it_and_nothing_else() -> None:
    good = [DAYS[0], DAYS[2], DAYS[3]]
    assert rest_of({"raw": {DAYS[1]}}) == {
        "view": [None],
        "other_view": [None],
        "daily": good,
        "both": good,
        "looking_back": [DAYS[0], DAYS[3]],
        "hourly": hours(*good),
        "monthly": ["2024-02-01"],
        "apart": [None],
    }


def test_what_reads_itself_ends_at_the_first_that_is_held_back() -> None:
    raw = node("raw", partitions=DAILY)
    sums = node("sums", "raw", partitions=DAILY, back_at="sums")
    plan = plan_build([raw, sums], {}, {}, FIRST, LAST)
    rest = plan_rest([raw, sums], plan, {raw.key: [DAYS[0], DAYS[2], DAYS[3]]}, [raw.key], [])
    assert named(rest) == {"sums": [DAYS[0]]}


def test_an_error_of_a_check_holds_back_all_that_reads_the_asset() -> None:
    assert rest_of({}, refused={"raw"}) == {"other_view": [None], "apart": [None]}


def test_a_view_that_failed_holds_back_all_that_is_read_through_it() -> None:
    assert rest_of({"view": {None}}) == {"other_view": [None], "apart": [None]}


def test_nothing_is_left_where_all_was_tried() -> None:
    keys = [item.key for item in NODES]
    assert plan_rest(NODES, PLAN, {}, keys, []).size == 0
    assert plan_rest(NODES, PLAN, PLAN.partitions, keys, []).size == 0


def test_ranges_are_those_of_neighbours() -> None:
    built = {BY_NAME["raw"].key: [DAYS[0], DAYS[2], DAYS[3]], BY_NAME["other_raw"].key: DAYS}
    rest = plan_rest(NODES, PLAN, built, [*built], [])
    assert rest.ranges[BY_NAME["daily"].key] == [(DAYS[0], DAYS[0]), (DAYS[2], DAYS[3])]
    assert rest.ranges[BY_NAME["view"].key] == []


@given(
    st.dictionaries(st.sampled_from(["raw", "other_raw", "daily"]), st.sets(st.sampled_from(DAYS), min_size=1)),
    st.sets(st.sampled_from(["raw", "other_raw"])),
)
def test_no_more_and_no_less_than_what_does_not_read_it(failed: dict[str, set[Partition]], refused: set[str]) -> None:
    tried = {"raw", "other_raw", *failed, *(["view"] if "daily" in failed else [])}
    bad = {(name, key) for name, keys in failed.items() for key in keys}
    bad |= {(name, key) for name in refused for key in PLAN.partitions[BY_NAME[name].key]}
    for item in NODES:
        name = item.key.to_user_string()
        for key in PLAN.partitions.get(item.key, ()) if name not in tried and not item.is_virtual else ():
            if any(reads(name, key, parent, other) for parent, other in bad):
                bad.add((name, key))
    expected = {
        (name, key)
        for name, item in BY_NAME.items()
        for key in PLAN.partitions.get(item.key, ())
        if name not in tried and not item.is_virtual and (name, key) not in bad
    }
    built = {
        BY_NAME[name].key: [key for key in PLAN.partitions[BY_NAME[name].key] if key not in failed.get(name, ())]
        for name in tried
    }
    rest = plan_rest(NODES, PLAN, built, [*built], [BY_NAME[name].key for name in refused])
    found = {(name, key) for name, keys in named(rest).items() for key in keys if not BY_NAME[name].is_virtual}
    assert found == expected


def reads(name: str, key: Partition, parent: str, other: Partition) -> bool:
    """Return whether a partition reads another one, looked at a day after the other, through views."""
    above = {each.to_user_string() for each in BY_NAME[name].parents}
    while any(BY_NAME[each].is_virtual for each in above):
        above |= {up.to_user_string() for each in above for up in BY_NAME[each].parents}
        above = {each for each in above if not BY_NAME[each].is_virtual}
    if parent not in above:
        return False
    start, end = span(name, key)
    if name == "looking_back":
        start -= timedelta(days=1)
    other_start, other_end = span(parent, other)
    return start < other_end and other_start < end


def span(name: str, key: Partition) -> tuple[datetime, datetime]:
    if key is None:
        return datetime.min.replace(tzinfo=UTC) + timedelta(days=2), datetime.max.replace(tzinfo=UTC)
    if name == "hourly":
        start = datetime.strptime(key, "%Y-%m-%d-%H:%M").replace(tzinfo=UTC)
        return start, start + timedelta(hours=1)
    start = datetime.fromisoformat(key).replace(tzinfo=UTC)
    return start, (start + timedelta(days=31)).replace(day=1) if name == "monthly" else start + timedelta(days=1)

"""A new export day arrives in the marts by itself: real servers, the real daemon, and no hand touching it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from marts import assert_marts_equal_exports
from served import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from served import Served
    from tests.conftest import OpenShop

pytestmark = [
    pytest.mark.slow("waits for ticks of Dagster's daemon: a day takes half a minute to arrive"),
    pytest.mark.timeout(900),
    pytest.mark.some_of("lives of minutes", 1),
]

# The new day is the last that the month lacks: a month waits for all of its days.
FIRST, OLD, NEW = "2024-01-29", "2024-01-30", "2024-01-31"
DAILY = ("order_items", "orders", "customer_days")
LIFETIME = ("customers", "products", "locations")


@pytest.fixture
def live(tmp_path: Path, open_shop: OpenShop) -> Iterator[Served]:
    """Build two days by the main job, which leaves its servers and the daemon up."""
    # Its exports are renamed into place: `headrace demo-data` writes them elsewhere.
    shop = replace(open_shop(tmp_path / "shop", FIRST), more={"HEADRACE_SETTLED_SECONDS": "0"})
    shop.demo_data("--from", FIRST, "--to", OLD, "--orders-per-day", "60")
    with serving(shop) as served:
        yield served


def built_for(day: str, *raw: str) -> Mapping[str, Counter[str | None]]:
    """Return what has to be loaded and built for a day that arrived."""
    return {
        **{name: Counter([day]) for name in (*raw, *DAILY)},
        "store_hours": Counter(f"{day}-{hour:02}:00" for hour in range(24)),
        "store_months": Counter([f"{day[:7]}-01"]),
        **{name: Counter[str | None]([None]) for name in LIFETIME},
    }


def test_a_day_arrives_in_the_marts_by_itself(live: Served, capsys: pytest.CaptureFixture[str]) -> None:
    shop, start, began = live.shop, live.shop.last_id(), time.time()
    live.wait_until(lambda: live.at_rest(began), "rest after the main job", 120)
    assert shop.events(after=start) == {}, "the main job had built all of it"

    dropped = time.time()
    shop.demo_data("--from", FIRST, "--to", NEW, "--orders-per-day", "60")
    new = built_for(NEW, "raw/orders", "raw/items", "raw/tweets")
    live.wait_until(lambda: holds(counted(live, start), new), "the new day in each mart", 300)
    arrived = time.time()

    shop.demo_data("--revise", OLD)
    corrected = built_for(OLD, "raw/orders", "raw/items")
    both = {name: new[name] + corrected.get(name, Counter()) for name in new}
    live.wait_until(lambda: holds(counted(live, start), both), "the corrected day in each mart", 300)
    ended = time.time()
    live.wait_until(lambda: live.at_rest(ended), "rest after the corrected day", 300)
    # These and no others, once for each time that its inputs changed. Views hold nothing.
    found = {name: built for name, built in counted(live, start).items() if not name.startswith(("stg_", "int_"))}
    assert {name: set(built) for name, built in found.items()} == {name: set(built) for name, built in both.items()}
    # Where ticks take longer than what they look at, a day may be built once more; its rows are the same.
    more = {name: built - both[name] for name, built in found.items()}
    assert max((count for built in more.values() for count in built.values()), default=0) <= 1, found
    assert_marts_equal_exports(shop, [FIRST, OLD, NEW])
    with capsys.disabled():
        print(  # noqa: T201 - what was measured
            f"\nfrom the export to every mart: new day {arrived - dropped:.0f} s, corrected day {ended - arrived:.0f} s"
        )


def counted(live: Served, after: int) -> Mapping[str, Counter[str | None]]:
    found = live.shop.events(after=after, opened=live.instance)
    return {name: Counter(partition for _, partition, _ in events) for name, events in found.items()}


def holds(found: Mapping[str, Counter[str | None]], wanted: Mapping[str, Counter[str | None]]) -> bool:
    return all(found.get(name, Counter()) >= built for name, built in wanted.items())

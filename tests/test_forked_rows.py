"""Runs that are forks of a location that `dg dev` keeps loaded build the rows that the exports say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dagster import RunsFilter
from marts import assert_marts_equal_exports
from served import UNFINISHED, developing

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from served import Served
    from tests.conftest import OpenShop

pytestmark = [
    pytest.mark.slow("waits for the daemon of `dg dev`, which builds two days anew"),
    pytest.mark.timeout(900),
]

UNDER_WAY = RunsFilter(statuses=UNFINISHED)
DAYS = ["2024-01-29", "2024-01-30", "2024-01-31"]
MARTS = {"order_items", "orders", "customer_days", "store_hours", "store_months", "customers", "products", "locations"}


def forked(served: Served) -> Collection[str]:
    """Return the assets that runs have built which were forks."""
    found: set[str] = set()
    for run in served.instance.get_runs():
        said = [event.message or "" for event in served.instance.all_logs(run.run_id)]
        if any("Forked a process for the run" in text for text in said):
            found |= {key.to_user_string() for key in run.asset_selection or ()}
    return found


def built(served: Served, after: int) -> Collection[str]:
    """Return the assets that were built since a materialization."""
    return {name for name, events in served.shop.events(after=after, opened=served.instance).items() if events}


@pytest.mark.some_of("other targets and workers", 2)
def test_marts_of_forks_under_dg_dev_equal_the_exports(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = open_shop(tmp_path / "shop", DAYS[0])
    shop.demo_data("--from", DAYS[0], "--to", DAYS[-1], "--orders-per-day", "30")
    shop.run()
    with developing(shop) as served:
        # The first run of a location loads it for those that follow.
        for day in DAYS[:2]:
            last = shop.last_id()
            shop.demo_data("--revise", day)
            served.wait_until(lambda last=last: built(served, last) >= MARTS, f"{day} in all marts", 400)
        served.wait_until(lambda: served.instance.get_runs_count(UNDER_WAY) == 0, "the end of the runs", 60)
        assert forked(served) >= MARTS
        assert_marts_equal_exports(shop, DAYS)

"""What an engineer sees and does in the browser after `make dev`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from dagster import AssetCheckKey, AssetKey, AssetRecordsFilter, DagsterInstance, DagsterRunStatus
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.browser.conftest import Dev

# The first test starts `make dev`; others wait for the daemon to load and build days, at its ticks of 30 s.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ORDERS, TWEETS = AssetKey(["raw", "orders"]), AssetKey(["raw", "tweets"])

# An edge is drawn from the middle of one box's right side to the middle of the other's left side, or just before it.
EDGES = """
() => {
  const boxes = [...document.querySelectorAll("foreignObject")]
    .filter((box) => box.textContent.includes("Latest event"))
    .map((box) => {
      const [x, y, width, height] = ["x", "y", "width", "height"].map((name) => Number(box.getAttribute(name)));
      return { name: box.textContent.split("Latest event")[0], left: x, right: x + width, middle: y + height / 2 };
    });
  const near = (one, other) => Math.abs(one - other) < 8;
  return [...document.querySelectorAll("svg path[marker-end]")].map((path) => {
    const numbers = path.getAttribute("d").match(/-?[0-9.]+/g).map(Number);
    const [startX, startY, endX, endY] = [...numbers.slice(0, 2), ...numbers.slice(-2)];
    const from = boxes.find((box) => near(box.right, startX) && near(box.middle, startY));
    const to = boxes.find((box) => near(box.left, endX) && near(box.middle, endY));
    return [from ? from.name : "?", to ? to.name : "?"];
  });
}
"""


def test_the_lineage_page_joins_the_locations(page: Page) -> None:
    page.goto("/assets/raw/orders?view=lineage&lineageScope=downstream&lineageDepth=2")
    expect(page.get_by_text("order_items", exact=True)).to_be_visible()
    expect(page.get_by_text("Loading...")).to_have_count(0)
    wanted = {
        ("orders", "stg_orders"),
        ("stg_orders", "order_items"),
        ("stg_orders", "orders"),
        ("order_items", "orders"),
    }
    # Its edges come after its nodes.
    deadline = time.monotonic() + 60
    while (found := {tuple(edge) for edge in page.evaluate(EDGES)}) != wanted and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert found == wanted


@pytest.mark.parametrize(("asset", "location"), [("raw/orders", "ingest"), ("order_items", "analytics")])
def test_an_asset_says_which_location_has_it(page: Page, asset: str, location: str) -> None:
    page.goto(f"/assets/{asset}")
    expect(page.locator(f'a[href="/locations/{location}/"]')).to_be_visible()


def test_a_partition_is_materialized_from_the_page(page: Page, dev: Dev) -> None:
    day = dev.days[2]
    dev.wait_until(lambda instance: day in instance.get_materialized_partitions(ORDERS), "the sensor's load", 180)
    page.goto("/assets/raw/orders?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    chosen = dialog.get_by_placeholder("No matching partitions")
    chosen.fill(day)
    chosen.press("Enter")
    expect(dialog.get_by_text("1 partition", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch 1 run").click()
    launched = page.get_by_text(re.compile(r"Launched run\s*[0-9a-f]{8}")).last
    expect(launched).to_be_visible()
    short_id = re.findall(r"Launched run\s*([0-9a-f]{8})", launched.text_content() or "")[0]

    def is_over(instance: DagsterInstance) -> bool:
        return any(run.run_id.startswith(short_id) and run.is_finished for run in instance.get_runs(limit=50))

    dev.wait_until(is_over, "the run of the page", 180)
    page.goto(f"/assets/raw/orders?view=partitions&partition={quote(day)}")
    link = page.get_by_role("link", name=short_id)
    expect(link).to_be_visible()
    link.click()
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    with dev.instance() as instance:
        (run,) = (run for run in instance.get_runs(limit=50) if run.run_id.startswith(short_id))
        assert run.status is DagsterRunStatus.SUCCESS
        assert run.asset_selection == {ORDERS}
        records = instance.fetch_materializations(AssetRecordsFilter(ORDERS, asset_partitions=[day]), limit=10).records
        assert [record.run_id for record in records].count(run.run_id) == 1
        assert records[0].run_id == run.run_id


def test_a_failed_check_is_seen_on_its_asset(page: Page, dev: Dev) -> None:
    def has_failed(instance: DagsterInstance) -> bool:
        check = AssetCheckKey(TWEETS, "not_empty")
        records = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
        return any(record.status.value == "FAILED" for record in records)

    dev.wait_until(has_failed, "the check of the sensor's load", 180)
    page.goto("/assets/raw/tweets?view=checks&checkDetail=not_empty")
    expect(page.get_by_text(f"no rows in {dev.empty_day}")).to_be_visible()
    expect(page.get_by_text("This is a blocking asset check.")).to_be_visible()
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible()

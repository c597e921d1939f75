"""A new export day arrives in the marts by itself: real servers, the real daemon, and no hand touching it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from marts import assert_marts_equal_exports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.conftest import OpenShop, Shop

pytestmark = [
    pytest.mark.slow("waits for ticks of Dagster's daemon: a day takes a minute to arrive"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[1]
# The new day is the last that the month lacks: a month waits for all of its days.
FIRST, OLD, NEW = "2024-01-29", "2024-01-30", "2024-01-31"
DAILY = ("order_items", "orders", "customer_days")
LIFETIME = ("customers", "products", "locations")
UNFINISHED = [status for status in DagsterRunStatus if status.value not in {"SUCCESS", "FAILURE", "CANCELED"}]

TICKS = """
{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { ... on RepositoryLocation {
  repositories { sensors { name sensorState { status ticks(limit: 1) {
    status timestamp runIds skipReason error { message } } } } } } } } } } }
"""


@dataclass(frozen=True)
class Live:
    """A shop whose servers and daemon run.

    Args:
        shop: the shop.
        url: its webserver.
        command: the command that serves it.
        log: what that says.
        instance: its history; to open it takes a third of a second, and it is asked each second.
    """

    shop: Shop
    url: str
    command: subprocess.Popen[bytes]
    log: Path
    instance: DagsterInstance

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.command.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s; {self.state()}"
            time.sleep(1)

    def at_rest(self, since: float) -> bool:
        """Return whether no run is going and each sensor has looked since the last one, and found nothing to do."""
        if self.instance.get_runs_count(RunsFilter(statuses=UNFINISHED)):
            return False
        ended = max((record.end_time or 0 for record in self.instance.get_run_records(limit=20)), default=0)
        ticks = self.ticks()
        assert [tick for tick in ticks.values() if tick and tick["error"]] == []
        return all(
            tick is not None
            and tick["timestamp"] > max(since, ended)
            and tick["status"] in {"SUCCESS", "SKIPPED"}
            and not tick["runIds"]
            # What is behind is seen twice before it is healed.
            and "behind" not in (tick["skipReason"] or "")
            for tick in ticks.values()
        )

    def ticks(self) -> Mapping[str, dict[str, Any] | None]:
        """Return the last tick of each sensor that runs."""
        answer = requests.post(f"{self.url}/graphql", json={"query": TICKS}, timeout=60).json()["data"]
        locations = [entry["locationOrLoadError"] for entry in answer["workspaceOrError"]["locationEntries"]]
        sensors = [
            sensor
            for location in locations
            for repository in location["repositories"]
            for sensor in repository["sensors"]
        ]
        return {
            sensor["name"]: next(iter(sensor["sensorState"]["ticks"]), None)
            for sensor in sensors
            if sensor["sensorState"]["status"] == "RUNNING"
        }

    def state(self) -> str:
        runs = [
            f"{run.run_id} {run.status.value} {[key.to_user_string() for key in run.asset_selection or ()]}"
            for run in self.instance.get_runs(limit=20)
        ]
        return "\n".join([*runs, str(self.ticks())])


@pytest.fixture
def live(tmp_path: Path, open_shop: OpenShop) -> Iterator[Live]:
    """Build two days by the main job, which leaves its servers and the daemon up."""
    shop = open_shop(tmp_path / "shop", FIRST)
    shop.demo_data("--from", FIRST, "--to", OLD, "--orders-per-day", "60")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "headrace.log"
    with log.open("wb") as output:
        command = subprocess.Popen(
            [Path(sys.executable).with_name("headrace"), "run", "--serve", "--port", str(port)],
            cwd=ROOT,
            env=shop.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        # Its storage is made by the command.
        deadline = time.monotonic() + 240
        while "until Ctrl-C" not in log.read_text():
            assert command.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the main job does not end; {log.read_text()}"
            time.sleep(0.5)
        with shop.instance() as instance:
            yield Live(shop, f"http://127.0.0.1:{port}", command, log, instance)
    finally:
        command.terminate()
        command.wait(60)
    assert shop.left() == []


def built_for(day: str, *raw: str) -> Mapping[str, Counter[str | None]]:
    """Return what has to be loaded and built for a day that arrived."""
    return {
        **{name: Counter([day]) for name in (*raw, *DAILY)},
        "store_hours": Counter(f"{day}-{hour:02}:00" for hour in range(24)),
        "store_months": Counter([f"{day[:7]}-01"]),
        **{name: Counter[str | None]([None]) for name in LIFETIME},
    }


def test_a_day_arrives_in_the_marts_by_itself(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    shop, start, began = live.shop, live.shop.last_id(), time.time()
    live.wait_until(lambda: live.at_rest(began), "rest after the main job", 120)
    assert shop.events(after=start) == {}, "the main job had built all of it"

    # Written to a folder of its own, each file then moves into place.
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


def counted(live: Live, after: int) -> Mapping[str, Counter[str | None]]:
    found = live.shop.events(after=after, opened=live.instance)
    return {name: Counter(partition for _, partition, _ in events) for name, events in found.items()}


def holds(found: Mapping[str, Counter[str | None]], wanted: Mapping[str, Counter[str | None]]) -> bool:
    return all(found.get(name, Counter()) >= built for name, built in wanted.items())

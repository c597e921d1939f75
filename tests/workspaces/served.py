"""A shop whose servers and daemon run, as `headrace run --serve` leaves them or `dg dev` starts them."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import TickStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from dagster._core.scheduler.instigation import InstigatorTick
    from tests.conftest import Shop

ROOT = Path(__file__).parents[2]

ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
UNFINISHED = [status for status in DagsterRunStatus if status.value not in ENDED]
LAUNCH = """
mutation ($location: String!, $assets: [AssetKeyInput!], $tags: [ExecutionTag!], $config: RunConfigData) {
  launchRun(executionParams: {
    selector: {repositoryLocationName: $location, repositoryName: "__repository__", jobName: "__ASSET_JOB",
               assetSelection: $assets},
    runConfigData: $config, executionMetadata: {tags: $tags} }) {
      __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
SENSORS = """
{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { ... on RepositoryLocation {
  repositories { sensors { name sensorState { status selectorId } } } } } } } } }
"""


@dataclass(frozen=True)
class Served:
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
        assert ticks, "no sensor runs"
        assert [tick.error for tick in ticks.values() if tick and tick.error] == []
        return all(
            tick is not None
            and tick.timestamp > max(since, ended)
            and tick.status in {TickStatus.SUCCESS, TickStatus.SKIPPED}
            and not tick.run_ids
            # What is behind is seen twice before it is healed.
            and "behind" not in (tick.skip_reason or "")
            for tick in ticks.values()
        )

    def ask(self, query: str, **variables: object) -> Any:
        """Return what Dagster's API answers."""
        asked = {"query": query, "variables": variables}
        answer = requests.post(f"{self.url}/graphql", json=asked, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(
        self, location: str, assets: Sequence[str], tags: Mapping[str, str], config: object = None
    ) -> Mapping[str, Any]:
        """Launch a run through the API, and return its answer."""
        answer: Mapping[str, Any] = self.ask(
            LAUNCH,
            location=location,
            assets=[{"path": asset.split("/")} for asset in assets],
            tags=[{"key": key, "value": value} for key, value in tags.items()],
            config=config or {},
        )["launchRun"]
        return answer

    def ended(self, runs: Sequence[str], seconds: float = 300) -> Mapping[str, DagsterRunStatus]:
        """Return how runs ended, once all of them have."""

        def statuses() -> Mapping[str, DagsterRunStatus]:
            return {run: found.status for run in runs if (found := self.instance.get_run_by_id(run))}

        self.wait_until(lambda: all(status.value in ENDED for status in statuses().values()), "all runs", seconds)
        return statuses()

    def ticks(self) -> Mapping[str, InstigatorTick | None]:
        """Return the last tick of each sensor that runs.

        From the storage: to the API, ticks of servers at another port are those of another sensor.
        """
        locations = [entry["locationOrLoadError"] for entry in self.ask(SENSORS)["workspaceOrError"]["locationEntries"]]
        selectors = {
            sensor["sensorState"]["selectorId"]: f"{location_number} {sensor['name']}"
            for location_number, location in enumerate(locations)
            for repository in location["repositories"]
            for sensor in repository["sensors"]
            if sensor["sensorState"]["status"] == "RUNNING"
        }
        found = self.instance.get_batch_ticks(list(selectors), limit=1)
        return {name: next(iter(found.get(selector, ())), None) for selector, name in selectors.items()}

    def state(self) -> str:
        runs = [
            f"{run.run_id} {run.status.value} {[key.to_user_string() for key in run.asset_selection or ()]}"
            for run in self.instance.get_runs(limit=20)
        ]
        return "\n".join([*runs, str(self.ticks())])


@contextmanager
def serving(shop: Shop, *arguments: str) -> Iterator[Served]:
    """Run the main job, which leaves its servers up, and end them at the end."""
    port = _free_port()
    command = [Path(sys.executable).with_name("headrace"), "run", "--serve", "--port", str(port), *arguments]
    with _running(shop, command, shop.environment, port, "until Ctrl-C") as served:
        yield served


@contextmanager
def developing(shop: Shop) -> Iterator[Served]:
    """Run `dg dev` as `make dev` does, and end it at the end."""
    port = _free_port()
    told = [shlex.split(line) for line in shop.call("init").stdout.splitlines()]
    # `dg` looks for the programs of its environment on the PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = shop.environment | {"PATH": path}
    environment |= dict(words[1].split("=", 1) for words in told if words[0] == "export")
    command = [Path(sys.executable).with_name("dg"), "dev", "--use-active-venv", "--port", str(port)]
    with _running(shop, [*command, "--host", "127.0.0.1"], environment, port, "Serving dagster-webserver") as served:
        yield served


def addresses(shop: Shop) -> Collection[str]:
    """Return the addresses at which the processes of a shop listen: what others may reach is somebody's choice."""
    there = [each for each in psutil.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    # gRPC listens on IPv4 by a socket of IPv6.
    found = {each.laddr[0].removeprefix("::ffff:") for each in there if _is_of(each.pid, shop)}
    assert found
    return found


def _is_of(pid: int | None, shop: Shop) -> bool:
    with suppress(psutil.Error):
        return pid is not None and str(shop.folder) in " ".join(psutil.Process(pid).environ().values())
    return False


@contextmanager
def _running(
    shop: Shop, command: Sequence[str | Path], environment: Mapping[str, str], port: int, ready: str
) -> Iterator[Served]:
    log = shop.folder / "headrace.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        # Its storage is made by the command.
        deadline = time.monotonic() + 240
        while ready not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{ready}: not within four minutes; {log.read_text()}"
            time.sleep(0.5)
        found = addresses(shop)
        assert found <= {"127.0.0.1", "::1"}, found
        with shop.instance() as instance:
            yield Served(shop, f"http://127.0.0.1:{port}", process, log, instance)
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as a Ctrl-C at its terminal
        process.wait(60)
    assert shop.left() == []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""One location is deployed while runs of both go: nobody else notices, and a killed process costs only its own run.

Postgres, supervisor, webserver, daemon and both code servers are real processes, each from its own release.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import requests

from headrace.deployed.warm_locations import CodeServer

if TYPE_CHECKING:
    from tests.conftest import RunPostgres

pytestmark = [
    pytest.mark.slow("builds four releases, installs them beside Postgres, and waits for runs of a minute"),
    pytest.mark.timeout(1800),
]

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "headrace"
LOCATIONS = ("ingest", "analytics")

# What a user is promised, in seconds; a busy machine may take ten times as long.
PROMISED = 15
AT_MOST = 10 * PROMISED

SLOW = '''"""A job that goes on until it is told that it is enough, or terminated."""

import os
import time
from pathlib import Path

import dagster as dg


@dg.op
def wait() -> None:
    while not Path(os.environ["DAGSTER_HOME"], "enough").exists():
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def slow() -> None:
    wait()
'''
LAUNCH = """
mutation ($location: String!) { launchRun(executionParams: {
    selector: {repositoryLocationName: $location, repositoryName: "__repository__", jobName: "slow"}
}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
BACKFILL = """
mutation ($assets: [PartitionsByAssetSelector!]) {
    launchPartitionBackfill(backfillParams: {partitionsByAssets: $assets}) {
        __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } } } }
"""
RUNS_OF_A_BACKFILL = """
query ($id: String!) { runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) {
    ... on Runs { results { runId status } } } }
"""
RUNS = "{ runsOrError { ... on Runs { results { runId status parentRunId } } } }"
KEYS = "{ assetNodes { assetKey { path } } }"


@dataclass(frozen=True)
class Host:
    """An installation that serves, and the clone of which its releases are built."""

    folder: Path
    clone: Path
    port: int
    environment: Mapping[str, str]
    restart_postgres: Callable[[], None] = field(default=lambda: None)

    def call(self, *arguments: object, within: float | None = None) -> str:
        """Call `headrace release`, which must succeed, within so many seconds."""
        done = subprocess.run(
            [COMMAND, "release", *map(str, arguments)],
            check=False,
            cwd=self.clone,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=within,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def build(self, location: str) -> Path:
        return Path(
            self.call("build", location, "--out", self.folder.parent / "dist", "--env-file", self.folder / "env")
        )

    def deploy(self, location: str) -> None:
        self.call("deploy", location, self.build(location), "--to", self.folder)

    def pid(self, location: str) -> int:
        command = [COMMAND, "release", "status", "--to", str(self.folder), "--format", "json"]
        # Its exit code is 1 while something is starting.
        done = subprocess.run(command, check=False, env=dict(self.environment), capture_output=True, text=True)
        rows = json.loads(done.stdout)["processes"]
        (pid,) = [row["pid"] for row in rows if row["location"] == location and row["serves"]]
        return int(pid)

    def ask(self, query: str, **variables: object) -> Any:
        url = f"http://127.0.0.1:{self.port}/graphql"
        answer = requests.post(url, json={"query": query, "variables": variables}, timeout=30)
        answer.raise_for_status()
        return answer.json()["data"]

    def launch(self, location: str) -> str:
        """Launch a run that goes on until it is enough, and return its id once it goes."""
        launched = self.ask(LAUNCH, location=location)["launchRun"]
        run: str = launched["run"]["runId"]
        wait_until(lambda: self.runs()[run] == "STARTED", 300)
        return run

    @contextmanager
    def enough(self) -> Iterator[None]:
        """Let the runs end."""
        file = self.folder / "dagster/enough"
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def runs(self) -> dict[str, str]:
        return {run["runId"]: run["status"] for run in self.ask(RUNS)["runsOrError"]["results"]}

    def retries(self, run: str) -> list[str]:
        return [r["runId"] for r in self.ask(RUNS)["runsOrError"]["results"] if r["parentRunId"] == run]

    def commit(self, changed: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        for command in (("add", "--all"), (*identity, "commit", "--quiet", "--message", changed)):
            subprocess.run(["git", *command], check=True, cwd=self.clone)  # noqa: S607


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def host(run_postgres: "RunPostgres") -> Iterator[Host]:
    top = Path(tempfile.mkdtemp(prefix="hr-"))
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER_", "PYTHON"))
    }
    ports = _free_port(), _free_port()
    host = Host(top / "at", top / "clone", ports[0], inherited | {"UV_COMPILE_BYTECODE": "0"})
    _copy_workspace(host.clone)
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=host.clone)  # noqa: S607
    for location in LOCATIONS:
        (host.clone / "projects" / location / "src" / location / "defs/slow.py").write_text(SLOW)
    host.commit("all")
    host.call("init", host.folder)
    settings, env, instance = (host.folder / name for name in ("installation.toml", "env", "dagster/dagster.yaml"))
    # What is lost is looked for more often than each 15 s: the tests wait for it.
    instance.write_text(instance.read_text().replace("poll_interval_seconds: 15", "poll_interval_seconds: 2"))
    settings.write_text(settings.read_text().replace("3000", str(ports[0])).replace("14400", "120"))
    text = env.read_text().replace("PORT=5432", f"PORT={ports[1]}").replace("DB=dagster", "DB=postgres")
    text = text.replace("USER=dagster", "USER=postgres").replace("PASSWORD=", "PASSWORD=any")
    # A failed run is tried again when the daemon has read of it, each minute by default.
    env.write_text(f"{text}DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS=2\n")
    with run_postgres(top / "pg", ports[1]) as restart:
        supervisor = subprocess.Popen(
            [COMMAND, "release", "up", "--to", host.folder], env=dict(host.environment), start_new_session=True
        )
        try:
            wait_until((host.folder / "run/supervisor.sock").exists, 300)
            for location in ("platform", *LOCATIONS):
                host.deploy(location)
            yield replace(host, restart_postgres=restart)
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait(600)
    shutil.rmtree(top)


class Poller(threading.Thread):
    """Asks the webserver what a page asks, again and again; remembers the longest time that it failed."""

    def __init__(self, host: Host) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._ended = threading.Event()
        self.longest = 0.0
        self.polls = 0
        self.seen: float | None = None
        """When the new model was first in an answer, in seconds since the epoch."""

    def run(self) -> None:
        last_good = time.monotonic()
        while not self._ended.wait(0.5):
            try:
                keys = [node["assetKey"]["path"] for node in self._host.ask(KEYS)["assetNodes"]]
                assert len(keys) > 10
            except (requests.RequestException, AssertionError, TypeError):
                self.longest = max(self.longest, time.monotonic() - last_good)
            else:
                last_good = time.monotonic()
                if self.seen is None and ["store_names"] in keys:
                    self.seen = time.time()
            self.polls += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


A_LIFE = pytest.mark.some_of("lives of minutes", 1)


@A_LIFE
def test_a_deploy_leaves_runs_and_the_other_location_alone_and_a_rollback_brings_the_former_release_back(
    host: Host, record_property: Callable[[str, object], None]
) -> None:
    ingest, analytics = host.pid("ingest"), host.pid("analytics")
    (host.clone / "dbt/models/marts/lifetime/store_names.sql").write_text(
        "select store_id, store_name from {{ ref('stg_stores') }}\n"
    )
    (host.clone / "dbt/models/marts/lifetime/store_names.yml").write_text(
        "models:\n  - name: store_names\n    description: The stores. Grain, one row a store.\n    columns:\n"
        "      - {name: store_id, data_type: varchar, description: The store.}\n"
        "      - {name: store_name, data_type: varchar, description: Its name.}\n"
    )
    host.commit("a model")
    release = host.build("analytics")
    runs = [host.launch(location) for location in LOCATIONS]
    poller = Poller(host)
    poller.start()
    host.call("deploy", "analytics", release, "--to", host.folder)
    wait_until(lambda: poller.seen is not None, AT_MOST)
    # The link that a deploy renames is as old as the switch.
    seen = (poller.seen or 0) - (host.folder / "current/analytics").lstat().st_mtime
    assert {host.runs()[run] for run in runs} == {"STARTED"}
    assert Path(f"/proc/{analytics}").exists(), "the old server drains"
    with host.enough():
        wait_until(lambda: {host.runs()[run] for run in runs} == {"SUCCESS"}, 300)
    poller.end()
    assert poller.polls > 0
    record_property(
        "measured",
        f"its new model is seen {seen:.1f} s after the switch of a deploy, of {PROMISED} s; {poller.polls} pages were "
        f"asked for meanwhile, which failed for {poller.longest:.1f} s at most",
    )
    assert poller.longest < AT_MOST
    assert host.pid("ingest") == ingest
    wait_until(lambda: not Path(f"/proc/{analytics}").exists(), 300)
    began = time.monotonic()
    host.call("rollback", "analytics", "--to", host.folder, within=AT_MOST)
    record_property("measured", f"a rollback of analytics took {time.monotonic() - began:.1f} s of {PROMISED} s")
    assert ["store_names"] not in [node["assetKey"]["path"] for node in host.ask(KEYS)["assetNodes"]]


@A_LIFE
def test_a_killed_server_is_started_again_and_a_lost_run_is_tried_again(host: Host) -> None:
    run, server = host.launch("ingest"), host.pid("ingest")
    serving = CodeServer.at(str(host.folder / "current/ingest/sock"))
    assert serving is not None
    # Both are forks of the process that has loaded the location: Dagster's server, and the run.
    workers = [child for child in _children(server) if child != serving.pid]
    assert workers
    assert len(workers) < len(_children(server))
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{serving.pid}").exists(), 60)
    # A run that fails while its server is loading is not tried again: Dagster gives that up at the first error.
    wait_until(lambda: CodeServer.at(str(host.folder / "current/ingest/sock")) is not None, 300)
    assert host.pid("ingest") != server
    time.sleep(6)  # the daemon looks at runs every 2 s
    assert host.runs()[run] == "STARTED", "its process lives on, and so does the run"
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: host.runs()[run] == "FAILURE", 300)
    wait_until(lambda: len(host.retries(run)) == 1, 300)
    (retry,) = host.retries(run)
    wait_until(lambda: host.runs()[retry] == "STARTED", 300)
    host.ask("mutation ($run: String!) { terminateRun(runId: $run) { __typename } }", run=retry)
    wait_until(lambda: host.runs()[retry] == "CANCELED", 300)


@pytest.mark.some_of("disturbances", 1)
def test_a_backfill_goes_on_when_its_postgres_is_restarted(host: Host) -> None:
    """In the middle, without a word to those that are connected: they connect again, or what is lost is tried again."""
    data = host.folder / "data"
    days = [f"2024-01-0{day}" for day in range(1, 6)]
    written = [COMMAND, "demo-data", "--out", data / "exports", "--from", days[0], "--to", days[-1]]
    subprocess.run(written, check=True, cwd=host.clone, env=dict(host.environment))
    by_day = ("raw/orders", "raw/items", "order_items", "orders", "customer_days")
    whole = ("raw/products", "raw/supplies", "product_types", "stg_orders", "stg_items", "stg_products", "stg_supplies")
    partitions = {"range": {"start": days[0], "end": days[-1]}}
    selected = [{"assetKey": {"path": key.split("/")}, "partitions": partitions} for key in by_day]
    selected += [{"assetKey": {"path": key.split("/")}} for key in (*whole, "int_product_catalog")]
    backfill = host.ask(BACKFILL, assets=selected)["launchPartitionBackfill"]["backfillId"]

    def status() -> str:
        try:
            return str(host.ask(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"])
        except (requests.RequestException, KeyError, TypeError):
            return "no answer"

    def runs() -> Mapping[str, str]:
        found = host.ask(RUNS_OF_A_BACKFILL, id=backfill)["runsOrError"]["results"]
        return {run["runId"]: run["status"] for run in found}

    wait_until(lambda: "STARTED" in runs().values(), 300)
    host.restart_postgres()
    wait_until(lambda: status() != "no answer", 300)
    assert status() == "REQUESTED", "it was in its middle"
    wait_until(lambda: status().startswith(("COMPLETED", "FAILED", "CANCELED")), 600)
    assert status() == "COMPLETED_SUCCESS", runs()
    # The sensors of the installation may build too.
    wait_until(lambda: set(host.runs().values()) <= {"SUCCESS", "FAILURE", "CANCELED"}, 300)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{data}/warehouse.duckdb' as warehouse (read_only)")
        exported = connection.execute(
            f"select ordered_at::date, count(*), sum(order_total)::bigint from '{data}/exports/orders/*.csv' "
            "group by all order by all"
        ).fetchall()
        built = connection.execute(
            "select ordered_at::date, count(*), sum(order_total_cents)::bigint from warehouse.orders "
            "group by all order by all"
        ).fetchall()
    assert built == exported != []


@A_LIFE
def test_a_manifest_of_another_lake_is_refused_before_anything_is_installed(host: Host) -> None:
    env = host.folder / "env"
    text = env.read_text()
    serves, newest = host.pid("analytics"), max((host.folder.parent / "dist").glob("analytics-*"))
    (lake,) = (line for line in text.splitlines() if line.startswith("HEADRACE_LAKE="))
    try:
        env.write_text(text.replace(lake, "HEADRACE_LAKE=/elsewhere"))
        refused = subprocess.run(
            [COMMAND, "release", "deploy", "analytics", newest, "--to", host.folder],
            check=False,
            env=dict(host.environment),
            capture_output=True,
            text=True,
        )
    finally:
        env.write_text(text)
    said = f"its manifest was built with HEADRACE_LAKE '{lake.partition('=')[2]}', not '/elsewhere'"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"Error: {newest.name} is refused: {said}")
    assert len(refused.stderr.splitlines()) == 1
    assert host.pid("analytics") == serves


def _children(pid: int) -> list[int]:
    """Return the processes that any thread of a process started."""
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def _copy_workspace(folder: Path) -> None:
    """Copy what git knows and what is to be added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

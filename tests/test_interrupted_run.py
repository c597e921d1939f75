"""A run of the main job that is stopped in its middle leaves nothing behind but what was built."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from dagster import AssetKey, DagsterEventType, DagsterRunStatus, RunsFilter
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import OpenShop, Shop

DAYS = ("2024-01-31", "2024-02-01")
CANCEL = "mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
pytestmark = [pytest.mark.slow("six calls of `headrace run`, each with servers of its own"), pytest.mark.timeout(600)]


@pytest.fixture
def interrupted(tmp_path: Path, open_shop: OpenShop) -> Iterator[tuple[Shop, subprocess.Popen[str]]]:
    """Start a run over two days of two months."""
    shop = two_days(tmp_path, open_shop)
    with begun(shop) as process:
        yield shop, process


def two_days(folder: Path, open_shop: OpenShop) -> Shop:
    shop = open_shop(folder / "shop", DAYS[0])
    shop.demo_data("--from", DAYS[0], "--to", DAYS[1], "--orders-per-day", "50")
    return shop


@contextmanager
def begun(shop: Shop, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run, and end it if it has not ended by then."""
    process = subprocess.Popen(
        [Path(sys.executable).parent / "headrace", "run", *options],
        cwd=Path(__file__).parents[1],
        env=shop.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def break_a_day(shop: Shop) -> None:
    """Let the last day's orders fail, so that a second backfill would build what does not read them."""
    assert shop.call("init").returncode == 0  # so that its history can be looked at
    file = shop.exports / "orders" / f"{DAYS[1]}.csv"
    file.write_text(file.read_text().replace(f"{DAYS[1]}T", "no day T"))


def interrupt(process: subprocess.Popen[str], shop: Shop, number: signal.Signals) -> None:
    """Signal a run in its middle, and wait until nothing of it is left."""
    deadline = time.monotonic() + 120
    while not (workers(shop) and shop.events(after=0)):
        assert process.poll() is None, "the run ended before it was interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(shop.processes()) >= 4
    process.send_signal(number)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode not in (0, None)
    assert "Traceback" not in rest
    assert shop.left() == []
    with shop.instance() as instance:
        assert {run.status.value for run in instance.get_runs()} <= {"SUCCESS", "CANCELED", "FAILURE"}
        assert AssetKey("store_months") not in instance.get_asset_keys()


@pytest.mark.some_of("ends of a main job", 1)
def test_after_ctrl_c_the_next_run_completes(interrupted: tuple[Shop, subprocess.Popen[str]]) -> None:
    shop, process = interrupted
    interrupt(process, shop, signal.SIGINT)
    shop.run()
    assert shop.query("select count(*), sum(order_total_cents)::bigint from orders") == shop.exported(
        "select count(*), sum(order_total)::bigint from orders"
    )
    assert shop.query("select sum(orders)::bigint from store_hours") == shop.query("select count(*) from orders")


@pytest.mark.some_of("ends of a main job", 1)
def test_a_terminated_run_leaves_no_process(interrupted: tuple[Shop, subprocess.Popen[str]]) -> None:
    shop, process = interrupted
    interrupt(process, shop, signal.SIGTERM)


@pytest.mark.some_of("disturbances", 1)
@pytest.mark.parametrize("when", ["as its servers begin", "in a run"])
def test_nothing_outlives_a_killed_command_but_the_run_in_flight_which_ends(
    interrupted: tuple[Shop, subprocess.Popen[str]], when: str
) -> None:
    shop, process = interrupted
    deadline = time.monotonic() + 120
    log = shop.folder / "state" / "dagster" / "processes" / "ingest.log"
    while not (workers(shop) if when == "in a run" else log.exists()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert shop.left() == []


@pytest.mark.some_of("ends of a main job", 1)
def test_a_second_run_at_once_is_refused_and_a_killed_worker_is_seen(
    interrupted: tuple[Shop, subprocess.Popen[str]],
) -> None:
    shop, process = interrupted
    deadline = time.monotonic() + 120
    while not workers(shop):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # It waits meanwhile: else it would be over before a worker is found.
    process.send_signal(signal.SIGSTOP)
    try:
        second = shop.call("run")
    finally:
        process.send_signal(signal.SIGCONT)
    # A worker is stopped for a moment alone: what it has locked, the main job waits for in vain after five seconds.
    while not (worker := stopped_worker(shop)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "another headrace run is active" in second.stderr
    rest = process.communicate(timeout=180)[1]
    assert process.returncode == 1
    assert re.search(r"^failed: run \w+: .*(was killed|marked as failed)", rest, re.MULTILINE)
    assert shop.left() == []
    assert all(asset["partitions"] == asset["planned"] for asset in shop.run("--all").values())


@pytest.mark.some_of("ends of a main job", 1)
def test_no_second_backfill_follows_one_that_was_canceled(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = two_days(tmp_path, open_shop)
    break_a_day(shop)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with begun(shop, "--port", str(port)) as process, shop.instance() as instance:
        deadline = time.monotonic() + 120
        while not (found := instance.get_backfills()) or not instance.get_runs():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        asked = {"query": CANCEL, "variables": {"id": found[0].backfill_id}}
        answer = requests.post(f"http://127.0.0.1:{port}/graphql", json=asked, timeout=60).json()
        assert answer["data"]["cancelPartitionBackfill"]["__typename"] == "CancelBackfillSuccess", answer
        rest = process.communicate(timeout=120)[1]
        assert process.returncode == 1
        assert "something failed: building what does not read it" not in rest
        assert [each.status.value for each in instance.get_backfills()] == ["CANCELED"]
    assert shop.left() == []


@pytest.mark.some_of("ends of a main job", 1)
def test_an_interrupt_between_two_backfills_begins_no_second_one(tmp_path: Path, open_shop: OpenShop) -> None:
    shop = two_days(tmp_path, open_shop)
    break_a_day(shop)
    with begun(shop) as process, shop.instance() as instance:
        deadline = time.monotonic() + 120
        statuses: list[str] = []
        # It is stopped while it is looked at: between the two are a few tenths of a second.
        while not any(status.startswith("COMPLETED") for status in statuses):
            assert process.poll() is None
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGCONT)
            time.sleep(0.03)
            process.send_signal(signal.SIGSTOP)
            with suppress(OperationalError):  # it was stopped with a lock
                statuses = [each.status.value for each in instance.get_backfills()]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        rest = process.communicate(timeout=120)[1]
        assert process.returncode not in (0, None)
        assert "Traceback" not in rest
        assert len(instance.get_backfills()) == 1
    assert shop.left() == []


def stopped_worker(shop: Shop) -> int | None:
    """Stop the process of a run in its middle, and return it; None where there is none.

    It is stopped before it is looked at: a run takes less time than to read what state it is in. Where it was stopped
    with a lock on a file of its state, it goes on.
    """
    for process in workers(shop):
        with suppress(ProcessLookupError, OperationalError):
            os.kill(process, signal.SIGSTOP)
            is_wanted = False
            try:
                is_wanted = is_in_its_middle(process, shop)
            finally:
                if not is_wanted:
                    os.kill(process, signal.SIGCONT)
            return process if is_wanted else None
    return None


def is_in_its_middle(process: int, shop: Shop) -> bool:
    """Return whether a run has started in a process, and has not said that it succeeded."""
    with shop.instance() as instance:
        for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED])):
            for record in instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ENGINE_EVENT).records:
                event = record.event_log_entry.dagster_event
                said = event.engine_event_data.metadata.get("pid") if event else None
                if said and int(str(said.value)) == process:
                    # It says so in the events before it does in the status of the run.
                    return not instance.get_records_for_run(run.run_id, of_type=DagsterEventType.RUN_SUCCESS).records
    return False


def workers(shop: Shop) -> list[int]:
    """Return the processes of runs: the forks of the process that has loaded a shop's locations, with the runs' log."""
    servers: dict[int, int] = {}
    logs: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"multiprocessing.forkserver" in command and str(shop.folder).encode() in environ:
            servers[int(process.name)] = parent
            with suppress(OSError):
                logs[int(process.name)] = (process / "fd" / "1").readlink().name
    return [process for process, parent in servers.items() if parent in servers and logs.get(process) == "runs.log"]

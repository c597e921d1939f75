"""The adapter of Dagster's private daemons, over a code server that runs: it fails here if they move."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dagster import AssetKey, DagsterInstance, DailyPartitionsDefinition, RunsFilter

from headrace.local_dagster.asset_node import AssetNode
from headrace.local_dagster.daemon import LocalDaemon
from headrace.local_dagster.storage import create_storage
from headrace.main_job.plan import BuildPlan
from headrace.main_job.report import RunReport

LOCATION = """
import dagster as dg

days = dg.DailyPartitionsDefinition("2024-01-15")


@dg.asset(key=["raw", "orders"], partitions_def=days)
def raw_orders(): ...


@dg.asset(deps=[raw_orders], is_virtual=True)
def stg_orders(): ...


@dg.asset(deps=[stg_orders, dg.AssetKey("elsewhere")], code_version="7")
def orders(): ...


defs = dg.Definitions([raw_orders, stg_orders, orders, dg.AssetSpec("nobody_makes_it")])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    create_storage()
    return tmp_path


@pytest.fixture
def workspace_file(home: Path) -> Iterator[Path]:
    """Serve the location, and another port on which nobody listens."""
    (home / "location.py").write_text(LOCATION)
    port, dead = free_port(), free_port()
    server = subprocess.Popen(
        [
            *(Path(sys.executable).parent / "dagster", "api", "grpc", "--python-file", home / "location.py"),
            *("--host", "127.0.0.1", "--port", str(port), "--location-name", "shop"),
        ],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                assert server.poll() is None, "the code server ended"
                assert time.monotonic() < deadline, "the code server does not serve"
                time.sleep(0.1)
        entries = [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": "shop"}},
            {"grpc_server": {"host": "127.0.0.1", "port": dead, "location_name": "gone"}},
        ]
        file = home / "workspace.yaml"
        file.write_text(yaml.safe_dump({"load_from": entries}))
        yield file
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.filterwarnings("ignore:Error loading repository location gone")
@pytest.mark.slow
def test_it_sees_the_graph_and_ticks(workspace_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with DagsterInstance.get() as instance, LocalDaemon.over(instance, workspace_file) as daemon:
        assert [error.partition(":")[0] for error in daemon.load_errors()] == ["gone"]
        raw = AssetKey(["raw", "orders"])
        assert daemon.assets() == [
            AssetNode(raw, "shop", frozenset(), DailyPartitionsDefinition("2024-01-15"), None, is_virtual=False),
            AssetNode(AssetKey("stg_orders"), "shop", frozenset({raw}), None, None, is_virtual=True),
            AssetNode(
                AssetKey("orders"),
                "shop",
                frozenset({AssetKey("stg_orders"), AssetKey("elsewhere")}),
                None,
                "7",
                is_virtual=False,
            ),
        ]
        daemon.advance_backfills()
        daemon.launch_queued_runs()
    assert caplog.messages == []


@pytest.mark.filterwarnings("ignore:Error loading repository location gone")
@pytest.mark.slow
def test_a_backfill_is_requested_and_canceled(workspace_file: Path) -> None:
    raw, orders = AssetKey(["raw", "orders"]), AssetKey("orders")
    with DagsterInstance.get() as instance, LocalDaemon.over(instance, workspace_file) as daemon:
        days = [("2024-01-15", "2024-01-16"), ("2024-01-20", "2024-01-20")]
        backfill_id = daemon.request_backfill("a title", {raw: days, orders: []})
        asked = instance.get_backfill(backfill_id)
        assert asked
        assert asked.asset_backfill_data
        target = asked.asset_backfill_data.target_subset
        assert (asked.title, asked.status.value) == ("a title", "REQUESTED")
        assert {*target.iterate_asset_partitions()} == {
            *((raw, day) for day in ("2024-01-15", "2024-01-16", "2024-01-20")),
            (orders, None),
        }
        daemon.advance_backfills()
        # An asset without a backfill policy has a run for each partition; the view between the two is not asked for.
        runs = instance.get_runs()
        assert {(*(run.asset_selection or ()), run.tags.get("dagster/partition")) for run in runs} == {
            *((raw, day) for day in ("2024-01-15", "2024-01-16", "2024-01-20")),
            (orders, None),
        }
        assert {run.tags["dagster/backfill"] for run in runs} == {backfill_id}
        daemon.cancel_backfill(backfill_id)
        for _ in range(10):
            daemon.advance_backfills()
        ended = instance.get_backfill(backfill_id)
        assert ended
        assert ended.status.value == "CANCELED"
        assert {run.status.value for run in instance.get_runs()} == {"CANCELED"}

        # What a command that was killed has left; what the UI has asked for is let alone.
        left = daemon.request_backfill("headrace run", {raw: days})
        daemon.advance_backfills()
        asked = instance.get_backfill(left)
        assert asked
        instance.add_backfill(asked._replace(backfill_id="of-the-ui", tags={}))
        daemon.end_abandoned_backfills()
        statuses = {found.backfill_id: found.status.value for found in instance.get_backfills()}
        assert statuses == {backfill_id: "CANCELED", left: "CANCELED", "of-the-ui": "REQUESTED"}
        runs = instance.get_runs(RunsFilter(tags={"dagster/backfill": left}))
        assert [run.status.value for run in runs] == ["CANCELED"] * 3


@pytest.mark.filterwarnings("ignore:Error loading repository location gone")
@pytest.mark.slow
def test_a_run_that_was_lost_is_begun_again_once_where_the_instance_says_so(workspace_file: Path, home: Path) -> None:
    """The backfill waits for it without an end: `headrace run` did too."""
    config = home / "dagster.yaml"
    config.write_text(
        config.read_text() + "run_retries: {enabled: true, max_retries: 1, retry_on_asset_or_op_failure: false}\n"
    )
    raw = AssetKey(["raw", "orders"])
    with DagsterInstance.get() as instance, LocalDaemon.over(instance, workspace_file) as daemon:
        backfill_id = daemon.request_backfill("a title", {raw: [("2024-01-15", "2024-01-15")]})
        report = RunReport(instance, backfill_id, BuildPlan({raw: ["2024-01-15"]}, {}))
        daemon.advance_backfills()
        (lost,) = instance.get_runs()
        daemon.retry_runs(backfill_id)
        assert len(instance.get_runs()) == 1
        instance.report_run_failed(lost, "its process is gone")
        report.update()
        assert [failure.reason for failure in report.failures] == ["its process is gone"]
        daemon.retry_runs(backfill_id)
        daemon.retry_runs(backfill_id)
        (again,) = [run for run in instance.get_runs() if run.run_id != lost.run_id]
        assert (again.parent_run_id, again.tags["dagster/backfill"]) == (lost.run_id, backfill_id)
        report.update()
        assert report.failures == [], "what becomes of it is told in its place"
        instance.report_run_failed(again, "its process is gone too")
        daemon.retry_runs(backfill_id)
        assert len(instance.get_runs()) == 2, "so often as the instance says"
        report.update()
        assert [failure.reason for failure in report.failures] == ["its process is gone too"]
        for _ in range(10):
            daemon.advance_backfills()
        ended = instance.get_backfill(backfill_id)
        assert ended
        assert ended.status.value == "COMPLETED_FAILED"

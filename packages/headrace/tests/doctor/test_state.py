"""What the doctor says of the state: folders, locks, warehouse, instance and port, each failing for real."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster import DagsterInstance

from headrace.doctor.folders import check_disk
from headrace.local_dagster.dead_runs import DeadRuns
from headrace.local_dagster.storage import create_storage
from headrace.workspace import Workspace

pytestmark = pytest.mark.slow

Running = Callable[..., Any]

FLOCK = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire()"
WRITER = "import sys, duckdb; opened = duckdb.connect(sys.argv[1]); opened.execute('create table t (a int)')"

LOCATION = """
import time
import dagster as dg

@dg.op(pool="one")
def sleeps():
    time.sleep(300)

@dg.job(executor_def=dg.in_process_executor)
def sleep():
    sleeps()

defs = dg.Definitions(jobs=[sleep])
"""


def test_a_fresh_clone_is_fine_and_stays_as_it_was(clone: Any) -> None:
    before = clone.listing()
    result = clone.call()
    assert (result.exit_code, " wrong  " in result.stdout) == (0, False), result.stdout
    assert result.stdout.splitlines()[-1].endswith("findings, 0 wrong")
    assert clone.listing() == before


def test_outside_of_a_workspace_the_call_is_wrong(clone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert clone.call().exit_code == 2


def test_text_has_a_line_a_finding_and_its_mend_below(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_WAREHOUSE", "here.duckdb")
    result = clone.call()
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = lines.index(
        "wrong    paths: HEADRACE_WAREHOUSE=here.duckdb is relative: each process takes it from its own folder"
    )
    assert lines[at + 1] == f"         mend: export HEADRACE_WAREHOUSE={clone.root}/here.duckdb"
    assert lines[-1].endswith("findings, 1 wrong")


def test_a_full_disk(clone: Any) -> None:
    # What procfs has free is nothing.
    (full,) = check_disk({"lake": Path("/proc/lake")})
    assert (full.state, full.says) == ("wrong", "0.0 GiB are free at /proc, for lake")
    assert all(each["state"] in ("ok", "warning", "wrong") for each in clone.found("disk"))


def test_a_folder_that_nobody_can_write(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_LAKE", "/proc/lake")
    clone.write("taken", "")
    monkeypatch.setenv("HEADRACE_EXPORTS", str(clone.root / "taken" / "exports"))
    wrong = {each["says"].split(":")[0]: each for each in clone.found("write-access") if each["state"] == "wrong"}
    assert set(wrong) == {"lake", "exports"}
    assert "/proc cannot be written" in wrong["lake"]["says"]
    assert "taken is a file" in wrong["exports"]["says"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.slow
def test_a_folder_of_another_user(clone: Any) -> None:
    lake = clone.root / "lake"
    lake.mkdir(mode=0o755)
    code = "import sys, json; from pathlib import Path; from headrace.doctor.folders import check_writing\n"
    code += "from headrace.workspace import Workspace; import os; workspace = Workspace.find(); os.setuid(65534)\n"
    code += "found = check_writing(workspace, {'lake': Path(sys.argv[1])})\n"
    code += "print([each.state for each in found])"
    done = subprocess.run([sys.executable, "-c", code, str(lake)], check=False, capture_output=True, text=True)
    # The folders of the test are closed to others too: in either case it cannot be written.
    assert done.stdout == "['wrong']\n", done.stderr


def test_an_object_store_is_not_passed_in_silence(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_LAKE", "s3://bucket/lake")
    assert [each["state"] for each in clone.found("write-access")] == ["ok", "unknown"]


@pytest.mark.slow
def test_who_holds_a_lock_and_that_a_file_alone_is_none(
    clone: Any, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_INSTALLATION", str(clone.root / "installed"))
    files = [clone.write(name, "") for name in (".headrace/dagster/headrace-run.lock", "installed/locks/shop.lock")]
    for file in files:
        assert [each["state"] for each in clone.found("locks")] == ["ok"]
        with running(FLOCK, file) as process:
            (held,) = clone.found("locks")
            assert held["state"] == "warning"
            assert f"{file} is held by process {process.pid} (python" in held["says"]
            assert held["mend"].endswith(f"kill {process.pid}")
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            (stopped,) = clone.found("locks")
            assert (stopped["state"], "suspended" in stopped["says"]) == ("wrong", True)
    assert [each["state"] for each in clone.found("locks")] == ["ok"]


@pytest.mark.slow
def test_a_lock_that_outlived_its_process_in_a_child(clone: Any) -> None:
    file = clone.write(".headrace/dagster/headrace-run.lock", "")
    code = "import sys, fcntl, os; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_EX)"
    code += "\nif os.fork(): os._exit(0)\nprint(os.getpid(), end=' ', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        child = int(process.stdout.readline().split()[0])
        try:
            process.wait()
            (held,) = clone.found("locks")
            assert f"is held by process {child} " in held["says"]
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_the_warehouse_free_in_use_and_corrupt(clone: Any, running: Running) -> None:
    file = clone.root / ".headrace" / "warehouse.duckdb"
    file.parent.mkdir()
    with running(WRITER, file) as process:
        (used,) = clone.found("warehouse")
        assert (used["state"], f"is held by process {process.pid} " in used["says"]) == ("warning", True)
    # The writer was killed: its file is readable, and its log is left to the next writer.
    before = clone.listing()
    (free,) = clone.found("warehouse")
    assert free["state"] == "ok"
    assert clone.listing() == before
    file.write_bytes(b"no DuckDB file" * 1000)
    (corrupt,) = clone.found("warehouse")
    assert (corrupt["state"], duckdb.__version__ in corrupt["says"]) == ("wrong", True)


def test_a_port_in_use_and_whose_it_is(clone: Any) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        (found,) = clone.found("port", "--port", str(port))
    assert found["state"] == "warning"
    assert found["says"].startswith(f"port {port} is in use by process {os.getpid()} (")
    assert [each["state"] for each in clone.found("port")] == ["ok"]


def test_pools_before_the_first_run_and_after(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.find()
    monkeypatch.setenv("DAGSTER_HOME", str(workspace.dagster_home))
    workspace.prepare()
    assert [each["state"] for each in clone.found("pools")] == ["ok"]
    config = workspace.dagster_home / "dagster.yaml"
    good = config.read_text()
    config.write_text(good.replace("granularity: op", "granularity: run"))
    before = clone.listing()
    assert [each["state"] for each in clone.found("pools")] == ["wrong"]
    assert clone.listing() == before
    with DagsterInstance.from_config(str(workspace.dagster_home)) as instance:
        instance.get_runs_count()
        instance.event_log_storage.set_concurrency_slots("duckdb_shop", 2)
    (granularity,) = clone.found("pools")
    assert "the granularity of pools is run" in granularity["says"]
    from headrace.doctor.instance import check_instance  # noqa: PLC0415 - what the command gives it, dbt says

    config.write_text(good)
    found = [each for each in check_instance(workspace.dagster_home, ["duckdb_shop"]) if each.check == "pools"]
    assert [(each.state, each.mend) for each in found] == [("wrong", "dagster instance concurrency set duckdb_shop 1")]
    config.write_text(good.replace(", default_limit: 1", ""))
    found = [each for each in check_instance(workspace.dagster_home, ["duckdb_other"]) if each.check == "pools"]
    assert ["not set" in each.says for each in found] == [True]


@contextmanager
def left_of(run_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run what a killed run leaves: a `tail` of its captured output, of a session other than its parent's."""
    command = ["tail", "-F", "-c", "+0", f"/nowhere/{run_id}/output"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_killed_run_and_the_slot_that_it_holds(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.find()
    workspace.prepare()
    clone.write("location.py", LOCATION)
    monkeypatch.setenv("DAGSTER_HOME", str(workspace.dagster_home))
    create_storage()  # Dagster's own command does not expect that another process opens a new instance beside it
    command = [sys.executable, "-m", "dagster", "job", "execute", "-f", "location.py", "-j", "sleep"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with DagsterInstance.get() as instance:
            deadline = time.monotonic() + 60
            while not instance.event_log_storage.get_concurrency_run_ids():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert [each["state"] for each in clone.found("runs")] == ["ok"]
            process.kill()
            process.wait()
            (run,) = instance.get_runs()
            # As what copies a step's output: to end it is for whoever ends the run, and a look changes nothing.
            with left_of(run.run_id) as left:
                (dead,) = clone.found("runs")
                assert left.poll() is None
            assert dead["state"] == "wrong"
            assert f"is STARTED, and its process, {process.pid}, is gone" in dead["says"]
            instance.report_run_failed(run)
            (slot,) = clone.found("runs")
            assert slot["says"] == f"run {run.run_id[:8]} has ended, and holds a slot of a pool"
            DeadRuns(instance).mend()
            assert [each["state"] for each in clone.found("runs")] == ["ok"]
    finally:
        process.kill()
        process.wait()


BROKEN = {
    "workspace.yaml is no YAML": ("workspace.yaml", "load_from: [", "workspace"),
    "workspace.yaml is a list": ("workspace.yaml", "[]", "workspace"),
    "workspace.yaml is empty": ("workspace.yaml", "", "workspace"),
    "workspace.yaml has no locations": ("workspace.yaml", "load_from: 3", "workspace"),
    "workspace.yaml has text for a location": ("workspace.yaml", "load_from: [shop]", "workspace"),
    "pyproject.toml": ("pyproject.toml", "[tool", "workspace"),
    "pyproject.toml has other things": ("pyproject.toml", "project = 1\ntool = 2", None),
    "the lock": ("uv.lock", "version", "lock"),
    "the lock has other things": ("uv.lock", "package = 3", "lock"),
    "a member": ("projects/shop/pyproject.toml", "[tool", None),
    "dagster.yaml is no YAML": (".headrace/dagster/dagster.yaml", "a: [", "instance"),
    "dagster.yaml is text": (".headrace/dagster/dagster.yaml", "text", "instance"),
    "dagster.yaml has unknown keys": (".headrace/dagster/dagster.yaml", "storage: {nowhere: {}}", "instance"),
    "the runs": (".headrace/dagster/history/runs.db", "no database" * 1000, "instance"),
    "the warehouse": (".headrace/warehouse.duckdb", "no database" * 1000, "warehouse"),
    "the state is a file": (".headrace", "", "write-access"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_workspace_is_a_finding_and_never_a_trace(clone: Any, what: str) -> None:
    name, text, check = BROKEN[what]
    if name.endswith("runs.db"):
        Workspace.find().prepare()
    clone.write(name, text)
    findings = clone.findings()
    assert {"git", "uv", "port", "disk", "locks"} <= {each["check"] for each in findings}
    if check:
        assert check in {each["check"] for each in findings if each["state"] == "wrong"}, json.dumps(findings, indent=1)


def test_bytes_that_are_no_text(clone: Any) -> None:
    for name in ("workspace.yaml", "pyproject.toml", "uv.lock", ".headrace/dagster/dagster.yaml"):
        clone.write(name, "").write_bytes(b"\xff\xfe\x00")
        assert any(each["state"] == "wrong" for each in clone.findings())


def test_variables_that_are_wrong(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_START", "soon")
    (found,) = clone.found("workspace")
    assert "HEADRACE_START: 'soon' is not an ISO date" in found["says"]
    monkeypatch.delenv("HEADRACE_START")
    monkeypatch.setenv("DAGSTER_HOME", str(clone.root / "not" / "there"))
    assert [each["state"] for each in clone.found("instance")] == ["ok"]

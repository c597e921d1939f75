"""Webserver and daemon under supervisor: whose port it is, and what a killed supervisor leaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest
from installations import COMMAND, Host

# A test installs several releases, with an environment each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def platform(host: Host) -> Host:
    host.deploy(host.build("platform", None))
    return host


def port_of(host: Host) -> int:
    lines = (host.folder / "installation.toml").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("port")).partition("=")[2])


def webserver(host: Host) -> int:
    (pid,) = [row["pid"] for row in host.status() if row["role"] == "webserver" and row["state"] == "running"]
    return int(pid)


def test_a_port_of_another_process_is_refused_and_the_webserver_goes_on(platform: Host) -> None:
    before, port = webserver(platform), port_of(platform)
    settings = platform.folder / "installation.toml"
    text = settings.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = taken.getsockname()[1]
        settings.write_text(text.replace(f"port = {port}", f"port = {other}"))
        try:
            refused = platform.call("deploy", "platform", str(platform.build("platform", None)))
        finally:
            settings.write_text(text)
    assert refused.returncode == 1
    assert f"port {other} is in use by process {os.getpid()}" in refused.stderr.splitlines()[-1]
    assert webserver(platform) == before


def test_a_platform_that_can_not_reach_its_storage_is_not_rolled_back_to(platform: Host) -> None:
    platform.deploy(platform.build("platform", None))
    before = webserver(platform)
    instance = platform.folder / "dagster/dagster.yaml"
    text = instance.read_text()
    instance.write_text(f"{text}storage: {{postgres: {{postgres_url: 'postgresql+psycopg2://a:b@127.0.0.1:1/c'}}}}\n")
    try:
        refused = platform.call("rollback", "platform")
    finally:
        instance.write_text(text)
    assert refused.returncode == 1
    assert "the storage of" in refused.stderr.splitlines()[-1]
    assert webserver(platform) == before
    last = platform.call("list", "platform").stdout.splitlines()[-1]
    assert last.split()[1] == "refuse"
    assert "the storage of" in last


def test_nothing_listens_beyond_this_machine(platform: Host) -> None:
    platform.deploy(platform.build("platform", None))
    pids = [int(row["pid"]) for row in platform.status() if row["state"] == "running"]
    assert pids
    tree = [process for pid in pids for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    sockets = [each for process in tree for each in process.net_connections("inet")]
    listening = {each.laddr[0] for each in sockets if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_a_second_supervisor_is_refused(platform: Host) -> None:
    second = platform.call("up")
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.splitlines()[-1].endswith("its supervisor is already running: stop it first")


def test_nothing_outlives_a_killed_supervisor_and_the_next_one_starts_all_and_says_when_it_ends(platform: Host) -> None:
    platform.deploy(platform.build_shop("1"))
    before = [row["pid"] for row in platform.status()]
    pid = int((platform.folder / "run/supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    platform.wait_until(lambda: not any(Path(f"/proc/{one}").exists() for one in before))
    again = platform.start("up")
    try:
        platform.wait_until(lambda: platform.call("status").returncode == 0)
        rows = platform.status()
        assert not {*before} & {row["pid"] for row in rows}
        (server,) = [row["pid"] for row in rows if row["role"] == "server"]
        # One that does not end holds the supervisor back.
        os.kill(server, signal.SIGSTOP)
        try:
            again.send_signal(signal.SIGTERM)
            platform.wait_until(lambda: "is stopping, after the runs in flight" in platform.call("status").stderr)
        finally:
            os.kill(server, signal.SIGCONT)
    finally:
        again.send_signal(signal.SIGTERM)
        again.wait(60)


def test_what_a_user_may_not_write_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run([COMMAND, "release", "init", tmp_path / "file"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    (tmp_path / "a b").mkdir()
    done = subprocess.run([COMMAND, "release", "init", tmp_path / "a b"], check=False, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "its path has a blank" in done.stderr
    assert [*(tmp_path / "a b").iterdir()] == []

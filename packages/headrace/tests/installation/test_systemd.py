"""The same commands under a real systemd, which is the first process of a namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from installations import COMMAND, SHOP, Host, configure, own_environment

from headrace.installation import installation

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = Path(installation.__file__).parent / "process/systemd"
SYSTEMD = Path("/lib/systemd/systemd")
# Units are enabled into a folder that outlasts a restart; nothing of this machine's own is started.
BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
cp -a "$1/etc/multi-user.target.wants" "$1/etc/test.target.wants"
mount --bind "$1/etc" /etc/systemd/system
mount -t tmpfs tmpfs /srv
mkdir /srv/headrace
mount --bind "$1/at" /srv/headrace
container=other exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
"""
OWNER = 12345
DROP_IN = "[Unit]\nDefaultDependencies=no\n[Service]\nUser=root\n"
LAUNCH = """
mutation { launchRun(executionParams: {selector: {
    repositoryLocationName: "shop", repositoryName: "__repository__", jobName: "sleep"
} }) { __typename } }
"""
RUNS = "{ runsOrError { ... on Runs { results { status } } } }"

pytestmark = [
    pytest.mark.slow("boots systemd, and waits for runs that drain"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0 or not SYSTEMD.exists(), reason="needs root, and systemd on the machine"),
]


@dataclass
class Machine:
    """Systemd in a namespace, and an installation at /srv/headrace there."""

    folder: Path
    host: Host
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def boot(cls, folder: Path) -> subprocess.Popen[bytes]:
        spaces = ("--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--uts", "--ipc", "--cgroup")
        process = subprocess.Popen(
            ["/usr/bin/unshare", *spaces, "/bin/sh", "-c", BOOT, "boot", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            (*first,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
            if first:
                asked = subprocess.run([*_enter(first[0]), "systemctl", "is-system-running"], check=False)
                if asked.returncode == 0:
                    return process
            time.sleep(0.2)
        process.kill()
        raise AssertionError("systemd does not run")

    def ask(self, query: str) -> dict[str, object]:
        answer = requests.post(f"http://127.0.0.1:{self.port}/graphql", json={"query": query}, timeout=10)
        data: dict[str, object] = answer.json()["data"]
        return data

    def statuses(self) -> list[str]:
        return [run["status"] for run in self.ask(RUNS)["runsOrError"]["results"]]  # type: ignore[index]

    def systemctl(self, *arguments: str) -> str:
        command = [*self.host.enter, "systemctl", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    def restart(self) -> None:
        """Begin anew, as after a power cut."""
        shutil.rmtree(self.folder / "etc/test.target.wants")
        self.process.kill()
        self.process.wait()
        self.process = self.boot(self.folder)
        self.host.enter = _enter(_first(self.process))

    def kill(self, pid: int) -> None:
        subprocess.run([*self.host.enter, "/bin/kill", "-KILL", str(pid)], check=True)


def _first(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def _enter(pid: int) -> list[str]:
    return ["/usr/bin/nsenter", "--target", str(pid), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--wd=/"]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    for name in ("at", "etc/headrace-.service.d", "etc/multi-user.target.wants"):
        (folder / name).mkdir(parents=True)
    for unit in UNITS.iterdir():
        shutil.copy(unit, folder / "etc")
    (folder / "etc/headrace-.service.d/test.conf").write_text(DROP_IN)
    (folder / "etc/test.target").write_text("[Unit]\nDefaultDependencies=no\n")
    process = Machine.boot(folder)
    host = Host(Path("/srv/headrace"), folder / "builds", own_environment(), _enter(_first(process)))
    machine = Machine(folder, host, 0, process)
    try:
        init = [*host.enter, COMMAND, "release", "init", "/srv/headrace"]
        subprocess.run(init, check=True, env=own_environment(), capture_output=True)
        machine.port = configure(folder / "at")
        settings = folder / "at/installation.toml"
        settings.write_text(settings.read_text().replace('processes = "supervisor"', 'processes = "systemd"'))
        for path in (folder / "at", *(folder / "at").rglob("*")):
            os.chown(path, OWNER, OWNER, follow_symlinks=False)
        yield machine
    finally:
        machine.process.kill()
        machine.process.wait()
        shutil.rmtree(folder)


def test_a_location_is_deployed_and_replaced_by_units(machine: Machine) -> None:
    host = machine.host
    host.deploy(host.build("platform", None))
    first = host.build_shop("1", 20)
    host.deploy(first)
    before = host.serving("shop")
    machine.ask(LAUNCH)
    host.wait_until(lambda: machine.statuses() == ["STARTED"])

    second = host.build_shop("2", 20)
    host.deploy(second)
    assert host.serving("shop")["release"] == second.name
    (drains,) = [row for row in host.status() if row["state"] == "draining"]
    assert drains["pid"] == before["pid"]
    host.wait_until(lambda: machine.statuses() == ["SUCCESS"])
    host.wait_until(lambda: not [row for row in host.status() if row["state"] == "draining"])
    assert host.call("rollback", "shop").returncode == 0
    assert host.serving("shop")["release"] == first.name


def test_what_root_deployed_belongs_to_the_owner_of_the_installation(machine: Machine) -> None:
    kept = [path for name in ("releases", "servers") for path in (machine.folder / "at" / name).rglob("*")]
    written = [path for path in kept if path.name not in ("sock", "__pycache__") and path.suffix != ".pyc"]
    assert len(written) > 20
    assert {path for path in written if path.lstat().st_uid != OWNER} == set()


def test_a_bad_release_is_refused_with_what_its_process_said(machine: Machine) -> None:
    host = machine.host
    before = host.serving("shop")
    # It loads, and its server does not begin.
    release = host.build("shop", f"import sys\nif 'api' in sys.argv: raise OSError('no disk')\n{SHOP}")
    refused = host.call("deploy", "shop", str(release))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no disk" in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if not line.startswith("shop: ")]) == 1
    assert host.serving("shop") == before


def test_a_killed_server_is_started_again_and_its_run_goes_on(machine: Machine) -> None:
    host = machine.host
    machine.ask(LAUNCH)
    host.wait_until(lambda: machine.statuses()[0] == "STARTED")
    pid = host.serving("shop")["pid"]
    machine.kill(pid)
    host.wait_until(lambda: host.serving("shop")["pid"] not in (None, pid))
    assert machine.statuses()[0] == "STARTED"
    host.wait_until(lambda: machine.statuses()[0] == "SUCCESS")


def test_what_was_deployed_serves_after_the_machine_began_again(machine: Machine) -> None:
    before = {row["server"]: row["release"] for row in machine.host.status()}
    machine.restart()
    machine.host.wait_until(lambda: all(row["state"] == "running" for row in machine.host.status()))
    assert {row["server"]: row["release"] for row in machine.host.status()} == before
    assert "headrace-server@shop" in machine.systemctl("list-units", "headrace-*", "--no-legend")

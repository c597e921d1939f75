"""The unit that starts an installation, under a real systemd, the first process of a namespace of its own."""

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
from installations import COMMAND, Host, configure, own_environment

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
DROP_IN = "[Unit]\nDefaultDependencies=no\n[Service]\nUser=root\n"
UNIT = "headrace-supervisor.service"

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

    def kill(self, signal: str, pid: str) -> None:
        """Send a signal to a process of the namespace."""
        subprocess.run([*self.host.enter, "/bin/kill", f"-{signal}", pid], check=True)

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


def _first(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def _enter(pid: int) -> list[str]:
    return ["/usr/bin/nsenter", "--target", str(pid), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--wd=/"]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    tried = subprocess.run(["/usr/bin/unshare", "--mount", "/bin/true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this root may not make a namespace, as in many containers: {tried.stderr.strip()}")
    if not any(Path("/sys/fs/cgroup").iterdir()):
        pytest.skip("no control groups are mounted, which systemd needs")
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    for name in ("at", f"etc/{UNIT}.d", "etc/multi-user.target.wants"):
        (folder / name).mkdir(parents=True)
    for unit in UNITS.iterdir():
        shutil.copy(unit, folder / "etc")
    (folder / f"etc/{UNIT}.d/test.conf").write_text(DROP_IN)
    (folder / "etc/test.target").write_text("[Unit]\nDefaultDependencies=no\n")
    process = Machine.boot(folder)
    host = Host(Path("/srv/headrace"), folder / "builds", own_environment(), _enter(_first(process)))
    machine = Machine(folder, host, 0, process)
    try:
        init = [*host.enter, COMMAND, "release", "init", "/srv/headrace"]
        subprocess.run(init, check=True, env=own_environment(), capture_output=True)
        machine.port = configure(folder / "at")
        yield machine
    finally:
        machine.process.kill()
        machine.process.wait()
        shutil.rmtree(folder)


def test_the_unit_keeps_what_is_deployed(machine: Machine) -> None:
    host = machine.host
    foreground = host.start("up")
    host.wait_until(lambda: host.call("status").returncode == 0)
    host.deploy(host.build("platform", None))
    release = host.build_shop("1")
    host.deploy(release)
    machine.kill("TERM", (machine.folder / "at/run/supervisord.pid").read_text().strip())
    foreground.wait(60)
    assert host.call("status").returncode == 1

    machine.systemctl("enable", "--now", UNIT)
    host.wait_until(lambda: _serves(host, release))
    first = host.serving("shop")["pid"]
    machine.kill("KILL", machine.systemctl("show", "--value", "--property=MainPID", UNIT).strip())
    host.wait_until(lambda: _serves(host, release) and host.serving("shop")["pid"] != first)

    machine.restart()
    host.wait_until(lambda: _serves(host, release))


def _serves(host: Host, release: Path) -> bool:
    """Return whether all of it runs: `status` ends with 1 until then."""
    return host.call("status").returncode == 0 and bool(host.serving("shop")["release"] == release.name)

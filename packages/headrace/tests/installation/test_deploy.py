"""A release that is good serves and the former one drains; one that is not is refused, and what served still does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from installations import Host

pytestmark = [pytest.mark.slow("thirty deploys, of which each starts a code server"), pytest.mark.timeout(300)]

READER = """
import dagster as dg

@dg.asset(deps=["sales"])
def report():
    pass

defs = dg.Definitions(assets=[report])
"""
NEEDS = """
import os
import dagster as dg

@dg.asset(name=os.environ.get("SHOP_ASSET", "sales"))
def sales():
    pass

defs = dg.Definitions(assets=[sales])
"""


@pytest.fixture(scope="module")
def deployed(host: Host) -> Host:
    host.deploy(host.build_shop("1"))
    host.deploy(host.build("reader", READER))
    return host


def test_a_new_release_serves_and_a_rollback_brings_the_former_back(
    deployed: Host, record_property: Callable[[str, object], None]
) -> None:
    first = deployed.serving("shop")
    reader = deployed.serving("reader")
    second = deployed.build_shop("2")
    done = deployed.deploy(second)
    assert (done["release"], done["former"]) == (second.name, first["release"])
    deployed.wait_until(lambda: not Path(f"/proc/{first['pid']}").exists())
    assert deployed.serving("shop")["release"] == second.name

    began = time.monotonic()
    result = deployed.call("rollback", "shop")
    assert result.returncode == 0, result.stderr
    record_property("measured", f"a rollback of a small location took {time.monotonic() - began:.1f} s of 15 s")
    assert deployed.serving("shop")["release"] == first["release"]
    assert deployed.serving("reader")["pid"] == reader["pid"]
    assert "no earlier release" in deployed.call("rollback", "shop").stderr
    listed = deployed.call("list", "shop").stdout.splitlines()
    assert [line.split()[2:] for line in listed if line.startswith("*")] == [["rollback", first["release"]]]


def _corrupt(release: Path) -> None:
    wheel = next((release / "wheels").iterdir())
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")


REFUSALS: dict[str, tuple[str, Callable[[Path], None] | None, str]] = {
    "definitions that fail to load": ("import dagster\nraise ValueError('no such thing')\n", None, "no such thing"),
    "a broken consumer": (NEEDS.replace("sales", "takings"), None, "reader"),
    "a corrupt wheel": (NEEDS, _corrupt, "it was changed after the build"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_bad_release_is_refused_in_one_line(deployed: Host, what: str) -> None:
    code, spoil, reason = REFUSALS[what]
    _is_refused(deployed, deployed.build("shop", code), reason, spoil)


def test_a_release_that_loads_otherwise_here_is_refused(deployed: Host) -> None:
    env = deployed.folder / "env"
    text = env.read_text()
    release = deployed.build("shop", NEEDS)
    try:
        env.write_text(f"{text}SHOP_ASSET=other\n")
        _is_refused(deployed, release, "another contract than it was built with, the first in other")
    finally:
        env.write_text(text)


def test_a_second_deploy_of_a_location_at_once_is_refused(deployed: Host) -> None:
    lock = ["/usr/bin/flock", "--exclusive", str(deployed.folder / "locks/shop.lock"), "sleep", "60"]
    holder = subprocess.Popen(lock, start_new_session=True)
    try:
        time.sleep(0.5)
        before = deployed.serving("shop")
        result = deployed.call("deploy", "shop", str(deployed.build_shop("5")))
        assert result.returncode == 1
        assert "another deploy of it is running" in result.stderr
        assert deployed.serving("shop") == before
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_refused(deployed: Host) -> None:
    releases = deployed.folder / "releases"
    kept = deployed.folder / "kept"
    shutil.copytree(releases, kept, symlinks=True)
    subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(releases)], check=True)
    try:
        shutil.copytree(kept, releases, symlinks=True, dirs_exist_ok=True)
        release = deployed.build_shop("6", more="#" + os.urandom(2 << 20).hex())
        _is_refused(deployed, release, "No space left on device")
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", str(releases)], check=True)
        shutil.rmtree(kept)


KILLS = 20 if os.environ.get("HEADRACE_THOROUGH") else 2


@pytest.mark.some_of("deploys again and again", 1)
@pytest.mark.timeout(600)
def test_a_deploy_killed_at_any_point_is_mended_by_the_next(deployed: Host) -> None:
    releases = [deployed.build_shop("7"), deployed.build_shop("8")]
    rng = random.Random(20)  # noqa: S311 - the same points each time
    seconds = max(deployed.deploy(release)["seconds"] for release in releases) + 2
    for attempt in range(KILLS):
        release = releases[attempt % 2]
        shutil.rmtree(deployed.folder / "releases" / release.name, ignore_errors=True) if attempt % 4 < 2 and (
            deployed.serving("shop")["release"] != release.name
        ) else None
        process = deployed.start("deploy", "shop", str(release))
        time.sleep(rng.uniform(0, seconds))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert deployed.serving("shop")["state"] == "running"
    deployed.deploy(releases[0])
    deployed.wait_until(lambda: len([row for row in deployed.status() if row["location"] == "shop"]) == 1)
    assert deployed.serving("shop")["release"] == releases[0].name
    deployed.deploy(releases[1])
    assert deployed.call("rollback", "shop").returncode == 0
    assert deployed.serving("shop")["release"] == releases[0].name


@pytest.mark.some_of("deploys again and again", 1)
def test_prune_keeps_what_a_rollback_leads_to(deployed: Host) -> None:
    releases = [deployed.build_shop(version) for version in ("a", "b", "c")]
    for release in releases:
        deployed.deploy(release)
    assert deployed.call("rollback", "shop").returncode == 0  # to b
    deployed.wait_until(lambda: len([row for row in deployed.status() if row["location"] == "shop"]) == 1)
    before = deployed.serving("shop")
    # As a Celery worker of it, which systemd keeps.
    worker = [deployed.folder / "releases" / releases[2].name / "venv/bin/python", "-c", "input()"]
    with subprocess.Popen(worker, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert deployed.call("prune", "shop").returncode == 0
        assert (deployed.folder / "releases" / releases[2].name / "release.json").is_file()
        process.communicate()
    assert deployed.call("prune", "shop").returncode == 0
    kept = {path.name for path in (deployed.folder / "releases").iterdir() if path.name.startswith("shop")}
    assert {releases[0].name, releases[1].name} <= kept
    assert releases[2].name not in kept
    assert len(kept) <= 3
    assert deployed.serving("shop") == before
    assert deployed.call("rollback", "shop").returncode == 0
    assert deployed.serving("shop")["release"] == releases[0].name


def _errors(said: str) -> list[str]:
    """Return what is not the progress of a deploy of `shop`."""
    return [line for line in said.splitlines() if not line.startswith("shop: ")]


def _is_refused(host: Host, release: Path, reason: str, spoil: Callable[[Path], None] | None = None) -> None:
    if spoil:
        spoil(release)
    before = host.serving("shop")
    result = host.call("deploy", "shop", str(release))
    assert result.returncode == 1, result.stdout
    assert reason in result.stderr
    assert len(_errors(result.stderr)) == 1
    assert host.serving("shop") == before
    assert not (host.folder / "releases" / release.name).exists()

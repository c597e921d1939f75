"""`make dev` for real with a shop of its own, and a browser in front of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from dagster import DagsterInstance
    from playwright.sync_api import Page
    from tests.conftest import OpenShop, Shop

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DAYS = 5
SERVED_SECONDS = 240
# The UI asks for new states every few seconds, on a machine that runs other tests.
expect.set_options(timeout=60_000)


@dataclass(frozen=True)
class Dev:
    """A running `make dev`.

    Args:
        shop: its shop, with exports of a few days up to yesterday.
        url: its address.
        days: the days of the exports, ISO dates; all partitions that there are.
        empty_day: the day of which `tweets` has a file without rows.
        log: what it says.
    """

    shop: Shop
    url: str
    days: list[str]
    empty_day: str
    log: Path

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        with self.shop.instance() as instance:
            yield instance

    def wait_until(self, condition: Callable[[DagsterInstance], bool], what: str, seconds: float) -> None:
        """Wait until the instance fulfils a condition."""
        deadline = time.monotonic() + seconds
        with self.instance() as instance:
            while not condition(instance):
                assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.log.read_text()[-3000:]}"
                time.sleep(0.5)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say of all tests in one line why they are left out: pytest counts those of one place and one reason."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        report.longrepr = (str(Path(__file__).parent), None, report.longrepr[2])  # type: ignore[assignment] # no line
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the browser; without one the tests are left out, and one line says so."""
    found = subprocess.run([ROOT / ".ci/find-browser"], check=False, capture_output=True, text=True)
    if found.returncode == 1:
        pytest.skip(found.stderr.strip())
    if found.returncode:
        pytest.fail(found.stderr.strip(), pytrace=False)
    driver = subprocess.run(
        [sys.executable, "-m", "playwright", "--version"], check=False, capture_output=True, text=True
    )
    if driver.returncode:
        said = (driver.stderr.strip().splitlines() or ["it ends at once"])[-1]
        pytest.skip(f"Playwright, which drives the browser, does not start (Debian: apt install libatomic1): {said}")
    return found.stdout.strip()


@pytest.fixture(scope="module")  # until the end of a session it would take a fifth of a core
def dev(tmp_path_factory: pytest.TempPathFactory, open_shop: OpenShop, chromium: str) -> Iterator[Dev]:  # noqa: ARG001 - nothing is started where the browser is missing
    """Run `make dev`, as `make test` has installed it, over exports that wait to be loaded."""
    folder = tmp_path_factory.mktemp("browser")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    days = [str(yesterday - timedelta(days=before)) for before in reversed(range(DAYS))]
    shop = open_shop(folder / "shop", days[0])
    shop.demo_data("--from", days[0], "--to", days[-1], "--orders-per-day", "40")
    tweets = shop.exports / "tweets" / f"{days[1]}.csv"
    tweets.unlink(missing_ok=True)
    tweets.with_suffix(".empty").unlink(missing_ok=True)
    tweets.write_text("id,user_id,tweeted_at,content\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "make_dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            # It is installed: a second `uv sync` would work on the environment that the other tests run in.
            ["make", "--assume-old=install", "dev", f"ARGS=--host 127.0.0.1 --port {port}"],  # noqa: S607 - make's own
            cwd=ROOT,
            env=shop.environment | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        served = Dev(shop, f"http://127.0.0.1:{port}", days, days[1], log)
        deadline = time.monotonic() + SERVED_SECONDS
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
        # The welcome that a new user gets covers the page.
        answer = requests.post(f"{served.url}/graphql", json={"query": "mutation { setNuxSeen }"}, timeout=60)
        answer.raise_for_status()
        yield served
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    # Code servers end when nobody has asked them for a while.
    deadline = time.monotonic() + 60
    while shop.processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert shop.processes() == []


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Return the folder of the screenshots, which `HEADRACE_ARTIFACTS` may name."""
    folder = Path(os.environ.get("HEADRACE_ARTIFACTS") or tmp_path).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(dev: Dev, chromium: str, artifacts: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Return a page of a new browser; at the end take its picture, and see that it asked nobody but `make dev`."""
    outside: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            # The sandbox needs rights that a container does not give; only our own pages are opened.
            args=["--no-sandbox", "--disable-background-networking"],
        )
        opened = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=dev.url)
        opened.set_default_timeout(60_000)
        opened.on("request", lambda asked: outside.append(asked.url) if _is_outside(asked.url, dev.url) else None)
        yield opened
        name = re.sub(r"[^\w-]+", "-", request.node.name).strip("-")
        opened.screenshot(path=artifacts / f"{name}.png")
        browser.close()
    assert outside == []


def _is_outside(url: str, ours: str) -> bool:
    return not url.startswith((ours, ours.replace("http:", "ws:"), "data:", "blob:"))

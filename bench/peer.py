"""SQLMesh beside `headrace run`: the demo's models over the same lake, with equal rows, measured in turns.

A team that wants a day's models in seconds would take SQLMesh, not stock dagster-dbt. It reads Parquet that somebody
else has written: ours loads the raw files, runs its checks and keeps a history besides, and has to, before the peer can
begin. The peer's models are in `bench/sqlmesh`; no time counts before each table has the same rows on both sides.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from bench.processes import ROOT, ChildFailedError, Sample, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FIRST = date(2023, 1, 1)
"""The first day. With the two months behind it that is 90 days, and no month is cut short."""
DAYS = 90
REVISED = date(2023, 3, 15)

NEW = f"{DAYS} days from nothing"
SAME = "nothing changed"
ONE = "one revised day"
MORE: Mapping[str, int] = {"": 0, ", 500 models": 483}
"""What a row is called at a size, and how many models there are beside the demo's seventeen."""
_DEMO, _LARGE = MORE
ROWS: Mapping[str, float] = {
    SAME: 1.0,
    ONE: 2.0,
    NEW: 5.0,
    f"{SAME}{_LARGE}": 0.5,
    f"{ONE}{_LARGE}": 0.5,
    f"{NEW}{_LARGE}": 2.0,
}
"""The rows, and how many times the peer's seconds ours may be."""

OURS, PEER = "headrace run", "SQLMesh"
TABLES = (
    *("order_items", "orders", "customer_days", "store_hours", "store_months"),
    *("customers", "locations", "products"),
)
_PROJECT = ROOT / "bench" / "sqlmesh"
_RESTATED = ("order_items", "orders", "customers")


@dataclass
class PeerMeasurements:
    """The samples of both, by row and by who.

    Args:
        folder: a folder for shops and for the peer's environment.
        rounds: how many samples of each.
        progress: called with a line of text before each measurement.
    """

    folder: Path
    rounds: int
    progress: Callable[[str], None]
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def measure(self) -> None:
        """Take all samples.

        Raises:
            ChildFailedError: a command failed.
            DifferentRowsError: a table is not the same on both sides.
        """
        self.progress("prepare: the environment of SQLMesh")
        peer = environment_of_peer(self.folder / "environment")
        for number in range(self.rounds):
            for size, more in MORE.items():
                self._take_round(PeerShop(self.folder / f"shop {number}", peer, more), size)

    def _take_round(self, shop: PeerShop, size: str) -> None:
        shop.make()
        self._take(f"{NEW}{size}", OURS, shop.run)
        self._take(f"{NEW}{size}", PEER, shop.plan)
        shop.compare()
        # The first main job after an edit, as after a clone, still asks dbt; what it learns is kept from then on.
        shop.run()
        self._take(f"{SAME}{size}", OURS, shop.run)
        self._take(f"{SAME}{size}", PEER, shop.plan)
        shop.revise()
        self._take(f"{ONE}{size}", OURS, shop.run)
        self._take(f"{ONE}{size}", PEER, shop.restate)
        shop.compare()
        shutil.rmtree(shop.folder)

    def _take(self, row: str, who: str, command: Callable[[], float]) -> None:
        self.progress(f"{row}: {who}")
        self.samples[row, who].append(Sample(command()))


class DifferentRowsError(Exception):
    """A table is not the same on both sides, so that no time of theirs can be compared."""


@dataclass(frozen=True)
class PeerShop:
    """Exports, lake and both warehouses.

    Args:
        folder: its folder.
        peer: the folder of the peer's commands.
        more: how many models there are beside the demo's.
    """

    folder: Path
    peer: Path
    more: int = 0

    def make(self) -> None:
        """Make the exports, a dbt project without a manifest, and the peer's project, which it writes to as well."""
        shutil.copytree(ROOT / "dbt", self.folder / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
        shutil.copytree(_PROJECT, self._peer_project)
        shutil.copytree(ROOT / "dbt" / "seeds", self.folder / "peer" / "dbt" / "seeds")
        (self.folder / "dbt" / "models" / "more").mkdir()
        for number in range(self.more):
            ours, peer = _more(number, self.more // 2)
            (self.folder / "dbt" / "models" / "more" / f"more_{number}.sql").write_text(ours)
            (self._peer_project / "models" / f"more_{number}.sql").write_text(peer)
        last = FIRST + timedelta(DAYS - 1)
        self._headrace("demo-data", "--out", str(self._exports), "--from", str(FIRST), "--to", str(last))

    def revise(self) -> None:
        """Revise the exports of a day."""
        self._headrace("demo-data", "--out", str(self._exports), "--revise", str(REVISED))

    def run(self) -> float:
        """Return the seconds of a main job of ours."""
        return self._headrace("run")

    def plan(self) -> float:
        """Return the seconds of the peer's plan, applied at the end of the last day."""
        return self._sqlmesh()

    def restate(self) -> float:
        """Return the seconds of the peer's restatement of the day, and of all that is made from it."""
        models = [word for name in _RESTATED for word in ("--restate-model", f"shop.{name}")]
        return self._sqlmesh(*models, "--start", str(REVISED), "--end", str(REVISED))

    def compare(self) -> None:
        """Compare all tables.

        Raises:
            DifferentRowsError: one is not the same.
        """
        with duckdb.connect() as connection:
            # By the names of the files, which the views of either name.
            connection.execute(f"attach '{self._warehouse}' (read_only)")
            connection.execute(f"attach '{self._peer_warehouse}' (read_only)")
            for table in (*TABLES, *(f"more_{number}" for number in range(self.more))):
                columns = ", ".join(row[0] for row in connection.execute(f"describe warehouse.main.{table}").fetchall())
                ours, peer = (f"select {columns} from {name}.{table}" for name in ("warehouse.main", "peer.shop"))  # noqa: S608
                different = connection.execute(
                    f"select count(*) from (({ours} except all {peer}) union all ({peer} except all {ours}))"  # noqa: S608
                ).fetchone()
                rows = connection.execute(f"select count(*) from ({ours})").fetchone()  # noqa: S608
                if different != (0,) or rows == (0,):
                    raise DifferentRowsError(f"{table}: {different} of {rows} rows are not the same on both sides")

    @property
    def _exports(self) -> Path:
        return self.folder / "state" / "exports"

    @property
    def _warehouse(self) -> Path:
        return self.folder / "state" / "warehouse.duckdb"

    @property
    def _peer_project(self) -> Path:
        return self.folder / "peer" / "bench" / "sqlmesh"

    @property
    def _peer_warehouse(self) -> Path:
        return self.folder / "peer" / "peer.duckdb"  # its views name their database, which is the file's stem

    def _headrace(self, *arguments: str) -> float:
        env = environment(
            HEADRACE_STATE=self.folder / "state",
            HEADRACE_START=str(FIRST),
            HEADRACE_DBT_PROJECT=self.folder / "dbt",
        )
        return seconds_of([str(Path(sys.executable).with_name("headrace")), *arguments], ROOT, env)

    def _sqlmesh(self, *arguments: str) -> float:
        command = [str(self.peer / "sqlmesh"), "plan", "--auto-apply", "--no-prompts"]
        end = FIRST + timedelta(DAYS)
        env = environment(
            PEER_WAREHOUSE=self._peer_warehouse, PEER_LAKE=self.folder / "state" / "lake", PEER_START=str(FIRST)
        )
        return seconds_of([*command, "--execution-time", str(end), *arguments], self._peer_project, env)


def _more(number: int, half: int) -> tuple[str, str]:
    """Return one more model, for dbt and for the peer: the first half read `orders`, the others one of the first.

    Every third is a table, the others are views.
    """
    is_table = number % 3 == 0
    if number < half:
        sql = f"""
            select
                store_id,
                count(*) as orders,
                cast(sum(order_total_cents) as bigint) as revenue_cents
            from PARENT
            where order_total_cents % 97 <> {number} % 97
            group by store_id
        """  # noqa: S608 - a number
    else:
        sql = f"select store_id, orders + {number} as orders, revenue_cents from PARENT"  # noqa: S608
    parent = "orders" if number < half else f"more_{number - half}"
    config = f"{{{{ config(materialized='{'table' if is_table else 'view'}') }}}}"
    head = f"MODEL (name shop.more_{number}, kind {'FULL' if is_table else 'VIEW'});"
    ref = f"{{{{ ref('{parent}') }}}}"
    return f"{config}\n{sql.replace('PARENT', ref)}\n", f"{head}\n{sql.replace('PARENT', f'shop.{parent}')}\n"


def environment_of_peer(folder: Path) -> Path:
    """Install SQLMesh, and return the folder of its commands.

    Raises:
        ChildFailedError: it cannot be installed.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    requirements = str(_PROJECT / "requirements.txt")
    seconds_of([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], ROOT, dict(os.environ))
    seconds_of([uv, "pip", "sync", "--quiet", "--python", str(folder), requirements], ROOT, dict(os.environ))
    return folder / "bin"


def seconds_of(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> float:
    """Return how long a command takes, start to end.

    Raises:
        ChildFailedError: its exit code is not 0.
    """
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - commands of this benchmark
        command, check=False, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise ChildFailedError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{said}")
    return seconds

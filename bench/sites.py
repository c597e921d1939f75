"""Where each of the compared ways runs: its own copy of the dbt project, warehouse and Dagster home."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.generate import DAILY, FIRST_DAY, write_project
from bench.processes import environment, run
from bench.replay import statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STOCK, STOCK_IN_PROCESS, OURS, DBT, SQL, PLAIN = "stock", "stock, one process", "ours", "dbt", "sql", "dagster alone"
DEPLOYED = "ours, deployed"
HISTORY_DAYS = 30
"""How many days the tables have when the measurements begin."""

# Runs that are launched begin at once: what a queue costs is how often it is looked at.
_INSTANCE = """\
telemetry: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""
# What a Headrace workspace has: its `dagster.yaml`, and the variables that it sets for its processes.
_OURS = """\
run_launcher: {module: headrace.forked_runs, class: ForkedRunLauncher}
event_log_storage: {module: headrace.event_log, class: BatchingSqliteEventLogStorage}
"""
_OUR_VARIABLES = {"DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true", "DAGSTER_EVENT_BATCH_SIZE": "1000"}
_MODULES = {
    STOCK: "bench.stock_definitions",
    STOCK_IN_PROCESS: "bench.stock_definitions",
    OURS: "bench.our_definitions",
    DEPLOYED: "bench.our_definitions",
    PLAIN: "bench.plain_definitions",
}


@dataclass(frozen=True)
class Site:
    """One of the compared ways, at one size.

    Args:
        way: which.
        folder: its own folder.
        lake: the folder of the source, which all share.
    """

    way: str
    folder: Path
    lake: Path

    @property
    def project(self) -> Path:
        """Return the dbt project."""
        return self.folder / "project"

    @property
    def warehouse(self) -> Path:
        """Return the DuckDB file; its stem is the database's name in the SQL, so all sites have the same."""
        return self.folder / "warehouse.duckdb"

    @property
    def is_ours(self) -> bool:
        """Return whether it is one of Headrace's."""
        return self.way in (OURS, DEPLOYED)

    @property
    def module(self) -> str:
        """Return the module of its Dagster definitions."""
        return _MODULES[self.way]

    def env(self, *, dev: bool = False) -> Mapping[str, str]:
        """Return the environment of its processes; `dev` is what `dagster dev` sets."""
        variables: dict[str, str | Path] = {
            "BENCH_PROJECT": self.project,
            "BENCH_WAREHOUSE": self.warehouse,
            "BENCH_LAKE": self.lake,
            "BENCH_EXECUTOR": "in_process" if self.way == STOCK_IN_PROCESS else "default",
            "DAGSTER_HOME": self.folder / "home",
            "DAGSTER_DBT_COMMON_MACROS": _macros(),
        }
        if self.is_ours:
            variables |= _OUR_VARIABLES
        if dev:
            variables["DAGSTER_IS_DEV_CLI"] = "1"
        return environment(**variables)

    def dbt_args(
        self, first: int, last: int, *flags: str, select: Sequence[str] = DAILY, command: str = "build"
    ) -> Sequence[str]:
        """Return a dbt command, to build by default, for the days from number `first` to `last`, both included."""
        window = json.dumps({"min_date": day(first), "max_date": day(last + 1)})
        places = ("--project-dir", str(self.project), "--profiles-dir", str(self.project))
        return [
            command,
            *places,
            "--log-path",
            str(self.folder / "logs"),
            *flags,
            "--select",
            *select,
            "--vars",
            window,
        ]

    @property
    def saved_statements(self) -> Path:
        """Return the file of the SQL that dbt sent for a partition."""
        return self.folder / "statements.json"


def _macros() -> Path:
    """Return the macros of `dagster_dbt_common`, which to import would cost this process Dagster and dbt."""
    spec = find_spec("dagster_dbt_common")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("dagster_dbt_common is not installed: run `make install`")
    return Path(spec.origin).parent / "macros"


def day(number: int) -> str:
    """Return a partition's key, by its number from 0."""
    return (FIRST_DAY + timedelta(number)).isoformat()


def prepared_sites(folder: Path, lake: Path, models: int) -> Mapping[str, Site]:
    """Make the sites of one size, with the same month of history in each warehouse, and save a partition's SQL."""
    sites = {way: Site(way, folder / f"{number}", lake) for number, way in enumerate((*_MODULES, DBT, SQL))}
    for site in sites.values():
        (site.folder / "home").mkdir(parents=True)
        (site.folder / "home" / "dagster.yaml").write_text(f"{_INSTANCE}{_OURS if site.is_ours else ''}")
        if site.way != PLAIN:
            write_project(site.project, models=models)
    history = sites[DBT]
    built = history.dbt_args(0, HISTORY_DAYS - 1, select=("stores", *DAILY))
    run("dbt.cli.main", *built, env=history.env())
    for site in sites.values():
        if site.way not in (DBT, PLAIN):
            shutil.copy(history.warehouse, site.warehouse)
    sql = sites[SQL]
    in_json = ("--log-level-file", "debug", "--log-format-file", "json")
    run("dbt.cli.main", *sql.dbt_args(HISTORY_DAYS, HISTORY_DAYS, *in_json), env=sql.env())
    sql.saved_statements.write_text(json.dumps(statements(sql.folder / "logs" / "dbt.log")))
    return sites

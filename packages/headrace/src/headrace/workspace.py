"""A Headrace workspace: where its root and its state are, and the environment that its processes share."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from headrace.cli.user_errors import UserError
from headrace.workspace_file import Entry, read_workspace_file, root_above

DEFAULT_START = "2024-01-01"
_FIRST_YEAR = 1000  # the names of earlier years are no ISO dates
_LAKES = ("file", "local", "s3", "s3a", "gs", "az", "abfs", "abfss")

EVENT_LOG_CONFIG = "event_log_storage: {module: headrace.event_log, class: BatchingSqliteEventLogStorage}"
"""The line of `dagster.yaml` that names the event log; its folder is found by `DAGSTER_HOME`."""

_INSTANCE_CONFIG = """\
# The Dagster instance of this workspace on this machine.
telemetry: {enabled: false}
# Runs are forked from a process that has loaded their location: of `headrace run`, or of the daemon of `dg dev`.
run_launcher: {module: headrace.forked_runs, class: ForkedRunLauncher}
concurrency:
  runs: {max_concurrent_runs: 4}
  # A pool is a thing of which there is one, such as a DuckDB file that one process may write at a time.
  pools: {granularity: op, default_limit: 1}
# How often the daemon looks whether a run waits for its turn; Dagster's own is 5.
run_queue: {dequeue_interval_seconds: 1}
# A run whose process is gone is failed, and its pool is free again.
run_monitoring: {enabled: true, poll_interval_seconds: 15, free_slots_after_run_end_seconds: 60}
"""
_EVENT_LOG_CONFIG = f"""\
# Dagster's event log in SQLite, with the events of a range of partitions in one transaction.
{EVENT_LOG_CONFIG}
"""


@dataclass(frozen=True)
class Workspace:
    """A workspace on this machine.

    Args:
        root: the folder of `workspace.yaml`.
        locations: the code locations of `workspace.yaml`, by their names.
        exports: the folder of the source's export files.
        lake: the lake's folder or URL.
        warehouse: the DuckDB file of the analytics location.
        dagster_home: the folder of the Dagster instance.
        start: the first day (UTC) of all partitions.
        target: the target of dbt that `HEADRACE_TARGET` or dbt's `DBT_TARGET` names; None for the profile's own.
        ducklake_data: the folder of the files of the target `ducklake`.
        duckdb_extensions: the folder of this machine's extensions of DuckDB, for that target and an object store.
    """

    root: Path
    locations: Mapping[str, Entry]
    exports: Path
    lake: str
    warehouse: Path
    dagster_home: Path
    start: date
    target: str | None
    ducklake_data: str
    duckdb_extensions: Path

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> "Workspace":
        """Return the workspace at or above the current folder, with the paths that the environment says.

        Raises:
            UserError: there is no workspace, its `workspace.yaml` is broken, or `HEADRACE_START` is not a date.
        """
        root = root_above(Path.cwd())
        state = Path(environment.get("HEADRACE_STATE") or root / ".headrace").absolute()
        lake = environment.get("HEADRACE_LAKE") or str(state / "lake")
        data = environment.get("HEADRACE_DUCKLAKE_DATA") or str(state / "ducklake")
        start = environment.get("HEADRACE_START") or DEFAULT_START
        try:
            first_day = date.fromisoformat(start)
        except ValueError:
            raise UserError(f"HEADRACE_START: {start!r} is not an ISO date; write it like 2024-01-01") from None
        if first_day.year < _FIRST_YEAR:
            raise UserError(f"HEADRACE_START: {start} is before {_FIRST_YEAR}, where no partitions can begin")
        if "://" in lake and lake.partition("://")[0] not in _LAKES:
            raise UserError(f"HEADRACE_LAKE: {lake!r} is no folder, and no URL of {', '.join(_LAKES)}")
        return cls(
            root=root,
            locations={entry.name: entry for entry in read_workspace_file(root)},
            exports=Path(environment.get("HEADRACE_EXPORTS") or state / "exports").absolute(),
            lake=lake if "://" in lake else str(Path(lake).absolute()),
            warehouse=Path(environment.get("HEADRACE_WAREHOUSE") or state / "warehouse.duckdb").absolute(),
            dagster_home=Path(environment.get("DAGSTER_HOME") or state / "dagster").absolute(),
            start=first_day,
            target=_target(environment),
            ducklake_data=data if "://" in data else str(Path(data).absolute()),
            duckdb_extensions=Path(
                environment.get("HEADRACE_DUCKDB_EXTENSIONS") or state / "duckdb_extensions"
            ).absolute(),
        )

    @property
    def logs(self) -> Path:
        """Return the folder of the logs of the processes that a command starts."""
        return self.dagster_home / "processes"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that say these paths to a process."""
        extensions = {"HEADRACE_DUCKDB_EXTENSIONS": str(self.duckdb_extensions)}
        files = {"HEADRACE_DUCKLAKE_DATA": self.ducklake_data}
        return {
            **(extensions if self.target == "ducklake" or self.lake.startswith("s3://") else {}),
            **(files if self.target == "ducklake" else {}),
            "HEADRACE_START": self.start.isoformat(),
            "HEADRACE_EXPORTS": str(self.exports),
            "HEADRACE_LAKE": self.lake,
            "HEADRACE_WAREHOUSE": str(self.warehouse),
            "DAGSTER_HOME": str(self.dagster_home),
            # One planned event for an asset of a run over a range, not one for each partition: half of the events that
            # a range costs. A partition of a failed run then is missing in the UI, not failed.
            "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true",
            # How many events of a range Dagster hands to the event log at once.
            "DAGSTER_EVENT_BATCH_SIZE": "1000",
        }

    def enter(self) -> None:
        """Go to the root, with this environment and the commands of this interpreter's, and prepare the state."""
        os.environ.update(self.environment())
        # Called by its path, a command does not have its environment's other commands, such as dbt, on the search path.
        bin_folder = str(Path(sys.executable).parent)
        os.environ["PATH"] = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        os.chdir(self.root)
        self.prepare()

    def prepare(self) -> None:
        """Make the folders of the state, and the configuration of the Dagster instance where it has none."""
        for folder in (self.dagster_home, self.logs, self.warehouse.parent):
            folder.mkdir(parents=True, exist_ok=True)
        config = self.dagster_home / "dagster.yaml"
        if not config.exists():
            # A run opens the event log in the environment of its location, and another one may lack this package.
            elsewhere = any(entry.executable_path for entry in self.locations.values())
            fresh = config.with_name(f".{config.name}-{os.getpid()}")  # another process reads it whole, or not at all
            fresh.write_text(_INSTANCE_CONFIG + ("" if elsewhere else _EVENT_LOG_CONFIG))
            fresh.replace(config)


def _target(environment: Mapping[str, str]) -> str | None:
    """Return the target that the environment names; dbt has one more of it for an object store."""
    named = {name: environment.get(name, "").removesuffix("_s3") for name in ("HEADRACE_TARGET", "DBT_TARGET")}
    targets = {target for target in named.values() if target}
    if len(targets) > 1:
        said = " and ".join(f"{name}={environment[name]}" for name in named)
        raise UserError(f"{said} name two targets: set one of them")
    return targets.pop() if targets else None

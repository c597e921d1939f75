"""The project `projects/minimal` in a folder of its own, run by real Dagster runs into a DuckDB file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import DbtResource, dbt_definitions
from dagster_dbt_common.project.parsing import keep_dbt

PROJECTS = Path(__file__).parent / "projects"

Event = tuple[str | None, str, str | None, str]

# What a run in a process of its own loads. `dbt_definitions` alone would give each step another process.
DEFINITIONS = """
import os
from pathlib import Path
import dagster as dg
from dagster_dbt_common import dbt_definitions

executors = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}
defs = dg.Definitions.merge(
    dbt_definitions(Path(__file__).parent / "project"),
    dg.Definitions(executor=executors[os.environ["MINIMAL_EXECUTOR"]]),
)
"""


@dataclass
class Minimal:
    """The minimal project: what it reads, what it has made, and a Dagster instance that forgets.

    Args:
        root: the folder of everything.
        definitions: the project as Dagster has it.
        instance: the history of the runs.
    """

    root: Path
    definitions: dg.Definitions
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def dbt(self) -> DbtResource:
        """Return the project's own dbt resource."""
        (resource,) = (self.definitions.resources or {}).values()
        assert isinstance(resource, DbtResource)
        return resource

    @property
    def warehouse(self) -> Path:
        """Return the DuckDB file that dbt writes."""
        return Path(os.environ["MINIMAL_WAREHOUSE"])

    def write_events(self, *events: Event) -> None:
        """Replace the source: (id, time, store, amount as text)."""
        folder = self.root / "lake" / "events"
        folder.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as connection:
            connection.execute("create table events (id text, occurred_at timestamp, store text, amount text)")
            if events:
                connection.executemany("insert into events values (?, ?, ?, ?)", list(events))
            connection.execute(f"copy events to '{folder / 'part.parquet'}' (format parquet)")

    def write_delay(self, loops: int) -> None:
        """Say how long `slow_events` takes: the square of this, at some 10^8 to 10^9 a second."""
        folder = self.root / "lake" / "delays"
        folder.mkdir(parents=True, exist_ok=True)
        duckdb.sql(f"copy (select {loops}::bigint as loops) to '{folder / 'part.parquet'}' (format parquet)")

    def run(
        self, *assets: str, start: str | None = None, end: str | None = None, resource: DbtResource | None = None
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets in one run, from partition `start` to `end`; neither is no partition."""
        tags = {}
        if end is not None:
            tags = {"dagster/asset_partition_range_start": str(start), "dagster/asset_partition_range_end": end}
        (resource_key,) = self.definitions.resources or {}
        return dg.materialize(
            [asset for asset in self.definitions.assets or () if isinstance(asset, dg.AssetsDefinition)],
            selection=dg.AssetSelection.assets(*(name.split("/") for name in assets)),
            resources={resource_key: resource or self.dbt},
            instance=self.instance,
            partition_key=start if end is None else None,
            tags=tags,
            raise_on_error=False,
        )

    def open_history(self, config: str = "") -> dg.DagsterInstance:
        """Open the history of the runs in processes of their own, making it with a configuration if it is missing."""
        home = self.root / "home"
        if not home.exists():
            home.mkdir()
            (home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{config}\n")
        return dg.DagsterInstance.from_config(str(home))

    def start(self, *assets: str, partition: str, executor: str = "in_process") -> "subprocess.Popen[str]":
        """Start a run in a process of its own, by Dagster's command line; its standard output has dbt's."""
        (self.root / "definitions.py").write_text(DEFINITIONS)
        self.open_history().dispose()
        return subprocess.Popen(
            [
                *(Path(sys.executable).parent / "dagster", "asset", "materialize", "-f", self.root / "definitions.py"),
                *("--select", ",".join(assets), "--partition", partition),
            ],
            env={**os.environ, "DAGSTER_HOME": str(self.root / "home"), "MINIMAL_EXECUTOR": executor},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def run_upstream(self) -> None:
        """Build what the partitioned models read: the views and the seed."""
        result = self.run("stg_events", "stg_stores", "store_names")
        assert result.success

    def rows(self, query: str) -> Sequence[tuple[object, ...]]:
        """Return what a query finds in the warehouse."""
        with duckdb.connect(self.warehouse, read_only=True) as connection:
            return connection.sql(query).fetchall()

    def can_be_opened(self) -> bool:
        """Return whether another process may write the warehouse at this moment."""
        code = "import sys, duckdb; duckdb.connect(sys.argv[1]).sql('create or replace table opened as select 1')"
        done = subprocess.run([sys.executable, "-c", code, self.warehouse], check=False, capture_output=True)
        return done.returncode == 0

    def day_of(self, table: str) -> Sequence[tuple[object, ...]]:
        """Return ids and times of a table of events, in order."""
        return self.rows(f"select id, occurred_at from {table} order by all")


@pytest.fixture(scope="session", autouse=True)
def one_dbt() -> None:
    """Import dbt once for all the projects that are parsed."""
    keep_dbt()


@pytest.fixture(scope="session")
def minimal_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("minimal")
    shutil.copytree(PROJECTS / "minimal", root / "project")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MINIMAL_LAKE", str(root / "lake"))
        monkeypatch.setenv("MINIMAL_WAREHOUSE", str(root / "warehouse.duckdb"))
        yield root


@pytest.fixture(scope="session")
def minimal_definitions(minimal_root: Path) -> dg.Definitions:
    return dbt_definitions(minimal_root / "project")


@pytest.fixture
def minimal(minimal_root: Path, minimal_definitions: dg.Definitions) -> Iterator[Minimal]:
    """Three days of events, of which the last is quiet, and nothing built."""
    for path in minimal_root.glob("warehouse*"):
        path.unlink()
    for folder in ("lake", "home"):
        shutil.rmtree(minimal_root / folder, ignore_errors=True)
    project = Minimal(minimal_root, minimal_definitions)
    project.write_delay(1)
    project.write_events(
        ("a", "2024-01-01 00:00:00", "oslo", "100"),
        ("b", "2024-01-01 23:59:59.999999", "paris", "5"),
        ("c", "2024-01-02 00:00:00", "oslo", "250"),
        ("d", "2024-01-02 12:30:00", "oslo", "7"),
    )
    yield project
    project.instance.dispose()

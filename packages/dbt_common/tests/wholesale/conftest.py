"""The project `projects/wholesale` of a team that never heard of this package, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import MACROS_DIR, dbt_definitions, prepared_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROJECT = Path(__file__).parents[1] / "projects" / "wholesale"
END = datetime(2024, 4, 1)  # noqa: DTZ001 - the end of the month in each group's own zone

OpenWholesale = Callable[["Path", "Mapping[str, str]"], AbstractContextManager["Wholesale"]]


@dataclass
class Wholesale:
    """The project in a folder of its own.

    Args:
        root: the folder of everything.
        definitions: the project as Dagster has it.
        manifest: the project as dbt has it.
        instance: the history of the runs.
    """

    root: Path
    definitions: dg.Definitions
    manifest: Mapping[str, Any]
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @property
    def warehouse(self) -> Path:
        """Return the DuckDB file that Dagster's runs write."""
        return Path(os.environ["WHOLESALE_WAREHOUSE"])

    @property
    def groups(self) -> Sequence[dg.AssetsDefinition]:
        """Return the `@dbt_assets`."""
        return [asset for asset in self.definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]

    def specs(self) -> Mapping[str, dg.AssetSpec]:
        """Return the spec of each asset by the dbt name."""
        return {spec.metadata["dagster_dbt/unique_id"]: spec for group in self.groups for spec in group.specs}

    def nodes(self, *types: str) -> Mapping[str, Any]:
        """Return the manifest's nodes of these types, by unique id."""
        return {unique_id: node for unique_id, node in self.manifest["nodes"].items() if node["resource_type"] in types}

    def asset_nodes(self) -> Mapping[str, Any]:
        """Return the nodes that are assets: an ephemeral model is none."""
        nodes = self.nodes("model", "seed", "snapshot")
        return {unique_id: node for unique_id, node in nodes.items() if node["config"]["materialized"] != "ephemeral"}

    def parents_of(self, unique_id: str) -> set[str]:
        """Return what a node reads, looking through ephemeral models."""
        found: set[str] = set()
        for parent in self.manifest["parent_map"][unique_id]:
            node = self.manifest["nodes"].get(parent)
            ephemeral = node is not None and node["config"]["materialized"] == "ephemeral"
            found |= self.parents_of(parent) if ephemeral else {parent}
        return found

    def write(self, table: str, query: str) -> None:
        """Replace a source by what a query gives."""
        duckdb.sql(f"copy ({query}) to '{self.root / 'lake' / table}.parquet' (format parquet)")

    def forget(self) -> None:
        """Forget the warehouse and the runs, and write the sources again."""
        for path in self.root.glob("*.duckdb*"):
            path.unlink()
        for query in (PROJECT / "exports").glob("*.sql"):
            self.write(query.stem, query.read_text())
        self.instance.dispose()
        self.instance = dg.DagsterInstance.ephemeral()

    def run(self, keys: set[dg.AssetKey], partitions: Sequence[str]) -> dg.ExecuteInProcessResult:
        """Materialize assets of one group in one run over a range of partitions; no partitions, no range."""
        tags = (
            {"dagster/asset_partition_range_start": partitions[0], "dagster/asset_partition_range_end": partitions[-1]}
            if partitions
            else {}
        )
        return dg.materialize(
            self.groups,
            selection=dg.AssetSelection.assets(*keys),
            resources=self.definitions.resources,
            instance=self.instance,
            tags=tags,
            raise_on_error=False,
        )

    @staticmethod
    def keys_of_month(partitions_def: dg.PartitionsDefinition[str] | None) -> Sequence[str]:
        """Return the partitions that begin before the end of the month, by the clock of their zone."""
        if partitions_def is None:
            return []
        assert isinstance(partitions_def, dg.TimeWindowPartitionsDefinition)
        keys = partitions_def.get_partition_keys(current_time=datetime(2024, 4, 2, tzinfo=UTC))
        return [
            key for key in keys if partitions_def.time_window_for_partition_key(key).start.replace(tzinfo=None) < END
        ]

    def build_month(self) -> Sequence[dg.ExecuteInProcessResult]:
        """Build all of March, each run one group's assets whose parents are built or are of the same run."""
        graph = self.definitions.resolve_asset_graph()
        waiting = set(graph.materializable_asset_keys)
        results = []
        while waiting:
            ready: dict[dg.PartitionsDefinition[str] | None, set[dg.AssetKey]] = defaultdict(set)
            for key in graph.toposorted_asset_keys:
                partitions_def = graph.get(key).partitions_def
                if key in waiting and not (graph.get(key).parent_keys & waiting) - ready[partitions_def]:
                    ready[partitions_def].add(key)
            partitions_def, keys = max(ready.items(), key=lambda item: len(item[1]))
            results.append(self.run(keys, self.keys_of_month(partitions_def)))
            assert results[-1].success, (
                keys,
                [str(event.event_specific_data) for event in results[-1].all_events][-3:],
            )
            waiting -= keys
        return results

    def check_evaluations(self) -> Sequence[dg.AssetCheckEvaluation]:
        """Return every result of a check in the history of the runs."""
        return [
            log.dagster_event.asset_check_evaluation_data
            for run in self.instance.get_runs()
            for log in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
            if log.dagster_event is not None
        ]

    def rows(self, query: str) -> Sequence[tuple[object, ...]]:
        """Return what a query finds in the warehouse."""
        with duckdb.connect(self.warehouse, read_only=True) as connection:
            return connection.sql(query).fetchall()

    def dbt(self, *arguments: str, warehouse: Path) -> None:
        """Run the command dbt, as someone without Dagster does."""
        done = subprocess.run(
            [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--no-use-colors", *arguments],
            cwd=self.root / "project",
            env={**os.environ, "WHOLESALE_WAREHOUSE": str(warehouse), "DAGSTER_DBT_COMMON_MACROS": str(MACROS_DIR)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def opened(root: Path, files: Mapping[str, str]) -> Iterator[Wholesale]:
    """Copy the project into a folder, with more files, and load it."""
    shutil.copytree(PROJECT, root / "project")
    for name, text in files.items():
        (root / "project" / name).write_text(dedent(text))
    (root / "lake").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("WHOLESALE_LAKE", str(root / "lake"))
        monkeypatch.setenv("WHOLESALE_WAREHOUSE", str(root / "dagster.duckdb"))
        definitions = dbt_definitions(root / "project")
        manifest = json.loads(prepared_project(root / "project").manifest_path.read_text())
        project = Wholesale(root, definitions, manifest)
        project.forget()
        yield project
        project.instance.dispose()


@pytest.fixture(scope="session")
def open_wholesale() -> OpenWholesale:
    """Return the function that copies the project into a folder, with more files, and loads it."""
    return opened


@pytest.fixture(scope="module")
def wholesale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wholesale]:
    with opened(tmp_path_factory.mktemp("wholesale"), {}) as project:
        yield project

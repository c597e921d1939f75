"""A whole project of a team that never heard of this package: loaded, built by groups, and equal to dbt's own build."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import MACROS_DIR, dbt_definitions, prepared_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Loads the project by a real parse, and one run has the events of a month.
pytestmark = pytest.mark.slow

END = datetime(2024, 4, 1)  # noqa: DTZ001 - the end of the month in each group's own zone
BERLIN = ZoneInfo("Europe/Berlin")

# The first and the last instant are a month's first and a Monday: no window cuts a partition of any grain. dbt cuts
# the event times to its batches, so the sensors' first day is a month of invoices.
WIDE_VARS = {"min_date": "2024-01-01", "max_date": "2024-04-01"}
WIDE_EVENT_TIMES = ["--event-time-start", "2024-03-30", "--event-time-end", "2024-04-01"]

GROUPS = {
    "dbt_wholesale",
    "dbt_wholesale_daily_20240301T0000",
    "dbt_wholesale_daily_20240301T0000_Europe_Berlin",
    "dbt_wholesale_hourly",
    "dbt_wholesale_monthly",
    "dbt_wholesale_weekly",
}

PROJECT = Path(__file__).parent / "projects" / "wholesale"


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


@pytest.fixture(scope="module")
def wholesale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wholesale]:
    with opened(tmp_path_factory.mktemp("wholesale"), {}) as project:
        yield project


def of_types(manifest: Mapping[str, Any], *types: str) -> Mapping[str, Any]:
    return {unique_id: node for unique_id, node in manifest["nodes"].items() if node["resource_type"] in types}


def asset_nodes(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    nodes = of_types(manifest, "model", "seed", "snapshot")
    return {unique_id: node for unique_id, node in nodes.items() if node["config"]["materialized"] != "ephemeral"}


def parents_of(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """Return what a node reads, looking through ephemeral models."""
    found: set[str] = set()
    for parent in manifest["parent_map"][unique_id]:
        node = manifest["nodes"].get(parent)
        ephemeral = node is not None and node["config"]["materialized"] == "ephemeral"
        found |= parents_of(manifest, parent) if ephemeral else {parent}
    return found


def test_the_project_is_as_varied_as_it_says(wholesale: Wholesale) -> None:
    """What the tests below prove would be worth less, if somebody trimmed the project."""
    models = of_types(wholesale.manifest, "model")
    materializations = Counter(node["config"]["materialized"] for node in models.values())
    assert len(models) >= 30
    assert materializations["ephemeral"] >= 2
    assert len(of_types(wholesale.manifest, "seed")) == 3
    assert len(of_types(wholesale.manifest, "snapshot")) == 2
    assert len(wholesale.manifest["exposures"]) == 2
    assert len(wholesale.manifest["groups"]) == 3
    assert len(wholesale.manifest["disabled"]) == 1


def test_every_model_seed_snapshot_and_test_lands_once(wholesale: Wholesale) -> None:
    assets = Counter(spec.metadata["dagster_dbt/unique_id"] for group in wholesale.groups for spec in group.specs)
    assert assets == Counter(dict.fromkeys(asset_nodes(wholesale.manifest), 1))
    checks = Counter(
        (spec.metadata or {})["dagster_dbt/unique_id"] for group in wholesale.groups for spec in group.check_specs
    )
    assert checks == Counter(dict.fromkeys(of_types(wholesale.manifest, "test"), 1))


def test_groups_are_named_by_grain_and_have_a_full_refresh_each(wholesale: Wholesale) -> None:
    names = {group.op.name for group in wholesale.groups}
    (cron,) = names - GROUPS
    assert names >= GROUPS
    assert cron.startswith("dbt_wholesale_cron_0_x_6_x_x_x_20240301T0000")
    jobs = {job.name for job in wholesale.definitions.jobs or ()}
    assert jobs == {f"{name}__full_refresh" for name in names}
    sizes = {group.op.name: len(list(group.keys)) for group in wholesale.groups}
    assert sizes["dbt_wholesale_daily_20240301T0000_Europe_Berlin"] == 2
    assert sizes["dbt_wholesale_hourly"] == 2, "a microbatch model and another share the definition"


def test_specs_have_owners_groups_tags_and_code_versions(wholesale: Wholesale) -> None:
    for unique_id, spec in wholesale.specs().items():
        node = wholesale.manifest["nodes"][unique_id]
        group = node["config"].get("group")
        owner = wholesale.manifest["groups"][f"group.wholesale.{group}"]["owner"]["email"] if group else None
        assert list(spec.owners) == ([owner] if owner else [])
        assert (spec.group_name or "default") == (group or "default")
        assert set(node["tags"]) <= set(spec.tags)
        assert spec.code_version
    assert {spec.key.to_user_string() for spec in wholesale.specs().values()} >= {
        "dim_products_v1",
        "dim_products_v2",
        "history/customer_terms",
        "daily_sales",
        "order_book",
    }


def test_the_asset_graph_is_that_of_dbt_and_has_no_cycle(wholesale: Wholesale) -> None:
    graph = wholesale.definitions.resolve_asset_graph()
    specs = wholesale.specs()
    sources = {
        unique_id: dg.AssetKey([source["source_name"], source["name"]])
        for unique_id, source in wholesale.manifest["sources"].items()
    }
    keys = {**sources, **{unique_id: spec.key for unique_id, spec in specs.items()}}
    for unique_id in asset_nodes(wholesale.manifest):
        reads = {keys[parent] for parent in parents_of(wholesale.manifest, unique_id)}
        assert graph.get(keys[unique_id]).parent_keys == reads, unique_id

    waiting = {key: set(graph.get(key).parent_keys) for key in graph.get_all_asset_keys()}
    while ready := {key for key, parents in waiting.items() if not parents}:
        waiting = {key: parents - ready for key, parents in waiting.items() if key not in ready}
    assert not waiting


def keys_of_month(partitions_def: dg.PartitionsDefinition[str] | None) -> Sequence[str]:
    """Return the partitions that begin before the end of the month, by the clock of their zone."""
    if partitions_def is None:
        return []
    assert isinstance(partitions_def, dg.TimeWindowPartitionsDefinition)
    keys = partitions_def.get_partition_keys(current_time=datetime(2024, 4, 2, tzinfo=UTC))
    return [key for key in keys if partitions_def.time_window_for_partition_key(key).start.replace(tzinfo=None) < END]


def build_month(wholesale: Wholesale) -> Sequence[dg.ExecuteInProcessResult]:
    """Build all of March, each run one group's assets whose parents are built or are of the same run."""
    graph = wholesale.definitions.resolve_asset_graph()
    waiting = set(graph.materializable_asset_keys)
    results = []
    while waiting:
        ready: dict[dg.PartitionsDefinition[str] | None, set[dg.AssetKey]] = defaultdict(set)
        for key in graph.toposorted_asset_keys:
            partitions_def = graph.get(key).partitions_def
            if key in waiting and not (graph.get(key).parent_keys & waiting) - ready[partitions_def]:
                ready[partitions_def].add(key)
        partitions_def, keys = max(ready.items(), key=lambda item: len(item[1]))
        results.append(wholesale.run(keys, keys_of_month(partitions_def)))
        assert results[-1].success, (keys, [str(event.event_specific_data) for event in results[-1].all_events][-3:])
        waiting -= keys
    return results


@pytest.fixture(scope="module")
def month(wholesale: Wholesale) -> Sequence[dg.ExecuteInProcessResult]:
    wholesale.forget()
    return build_month(wholesale)


def test_a_month_records_each_partition_of_each_asset_once(
    wholesale: Wholesale, month: Sequence[dg.ExecuteInProcessResult]
) -> None:
    built = Counter(
        (event.materialization.asset_key, event.partition)
        for result in month
        for event in result.get_asset_materialization_events()
    )
    expected = Counter(
        (spec.key, key)
        for group in wholesale.groups
        for spec in group.specs
        for key in (keys_of_month(spec.partitions_def) if spec.partitions_def else (None,))
    )
    assert built == expected
    invocations = [
        {event.materialization.metadata["invocation_id"].value for event in result.get_asset_materialization_events()}
        for result in month
    ]
    assert [len(one) for one in invocations] == [1] * len(month), "a range is one invocation of dbt"
    hooks = wholesale.rows("select count(*), count(distinct invocation) from run_log")
    assert hooks == [(len(month), len(month))]


def test_every_test_of_the_project_ran_as_a_check_and_passed(
    wholesale: Wholesale, month: Sequence[dg.ExecuteInProcessResult]
) -> None:
    recorded = [
        log.dagster_event.asset_check_evaluation_data
        for result in month
        for log in wholesale.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if log.dagster_event is not None
    ]
    specs = {spec.key: spec for group in wholesale.groups for spec in group.check_specs}
    assert {evaluation.asset_check_key for evaluation in recorded} == set(specs)
    assert [evaluation.check_name for evaluation in recorded if not evaluation.passed] == []


def test_a_month_by_groups_equals_the_build_of_dbt_itself(
    wholesale: Wholesale, month: Sequence[dg.ExecuteInProcessResult]
) -> None:
    assert month
    full = wholesale.root / "complete.duckdb"
    wholesale.dbt("build", "--full-refresh", "--vars", json.dumps(WIDE_VARS), *WIDE_EVENT_TIMES, warehouse=full)
    empty, different = [], {}
    with duckdb.connect() as connection:
        # Each has the name that dbt gave it: the views in it say it.
        connection.sql(f"attach '{wholesale.warehouse}' as dagster (read_only)")
        connection.sql(f"attach '{full}' as complete (read_only)")
        for unique_id, node in asset_nodes(wholesale.manifest).items():
            table = f'"{node["schema"]}"."{node["alias"]}"'
            # When a snapshot was taken is another time in each file.
            columns = "* exclude (dbt_scd_id, dbt_updated_at, dbt_valid_from, dbt_valid_to)"
            chosen = columns if node["resource_type"] == "snapshot" else "*"
            ours, theirs = (f"select {chosen} from {file}.{table}" for file in ("dagster", "complete"))
            counts = [connection.sql(f"select count(*) from ({query})").fetchone() for query in (ours, theirs)]
            extra = connection.sql(f"({ours} except all {theirs}) limit 3").fetchall()
            missing = connection.sql(f"({theirs} except all {ours}) limit 3").fetchall()
            if extra or missing or counts[0] != counts[1]:
                different[unique_id] = (counts, extra, missing)
            if counts[0] == (0,):
                empty.append(unique_id)
    assert different == {}
    assert empty == [], "an empty table proves nothing"


def berlin_rows() -> Mapping[str, datetime]:
    """Return shipments in UTC around the local midnights of both days on which the clock changes."""
    moments = {}
    for day in ("2024-03-30", "2024-03-31", "2024-04-01", "2024-10-26", "2024-10-27", "2024-10-28"):
        midnight = datetime.fromisoformat(day).replace(tzinfo=BERLIN).astimezone(UTC)
        for name, offset in (("before", -1), ("at", 0), ("after", 1)):
            moments[f"{day}-{name}"] = midnight + timedelta(microseconds=offset)
    # 02:30 is twice on the last Sunday of October, and never on that of March.
    moments["first-0230"] = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    moments["second-0230"] = datetime(2024, 10, 27, 1, 30, tzinfo=UTC)
    moments["skipped-hour"] = datetime(2024, 3, 31, 1, 0, tzinfo=UTC)
    return moments


def test_rows_at_local_midnights_are_in_one_berlin_day_each(wholesale: Wholesale) -> None:
    wholesale.forget()
    rows = berlin_rows()
    values = ", ".join(
        f"('{name}', 'o', 'c1', timestamp '{moment:%Y-%m-%d %H:%M:%S.%f}', null::timestamp, 1::bigint)"
        for name, moment in rows.items()
    )
    columns = "shipment_id, order_id, carrier_id, shipped_at, delivered_at, weight_grams"
    wholesale.write("shipments", f"select * from (values {values}) as t ({columns})")
    assert wholesale.run({dg.AssetKey("stg_tms__shipments")}, []).success

    seen: set[str] = set()
    for day in ("2024-10-27", "2024-03-31", "2024-04-01", "2024-03-30", "2024-10-28", "2024-10-26"):
        result = wholesale.run({dg.AssetKey("local_shipments"), dg.AssetKey("local_shipment_days")}, [day])
        assert result.success
        ids = {str(row[0]) for row in wholesale.rows("select shipment_id from local_shipments")}
        expected = {name for name, moment in rows.items() if f"{moment.astimezone(BERLIN):%Y-%m-%d}" == day}
        assert ids - seen == expected, day
        seen = ids

    repeated = wholesale.rows("select shipment_id from local_shipments group by all having count(*) > 1")
    days = wholesale.rows("select local_day::text, shipments from local_shipment_days order by all")
    assert repeated == []
    local = Counter(f"{moment.astimezone(BERLIN):%Y-%m-%d}" for moment in rows.values())
    built = {"2024-03-30", "2024-03-31", "2024-04-01", "2024-10-26", "2024-10-27", "2024-10-28"}
    assert days == sorted((day, count) for day, count in local.items() if day in built)


def test_the_warehouse_can_be_opened_by_another_process_after_each_run(wholesale: Wholesale) -> None:
    wholesale.forget()
    code = "import sys, duckdb; duckdb.connect(sys.argv[1])"
    opened = []
    for _ in range(4):
        assert wholesale.run({dg.AssetKey("stg_tms__shipments")}, []).success
        done = subprocess.run([sys.executable, "-c", code, wholesale.warehouse], check=False, capture_output=True)
        opened.append(done.returncode == 0)
    assert opened == [True] * 4


# Tests between groups of which neither is built from the other.
CROSS_GROUP_TESTS = {
    "tests/hours_are_of_known_warehouses.sql": """
        select hours.warehouse_id
        from {{ ref('sensor_hours') }} as hours
        where hours.warehouse_id not in (select warehouse_id from {{ ref('dim_warehouses') }})
    """,
    "tests/late_shipments_agree.sql": """
        select 1 as disagreement
        where (select sum(late_shipments) from {{ ref('carrier_weeks') }})
            <> (select count(*) from {{ ref('fct_shipments') }} where is_late)
            or (select sum(late_shipments) from {{ ref('warehouse_months') }})
            <> (select count(*) from {{ ref('fct_shipments') }} where is_late)
    """,
}


def test_a_test_between_groups_waits_for_the_group_that_is_built_last(tmp_path: Path) -> None:
    with opened(tmp_path, CROSS_GROUP_TESTS) as project:
        build_month(project)
        evaluations = [
            log.dagster_event.asset_check_evaluation_data
            for run in project.instance.get_runs()
            for log in project.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
            if log.dagster_event is not None
        ]
        names = Counter(evaluation.check_name for evaluation in evaluations if evaluation.passed)
        assert names["hours_are_of_known_warehouses"] == 1
        assert names["late_shipments_agree"] == 1

"""Full rebuilds as one run, and what a changed schema does to partitions, as each model's `on_schema_change` says."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import psycopg2
import pytest
from postgres_server import postgres

from dagster_dbt_common import dbt_definitions
from dagster_dbt_common.assets.column_lineage import LINEAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

# Each test parses a project of its own.
pytestmark = pytest.mark.slow("parses a dbt project before and after each change of a column")

TODAY = datetime.now(UTC).date()
DAYS = [(TODAY - timedelta(days=days)).isoformat() for days in range(5, 0, -1)]
START, FIRST, SECOND = DAYS[0], DAYS[0], DAYS[1]

DUCKDB_TIMES = f"unnest(range(timestamp '{START}', timestamp '{TODAY}', interval 6 hour))"
POSTGRES_TIMES = f"generate_series(timestamp '{START}', timestamp '{TODAY}' - interval '6 hours', interval '6 hours')"

FILES = {
    "dbt_project.yml": """
        name: tides
        config-version: 2
        profile: tides
        macro-paths: ["{{ env_var('DAGSTER_DBT_COMMON_MACROS', '') }}"]
        models: {tides: {+materialized: table}}
    """,
    "profiles.yml": """
        tides:
          target: duckdb
          outputs:
            duckdb: {type: duckdb, path: "{{ env_var('TIDES_WAREHOUSE') }}", threads: 2}
    """,
    "models/highs.sql": f"""
        select
            {DUCKDB_TIMES} as seen_at,
            3 as height
    """,
}


def daily(columns: str, on_schema_change: str) -> str:
    """Return the SQL of a daily model with these columns beside its time."""
    return f"""
        {{{{ config(
            materialized='incremental',
            incremental_strategy='delete_window+insert',
            event_time='seen_at',
            on_schema_change='{on_schema_change}',
            meta={{'dagster': {{'partitions': {{'grain': 'day', 'start': '{START}'}}}}}},
        ) }}}}

        select seen_at, {columns} from {{{{ ref('highs') }}}} where {{{{ in_window('seen_at') }}}}
    """


class Tides:
    """A project that changes between two runs.

    Args:
        root: the folder of everything.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.instance = dg.DagsterInstance.ephemeral()
        (root / "project" / "models").mkdir(parents=True)
        self.write(FILES)

    def write(self, files: Mapping[str, str]) -> None:
        """Change files, and load the project again as a restarted code location does."""
        for name, text in files.items():
            (self.root / "project" / name).write_text(dedent(text))
        if (self.root / "project" / "models" / "daily.sql").exists():
            self.definitions = dbt_definitions(self.root / "project")

    def run(self, *assets: str, partitions: Sequence[str] = ()) -> dg.ExecuteInProcessResult:
        """Materialize assets, over a range of partitions."""
        ends = (partitions[0], partitions[-1]) if partitions else ()
        return dg.materialize(
            [one for one in self.definitions.assets or () if isinstance(one, dg.AssetsDefinition)],
            selection=dg.AssetSelection.assets(*assets),
            resources=self.definitions.resources,
            instance=self.instance,
            tags=dict(
                zip(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), ends, strict=False)
            ),
            raise_on_error=False,
        )

    def full_refresh(self) -> dg.ExecuteInProcessResult:
        """Run the job of the daily group."""
        job = self.definitions.resolve_job_def("dbt_tides_daily__full_refresh")
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def rows(self, query: str) -> Sequence[tuple[object, ...]]:
        """Return what a query finds in the warehouse."""
        with duckdb.connect(self.root / "tides.duckdb", read_only=True) as connection:
            return connection.sql(query).fetchall()

    def columns(self, table: str = "daily") -> Sequence[str]:
        """Return the columns of a table."""
        return [str(name) for (name,) in self.rows(f"select column_name from (describe {table})")]


class PostgresTides(Tides):
    """The same in a Postgres.

    Args:
        root: the folder of everything.
        host: the folder of the server's socket.
        database: a database of its own.
    """

    def __init__(self, root: Path, host: Path, database: str) -> None:
        self._host, self._database = host, database
        with closing(psycopg2.connect(host=str(host), user="postgres", dbname="postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"create database {database}")
        super().__init__(root)

    def write(self, files: Mapping[str, str]) -> None:
        """Change files, for Postgres."""
        profile = f"type: postgres, host: '{self._host}', port: 5432, user: postgres, password: none, schema: public"
        said = f"{{target: it, outputs: {{it: {{{profile}, dbname: {self._database}, threads: 2}}}}}}"
        of_postgres = {name: text.replace(DUCKDB_TIMES, POSTGRES_TIMES) for name, text in files.items()}
        super().write({**of_postgres, "profiles.yml": f"tides: {said}"})

    def rows(self, query: str) -> Sequence[tuple[object, ...]]:
        """Return what a query finds in the warehouse."""
        found = psycopg2.connect(host=str(self._host), user="postgres", dbname=self._database)
        with closing(found) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    def columns(self, table: str = "daily") -> Sequence[str]:
        """Return the columns of a table."""
        of_table = f"table_name = '{table}' order by ordinal_position"
        return [
            str(name) for (name,) in self.rows(f"select column_name from information_schema.columns where {of_table}")
        ]


@pytest.fixture
def tides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tides]:
    monkeypatch.setenv("TIDES_WAREHOUSE", str(tmp_path / "tides.duckdb"))
    project = Tides(tmp_path)
    yield project
    project.instance.dispose()


def test_a_full_refresh_is_one_run_that_records_every_partition(tides: Tides) -> None:
    tides.write({"models/daily.sql": daily("height", "ignore"), "models/other.sql": daily("1 as one", "ignore")})
    assert tides.run("highs").success
    assert tides.run("daily", partitions=(FIRST, SECOND)).success
    with duckdb.connect(tides.root / "tides.duckdb") as connection:
        connection.sql(f"insert into daily values (timestamp '{FIRST} 01:00:00', 99)")  # what a rebuild gets rid of
        connection.sql("update daily set height = 0")

    result = tides.full_refresh()
    assert result.success
    events = [
        log.dagster_event.event_specific_data.materialization  # type: ignore[union-attr]
        for log in tides.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if log.dagster_event is not None
    ]
    recorded = Counter((event.asset_key.to_user_string(), event.partition) for event in events)
    assert recorded == Counter({(name, day): 1 for name in ("daily", "other") for day in DAYS})
    assert len({event.metadata["invocation_id"].value for event in events}) == 1
    assert all(LINEAGE in event.metadata for event in events)
    assert {event.metadata["dagster/partition_row_count"].value for event in events} == {4}

    specs = {
        spec.key.to_user_string(): spec
        for asset in tides.definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for spec in asset.specs
    }
    for event in events:
        assert event.tags is not None
        assert event.tags["dagster/code_version"] == specs[event.asset_key.to_user_string()].code_version
    assert tides.rows("from daily except all from highs") == []
    assert tides.rows("from highs except all from daily") == []
    assert tides.rows("select count(*) from daily") == [(20,)]


def changed(tides: Tides, on_schema_change: str, before: str, after: str) -> dg.ExecuteInProcessResult:
    """Build two days with the columns `before`, and the second again with the columns `after`."""
    tides.write({"models/daily.sql": daily(before, on_schema_change)})
    assert tides.run("highs").success
    assert tides.run("daily", partitions=(FIRST, SECOND)).success
    tides.write({"models/daily.sql": daily(after, on_schema_change)})
    return tides.run("daily", partitions=(SECOND,))


def day_by_day(tides: Tides, column: str) -> Sequence[tuple[object, ...]]:
    return tides.rows(f"select seen_at::date::text as day, {column}, count(*) from daily group by all order by all")


@pytest.mark.some_of("values of on_schema_change", 1)
def test_append_new_columns_adds_one_that_older_partitions_have_not_until_a_full_refresh(tides: Tides) -> None:
    assert changed(tides, "append_new_columns", "height", "height, 7 as depth").success
    assert tides.columns() == ["seen_at", "height", "depth"]
    assert day_by_day(tides, "depth") == [(FIRST, None, 4), (SECOND, 7, 4)]
    assert tides.full_refresh().success
    assert day_by_day(tides, "depth") == [(day, 7, 4) for day in DAYS]


@pytest.mark.some_of("values of on_schema_change", 1)
def test_sync_all_columns_adds_and_drops(tides: Tides) -> None:
    assert changed(tides, "sync_all_columns", "height, 1 as old", "height, 2 as new").success
    assert tides.columns() == ["seen_at", "height", "new"]
    assert day_by_day(tides, "new") == [(FIRST, None, 4), (SECOND, 2, 4)]


@pytest.mark.some_of("values of on_schema_change", 1)
def test_fail_fails_the_step_with_the_message_of_dbt_and_leaves_the_rows(tides: Tides) -> None:
    result = changed(tides, "fail", "height", "4 as height, 7 as depth")
    assert not result.success
    assert result.get_asset_materialization_events() == []
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "The source and target schemas on this incremental model are out of sync" in str(
        failure.step_failure_data.error
    )
    assert tides.columns() == ["seen_at", "height"]
    assert day_by_day(tides, "height") == [(FIRST, 3, 4), (SECOND, 3, 4)]
    assert tides.full_refresh().success, "which is the way out"
    assert day_by_day(tides, "height") == [(day, 4, 4) for day in DAYS]


EDITS = {
    "added": ("height", "height, 7 as depth"),
    "removed": ("height, 7 as depth", "height"),
    "renamed": ("height, 7 as depth", "height, 7 as deep"),
    "retyped": ("height, 7 as depth", "height, 7.5::double precision as depth"),
    "reordered": ("height, 7 as depth", "7 as depth, height"),
    "same": ("height", "height + 0 as height"),
}
# What comes of an edit: the columns behind the time, or what the run says.
OUTCOMES = {
    ("ignore", "added"): "lacks depth: set on_schema_change: append_new_columns",
    ("ignore", "removed"): "still has depth: set on_schema_change: sync_all_columns",
    ("ignore", "renamed"): "lacks deep and still has depth: set on_schema_change: sync_all_columns",
    ("ignore", "retyped"): "has another type of depth (integer, now double): rebuild it by the job of its",
    ("append_new_columns", "added"): ("height", "depth"),
    ("append_new_columns", "removed"): "still has depth: set on_schema_change: sync_all_columns",
    ("append_new_columns", "renamed"): "still has depth: set on_schema_change: sync_all_columns",
    ("append_new_columns", "retyped"): "has another type of depth (integer, now double): rebuild it by the job",
    ("sync_all_columns", "added"): ("height", "depth"),
    ("sync_all_columns", "removed"): ("height",),
    ("sync_all_columns", "renamed"): ("height", "deep"),
    ("sync_all_columns", "retyped"): "has another type of depth than double, which DuckDB cannot change in a build: ",
    **{("fail", edit): "are out of sync" for edit in ("added", "removed", "renamed", "retyped")},
    **{
        (setting, edit): ("height", "depth") if edit == "reordered" else ("height",)
        for setting in ("ignore", "append_new_columns", "sync_all_columns", "fail")
        for edit in ("reordered", "same")
    },
}
# Postgres can change a type together with the rows.
ON_POSTGRES = {
    **OUTCOMES,
    **{
        (setting, "retyped"): "has another type of depth (integer, now double precision): rebuild it by the job of its"
        for setting in ("ignore", "append_new_columns")
    },
    ("sync_all_columns", "retyped"): ("height", "depth"),
}
STRATEGIES = ("delete_window+insert", "microbatch")


def as_microbatch(model: str) -> str:
    said = "'microbatch', batch_size='day', begin='%s', lookback=0" % START  # noqa: UP031 - Jinja's braces
    return model.replace("'delete_window+insert'", said).replace("where {{ in_window('seen_at') }}", "")


@pytest.fixture
def tides_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], tuple[Tides, Mapping[tuple[str, str], str | tuple[str, ...]]]]]:
    """Return what opens a project in a warehouse, with what comes of its edits."""
    with ExitStack() as stack:

        def open_(warehouse: str) -> tuple[Tides, Mapping[tuple[str, str], str | tuple[str, ...]]]:
            monkeypatch.setenv("TIDES_WAREHOUSE", str(tmp_path / "tides.duckdb"))
            if warehouse == "duckdb":
                project, outcomes = Tides(tmp_path), OUTCOMES
            else:
                project, outcomes = PostgresTides(tmp_path, stack.enter_context(postgres()), "tides"), ON_POSTGRES
            stack.callback(project.instance.dispose)
            return project, outcomes

        yield open_


@pytest.mark.some_of("strategies of a table with other columns", 1)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("warehouse", ["duckdb", "postgres"])
def test_a_run_whose_table_has_other_columns_than_its_model_fails_and_says_what_mends_it(
    tides_of: Callable[[str], tuple[Tides, Mapping[tuple[str, str], str | tuple[str, ...]]]],
    warehouse: str,
    strategy: str,
) -> None:
    """Each edit under each setting, all in one project: two builds of a day each."""
    tides, outcomes = tides_of(warehouse)

    def models(which: int) -> Mapping[str, str]:
        texts = {f"models/{setting}__{edit}.sql": daily(EDITS[edit][which], setting) for setting, edit in outcomes}
        return texts if strategy != "microbatch" else {name: as_microbatch(text) for name, text in texts.items()}

    highs = FILES["models/highs.sql"].replace("select", "{{ config(event_time='seen_at') }} select", 1)
    tides.write({**models(0), "models/highs.sql": highs, "models/daily.sql": daily("height", "ignore")})
    assert tides.run("highs").success
    names = [f"{setting}__{edit}" for setting, edit in outcomes]
    assert tides.run(*names, partitions=(FIRST, FIRST)).success
    tides.write({**models(1), "models/daily.sql": daily("height", "ignore")})
    result = tides.run(*names, partitions=(SECOND, SECOND))
    built = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = str(failure.step_failure_data.error)
    for (setting, edit), outcome in outcomes.items():
        name = f"{setting}__{edit}"
        columns = tuple(tides.columns(name))[1:]
        days = {day for (day,) in tides.rows(f"select distinct seen_at::date::text from {name}")}
        if isinstance(outcome, str):
            assert name not in built, name
            assert days == {FIRST}, name
            assert columns == tuple(EDITS[edit][0].replace("7 as ", "").split(", ")), name
            assert (outcome if setting == "fail" else f"the table of {name} {outcome}") in error
        else:
            assert name in built, name
            assert days == {FIRST, SECOND}, name
            assert columns == outcome, name

"""A partition has its rows in any zone of the session and of the partitions, for each type of the time column."""

from __future__ import annotations

import random
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.slow

MACROS = Path(__file__).parents[2] / "src/dagster_dbt_common/macros"
# An hour a row, over a change of the clock in New York (2024-03-10) and another in Berlin (2024-03-31).
FIRST, HOURS = "2024-03-07", 26 * 24
SOURCE = f"""
    select range as id, timestamp '{FIRST}' + range * interval 1 hour as ts, (ts::varchar || '+00')::timestamptz as seen
    from range(1, {HOURS})
"""


def config(column: str, zone: str, grain: str = "day") -> str:
    meta = f"{{dagster: {{partitions: {{grain: '{grain}', start: '2024-03-08', timezone: {zone}}}}}}}"
    return (
        "{{ config(materialized='incremental', incremental_strategy='delete_window+insert', "
        f"event_time='{column}', meta=fromyaml(\"{meta}\")) }}}}"
    )


def local_day(zone: str) -> str:
    return f"cast(ts at time zone 'UTC' at time zone '{zone}' as date)"


ROWS = "select * from {{ source('raw', 'visits') }}"
MODELS = {
    "instants": f"{config('seen', 'UTC')} {ROWS} where {{{{ in_window('seen') }}}}",
    "times": f"{config('ts', 'UTC')} {ROWS} where {{{{ in_window('ts') }}}}",
    "instants_of_berlin": f"{config('seen', 'Europe/Berlin')} {ROWS} where {{{{ in_window('seen') }}}}",
    "times_of_new_york": f"{config('ts', 'America/New_York')} {ROWS} where {{{{ in_window('ts') }}}}",
    **{
        f"days_of_{name}": (
            f"{config('local_day', zone)} select *, {local_day(zone)} as local_day "
            f"from {{{{ source('raw', 'visits') }}}} where {{{{ in_window(\"{column}\") }}}}"
        )
        for name, zone, column in (
            ("new_york", "America/New_York", "ts"),
            ("berlin", "Europe/Berlin", "ts"),
            ("kiritimati", "Pacific/Kiritimati", local_day("Pacific/Kiritimati")),
            ("pago", "Pacific/Pago_Pago", local_day("Pacific/Pago_Pago")),
        )
    },
    "narrowed": "{{ config(materialized='ephemeral') }} " + ROWS + " where {{ in_window('ts') }}",
    "below_ephemeral": f"{config('ts', 'Europe/Berlin')} select * from {{{{ ref('narrowed') }}}}",
}
ZONES = {
    "instants": "UTC",
    "times": "UTC",
    "instants_of_berlin": "Europe/Berlin",
    "times_of_new_york": "America/New_York",
    "days_of_new_york": "America/New_York",
    "days_of_berlin": "Europe/Berlin",
    "days_of_kiritimati": "Pacific/Kiritimati",
    "days_of_pago": "Pacific/Pago_Pago",
    "below_ephemeral": "Europe/Berlin",
}
FILES = {
    "dbt_project.yml": f"{{name: shop, profile: shop, macro-paths: ['{MACROS}']}}",
    "models/sources.yml": "sources: [{name: raw, schema: raw, tables: [{name: visits}]}]",
    "models/below_ephemeral.yml": """
        models:
          - name: below_ephemeral
            data_tests:
              - no_bad: {config: {where: __window__}}
    """,
    "tests/generic/no_bad.sql": "{% test no_bad(model) %} select * from {{ model }} where id = 0 {% endtest %}",
    "tests/none_bad_in_window.sql": (
        "select * from {{ ref('below_ephemeral') }} where id = 0 and {{ in_window_or_all('ts') }}"
    ),
}


class Shop:
    """A project, and the warehouse that has its source."""

    def __init__(self, root: Path, session: str, models: Mapping[str, str] = MODELS) -> None:
        self.warehouse = root / "warehouse.duckdb"
        profile = f"{{type: duckdb, path: '{self.warehouse}', settings: {{TimeZone: '{session}'}}}}"
        files = {"profiles.yml": f"shop: {{target: duckdb, outputs: {{duckdb: {profile}}}}}", **FILES}
        for name, text in {**files, **{f"models/{name}.sql": sql for name, sql in models.items()}}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(dedent(text))
        self.query("create schema raw", f"create table raw.visits as {SOURCE}")
        self.definitions = dbt_definitions(root)
        self.instance = dg.DagsterInstance.ephemeral()

    def query(self, *statements: str) -> Sequence[tuple[object, ...]]:
        with duckdb.connect(self.warehouse) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for statement in statements:
                connection.execute(statement)
            return connection.fetchall() if connection.description else []

    def build(self, name: str, first: str, last: str) -> dg.ExecuteInProcessResult:
        (resource,) = (self.definitions.resources or {}).items()
        ends = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return dg.materialize(
            [asset for asset in self.definitions.assets or () if isinstance(asset, dg.AssetsDefinition)],
            selection=dg.AssetSelection.assets(name),
            resources=dict([resource]),
            instance=self.instance,
            tags=ends,
            raise_on_error=False,
        )

    def ids(self, name: str) -> Sequence[object]:
        return [row[0] for row in self.query(f"select id from {name} order by id")]

    def expected(self, zone: str, *days: str) -> Sequence[object]:
        listed = ", ".join(f"'{day}'" for day in days)
        return [
            row[0] for row in self.query(f"select id from raw.visits where {local_day(zone)} in ({listed}) order by id")
        ]


@pytest.fixture(scope="module", params=["UTC", "America/New_York", "Asia/Kolkata"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), request.param)


@pytest.mark.some_of("zones of sessions and of partitions", 6)
@pytest.mark.parametrize("name", ZONES)
def test_a_day_has_its_rows_first_again_and_in_a_range(shop: Shop, name: str) -> None:
    zone = ZONES[name]
    first, again = "2024-03-10", "2024-03-09"
    assert shop.build(name, first, first).success
    assert shop.ids(name) == shop.expected(zone, first)
    order = [again, first, "2024-03-31", again]
    random.Random(name).shuffle(order)  # noqa: S311 - an order, not a secret
    for day in order:
        assert shop.build(name, day, day).success
    assert shop.ids(name) == shop.expected(zone, *order)
    assert shop.build(name, "2024-03-09", "2024-03-12").success
    assert shop.ids(name) == shop.expected(zone, "2024-03-09", "2024-03-10", "2024-03-11", "2024-03-12", "2024-03-31")
    # A row that the source took back, and a day that became empty.
    gone = shop.expected(zone, "2024-03-10")
    shop.query(f"delete from raw.visits where id in {tuple(gone)}")
    try:
        assert shop.build(name, "2024-03-10", "2024-03-10").success
        assert shop.ids(name) == shop.expected(zone, "2024-03-09", "2024-03-11", "2024-03-12", "2024-03-31")
    finally:
        shop.query(f"insert into raw.visits from ({SOURCE}) where id in {tuple(gone)}")


def test_a_test_of_a_window_looks_at_the_days_of_the_partitions(shop: Shop) -> None:
    """A bad row of the first hour of a local day fails that day, and no other."""
    # 00:30 of the 12th in Berlin.
    shop.query(
        "insert into raw.visits values (0, timestamp '2024-03-11 23:30:00', timestamptz '2024-03-11 23:30:00+00')"
    )
    try:
        outcome = {}
        for day in ("2024-03-12", "2024-03-13", "2024-03-11"):
            result = shop.build("below_ephemeral", day, day)
            outcome[day] = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
        assert {day: set(checks.values()) for day, checks in outcome.items()} == {
            "2024-03-12": {False},
            "2024-03-13": {True},
            "2024-03-11": {True},
        }
        assert len(outcome["2024-03-12"]) == 2
    finally:
        shop.query("delete from raw.visits where id = 0")


def test_a_date_cannot_tell_shifts_that_begin_in_the_morning(tmp_path: Path) -> None:
    head = config("day", "America/New_York", "0 6 * * *")
    sql = "select *, cast(ts as date) as day from {{ source('raw', 'visits') }} where {{ in_window('ts') }}"
    shop = Shop(tmp_path, "UTC", {**MODELS, "shifts": f"{head} {sql}"})
    key = "2024-03-10T06:00"
    assert shop.build("shifts", key, key).success  # its table is made
    result = shop.build("shifts", key, key)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "event_time day of shifts is a date, and its partitions do not begin at midnight" in str(
        failure.step_failure_data.error
    )

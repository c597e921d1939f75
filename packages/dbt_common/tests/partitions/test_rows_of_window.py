"""A window that is none, or that of another zone, gives no green run with other rows: it is right, or it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import dagster as dg
import duckdb
import pytest

from dagster_dbt_common import dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow("a parse and a run for each session")

DAY = "2024-01-02"
BOTH = """{0} >= '{{{{ var("min_date") }}}}' and {0} < '{{{{ var("max_date") }}}}'"""
CAST = BOTH.replace("'{{{{", "cast('{{{{").replace("}}}}'", "}}}}' as timestamp)")
OUTSIDE = "a row outside of its window, from 2024-01-02 00:00:00 to 2024-01-03 00:00:00 UTC: filter by in_window("
ZONED = "min_date and max_date are read in the session's zone, which is not UTC: filter by in_window(seen)"


class Kind(NamedTuple):
    """A model: its filter and its time, what a build of a day says where it fails, and the zone of its partitions."""

    where: str
    column: str = "ts"
    says: str = ""
    zone: str = "UTC"
    select: str = "*"
    strategy: str = "delete_window+insert"


KINDS = {
    "UTC": {
        "vars": Kind("where " + BOTH.format("ts")),
        "vars_of_instants": Kind("where " + BOTH.format("seen"), "seen"),
        "vars_of_dates": Kind("where " + BOTH.format("on_day"), "on_day"),
        "only_later": Kind("where {{ later('ts') }}", says=OUTSIDE),
        "a_column": Kind("", select="*, {{ in_window('ts') }} as inside", says=OUTSIDE),
        "or_more": Kind("where id = 70 or {{ in_window('ts') }}", says=OUTSIDE),
        "of_another_column": Kind("where {{ in_window('ts + interval 1 hour') }}", says=OUTSIDE),
        "without_a_time": Kind(
            "where {{ in_window('ts') }} or id = 70", select="* replace (if(id = 70, null, ts) as ts)"
        ),
        "days_in_berlin": Kind("where {{ in_window('ts', 'date') }}", zone="Europe/Berlin"),
        "batches": Kind("", "ts", strategy="microbatch"),
        "batches_of_weeks": Kind(
            "", "ts", select="* replace (date_trunc('week', ts) as ts)", strategy="microbatch", says="a row outside"
        ),
    },
    "America/New_York": {
        "vars": Kind("where " + BOTH.format("ts")),
        "vars_of_instants": Kind("where " + BOTH.format("seen"), "seen", ZONED),
        "vars_cast": Kind("where " + CAST.format("seen"), "seen", ZONED),
        "vars_of_dates": Kind("where " + BOTH.format("on_day"), "on_day"),
        "cast_to_timestamps": Kind("where {{ in_window('seen', 'timestamp') }}", "seen"),
        "cast_to_instants": Kind("where {{ in_window('seen', 'timestamptz') }}", "seen"),
        "cast_to_days": Kind("where {{ in_window('seen', 'date') }}", "seen"),
        "timestamps_as_days": Kind("where {{ in_window('ts', 'date') }}"),
        "dates": Kind("where {{ in_window('on_day', 'date') }}", "on_day"),
        "untyped": Kind("where {{ in_window('seen') }}", "seen"),
    },
}
# Of hours from 2024-01-01 00:00 UTC on.
IDS = {"UTC": range(24, 48), "Europe/Berlin": range(23, 47)}
VISITS = """
create table raw.visits as
select
    id::integer as id,
    timestamp '2024-01-01' + to_hours(id::integer) as ts,
    timestamptz '2024-01-01 00:00:00+00' + to_hours(id::integer) as seen,
    (timestamp '2024-01-01' + to_hours(id::integer))::date as on_day
from range(72) as t (id)
"""
PROJECT = """
name: shop
profile: shop
macro-paths: [macros, "{{ env_var('DAGSTER_DBT_COMMON_MACROS') }}"]
"""
MACROS = """
{% macro later(column) %}{% if is_incremental() %}{{ in_window(column) }}{% else %}true{% endif %}{% endmacro %}
"""


def model(kind: Kind) -> str:
    config = f"materialized='incremental', incremental_strategy='{kind.strategy}', event_time='{kind.column}'"
    if kind.strategy == "microbatch":
        config += ", batch_size='day', begin='2024-01-01', lookback=0"
    else:
        partitions = f"grain: day, start: '2024-01-01', timezone: '{kind.zone}'"
        config += f', meta=fromyaml("{{dagster: {{partitions: {{{partitions}}}}}}}")'
    return f"{{{{ config({config}) }}}}\nselect {kind.select} from {{{{ source('raw', 'visits') }}}} {kind.where}\n"


@pytest.mark.parametrize("session", KINDS)
def test_a_first_build_of_a_day_has_its_rows_or_fails(tmp_path: Path, session: str) -> None:
    file = tmp_path / "shop.duckdb"
    files = {
        "dbt_project.yml": PROJECT,
        "profiles.yml": (
            f"shop: {{target: duckdb, outputs: {{duckdb: {{type: duckdb, path: '{file}', "
            f"settings: {{TimeZone: {session}}}}}}}}}"
        ),
        "models/raw.yml": "sources: [{name: raw, tables: [{name: visits, config: {event_time: ts}}]}]",
        "macros/later.sql": MACROS,
        **{f"models/{name}.sql": model(kind) for name, kind in KINDS[session].items()},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with duckdb.connect(file) as connection:
        connection.execute("create schema raw")
        connection.execute(VISITS)
    definitions = dbt_definitions(tmp_path)
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    found, expected = {}, {}
    with dg.DagsterInstance.ephemeral() as instance:
        for name, kind in KINDS[session].items():
            for _ in range(2):
                result = dg.materialize(
                    assets,
                    instance=instance,
                    selection=[name],
                    partition_key=DAY,
                    resources=definitions.resources,
                    raise_on_error=False,
                )
            says = _said(result)
            found[name] = (kind.says if kind.says and kind.says in says else says, _ids(file, name))
            expected[name] = (kind.says, [] if kind.says else list(IDS[kind.zone]))
    assert found == expected


def _said(result: dg.ExecuteInProcessResult) -> str:
    """Return what dbt says of a run that failed."""
    failed = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return str(failed[0].error) if failed else ""


def _ids(file: Path, name: str) -> Sequence[int]:
    with duckdb.connect(file) as connection:
        there = connection.execute("select 1 from duckdb_tables() where table_name = ?", [name]).fetchall()
        return [row[0] for row in connection.execute(f"select id from {name} order by id").fetchall()] if there else []

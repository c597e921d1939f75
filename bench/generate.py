"""The dbt project that is measured: twelve daily models, as many others as asked for, and a lake of daily files."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIRST_DAY = date(2024, 1, 1)
DAILY = tuple(sorted(path.stem for path in (Path(__file__).parent / "project" / "models" / "daily").glob("*.sql")))
"""The models that a partition builds."""

_TEMPLATE = Path(__file__).parent / "project"
_LAYERS = ("staging", "intermediate", "marts")
_COLUMNS = {"store_id": "integer", "day": "date", "orders": "bigint", "revenue_cents": "bigint"}
_RELATIONSHIP_EVERY = 10


def write_lake(folder: Path, *, days: int, rows: int) -> None:
    """Write the source `events`: one Parquet file for each of `days` days with `rows` rows each, always the same."""
    target = str(folder / "events").replace("'", "''")
    statement = f"""
        copy (
            with numbers as (
                select
                    i as event_id,
                    i // $rows as day_number,
                    i % $rows as place,
                    day_number * 1000000 + place // 3 as order_id
                from range($days * $rows) as range(i)
            )
            select
                event_id,
                order_id,
                cast(1 + hash(order_id, 's') % 7 as integer) as store_id,
                cast(hash(order_id, 'c') % 5000 as bigint) as customer_id,
                'JAF-' || lpad(cast(hash(event_id, 'p') % 40 as varchar), 3, '0') as sku,
                ['shop', 'web', 'phone'][cast(1 + hash(order_id, 'h') % 3 as bigint)] as channel,
                if(hash(event_id, 'k') % 20 = 0, 'refund', 'sale') as kind,
                cast(1 + hash(event_id, 'q') % 4 as integer) as quantity,
                cast(300 + hash(event_id, 'a') % 1500 as bigint) as price_cents,
                cast($first as timestamp) + to_days(cast(day_number as integer))
                    + to_microseconds(86400000000 * place // $rows) as occurred_at,
                cast(occurred_at as date) as day
            from numbers
        ) to '{target}' (format parquet, partition_by (day))
    """  # noqa: S608 - a folder of the benchmark's own; copy takes no parameter there
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(statement, {"first": FIRST_DAY.isoformat(), "rows": rows, "days": days})


def write_project(folder: Path, *, models: int) -> None:
    """Write a dbt project of `models` models: the twelve daily ones, and views and tables in three layers.

    Each of the others has a description, columns and a test; every tenth a relationship to its first parent too. The
    daily models read none of them, so that a partition's SQL is the same at every size.

    Raises:
        ValueError: `models` is smaller than the twelve.
    """
    if models < len(DAILY):
        raise ValueError(f"{models} models are too few: the daily group alone has {len(DAILY)}")
    shutil.copytree(_TEMPLATE, folder)
    rest = models - len(DAILY)
    above: Sequence[str] = ()
    for layer, count in zip(_LAYERS, _counts(rest), strict=True):
        names = [f"{layer[:3]}_{number:04}" for number in range(count)]
        (folder / "models" / layer).mkdir()
        described = []
        for number, name in enumerate(names):
            parents = list(_parents(number, above))
            (folder / "models" / layer / f"{name}.sql").write_text(_sql(number, parents))
            described.append(_described(name, number, parents))
        (folder / "models" / layer / f"{layer}.yml").write_text(yaml.safe_dump({"models": described}))
        above = names


def _counts(rest: int) -> Sequence[int]:
    """Three tenths staging, four tenths intermediate, and marts for what is left."""
    return (rest * 3 // 10, rest * 4 // 10, rest - rest * 3 // 10 - rest * 4 // 10)


def _parents(number: int, above: Sequence[str]) -> Iterator[str]:
    for step in range(min(1 + number % 3, len(above))):
        yield above[(number * 7 + step * 11) % len(above)]


def _sql(number: int, parents: Sequence[str]) -> str:
    if not parents:
        return _STAGING.format(number=number)
    selects = [_PARENT.format(parent=parent) for parent in parents]
    return _COMBINED.format(union="\n    union all\n".join(selects), number=number)


_STAGING = """\
select
    store_id,
    day,
    count(distinct order_id) as orders,
    cast(sum(quantity * price_cents) as bigint) as revenue_cents
from {{{{ source('raw', 'events') }}}}
where hash(sku) % 97 <> {number} % 97
group by store_id, day
"""

_PARENT = "    select store_id, day, orders, revenue_cents from {{{{ ref('{parent}') }}}}"

_COMBINED = """\
with

combined as (
{union}
)

select
    store_id,
    day,
    cast(sum(orders) as bigint) as orders,
    cast(sum(revenue_cents) as bigint) as revenue_cents
from combined
where store_id <> {number} % 11
group by store_id, day
"""


def _described(name: str, number: int, parents: Sequence[str]) -> dict[str, Any]:
    tests: list[Any] = ["not_null"]
    if parents and number % _RELATIONSHIP_EVERY == 0:
        tests.append({"relationships": {"arguments": {"to": f"ref('{parents[0]}')", "field": "store_id"}}})
    columns: list[dict[str, Any]] = [
        {"name": column, "data_type": type_, "description": f"The {column.replace('_', ' ')} of the row."}
        for column, type_ in _COLUMNS.items()
    ]
    return {
        "name": name,
        "description": f"Model {number} of its layer. Grain, one row a store and day.",
        "columns": [{**columns[0], "data_tests": tests}, *columns[1:]],
    }

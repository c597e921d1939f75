"""The project of all kinds of partitioned models in a warehouse, and how its partitions are built."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from partition_kinds import MACROS, around, neighbours, partition_of, source_rows, trailing

from dagster_dbt_common import dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from partition_kinds import Cell

HEAD = (
    "{{ config(materialized='incremental', incremental_strategy='delete_window+insert', event_time='local_day', "
    """meta=fromyaml("{dagster: {partitions: {grain: '0 6 * * *', start: '2024-03-01T06:00'}}}")) }}"""
)
FILES = {
    "models/shifts_by_time.sql": (
        f"{HEAD} select id, local_day from {{{{ source('raw', 'visits') }}}} where {{{{ in_window('ts') }}}}"
    ),
    "dbt_project.yml": f"{{name: kinds, profile: kinds, macro-paths: [macros, '{MACROS}']}}",
    "macros/windowed.sql": "{% macro windowed(column) %}{{ in_window(column) }}{% endmacro %}",
    "tests/generic/none_bad.sql": "{% test none_bad(model) %} select * from {{ model }} where id = 0 {% endtest %}",
    "models/sources.yml": """
sources:
  - name: raw
    schema: raw
    tables:
      - {name: visits}
      - {name: by_date, config: {event_time: local_day}}
      - {name: by_timestamp, config: {event_time: ts}}
      - {name: by_timestamptz, config: {event_time: seen}}
""",
}


class Warehouse:
    """The project of all cells in a warehouse whose sessions have a zone.

    Args:
        root: the folder of the project.
        profile: how dbt connects.
        query: runs a statement in a session in UTC, and returns its rows.
        models: the cells that the adapter takes.
    """

    def __init__(
        self, root: Path, profile: str, query: Callable[[str], Sequence[tuple[Any, ...]]], models: Sequence[Cell]
    ) -> None:
        self.query = query
        self.models = models
        tests = "\n".join(
            f"  - {{name: {cell.name}, data_tests: [{{none_bad: {{config: {{where: __window__}}}}}}]}}"
            for cell in models
        )
        files = {
            **FILES,
            "profiles.yml": f"kinds: {{target: it, outputs: {{it: {profile}}}}}",
            "models/tests.yml": f"models:\n{tests}\n",
            **{name: text for cell in (*models, *trailing()) for name, text in cell.files().items()},
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        query("create schema raw")
        query("create table raw.visits (id integer, ts timestamp, seen timestamp with time zone, local_day date)")
        self.restore()
        query("create view raw.by_date as select id, local_day from raw.visits")
        query("create view raw.by_timestamp as select id, ts from raw.visits")
        query("create view raw.by_timestamptz as select id, seen from raw.visits")
        self.definitions = dbt_definitions(root)
        self.instance = dg.DagsterInstance.ephemeral()

    def close(self) -> None:
        """Forget the runs."""
        self.instance.dispose()

    def restore(self) -> None:
        """Give the source its rows."""
        self.query("delete from raw.visits")
        self.insert(*source_rows())

    def insert(self, *rows: tuple[int, datetime]) -> None:
        values = ", ".join(
            f"({number}, timestamp '{instant:%Y-%m-%d %H:%M:%S}', timestamptz '{instant:%Y-%m-%d %H:%M:%S}+00', "
            f"date '{instant:%Y-%m-%d}')"
            for number, instant in rows
        )
        self.query(f"insert into raw.visits values {values}")

    def build(self, names: Sequence[str], first: datetime, last: datetime) -> dg.ExecuteInProcessResult:
        """Build the partitions from one that begins at an instant to another, of models with the same ones."""
        assets = [asset for asset in self.definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
        (definition,) = {
            asset.specs_by_key[dg.AssetKey(name)].partitions_def
            for asset in assets
            for name in names
            if dg.AssetKey(name) in asset.specs_by_key
        }
        assert isinstance(definition, dg.TimeWindowPartitionsDefinition)
        keys = [definition.get_partition_key_for_timestamp(each.timestamp()) for each in (first, last)]
        # A run of the product has a process of its own: `test_trap_two_ranges_from_a_doubled_hour_are_one_to_dagster`.
        dg.TimeWindowPartitionsDefinition.get_partition_keys_in_time_window.cache_clear()
        return dg.materialize(
            assets,
            selection=dg.AssetSelection.assets(*names),
            resources=dict(self.definitions.resources or {}),
            instance=self.instance,
            tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[1]},
            raise_on_error=False,
        )

    def ids(self, names: Sequence[str]) -> Mapping[str, Sequence[int]]:
        """Return the rows of tables, in order."""
        found = self.query(" union all ".join(f"select '{name}', id from {name}" for name in names))
        rows: dict[str, list[int]] = {name: [] for name in names}
        for name, number in found:
            rows[name].append(number)
        return {name: sorted(numbers) for name, numbers in rows.items()}


def build_in_every_way(warehouse: Warehouse, grain: str, zone: str, *, seed: str, thorough: bool) -> None:
    """Build all kinds of models with some partitions: first, again, shuffled, in ranges; late, taken back, emptied.

    Args:
        warehouse: where.
        grain: of the partitions.
        zone: of the partitions.
        seed: of the orders.
        thorough: build around both changes of the clock; else around one of them.
    """
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    kinds = [
        cell.name
        for cell in warehouse.models
        if (cell.grain, cell.zone) == (grain, zone) and not cell.is_told_by_the_run
    ]
    assert kinds
    seasons = ["spring"] if grain in ("month", "year") else ["spring", "autumn"]
    full: dict[datetime, set[int]] = {}
    try:
        for season in seasons if thorough else [rng.choice(seasons)]:
            partitions = neighbours(around(zone, season), grain, zone)
            play(warehouse, kinds, partitions, lambda at: partition_of(at, grain, zone), full=full, rng=rng)
        done = warehouse.definitions.resolve_job_def("dbt_kinds__stored_rows").execute_in_process(
            instance=warehouse.instance
        )
        said = [event.asset_observation_data.asset_observation for event in done.get_asset_observation_events()]
        assert set(kinds) <= {
            each.asset_key.to_user_string() for each in said if "as recorded" in str(each.description)
        }
    finally:
        warehouse.restore()


def build_what_looks_back(warehouse: Warehouse, grain: str, zone: str, *, seed: str) -> None:
    """Build the models that look back at two partitions, where there are any of these, in any order and after changes.

    A row comes late, and is taken back. What that bears on, the mapping of their partitions says; where the later ones
    are not built again, rows are wrong.
    """
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    kinds = [each for each in trailing() if (each.base.grain, each.base.zone) == (grain, zone)]
    if not kinds:
        return
    bases, names = [each.base.name for each in kinds], [each.name for each in kinds]
    specs = {spec.key.to_user_string(): spec for spec in warehouse.definitions.resolve_all_asset_specs()}
    for each in kinds:
        (dep,) = [dep for dep in specs[each.name].deps if dep.asset_key == dg.AssetKey(each.base.name)]
        assert isinstance(dep.partition_mapping, dg.TimeWindowPartitionMapping)
        assert (dep.partition_mapping.start_offset, dep.partition_mapping.end_offset) == (-2, 0)
    begins = neighbours(around(zone, "spring"), grain, zone)
    ids = {-1} | {number for number, at in source_rows() if partition_of(at, grain, zone) in begins}

    def build(models: Sequence[str], first: int, last: int) -> None:
        assert warehouse.build(models, begins[first], begins[last]).success

    def differing() -> Sequence[str]:
        found = []
        for each in kinds:
            full = each.rows.replace(f"{{{{ ref('{each.base.name}') }}}}", each.base.name)
            # The base has other partitions from elsewhere.
            expected = [row for row in warehouse.query(f"{full} order by 1") if row[0] in ids]
            assert expected
            found += [each.name] if warehouse.query(f"select * from {each.name} order by 1") != expected else []
        return found

    try:
        build(bases, 0, len(begins) - 1)
        for index in rng.sample(range(len(begins)), len(begins)):
            build(names, index, index)
        assert differing() == []
        warehouse.insert((-1, begins[1] - timedelta(minutes=1)))
        build(bases, 0, 0)
        build(names, 0, 0)
        assert differing() == names
        build(names, 1, 2)
        assert differing() == []
        warehouse.query("delete from raw.visits where id = -1")
        build(bases, 0, 0)
        build(names, 0, 2)
        assert differing() == []
    finally:
        warehouse.restore()


def observations(instance: dg.DagsterInstance, run: str) -> Sequence[dg.AssetObservation]:
    """Return the observations that a run has recorded."""
    records = instance.get_records_for_run(run, of_type=dg.DagsterEventType.ASSET_OBSERVATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    return [event.asset_observation_data.asset_observation for event in events if event]


def recorded_rows(result: dg.ExecuteInProcessResult) -> Mapping[str, Sequence[object]]:
    """Return the rows that a run has recorded of each partition of its models, in the order of time."""
    found: dict[str, list[object]] = {}
    for event in result.get_asset_materialization_events():
        rows = event.materialization.metadata["dagster/partition_row_count"]
        found.setdefault(event.materialization.asset_key.to_user_string(), []).append(rows.value)
    return found


def refusal_of_a_date(warehouse: Warehouse, cell: Cell) -> str:
    """Build a partition of a model that its run refuses, and return what that says."""
    begin = neighbours(around(cell.zone, "spring"), cell.grain, cell.zone)[1]
    result = warehouse.build([cell.name], begin, begin)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    return str(failure.step_failure_data.error)


def play(
    warehouse: Warehouse,
    kinds: Sequence[str],
    partitions: Sequence[datetime],
    partition: Callable[[datetime], datetime],
    *,
    full: dict[datetime, set[int]],
    rng: random.Random,
) -> None:
    """Build partitions that follow one another in all ways; `full` is what the tables have, by partition."""
    rows = dict(source_rows())

    def build(first: int, last: int | None = None, *, fails: bool = False) -> None:
        window = partitions[first : (first if last is None else last) + 1]
        result = warehouse.build(kinds, window[0], window[-1])
        checks = {(each.asset_key.to_user_string(), each.passed) for each in result.get_asset_check_evaluations()}
        assert checks == {(kind, not fails) for kind in kinds}, [event.message for event in result.all_events][-3:]
        for begin in window:
            full[begin] = {number for number, at in rows.items() if partition(at) == begin}
        expected = sorted(number for numbers in full.values() for number in numbers)
        wrong = {name: found for name, found in warehouse.ids(kinds).items() if found != expected}
        assert not wrong, (window, expected, wrong)
        counts = [len(full[begin]) for begin in window]
        assert recorded_rows(result) == dict.fromkeys(kinds, counts), window

    last = len(partitions) - 1
    build(1)
    assert full[partitions[1]]
    build(1)
    for index in rng.sample(range(last + 1), last + 1):
        build(index)
    for index in range(last):
        build(index, min(index + 2, last))
    # A row at the first moment of a window, and one just before its end, come late.
    ends = [*partitions[1:], partitions[-1]]
    begin, end = partitions[-2], ends[-2]
    for number, instant in ((90_001, begin), (90_002, end - (end - begin) / 1000)):
        rows[number] = instant
        warehouse.insert((number, instant))
    build(last - 1)
    # The source takes one back.
    gone = min(full[begin])
    del rows[gone]
    warehouse.query(f"delete from raw.visits where id = {gone}")
    build(last - 1)
    # A bad row fails its own partition's tests, and no neighbour's.
    rows[0] = begin
    warehouse.insert((0, begin))
    build(last - 1, fails=True)
    build(last)
    if last > 1:
        build(last - 2)
    # A window becomes empty.
    rows = {number: at for number, at in rows.items() if number not in full[begin]}
    warehouse.query(f"delete from raw.visits where id in ({', '.join(map(str, full[begin]))})")
    build(last - 1)
    # The source has its rows again.
    rows = dict(source_rows())
    warehouse.restore()
    build(0, last)

"""Which partitions of its parents a partition reads, as Dagster itself works it out."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dagster_dbt_common import dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

HOUR = "{grain: hour, start: '2024-01-15'}"
DAY = "{grain: day, start: '2024-01-15'}"

FILES = {
    "dbt_project.yml": """
        name: wells
        config-version: 2
        profile: wells
        macro-paths: ["{{ env_var('DAGSTER_DBT_COMMON_MACROS', '') }}"]
        models: {wells: {+materialized: table}}
    """,
    "profiles.yml": "wells: {target: duckdb, outputs: {duckdb: {type: duckdb, path: ':memory:'}}}",
    "models/sources.yml": """
        sources:
          - name: raw
            tables:
              - name: levels
                config: {meta: {dagster: {partitions: {grain: day, start: '2024-01-15'}}}}
              - name: wells
    """,
}


def model(parents: Sequence[str], partitions: str = "", meta: str = "") -> str:
    """Return the SQL of a model that reads others; `partitions` is its config as YAML."""
    reads = " ".join(f"-- {{{{ {parent} }}}}\n" for parent in parents)
    if partitions:
        meta = f"partitions: {partitions}"
    config = (
        "materialized='incremental', incremental_strategy='delete_window+insert', event_time='at', "
        if partitions
        else ""
    )
    head = f'{{{{ config({config}meta=fromyaml("{{dagster: {{{meta}}}}}")) }}}}'
    return f"{head}\n{reads}select now() as at where {{{{ in_window('now()') }}}}"


def load(root: Path, models: Mapping[str, str]) -> dg.Definitions:
    """Write a project of these models and load it; its sources say their partitions themselves."""
    (root / "models").mkdir()
    for name, text in {**FILES, **{f"models/{name}.sql": sql for name, sql in models.items()}}.items():
        (root / name).write_text(dedent(text))
    return dbt_definitions(root)


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    models = {
        "levels": model(["source('raw', 'levels')", "source('raw', 'wells')"], DAY),
        "hours_of_source": model(["source('raw', 'levels')"], HOUR),
        "same": model(["ref('levels')"], DAY),
        "rolling": model(["ref('levels')"], DAY.replace("}", ", lookback: 2}")),
        "hours": model(["ref('levels')"], HOUR),
        "weeks": model(["ref('levels')"], "{grain: week, start: '2024-01-15'}"),
        "months": model(["ref('levels')", "ref('hours')"], "{grain: month, start: '2024-01-15'}"),
        "days_of_months": model(["ref('months')"], DAY),
        "sixths": model(["ref('levels')"], "{grain: '0 */4 * * *', start: '2024-01-15'}"),
        "later": model(["ref('levels')"], "{grain: day, start: '2024-02-01'}"),
        "earlier": model(["ref('levels')"], "{grain: day, start: '2024-01-01'}"),
        "total": model(["ref('levels')"]),
        "latest": model(["ref('levels')"], meta="partitioned_upstreams: last"),
        "unpartitioned_parent": model(["ref('total')"], DAY),
    }
    return load(tmp_path_factory.mktemp("wells"), models)


def read(definitions: dg.Definitions, child: str, parent: str, partition: str | None) -> Sequence[str]:
    """Return the partitions of the parent that a partition of the child reads."""
    graph = definitions.resolve_asset_graph()
    result = graph.get_parent_partition_keys_for_child(
        partition, dg.AssetKey(parent.split("/")), dg.AssetKey(child.split("/"))
    )
    assert result.required_but_nonexistent_subset.is_empty
    return sorted(result.partitions_subset.get_partition_keys())


def days(first: int, last: int) -> Sequence[str]:
    return [f"2024-01-{day:02}" for day in range(first, last + 1)]


@pytest.mark.parametrize(
    ("child", "parent", "partition", "expected"),
    [
        ("same", "levels", "2024-01-20", ["2024-01-20"]),
        ("levels", "raw/levels", "2024-01-20", ["2024-01-20"]),
        # Finer on coarser: the window that it is in.
        ("hours", "levels", "2024-01-20-00:00", ["2024-01-20"]),
        ("hours", "levels", "2024-01-20-23:00", ["2024-01-20"]),
        ("hours_of_source", "raw/levels", "2024-01-20-23:00", ["2024-01-20"]),
        ("sixths", "levels", "2024-01-20T20:00", ["2024-01-20"]),
        ("days_of_months", "months", "2024-02-29", ["2024-02-01"]),
        # Coarser on finer: all windows in it.
        ("weeks", "levels", "2024-01-22", days(22, 28)),
        ("months", "levels", "2024-02-01", [f"2024-02-{day:02}" for day in range(1, 30)]),
        # The first month begins before its parent does.
        ("months", "levels", "2024-01-01", days(15, 31)),
        # Lookback: as many windows of the parent more, as far as there are any.
        ("rolling", "levels", "2024-01-20", days(18, 20)),
        ("rolling", "levels", "2024-01-16", days(15, 16)),
        # Another start of the same grain.
        ("later", "levels", "2024-02-01", ["2024-02-01"]),
        ("earlier", "levels", "2024-01-20", ["2024-01-20"]),
        ("earlier", "levels", "2024-01-02", []),
    ],
)
def test_a_partition_reads_the_windows_that_it_overlaps(
    definitions: dg.Definitions, child: str, parent: str, partition: str, expected: Sequence[str]
) -> None:
    assert read(definitions, child, parent, partition) == expected


def test_the_first_month_reads_the_hours_that_there_are(definitions: dg.Definitions) -> None:
    hours = read(definitions, "months", "hours", "2024-01-01")
    assert (hours[0], hours[-1], len(hours)) == ("2024-01-15-00:00", "2024-01-31-23:00", 17 * 24)


def test_a_lookback_on_a_parent_of_another_grain_is_refused(tmp_path: Path) -> None:
    rolling = model(["ref('hours')"], DAY.replace("}", ", lookback: 2}"))
    hours = model([], DAY.replace("grain: day", "grain: hour"))
    with pytest.raises(
        dg.DagsterInvalidDefinitionError, match=r"rolling\.sql: rolling: config .*lookback: hours is by hour"
    ):
        load(tmp_path, {"hours": hours, "rolling": rolling})


def test_a_late_day_concerns_the_days_that_look_back_on_it(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    late, rolling = dg.AssetKey("levels"), dg.AssetKey("rolling")
    concerned = graph.get_child_partition_keys_of_parent("2024-01-20", late, rolling)
    assert sorted(concerned) == days(20, 22)


def test_an_unpartitioned_node_reads_all_or_the_last(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    levels = dg.AssetKey("levels")
    partitions_def = graph.get(levels).partitions_def
    assert isinstance(partitions_def, dg.TimeWindowPartitionsDefinition)
    keys = partitions_def.get_partition_keys()
    assert read(definitions, "total", "levels", None) == sorted(keys)
    assert read(definitions, "latest", "levels", None) == [keys[-1]]
    assert isinstance(graph.get_partition_mapping(dg.AssetKey("latest"), levels), dg.LastPartitionMapping)


def test_every_pair_of_the_graph_has_a_mapping_that_fits(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_a_model_of_another_zone_than_its_parent_is_refused(tmp_path: Path) -> None:
    local = model(["ref('levels')"], DAY.replace("}", ", timezone: Europe/Berlin}"))
    with pytest.raises(
        dg.DagsterInvalidDefinitionError, match=r"local\.sql: local: config .*timezone: Europe/Berlin is"
    ):
        load(tmp_path, {"levels": model([], DAY), "local": local})

"""A partitioned model that cannot equal a full build is refused when its project is loaded, by dbt's own manifest."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from dagster_dbt_common import DbtConfigError, dbt_definitions
from dagster_dbt_common.partitions.promise import check_promises

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.slow

MACROS = Path(__file__).parents[2] / "src/dagster_dbt_common/macros"
WINDOW = "where {{ in_window('seen') }}"
BOTH = """where seen >= '{{ var("min_date") }}' and seen < '{{ var("max_date") }}'"""
LATER = "{% if is_incremental() %} [] {% endif %}"


def model(
    sql: str, *, source: str = "source('raw', 'visits')", strategy: str = "delete_window+insert", more: str = ""
) -> str:
    named = f"incremental_strategy='{strategy}', " if strategy else ""
    partitions = f"grain: day, start: '2024-01-01'{more}"
    config = f"materialized='incremental', {named}event_time='seen', batch_size='day', begin='2024-01-01'"
    if strategy != "microbatch":
        config += f', meta=fromyaml("{{dagster: {{partitions: {{{partitions}}}}}}}")'
    return f"{{{{ config({config}) }}}}\nselect * from {{{{ {source} }}}} {sql}"


KEPT = {
    "plain": model(WINDOW),
    "by_macro": model("where {{ mine('seen') }}"),
    "by_macro_of_macro": model("where {{ outer('seen') }}"),
    "below_ephemeral": model("", source="ref('narrowed')"),
    "below_ephemeral_of_ephemeral": model("", source="ref('narrowed_again')"),
    "by_vars": model(BOTH),
    "by_vars_where_they_are": model(f"{{% if var('min_date', none) %}} {BOTH} {{% endif %}}"),
    "vouched": model(WINDOW, strategy="mine_replaces", more=", replaces_window: true"),
    "batches": model("", source="source('raw', 'events')", strategy="microbatch"),
    "batches_of_two": model("cross join {{ ref('names') }}", source="source('raw', 'events')", strategy="microbatch"),
    "batches_by_window": model(WINDOW, strategy="microbatch"),
}
REFUSED = {
    "unnamed": (model(WINDOW, strategy=""), "incremental_strategy", "duckdb's default, append, adds the rows"),
    "appended": (model(WINDOW, strategy="append"), "incremental_strategy", "append adds the rows"),
    "merged": (model(WINDOW, strategy="merge"), "incremental_strategy", "merge keeps a row that the source took back"),
    "by_key": (model(WINDOW, strategy="delete+insert"), "incremental_strategy", "delete+insert keeps a row"),
    "overwritten": (
        model(WINDOW, strategy="insert_overwrite"),
        "incremental_strategy",
        "a partition that became empty",
    ),
    "unknown": (model(WINDOW, strategy="mine_replaces"), "incremental_strategy", "nothing here knows whether"),
    "not_vouched": (
        model(WINDOW, strategy="merge", more=", replaces_window: false"),
        "incremental_strategy",
        "vouch for a strategy of your own by meta.dagster.partitions.replaces_window: true",
    ),
    "batches_of_all": (model("", strategy="microbatch"), "incremental_strategy", "no input (visits) has an event_time"),
    "without": (model(""), "meta.dagster.partitions", "the SQL has no in_window"),
    "in_a_comment": (model("-- in_window('seen')"), "meta.dagster.partitions", "the SQL has no in_window"),
    "commented_out": (model(f"-- {WINDOW}"), "meta.dagster.partitions", "the SQL has no in_window"),
    "commented_out_below": (
        model("", source="ref('commented')"),
        "meta.dagster.partitions",
        "the SQL has no in_window",
    ),
    "vars_of_another_zone": (
        model(BOTH, more=", timezone: Europe/Berlin"),
        "meta.dagster.partitions",
        "the variables min_date and max_date are times of Europe/Berlin",
    ),
    "vouched_for_dbts_own": (
        model(WINDOW, strategy="append", more=", replaces_window: true"),
        "incremental_strategy",
        "append adds the rows",
    ),
    "of_a_name": (model("", source="ref('visits_in_window')"), "meta.dagster.partitions", "the SQL has no in_window"),
    "one_end": (model("""where seen >= '{{ var("min_date") }}'"""), "meta.dagster.partitions", "no in_window"),
    "only_later": (model(LATER.replace("[]", WINDOW)), "meta.dagster.partitions", "only under a condition"),
    "vars_later_and_nested": (
        model(LATER.replace("[]", "{% if true %} {% endif %}" + BOTH)),
        "meta.dagster.partitions",
        "only under a condition",
    ),
    "vars_later_and_more": (
        model(LATER.replace("[]", BOTH).replace("if is", "if not flags.FULL_REFRESH and is")),
        "meta.dagster.partitions",
        "only under a condition",
    ),
    "vars_only_later": (model(LATER.replace("[]", BOTH)), "meta.dagster.partitions", "only under a condition"),
}
FILES = {
    "dbt_project.yml": f"""
        name: shop
        profile: shop
        macro-paths: [macros, '{MACROS}']
        vars: {{min_date: null, max_date: null}}
    """,
    "profiles.yml": "shop: {target: duckdb, outputs: {duckdb: {type: duckdb, path: ':memory:'}}}",
    "models/sources.yml": """
        sources:
          - name: raw
            tables:
              - {name: visits}
              - {name: events, config: {event_time: seen}}
    """,
    "models/names.sql": "select 1 as id",
    "models/visits_in_window.sql": "select 1 as seen",
    "models/narrowed.sql": (
        f"{{{{ config(materialized='ephemeral') }}}} select * from {{{{ source('raw', 'visits') }}}} {WINDOW}"
    ),
    "models/commented.sql": (
        f"{{{{ config(materialized='ephemeral') }}}} select * from {{{{ source('raw', 'visits') }}}} /* {WINDOW} */"
    ),
    "models/narrowed_again.sql": "{{ config(materialized='ephemeral') }} select * from {{ ref('narrowed') }}",
    "macros/mine.sql": """
        {% macro mine(column) %}{{ in_window(column) }}{% endmacro %}
        {% macro outer(column) %}{{ mine(column) }}{% endmacro %}
    """,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Return what dbt makes of all of these models."""
    root = tmp_path_factory.mktemp("shop")
    models = {**KEPT, **{name: sql for name, (sql, _, _) in REFUSED.items()}}
    for name, text in {**FILES, **{f"models/{name}.sql": sql for name, sql in models.items()}}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(dedent(text))
    (root / "models/in_python.py").write_text(
        "def model(dbt, session):\n"
        "    dbt.config(materialized='incremental', incremental_strategy='delete_window+insert', event_time='seen',\n"
        "               meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-01-01'}}})\n"
        "    return dbt.source('raw', 'visits')\n"
    )
    places = ("--project-dir", root, "--profiles-dir", root, "--log-path", root / "logs")
    dbt = Path(sys.executable).with_name("dbt")
    subprocess.run([dbt, "--quiet", "parse", *places], check=True, capture_output=True)
    found: Mapping[str, Any] = json.loads((root / "target/manifest.json").read_text())
    return found


@pytest.mark.parametrize("name", KEPT)
def test_a_model_that_keeps_it_is_taken(
    manifest: Mapping[str, Any], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_promises(manifest, {f"model.shop.{name}", "source.shop.raw.events"})
    assert caplog.records == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_keep_it_is_refused(manifest: Mapping[str, Any], name: str) -> None:
    _, key, what = REFUSED[name]
    with pytest.raises(DbtConfigError) as raised:
        check_promises(manifest, {f"model.shop.{name}"})
    said = str(raised.value)
    assert said.startswith(f"models/{name}.sql: {name}: config {key}: ")
    assert what in said
    assert "\n" not in said


def test_a_python_model_is_refused_in_its_own_words(manifest: Mapping[str, Any]) -> None:
    with pytest.raises(DbtConfigError, match=r"^models/in_python\.py: in_python: .*a Python model has no window"):
        check_promises(manifest, {"model.shop.in_python"})


@pytest.mark.parametrize(
    "end",
    [
        """seen <= '{{ var("max_date") }}'""",
        """seen between '{{ var("min_date") }}' and '{{ var("max_date") }}'""",
        """seen <= cast('{{ var('max_date') }}' as timestamp)""",
        """seen <= {{ var('max_date') }}""",
    ],
)
def test_an_inclusive_end_is_warned_of(manifest: Mapping[str, Any], end: str, caplog: pytest.LogCaptureFixture) -> None:
    unique_id = "model.shop.by_vars"
    code = f"""select 1 where '{{{{ var("min_date") }}}}' <= seen and {end}"""
    changed = {**manifest["nodes"], unique_id: {**manifest["nodes"][unique_id], "raw_code": code}}
    with caplog.at_level(logging.WARNING):
        check_promises({**manifest, "nodes": changed}, {unique_id})
    (record,) = caplog.records
    assert record.getMessage().startswith("models/by_vars.sql: by_vars: max_date is exclusive")


@pytest.mark.parametrize("adapter", ["snowflake", "bigquery", "something"])
def test_a_strategy_that_is_missing_is_refused_on_each_adapter(manifest: Mapping[str, Any], adapter: str) -> None:
    elsewhere = {**manifest, "metadata": {**manifest["metadata"], "adapter_type": adapter}}
    with pytest.raises(DbtConfigError, match="config incremental_strategy: it is missing"):
        check_promises(elsewhere, {"model.shop.unnamed"})


@pytest.mark.parametrize(
    ("adapter", "macro", "says"),
    [
        (
            "postgres",
            "postgres__get_incremental_microbatch_sql",
            "merge in dbt-postgres, which keeps a row that the source took back",
        ),
        (
            "spark",
            "dbt_spark_get_incremental_sql",
            "insert_overwrite in dbt-spark, which keeps the rows of a partition that became empty",
        ),
    ],
)
def test_a_microbatch_that_replaces_no_window_is_refused_without_the_macro_that_does(
    manifest: Mapping[str, Any], adapter: str, macro: str, says: str
) -> None:
    elsewhere = {**manifest, "metadata": {**manifest["metadata"], "adapter_type": adapter}}
    check_promises(elsewhere, {"model.shop.batches"})
    of_dbt = {**elsewhere["macros"][f"macro.shop.{macro}"], "package_name": f"dbt_{adapter}"}
    elsewhere["macros"] = {f"macro.dbt_{adapter}.{macro}": of_dbt}
    with pytest.raises(DbtConfigError, match=f"microbatch is {says}"):
        check_promises(elsewhere, {"model.shop.batches"})


def test_a_snapshot_that_the_warehouse_cannot_take_is_refused(manifest: Mapping[str, Any]) -> None:
    props = {
        "resource_type": "snapshot",
        "name": "prices",
        "original_file_path": "snapshots/prices.yml",
        "config": {"file_format": None},
    }
    with_snapshot = {**manifest, "nodes": {**manifest["nodes"], "snapshot.shop.prices": props}}
    check_promises(with_snapshot, set())
    on_spark = {**with_snapshot, "metadata": {**manifest["metadata"], "adapter_type": "spark"}}
    with pytest.raises(DbtConfigError, match=r"^snapshots/prices.yml: prices: config file_format: a snapshot on Spark"):
        check_promises(on_spark, set())
    props["config"] = {"file_format": "iceberg"}
    check_promises(on_spark, set())


@pytest.mark.parametrize(
    ("kind", "said_of"),
    [
        ("plain", "meta.dagster.partitions: the macro in_window"),
        ("by_vars", "incremental_strategy: the macro get_incremental_delete_window_insert_sql"),
    ],
)
def test_a_project_without_the_macros_is_told_the_line_to_add(tmp_path: Path, kind: str, said_of: str) -> None:
    for name, text in {**FILES, "models/plain.sql": KEPT[kind]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(dedent(text))
    for name in ("macros/mine.sql", "models/narrowed.sql", "models/narrowed_again.sql", "models/commented.sql"):
        (tmp_path / name).unlink()
    (tmp_path / "dbt_project.yml").write_text("{name: shop, profile: shop, vars: {min_date: null, max_date: null}}")
    with pytest.raises(DbtConfigError) as raised:
        dbt_definitions(tmp_path)
    said = str(raised.value)
    assert said.startswith(f"models/plain.sql: plain: config {said_of} is not found: ")
    assert """macro-paths: ["macros", "{{ env_var('DAGSTER_DBT_COMMON_MACROS') }}"]""" in said
    assert "\n" not in said

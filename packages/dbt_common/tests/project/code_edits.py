"""A hundred edits of a dbt project: each is of a node of its own, and changes what that computes, or nothing."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING

from dagster_dbt_common import MACROS_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INCREMENTAL = "materialized='incremental', incremental_strategy='delete_window+insert', event_time='at'"
Change = tuple["Mapping[str, str]", "Mapping[str, str]"]


def sql(before: str, after: str) -> Change:
    return {"models/NAME.sql": before}, {"models/NAME.sql": after}


def macro(model: str, before: str, after: str) -> Change:
    return {"models/NAME.sql": model, "macros/NAME.sql": before}, {"macros/NAME.sql": after}


def config(before: str, after: str) -> Change:
    files = {"models/NAME.sql": "select 1 as id, now() as at"}
    said = "models: [{{name: NAME, {}}}]"
    return {**files, "models/NAME.yml": said.format(before)}, {"models/NAME.yml": said.format(after)}


def snapshot(before: str, after: str) -> Change:
    text = "snapshots: [{{name: NAME, relation: ref('rates'), config: {{unique_key: id, strategy: check, {}}}}}]"
    return {"snapshots/NAME.yml": text.format(before)}, {"snapshots/NAME.yml": text.format(after)}


def seed(before: str, after: str) -> Change:
    text = "seeds: [{{name: NAME, {}}}]"
    return {"seeds/NAME.csv": "id\n1\n", "seeds/NAME.yml": text.format(before)}, {"seeds/NAME.yml": text.format(after)}


CHANGES: dict[str, Change] = {
    "text": sql("select 1 as id", "select 2 as id"),
    "keyword_in_a_string": sql("select 'AND' as id", "select 'and' as id"),
    "keyword_that_jinja_writes_into_a_string": sql(
        "{% set word %}AND{% endset %}select '{{ word }}' as id",
        "{% set word %}and{% endset %}select '{{ word }}' as id",
    ),
    "keyword_in_a_macro": macro(
        "select '{{ NAME() }}' as id", "{% macro NAME() %}AND{% endmacro %}", "{% macro NAME() %}and{% endmacro %}"
    ),
    "cte_that_is_a_table_elsewhere": sql(
        "with a as (select * from b), b as (select 1 as id) select * from a, b",
        "with b as (select 1 as id), a as (select * from b) select * from a, b",
    ),
    "cte_of_another_text": sql(
        "with a as (select 1 as id) select * from a", "with a as (select 2 as id) select * from a"
    ),
    "blanks_in_a_string": sql("select 'a  b' as id", "select 'a b' as id"),
    "dashes_in_a_string": sql("select 'a -- b' as id", "select 'a -- c' as id"),
    "statement_in_a_comment": sql(
        "-- {% set x = 1 %}\nselect {{ x }} as id", "-- {% set x = 2 %}\nselect {{ x }} as id"
    ),
    "macro_called": macro(
        "select {{ NAME() }} as id", "{% macro NAME() %}1{% endmacro %}", "{% macro NAME() %}2{% endmacro %}"
    ),
    "macro_of_a_macro": macro(
        "select {{ NAME() }} as id",
        "{% macro NAME() %}{{ NAME_in() }}{% endmacro %}{% macro NAME_in() %}1{% endmacro %}",
        "{% macro NAME() %}{{ NAME_in() }}{% endmacro %}{% macro NAME_in() %}2{% endmacro %}",
    ),
    "macro_called_later": macro(
        "{{ config(materialized='incremental') }} select 1 as id {% if is_incremental() %}, {{ NAME() }}{% endif %}",
        "{% macro NAME() %}1{% endmacro %}",
        "{% macro NAME() %}2{% endmacro %}",
    ),
    "macro_dispatched": macro(
        "select {{ NAME() }} as id",
        "{% macro NAME() %}{{ adapter.dispatch('NAME')() }}{% endmacro %}{% macro default__NAME() %}1{% endmacro %}",
        "{% macro NAME() %}{{ adapter.dispatch('NAME')() }}{% endmacro %}{% macro default__NAME() %}2{% endmacro %}",
    ),
    "macro_of_a_strategy": macro(
        "{{ config(materialized='incremental', incremental_strategy='NAME') }} select 1 as id",
        "{% macro get_incremental_NAME_sql(arg_dict) %}select 1{% endmacro %}",
        "{% macro get_incremental_NAME_sql(arg_dict) %}select 2{% endmacro %}",
    ),
    "macro_of_an_ephemeral_parent": (
        {
            "models/NAME.sql": "select * from {{ ref('NAME_in') }}",
            "models/NAME_in.sql": "{{ config(materialized='ephemeral') }} select {{ NAME() }} as id",
            "macros/NAME.sql": "{% macro NAME() %}1{% endmacro %}",
        },
        {"macros/NAME.sql": "{% macro NAME() %}2{% endmacro %}"},
    ),
    "ephemeral_of_an_ephemeral": (
        {
            "models/NAME.sql": "select * from {{ ref('NAME_in') }}",
            "models/NAME_in.sql": "{{ config(materialized='ephemeral') }} select * from {{ ref('NAME_inmost') }}",
            "models/NAME_inmost.sql": "{{ config(materialized='ephemeral') }} select 1 as id",
        },
        {"models/NAME_inmost.sql": "{{ config(materialized='ephemeral') }} select 3 as id"},
    ),
    "variable": ({"models/NAME.sql": "select {{ var('rate') }} as id"}, {}),
    "variable_in_a_macro": (
        {
            "models/NAME.sql": "select {{ NAME() }} as id",
            "macros/NAME.sql": "{% macro NAME() %}{{ var('rate') }}{% endmacro %}",
        },
        {},
    ),
    "variable_of_the_project": ({"models/NAME.sql": "select {{ var('scoped') }} as id"}, {}),
    "environment": ({"models/NAME.sql": "select {{ env_var('CODE_VERSION_RATE') }} as id"}, {}),
    "materialized": config("config: {materialized: table}", "config: {materialized: view}"),
    "event_time": config(
        "config: {materialized: incremental, event_time: at}", "config: {materialized: incremental, event_time: id}"
    ),
    "unique_key": config(
        "config: {materialized: incremental, unique_key: id}", "config: {materialized: incremental, unique_key: at}"
    ),
    "hook": config("config: {post_hook: 'select 1'}", "config: {post_hook: 'select 2'}"),
    "pre_hook": config("config: {pre_hook: 'select 1'}", "config: {pre_hook: 'select 2'}"),
    "sql_header": config("config: {sql_header: 'set x = 1;'}", "config: {sql_header: 'set x = 2;'}"),
    "strategy": config(
        "config: {materialized: incremental, incremental_strategy: append}",
        "config: {materialized: incremental, incremental_strategy: merge, unique_key: id}",
    ),
    "incremental_predicates": config(
        "config: {materialized: incremental, incremental_predicates: ['id > 1']}",
        "config: {materialized: incremental, incremental_predicates: ['id > 2']}",
    ),
    "contract": config("config: {}", "config: {contract: {enforced: true}}, columns: [{name: id, data_type: int}]"),
    "schema": config("config: {schema: one}", "config: {schema: other}"),
    "distinct": sql("select 1 as id", "select distinct 1 as id"),
    "name_of_a_column": sql("select 1 as id", "select 1 as ids"),
    "quoted_name": sql('select 1 as "Id"', 'select 1 as "id"'),
    "keyword_as_a_name": sql('select 1 as "Select"', 'select 1 as "select"'),
    "a_column_more": sql("select 1 as id", "select 1 as id, 2 as other"),
    "order_of_columns": sql("select 1 as id, 2 as other", "select 2 as other, 1 as id"),
    "limit": sql("select 1 as id limit 1", "select 1 as id limit 2"),
    "predicate": sql("select 1 as id where 1 = 1", "select 1 as id where 1 <> 1"),
    "join": sql(
        "select * from (select 1) a left join (select 1) b on true",
        "select * from (select 1) a join (select 1) b on true",
    ),
    "text_after_a_comment": sql("select 1 as id -- and 2\n", "select 1 as id -- and\n, 2 as other\n"),
    "text_out_of_a_comment": sql("select 1 as id /* , 2 as other */", "select 1 as id , 2 as other"),
    "newline_in_a_string": sql("select 'a\nb' as id", "select 'a b' as id"),
    "dollar_quotes": sql("select $$a  b$$ as id", "select $$a b$$ as id"),
    "case_in_dollar_quotes": sql("select $$AND$$ as id", "select $$and$$ as id"),
    "escaped_quote": sql("select 'it''s  AND' as id", "select 'it''s and' as id"),
    "parent": (
        {
            "models/NAME.sql": "select * from {{ ref('NAME_in') }}",
            "models/NAME_in.sql": "select 1 as id",
            "models/NAME_other.sql": "select 1 as id",
        },
        {"models/NAME.sql": "select * from {{ ref('NAME_other') }}"},
    ),
    "condition_of_jinja": sql(
        "{% if true %}select 1 as id{% else %}select 2 as id{% endif %}",
        "{% if false %}select 1 as id{% else %}select 2 as id{% endif %}",
    ),
    "loop_of_jinja": sql(
        "select {% for n in [1, 2] %}{{ n }} as n{{ n }},{% endfor %} 0 as z",
        "select {% for n in [1, 2, 3] %}{{ n }} as n{{ n }},{% endfor %} 0 as z",
    ),
    "name_in_jinja": sql(
        "{% set names = ['a'] %}select 1 as {{ names[0] }}", "{% set names = ['A'] %}select 1 as {{ names[0] }}"
    ),
    "default_of_a_variable": sql("select {{ var('unset', 1) }} as id", "select {{ var('unset', 2) }} as id"),
    "default_of_the_environment": sql(
        "select {{ env_var('CODE_VERSION_UNSET', '1') }} as id", "select {{ env_var('CODE_VERSION_UNSET', '2') }} as id"
    ),
    "environment_in_a_macro": (
        {
            "models/NAME.sql": "select {{ NAME() }} as id",
            "macros/NAME.sql": "{% macro NAME() %}{{ env_var('CODE_VERSION_RATE') }}{% endmacro %}",
        },
        {},
    ),
    "argument_of_a_macro": macro(
        "select {{ NAME(2) }} as id",
        "{% macro NAME(n) %}{{ n }}{% endmacro %}",
        "{% macro NAME(n) %}{{ n + 1 }}{% endmacro %}",
    ),
    "call_of_a_macro": (
        {
            "models/NAME.sql": "select {{ NAME(2) }} as id",
            "macros/NAME.sql": "{% macro NAME(n) %}{{ n }}{% endmacro %}",
        },
        {"models/NAME.sql": "select {{ NAME(3) }} as id"},
    ),
    "macro_in_a_hook": (
        {
            "models/NAME.sql": "{{ config(post_hook='{{ NAME() }}') }} select 1 as id",
            "macros/NAME.sql": "{% macro NAME() %}select 1{% endmacro %}",
        },
        {"macros/NAME.sql": "{% macro NAME() %}select 2{% endmacro %}"},
    ),
    "columns_of_a_snapshot": snapshot("check_cols: [id]", "check_cols: all"),
    "deletes_of_a_snapshot": snapshot("check_cols: [id]", "check_cols: [id], hard_deletes: invalidate"),
    "types_of_a_seed": seed("config: {column_types: {id: int}}", "config: {column_types: {id: bigint}}"),
    "blank_that_a_macro_writes_into_a_string": macro(
        "select '{{ NAME() }}' as id", "{% macro NAME() %}a  b{% endmacro %}", "{% macro NAME() %}a b{% endmacro %}"
    ),
    "config_that_the_sql_reads": sql(
        "{{ config(meta={'n': 1}) }} select {{ config.get('meta')['n'] }} as id",
        "{{ config(meta={'n': 2}) }} select {{ config.get('meta')['n'] }} as id",
    ),
    "default_in_a_string": sql("select '{{ var('unset', 'ALL') }}' as id", "select '{{ var('unset', 'all') }}' as id"),
    "alias": config("config: {alias: one_name}", "config: {alias: other_name}"),
    "column_of_a_contract": config(
        "config: {contract: {enforced: true}}, columns: [{name: id, data_type: int}, {name: at, data_type: date}]",
        "config: {contract: {enforced: true}}, columns: [{name: id, data_type: bigint}, {name: at, data_type: date}]",
    ),
}
NOTHING: dict[str, Change] = {
    "line_comment": sql("select 1 as id", "-- one\nselect 1 as id -- is one"),
    "block_comment": sql("select 1 as id", "/* one\n and only */ select 1 as id"),
    "jinja_comment": sql("select 1 as id", "{# one #}\nselect 1 as id"),
    "white_space": sql("select 1 as id, 2 as other", "select\n    1 as id,\n\n    2 as other\n"),
    "case_of_keywords": sql(
        "SELECT {{ var('same') }} AS id FROM (SELECT 1) AS t WHERE TRUE AND NOT FALSE GROUP BY 1",
        "select {{ var('same') }} as id from (select 1) as t where true and not false group by 1",
    ),
    "order_of_ctes": sql(
        "with a as (from {{ ref('rates') }}), b as (select ') , d' as x), c as (from a, b) from c",
        "with b as (select ') , d' as x), a as (from {{ ref('rates') }}), c as (from a, b) from c",
    ),
    "macro_that_nobody_calls": (
        {"models/NAME.sql": "select 1 as id", "macros/NAME.sql": "{% macro NAME() %}1{% endmacro %}"},
        {"macros/NAME.sql": "{% macro NAME() %}2{% endmacro %}"},
    ),
    "comment_in_a_macro": macro(
        "select {{ NAME() }} as id",
        "{% macro NAME() %} 1 {% endmacro %}",
        "{% macro NAME() %} {# one #} 1 -- one\n{% endmacro %}",
    ),
    "tabs_and_windows_line_ends": sql("select 1 as id,\n 2 as other", "select\t1 as id,\r\n\t2 as other\r\n"),
    "blank_lines": sql("select 1 as id", "\n\n\nselect 1 as id\n\n\n"),
    "comment_of_jinja_between": sql("select 1 as id, 2 as other", "select 1 as id, {# two #} 2 as other"),
    "comment_in_a_cte": sql(
        "with a as (select 1 as id) select * from a", "with a as (select 1 as id -- one\n) select * from a"
    ),
    "brackets_in_lines": sql(
        "select coalesce(1, 2) as id from (select 1) as a",
        "select coalesce(\n  1\n  , 2\n) as id from (\n  select 1\n) as a",
    ),
    "comment_between_ctes": sql(
        "with a as (select 1 as id), b as (select 2 as id) select * from a, b",
        "with a as (select 1 as id),\n-- the other\nb as (select 2 as id)\nselect * from a, b",
    ),
    "comment_with_a_quote": sql("select 1 as id", "select 1 as id -- it's one"),
    "case_of_a_clause": sql("select 1 as id group by 1 order by 1", "SELECT 1 AS id GROUP BY 1 ORDER BY 1 "),
    "case_in_a_window": sql(
        "select row_number() over (partition by 1 order by 2) as id",
        "select row_number() OVER (PARTITION BY 1 ORDER BY 2) as id",
    ),
    "case_of_a_case": sql(
        "select case when true then 1 else 2 end as id", "select CASE WHEN TRUE THEN 1 ELSE 2 END as id"
    ),
    "case_of_a_union": sql("select 1 as id union all select 2", "select 1 as id UNION ALL select 2"),
    "case_of_a_join": sql(
        "select 1 as id from (select 1) as a left join (select 1) as b on true",
        "select 1 as id from (select 1) as a LEFT JOIN (select 1) as b ON true",
    ),
    "order_of_ctes_with_a_chain": sql(
        "with a as (select 1 as id), z as (select * from a), b as (select 2 as id) select * from z, b",
        "with b as (select 2 as id), a as (select 1 as id), z as (select * from a) select * from z, b",
    ),
    "order_and_case": sql(
        "with a as (select 1 as id), b as (select 2 as id) select * from a, b",
        "WITH b AS (SELECT 2 AS id), a AS (SELECT 1 AS id) SELECT * FROM a, b",
    ),
    "a_file_beside_it": (
        {"models/NAME.sql": "select 1 as id"},
        {"models/NAME_new.sql": "select 2 as id", "models/NAME_new.yml": "models: [{name: NAME_new}]"},
    ),
    "a_macro_beside_it": (
        {"models/NAME.sql": "select 1 as id"},
        {"macros/NAME.sql": "{% macro NAME() %}1{% endmacro %}"},
    ),
    "description_of_a_column": config("columns: [{name: id}]", "columns: [{name: id, description: It.}]"),
    "docs": config("config: {}", "config: {docs: {show: false}}"),
    "group_and_access": config("config: {}", "config: {access: protected}"),
    "persisted_docs": config("config: {}", "config: {persist_docs: {relation: false}}"),
    "severity_of_a_test": config(
        "columns: [{name: id, data_tests: [unique]}]",
        "columns: [{name: id, data_tests: [{unique: {config: {severity: warn}}}]}]",
    ),
    "a_readme": ({"models/NAME.sql": "select 1 as id"}, {"README.md": "# Shop"}),
    "meta_of_dagster": sql(
        f"{{{{ config({INCREMENTAL}, meta={{'dagster': {{'owner': 'me'}}}}) }}}}"
        " select now() as at where {{ in_window('at') }}",
        f"{{{{ config({INCREMENTAL}, meta={{'dagster': {{'owner': 'you'}}}}) }}}}"
        " select now() as at where {{ in_window('at') }}",
    ),
    "tags_of_a_snapshot": snapshot("check_cols: [id]", "check_cols: [id], tags: [a]"),
    "description_of_a_seed": seed("description: Rates.", "description: The rates."),
    "description": config("description: One.", "description: The one."),
    "test": config("description: One.", "description: One., columns: [{name: id, data_tests: [unique]}]"),
    "tags_and_meta": config("config: {tags: [a]}", "config: {tags: [b], meta: {owner: me}}"),
    "meta_in_the_file": sql(
        "{{ config(meta={'a': {'b': 1}}) }} select 1 as id",
        "{{ config(meta={'a': {'b': ')}}'}}, tags=['x']) }}\nselect 1 as id",
    ),
    "table_above": (
        {
            "models/NAME.sql": "select * from {{ ref('NAME_in') }}",
            "models/NAME_in.sql": "{{ config(materialized='table') }} select 1 as id",
        },
        {"models/NAME_in.sql": "{{ config(materialized='table') }} select 2 as id"},
    ),
    "window": sql(
        f"{{{{ config({INCREMENTAL}) }}}} select now() as at where {{{{ in_window('at') }}}}",
        f"{{{{ config({INCREMENTAL}) }}}} select now() as at  where {{{{ in_window('at') }}}}",
    ),
}
EVERY = {**CHANGES, **NOTHING}


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(dedent(text))


def project(rate: int) -> str:
    return json.dumps(
        {
            "name": "shop",
            "profile": "shop",
            "macro-paths": ["macros", str(MACROS_DIR)],
            "vars": {
                "rate": rate,
                "same": 1,
                "shop": {"scoped": rate},
                "min_date": None,
                "max_date": f"2024-01-0{rate}",
            },
        }
    )


def write_before(root: Path) -> None:
    """Write the project as it is before its edits."""
    profile = "shop: {target: duckdb, outputs: {duckdb: {type: duckdb, path: ':memory:'}}}"
    write(root, {"profiles.yml": profile, "dbt_project.yml": project(1), "seeds/rates.csv": "id\n1\n"})
    for name, (files, _) in EVERY.items():
        write(root, of_node(name, files))


def write_edits(root: Path) -> None:
    """Make all edits at once, but for those of variables and of the environment."""
    for name, (_, files) in EVERY.items():
        write(root, of_node(name, files))


def of_node(name: str, files: Mapping[str, str]) -> Mapping[str, str]:
    """Return an edit's files for the node of this name."""
    return {file.replace("NAME", name): text.replace("NAME", name) for file, text in files.items()}

"""The text of a model, without what means nothing to the database."""

from __future__ import annotations

import re

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_dbt_common.project.model_text import _WORDS, canonical, normalized, without_config

# Each reads the table `t` or a CTE; `t` and `late` are tables too, which a CTE of that name hides from those behind it.
BODIES = {
    "a": "select x from t",
    "b": "select x + 1 as x from a",
    "c": "select x * 10 as x, ') , z as (' as text from b union all select x, 'AND' from late",
    "late": "select max(x) as x from t",
    "t": "select 7 as x",
}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("select 1 -- one\n, 2", "select 1 , 2"),
        ("select 'it''s -- not' /* is */ , \"a /* b\"", "select 'it''s -- not' , \"a /* b\""),
        ("-- {{ two_lines() }}\nselect 1", "-- {{ two_lines() }}\nselect 1"),
        ("select a{# one #}b", "select ab"),
        ("-- {{ two_lines() }} select 1", "-- {{ two_lines() }} select 1"),
        (r"select 'it\'s -- a comment' -- or not", r"select 'it\'s -- a comment' -- or not"),
        ("select $$ -- text $$ as a", "select $$ -- text $$ as a"),
        ("{% if a -- b %} x {% endif %}", "{% if a -- b %} x {% endif %}"),
    ],
)
def test_a_text_is_normalized_where_that_is_safe(code: str, said: str) -> None:
    assert normalized(code) == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("{{ config(a=1) }}select 1", "select 1"),
        ("{{- config(a={'b': {'c': \"}} )\"}}) -}} select 1 {{ config(d=2) }}", " select 1 "),
        ("{{ config(a=1) ~ 'x' }} select 1", "{{ config(a=1) ~ 'x' }} select 1"),
        ("{{ config(a=1 select 1", "{{ config(a=1 select 1"),
        ("{{ config.get('a') }} select 1", "{{ config.get('a') }} select 1"),
    ],
)
def test_calls_of_config_are_left_out(code: str, said: str) -> None:
    assert without_config(code) == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            'SELECT a.End, 1 AS Order FROM `From` WHERE "Case" IS NULL',
            'select a.End,1 as Order from `From` where "Case" is null',
        ),
        ("SELECT Sum(x) OVER (PARTITION  BY y) FROM Orders", "select Sum(x) over (partition by y) from Orders"),
        ("SELECT {{ column('SELECT') }}, @ALL FROM x", "select {{ column('SELECT') }},@ALL from x"),
        ("select f( 1 , '( 2 , ) ' ) , {{ g( 1 , 2 ) }}", "select f(1,'( 2 , ) '),{{ g( 1 , 2 ) }}"),
        ("WITH b AS (SELECT 1), a AS (SELECT 2) SELECT 3", "with a as (select 2),b as (select 1) select 3"),
        (
            "with b as (select 1), a as (select * from B) select 3",
            "with b as (select 1),a as (select * from B) select 3",
        ),
        ("with recursive b as (select 1), a as (select 2) select 3", None),
        ("with b as (select * from a), a as (select 2) select 3", None),
        ("with b as (select * from b), a as (select 2) select 3", None),
        ("with b(x) as (select 1), a as (select 2) select 3", None),
        ("with b as (select 1, a as (select 2) select 3", None),
        ("{% set x %}SELECT{% endset %} SELECT 1", None),
        ("SELECT 1 -- {{ lines() }}", None),
    ],
)
def test_keywords_and_ctes_have_one_form(code: str, said: str | None) -> None:
    assert canonical(code) == (code.replace(", ", ",") if said is None else said)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select '{{ var('region', 'ALL') }}' as r", "select '{{ var('region', 'all') }}' as r"),
        ("select '{{ var('s', '--') }}' || name as r", "select '{{ var('s', '--') }}' || code as r"),
        ("select '{{ at.strftime('%d  %m') }}' as r", "select '{{ at.strftime('%d %m') }}' as r"),
        ("select '{{ f('a , b') }}' as r", "select '{{ f('a,b') }}' as r"),
        ('select 1 as "{{ f("a  b") }}"', 'select 1 as "{{ f("a b") }}"'),
        ("select 'a {# it's #} b  c' as r", "select 'a {# it's #} b c' as r"),
        ('select {{ f("}}") }} as "a  b"', 'select {{ f("}}") }} as "a b"'),
        ("/* built by {{ this }}: don't */ select 'All' as r", "/* built by {{ this }}: don't */ select 'all' as r"),
        ("select $a$x  AND y$a$ as r", "select $a$x and y$a$ as r"),
        ("select $a$x -- y$a$ as r", "select $a$x -- z$a$ as r"),
        ("{% set x %}a  b{% endset %}select '{{ x }}'", "{% set x %}a b{% endset %}select '{{ x }}'"),
        ("{% set x %}a -- b\n{% endset %}select '{{ x }}'", "{% set x %}a -- c\n{% endset %}select '{{ x }}'"),
        ("select 1 as a {{ '--' if f() }}, 2 as b\n, 3 as c", "select 1 as a {{ '--' if f() }}, 2 as b , 3 as c"),
        ("select a{# c #}b from t", "select a b from t"),
        ("select a {#- c -#} b from t", "select a b from t"),
        ("select 1 as id /* /* */ -- */ , 2 as x", "select 1 as id /* /* */ -- */ , 3 as x"),
        ("/* /* */ it's */ select 'a  b' as r", "/* /* */ it's */ select 'a b' as r"),
        ("-- {# a\n it's #}\nselect 'a  b' as r", "-- {# a\n it's #}\nselect 'a b' as r"),
        ("/* {# */ -- #} */ select 1", "/* {# */ -- #} */ select 2"),
        ("select 1 -- one\r, 2 as b", "select 1 -- one\r, 3 as b"),
        ("select struct_pack(Left := 1) as r", "select struct_pack(left := 1) as r"),
        ("select {Between: 1} as r", "select {between: 1} as r"),
        ("select 'a'\n'b' as r", "select 'a' 'b' as r"),
        ('select {{ "\'" }}a  b{{ "\'" }} as r', 'select {{ "\'" }}a b{{ "\'" }} as r'),
        ("select 1\u00a0as r", "select 1 as r"),
        (
            "with a as (select 1 as x), b as ({{ all_of() }}) select * from b",
            "with b as ({{ all_of() }}), a as (select 1 as x) select * from b",
        ),
        (
            "with b as (select $$),a as ($$ as x), a as (select 1 as x) select * from b",
            "with a as (select 1 as x), b as (select $$),a as ($$ as x) select * from b",
        ),
    ],
)
def test_two_texts_of_other_meanings_have_two_forms(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@given(
    st.sets(st.sampled_from(sorted(BODIES)), min_size=2).flatmap(
        lambda names: st.lists(st.permutations(sorted(names)), min_size=2, max_size=4)
    )
)
def test_two_texts_of_one_form_have_the_same_rows(orders: list[list[str]]) -> None:
    """Whatever order the CTEs stand in: one that hides a table from those behind it is another text elsewhere."""
    results: dict[str, object] = {}
    with duckdb.connect() as connection:
        connection.execute("create table t as select unnest([1, 2]) as x; create table late as select 5 as x")
        for names in orders:
            ctes = ", ".join(f"{name} as ({BODIES[name]})" for name in names)
            code = f"WITH {ctes} SELECT * from {min(names)} order by all"
            try:
                rows: object = connection.execute(code).fetchall()
            except duckdb.Error as error:
                rows = type(error)
            assert results.setdefault(canonical(code), rows) == rows


def test_no_keyword_names_a_column_on_duckdb() -> None:
    """But those that are one with the word beside them."""
    words = set(re.findall(r"[a-z]+", _WORDS))
    assert "select" in words
    with duckdb.connect() as connection:
        known = dict(connection.execute("select keyword_name, keyword_category from duckdb_keywords()").fetchall())
    may = {word for word in words if known.get(word) not in {"reserved", "type_function", None}}
    assert may == {"over", "partition", "recursive"}

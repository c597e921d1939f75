"""Which types hold the values of which, in the spellings of Arrow, DuckDB and dbt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.column_types import fits

INTEGERS = ["tinyint", "smallint", "integer", "bigint", "hugeint"]

SCALARS = f"{' '.join(INTEGERS)} utinyint uinteger ubigint float double varchar boolean date timestamp_s timestamp"
OTHERS = "timestamptz timestamp_ns time uuid blob json interval decimal(9,2) decimal(18,2) enum('a','b') somethingelse"

scalars = st.sampled_from(f"{SCALARS} {OTHERS}".split())
types = st.recursive(
    scalars,
    lambda inner: st.one_of(
        inner.map("{}[]".format),
        inner.map("{}[3]".format),
        st.tuples(inner, inner).map("struct(a {0[0]}, b {0[1]})".format),
        inner.map("map(varchar, {})".format),
    ),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int64", "BIGINT"),
        ("int32", "integer"),
        ("int4", "INT"),
        ("string", "varchar"),
        ("large_string", "text"),
        ("utf8", "character varying(20)"),
        ("double", "float8"),
        ("float", "real"),
        ("bool", "boolean"),
        ("date32[day]", "date"),
        ("timestamp[us]", "timestamp"),
        ("timestamp[us]", "timestamp_ntz"),
        ("timestamp[ms]", "TIMESTAMP_MS"),
        ("timestamp[us, tz=Europe/Oslo]", "timestamp with time zone"),
        ("timestamp_tz", "timestamptz"),
        ("time64[us]", "time"),
        ("decimal128(10, 2)", "numeric(10,2)"),
        ("number(38,0)", "decimal(38, 0)"),
        ("binary", "bytes"),
        ("fixed_size_binary[16]", "blob"),
        ("dictionary<values=string, indices=int32, ordered=0>", "varchar"),
        ("list<item: int64>", "bigint[]"),
        ("fixed_size_list<item: int64>[3]", "bigint[3]"),
        ("map<string, double>", "map(varchar, double)"),
        ("struct<a: int64 not null, b: list<item: struct<c: string>>>", "STRUCT(a BIGINT, b STRUCT(c VARCHAR)[])"),
        ("timestamp   with time zone", "TIMESTAMPTZ"),
        ("geography(point, 4326)", "GEOGRAPHY(point,  4326)"),
    ],
)
def test_spellings_of_one_type(one: str, other: str) -> None:
    assert fits(one, other)
    assert fits(other, one)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("integer", "bigint"),
        ("int32", "decimal(10,0)"),
        ("integer", "double"),
        ("uinteger", "bigint"),
        ("ubigint", "hugeint"),
        ("utinyint", "usmallint"),
        ("float", "double"),
        ("decimal(9,2)", "decimal(18,2)"),
        ("decimal(9,2)", "decimal(12,4)"),
        ("date", "timestamp"),
        ("timestamp[s]", "timestamp"),
        ("enum('a','b')", "varchar"),
        ("json", "varchar"),
        ("integer[]", "bigint[]"),
        ("integer[3]", "bigint[]"),
        ("map(varchar, integer)", "map(varchar, bigint)"),
        ("struct(a integer, b date)", "struct(A bigint)"),
    ],
)
def test_a_value_may_be_widened_and_not_narrowed(narrow: str, wide: str) -> None:
    assert fits(narrow, wide)
    assert not fits(wide, narrow)


@pytest.mark.parametrize(
    ("given_type", "expected"),
    [
        ("bigint", "varchar"),
        ("bigint", "double"),  # not above 2^53
        ("integer", "float"),
        ("decimal(18,2)", "double"),
        ("bigint", "decimal(18,0)"),
        ("decimal(9,2)", "decimal(9,3)"),  # a digit before the point less
        ("double", "bigint"),
        ("integer", "uinteger"),
        ("ubigint", "bigint"),
        ("boolean", "integer"),
        ("timestamp", "timestamptz"),
        ("timestamp", "timestamp_ns"),  # which ends in 2262
        ("date", "timestamptz"),
        ("integer[]", "integer"),
        ("integer[3]", "integer[4]"),
        ("struct(a integer)", "struct(b integer)"),
        ("somethingelse", "varchar"),
        ("varchar", "somethingelse"),
    ],
)
def test_what_does_not_fit(given_type: str, expected: str) -> None:
    assert not fits(given_type, expected)


@given(types)
def test_each_type_fits_itself_however_it_is_written(one: str) -> None:
    assert fits(one, one.upper())


@given(types, types)
def test_two_types_that_hold_each_other_are_held_by_the_same(one: str, other: str) -> None:
    if fits(one, other) and fits(other, one):
        for third in ("varchar", "bigint", "double", "timestamp", "bigint[]", one, other):
            assert fits(one, third) == fits(other, third)
            assert fits(third, one) == fits(third, other)


@given(types, types, types)
def test_what_fits_into_what_fits(one: str, two: str, three: str) -> None:
    if fits(one, two) and fits(two, three):
        assert fits(one, three)

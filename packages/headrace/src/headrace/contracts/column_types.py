"""Whether a column's values fit where they are expected, whatever spelling their types have.

DuckDB's own parser reads the spellings of DuckDB and of dbt. Arrow's, and what other warehouses call a type that DuckDB
has, are put into its words before. (sqlglot, which comes with dagster-dbt, knows no Arrow: it reads `timestamp[us]` as
a list.) `int8` is 64 bits wide, as in DuckDB and Postgres; Arrow's integer of 8 bits is `tinyint` here.
"""

import re
from dataclasses import dataclass

import duckdb
from duckdb.sqltypes import DuckDBPyType

_SYNONYMS = {
    "bignumeric": "decimal(38,9)",
    "bytes": "blob",
    "date32": "date",
    "date64": "date",
    "day_time_interval": "interval",
    "duration": "interval",
    "fixed_size_binary": "blob",
    "halffloat": "float",
    "large_binary": "blob",
    "large_string": "varchar",
    "large_utf8": "varchar",
    "month_day_nano_interval": "interval",
    "number": "decimal",
    "string_view": "varchar",
    "time32": "time",
    "time64": "time",
    "timestamp_ltz": "timestamptz",
    "timestamp_ntz": "timestamp",
    "timestamp_tz": "timestamptz",
    "utf8": "varchar",
}
_UNITS = {"s": "timestamp_s", "ms": "timestamp_ms", "us": "timestamp", "ns": "timestamp_ns"}
_ARROW_TIMESTAMP = re.compile(r"timestamp\[(\w+)(, *tz=[^\]]+)?\]")
_ARROW_UNIT = re.compile(r"\b(date32|date64|time32|time64|duration|fixed_size_binary)\[\w+\]")
_ARROW_DECIMAL = re.compile(r"\bdecimal(?:32|64|128|256)\b")
_ARROW_FIXED_LIST = re.compile(r"\bfixed_size_list<\w+: ([^<>]*)>\[(\d+)\]")
_ARROW_NESTED = re.compile(r"\b(list|large_list|struct|map|dictionary)<([^<>]*)>")
_WORD = re.compile(r"\b[a-z]\w*\b")

# The first value that does not fit, as a power of two: unsigned integers, signed ones, and floats exactly.
_UNSIGNED = {"utinyint": 8, "usmallint": 16, "uinteger": 32, "ubigint": 64, "uhugeint": 128}
_SIGNED = {"tinyint": 7, "smallint": 15, "integer": 31, "bigint": 63, "hugeint": 127}
_FLOATS = {"float": 24, "double": 53}
_NESTED = ("decimal", "struct", "list", "array", "map")
# What holds each value of the type to its left, besides itself.
_WIDER = {
    "date": ("timestamp_s", "timestamp_ms", "timestamp"),
    "timestamp_s": ("timestamp_ms", "timestamp"),
    "timestamp_ms": ("timestamp",),
    "enum": ("varchar",),
}


@dataclass(frozen=True)
class _Type:
    """A type: DuckDB's name of it, its numbers (precision and scale, or a size), and the types that it is made of."""

    id: str
    text: str
    numbers: tuple[int, ...]
    parts: tuple[tuple[str, "_Type"], ...]

    @classmethod
    def of(cls, parsed: DuckDBPyType) -> "_Type":
        children = parsed.children if parsed.id in _NESTED else []
        return cls(
            id=parsed.id,
            text=str(parsed).lower(),
            numbers=tuple(child for _, child in children if isinstance(child, int)),
            parts=tuple((name.lower(), cls.of(child)) for name, child in children if isinstance(child, DuckDBPyType)),
        )


def fits(given: str, expected: str) -> bool:
    """Return whether each value of the type that a producer gives is one of the type that its consumer expects.

    So on the way from producer to consumer a value may be widened and never narrowed: an `integer` where `bigint` is
    expected fits, a `bigint` where `integer` is expected does not. Nor does a number where text is expected, since
    what a consumer does with the one is not what it does with the other. Types that nobody here knows fit themselves.
    """
    one, other = _parsed(given), _parsed(expected)
    if one is None or other is None:
        return " ".join(given.lower().split()) == " ".join(expected.lower().split())
    return _holds(one, other)


def _holds(given: _Type, expected: _Type) -> bool:
    one, other = given.id, expected.id
    if given == expected:
        return True
    if one in _UNSIGNED or one in _SIGNED:
        return _holds_integer(one, expected)
    if one == other == "varchar":
        return expected.text == "varchar"  # JSON is text, and not all text is JSON
    if one in _NESTED and other in _NESTED:
        return _holds_nested(given, expected)
    return (one, other) == ("float", "double") or other in _WIDER.get(one, ())


def _holds_nested(given: _Type, expected: _Type) -> bool:
    match given.id, expected.id:
        case "decimal", "decimal":
            (precision, scale), (wider, finer) = given.numbers, expected.numbers
            return finer >= scale and wider - finer >= precision - scale
        case "struct", "struct":
            fields = dict(given.parts)
            return all(name in fields and _holds(fields[name], part) for name, part in expected.parts)
        case ("list", "list") | ("array", "list") | ("map", "map"):
            pairs = zip(given.parts, expected.parts, strict=True)
            return all(_holds(part, whole) for (_, part), (_, whole) in pairs)
        case "array", "array":
            return given.numbers == expected.numbers and _holds(given.parts[0][1], expected.parts[0][1])
    return False


def _holds_integer(given: str, expected: _Type) -> bool:
    bits = _UNSIGNED.get(given, _SIGNED.get(given, 0))
    if expected.id in _UNSIGNED:
        return given in _UNSIGNED and bits <= _UNSIGNED[expected.id]
    if expected.id == "decimal":
        precision, scale = expected.numbers
        return bool(10 ** (precision - scale) >= 2**bits)
    return bits <= {**_SIGNED, **_FLOATS}.get(expected.id, 0)


def _parsed(spelling: str) -> _Type | None:
    try:
        return _Type.of(duckdb.sqltype(_in_duckdbs_words(spelling)))
    except duckdb.Error:
        return None


def _in_duckdbs_words(spelling: str) -> str:
    text = spelling.strip().lower()
    text = _ARROW_TIMESTAMP.sub(lambda match: "timestamptz" if match[2] else _UNITS.get(match[1], match[0]), text)
    text = _ARROW_DECIMAL.sub("decimal", _ARROW_UNIT.sub(r"\1", text))
    while (inner := _ARROW_NESTED.sub(_nested, _ARROW_FIXED_LIST.sub(r"\1[\2]", text))) != text:
        text = inner
    return _WORD.sub(lambda match: _SYNONYMS.get(match[0], match[0]), text)


def _nested(match: re.Match[str]) -> str:
    kind, inside = match[1], match[2]
    if kind in ("list", "large_list"):  # list<item: string>
        return f"{inside.partition(':')[2].removesuffix(' not null').strip()}[]"
    if kind == "dictionary":  # dictionary<values=string, indices=int32, ordered=0>
        return inside.partition("=")[2].partition(",")[0]
    if kind == "map":  # map<string, int32>
        return f"map({inside})"
    fields = re.sub(r"(\w+): *", r"\1 ", inside).replace(" not null", "")  # struct<a: int32, b: string not null>
    return f"struct({fields})"

"""How text becomes a typed value, strictly: what would be rounded, shifted or guessed is no value."""

from ingest.tables import Column, ColumnType

_DIGITS = r"[+-]?[0-9]+"
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
# UTC may be said, other offsets may not: DuckDB's cast to timestamp drops an offset and keeps the clock time.
# Digits after the microseconds must be zeros for the same reason: the cast cuts them off.
_TIMESTAMP = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?(Z|[+]00(:?00)?)?)?"
)
_BOOLEAN = r"(?i)(true|false|t|f|1|0)"

_PATTERNS: dict[ColumnType, str] = {
    "bigint": _DIGITS,
    "double": _NUMBER,
    "timestamp": _TIMESTAMP,
    "boolean": _BOOLEAN,
}


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def parsed(column: Column) -> str:
    """Return the SQL expression for a column's value: null where its text is empty or no such value."""
    text = quoted(column.name)
    if column.type == "varchar":
        return text
    matches = f"regexp_full_match({text}, '{_PATTERNS[column.type]}')"
    source = f"regexp_replace({text}, '(Z|[+]00(:?00)?)$', '')" if column.type == "timestamp" else text
    value = f"try_cast({source} as {column.type})"
    if column.type == "double":
        value = f"if(isfinite({value}), {value}, null)"
    return f"case when {matches} then {value} end"


def unparsable(column: Column) -> str:
    """Return the SQL condition that a column has text which is no value of its type."""
    return f"{quoted(column.name)} <> '' and {parsed(column)} is null"

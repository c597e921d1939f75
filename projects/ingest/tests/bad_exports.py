"""A corpus of exports that are wrong, as sources write them: name, what is written, and what the message says of it.

The name's ending is that of the file. `WHERE` in a message is the file's path.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

DAY = "2024-02-03"
HEADER = "id,part,at,ratio,flag,note\n"
GOOD = "a,1,2024-02-03T10:00:00,0.5,true,x\n"
Write = Callable[[Path], object]


def _text(text: str, encoding: str = "utf-8") -> Write:
    return lambda path: path.write_bytes(text.encode(encoding))


def _bytes(data: bytes) -> Write:
    return lambda path: path.write_bytes(data)


def _row(line: str) -> Write:
    return _text(f"{HEADER}{GOOD}{line}\n")


def _value(column: str, value: str) -> Write:
    row = {"id": "b", "part": "1", "at": "2024-02-03", "ratio": "1", "flag": "true", "note": "x", column: value}
    return _row(",".join(row.values()))


def _json(*rows: object) -> Write:
    return _text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))


def _object(**changes: object) -> dict[str, object]:
    return {"id": "a", "part": 1, "at": "2024-02-03", "ratio": 1, "flag": True, "note": "", **changes}


def _without(*names: str) -> dict[str, object]:
    return {name: value for name, value in _object().items() if name not in names}


def _parquet(select: str, *, keep: float = 1, flip: bool = False) -> Write:
    def write(path: Path) -> None:
        with duckdb.connect() as connection:
            connection.sql(select).write_parquet(str(path))
        data = path.read_bytes()
        path.write_bytes(data[::-1] if flip else data[: int(len(data) * keep)])

    return write


_COLUMNS = """'a' as id, 1 as part, timestamp '2024-02-03' as "at", 1.0 as ratio, true as flag, '' as note"""
_CSV = f"{HEADER}{GOOD}"
_MANY_LINES = f"{'x' * 99}\n" * 500_000
_KEYS = "".join(f"k{number},1,2024-02-03,1,true,\n" for number in range(50))

BAD: Mapping[str, tuple[str, Write, str]] = {
    # Bytes that are no such file.
    "zero bytes": ("csv", _bytes(b""), ": no header line"),
    "blank lines alone": ("csv", _bytes(b"\n\n\n"), ": no header line"),
    "gzip cut off": ("csv.gz", _bytes(gzip.compress(_CSV.encode())[:40]), ": not a complete gzip file"),
    "gzip that is none": ("csv.gz", _bytes(_CSV.encode()), ": not a complete gzip file"),
    "gzip with more behind it": (
        "csv.gz",
        _bytes(gzip.compress(_CSV.encode()) + b"more"),
        ": not a complete gzip file",
    ),
    "gzip of another file": ("csv.gz", _bytes(gzip.compress(b"PAR1 and more")), ", line 1, column id: missing"),
    "gzip under the name of a csv": ("csv", _bytes(gzip.compress(_CSV.encode(), mtime=0)), ", line 1, "),
    "gzip of a time that is line ends": (
        "csv",
        _bytes(gzip.compress(_CSV.encode(), mtime=0x0D0D0D0D)),
        ", line 1: new-line character seen in unquoted field",
    ),
    "parquet under the name of a csv": ("csv", _parquet(f"select {_COLUMNS}"), ", line 1, "),
    "csv under the name of a parquet": ("parquet", _text(_CSV), ": "),
    "parquet cut short": ("parquet", _parquet(f"select {_COLUMNS}", keep=0.5), ": "),
    "parquet of nothing": ("parquet", _bytes(b""), ": "),
    "parquet backwards": ("parquet", _parquet(f"select {_COLUMNS}", flip=True), ": "),
    "a page of HTML": (
        "csv",
        _text("<!DOCTYPE html>\n<html><body>502</body></html>\n"),
        ", line 1, column id: missing",
    ),
    "an error in JSON": ("csv", _text('{"error": "rate limit"}\n'), ", line 1, column id: missing"),
    # Encodings.
    "UTF-16": ("csv", _text(_CSV, "utf-16"), ", line 1, "),
    "UTF-16 without a mark": ("csv", _text(_CSV, "utf-16-le"), ", line 1, "),
    "Latin-1": (
        "csv",
        _bytes(_CSV.encode() + "b,1,2024-02-03,1,true,café\n".encode("latin-1")),
        ", line 3, column note: ",
    ),
    "half a character": ("csv", _bytes(_CSV.encode() + b"b,1,2024-02-03,1,true,caf\xc3\n"), ", line 3, column note: "),
    "Latin-1 in the header": (
        "csv",
        _text(HEADER.replace("note", "not\xe9"), "latin-1"),
        ", line 1, column note: missing",
    ),
    "a surrogate": ("csv", _bytes(_CSV.encode() + b"b,1,2024-02-03,1,true,\xed\xa0\x80\n"), ", line 3, column note: "),
    # Other tables.
    "header of another table": ("csv", _text("sku,name,price\nJAF-001,bagel,5\n"), ", line 1, column id: missing"),
    "no header": ("csv", _text(GOOD), ", line 1, column id: missing"),
    "header in capitals": ("csv", _text(_CSV.replace(HEADER, HEADER.upper())), ", line 1, column id: missing"),
    "header with spaces": ("csv", _text(_CSV.replace(",", ", ")), ", line 1, column part: missing"),
    "header twice": ("csv", _text(HEADER + _CSV), ", line 2, column part: 'part' is not a bigint"),
    "a column is missing": (
        "csv",
        _text("id,part,at,ratio,flag\na,1,2024-02-03,1,true\n"),
        ", line 1, column note: missing",
    ),
    "a column twice": (
        "csv",
        _text("id,id,part,at,ratio,flag,note\na,a,1,2024-02-03,1,true,x\n"),
        "column id: is in the header twice",
    ),
    # Shapes.
    "semicolons": ("csv", _text(_CSV.replace(",", ";")), ", line 1, column id: missing"),
    "tabs": ("csv", _text(_CSV.replace(",", "\t")), ", line 1, column id: missing"),
    "shifted by a comma in a text": (
        "csv",
        _row("b,1,2024-02-03,1,true,x,y"),
        ", line 3: 7 fields where the header has 6",
    ),
    "a field too few": ("csv", _row("b,1,2024-02-03,1,true"), ", line 3: 5 fields where the header has 6"),
    "a line cut off": ("csv", _text(f"{_CSV}{_KEYS}b,1,2024-0"), ", line 53: 3 fields where the header has 6"),
    "two columns changed places": (
        "csv",
        _row("1,b,2024-02-03,1,true,x"),
        ", line 3, column part: 'b' is not a bigint",
    ),
    "a quote that stays open": ("csv", _row('b,1,2024-02-03,1,true,"x'), ", line 3: "),
    "a quote in the middle": ("csv", _row('b,1,2024-02-03,1,true,"x"y'), ", line 3: "),
    "a footer": ("csv", _text(f"{_CSV}TOTAL,1 rows\n"), ", line 3: 2 fields where the header has 6"),
    "a line of 50 MB": ("csv", _row(f"b,1,2024-02-03,1,true,{'x' * 50_000_000}"), ", line 3"),
    "a line of 50 MB in the middle": (
        "csv",
        _text(f"{_CSV}b,1,2024-02-03,1,true,{'x' * 50_000_000}\nc,1,2024-02-03,1,true,\n"),
        ", line 3",
    ),
    "a line of 50 MB in gzip": (
        "csv.gz",
        _bytes(gzip.compress(f"{_CSV}b,1,2024-02-03,1,true,{'x' * 50_000_000}\n".encode(), 1)),
        ", line 3",
    ),
    "a row of 50 MB in many lines": ("csv", _row(f'b,1,2024-02-03,1,true,"{_MANY_LINES}"'), ", line 3"),
    "commas of 50 MB": ("csv", _text(f"{_CSV}{',' * 50_000_000}\nc,1,2024-02-03,1,true,\n"), ", line 3"),
    "a header of 50 MB": ("csv", _text(f"{'x' * 50_000_000}\n{GOOD}"), ", line 1"),
    "line endings of both kinds": (
        "csv",
        _bytes(f"{_CSV}{GOOD}".encode() + b"b,1,2024-02-03,1,true,x\r\n"),
        ", line 4: ends in CRLF",
    ),
    # Values.
    "NUL in a number": ("csv", _value("part", "1\x00"), ", line 3"),
    "a decimal comma": ("csv", _value("ratio", '"0,5"'), ", line 3, column ratio: '0,5' is not a double"),
    "thousands": ("csv", _value("part", '"1,000"'), ", line 3, column part: '1,000' is not a bigint"),
    "a currency": ("csv", _value("ratio", "$5"), ", line 3, column ratio: '$5' is not a double"),
    "too large a number": ("csv", _value("ratio", "1e400"), ", line 3, column ratio: '1e400' is not a double"),
    "too large a whole number": ("csv", _value("part", "99999999999999999999"), "is not a bigint"),
    "infinity": ("csv", _value("ratio", "inf"), ", line 3, column ratio: 'inf' is not a double"),
    "no number": ("csv", _value("ratio", "NaN"), ", line 3, column ratio: 'NaN' is not a double"),
    "a hexadecimal number": ("csv", _value("part", "0x10"), ", line 3, column part: '0x10' is not a bigint"),
    "NUL in a text": ("csv", _value("note", "a\x00b"), ", line 3"),
    "NUL in a text of JSON": ("jsonl", _json(_object(note="a\x00b")), ", line 1"),
    "less than may be": ("csv", _value("ratio", "-5.01"), ", line 3, column ratio: '-5.01' is below -5"),
    "a byte order mark before JSON": (
        "jsonl",
        _text(f"\ufeff{json.dumps(_object())}\n"),
        ", line 1: begins with a byte order mark",
    ),
    "a null in words": ("csv", _value("ratio", "NULL"), ", line 3, column ratio: 'NULL' is not a double"),
    "digits of another script": ("csv", _value("part", "٣"), ", line 3, column part: '٣' is not a bigint"),
    "a space before a number": ("csv", _value("part", " 1"), ", line 3, column part: ' 1' is not a bigint"),
    "yes for true": ("csv", _value("flag", "yes"), ", line 3, column flag: 'yes' is not a boolean"),
    "a formula": ("csv", _value("part", "=1+1"), ", line 3, column part: '=1+1' is not a bigint"),
    # Times.
    "another year": ("csv", _value("at", "2023-02-03"), ", line 3, column at: '2023-02-03' is outside"),
    "a day that is none": ("csv", _value("at", "2024-02-30"), "column at: '2024-02-30' is not a timestamp"),
    "a leap second": ("csv", _value("at", "2024-02-03T23:59:60"), "column at: '2024-02-03T23:59:60' is"),
    "an offset": ("csv", _value("at", "2024-02-03T10:00:00+02:00"), "is not a timestamp in UTC without offset"),
    "nine digits of a second": ("csv", _value("at", "2024-02-03T10:00:00.123456789"), "is not a timestamp"),
    "a month first": ("csv", _value("at", "02/03/2024"), ", line 3, column at: '02/03/2024' is not a timestamp"),
    "seconds since 1970": ("csv", _value("at", "1706954400"), ", line 3, column at: '1706954400' is not a timestamp"),
    "no time": ("csv", _value("at", ""), ", line 3, column at: null is outside"),
    # Keys.
    "no key": ("csv", _value("id", ""), ", line 3, column id: '' is not a key"),
    "a key twice": (
        "csv",
        _row("a,1,2024-02-03,1,true,x"),
        ", line 3, columns id, part: 'a', 1 is already the key of line 2",
    ),
    "the rows twice": (
        "csv",
        _text(f"{HEADER}{_KEYS}{_KEYS}"),
        ", line 52, columns id, part: 'k0', 1 is already the key of line 2",
    ),
    # JSON lines.
    "an array": ("jsonl", _text(json.dumps([_object()])), ", line 1: "),
    "a nested value": ("jsonl", _json(_object(part={"n": 1})), ", line 1, column part: '{\"n\":1}' is not a bigint"),
    "a list for a number": (
        "jsonl",
        _json(_object(), _object(id="b", part=[1])),
        ", line 2, column part: '[1]' is not a bigint",
    ),
    "a key that is missing": ("jsonl", _json(_without("part")), ", column part: missing"),
    "a key that is missing once": (
        "jsonl",
        _json(_object(), _without("part")),
        ", line 2, column part: null is not a key",
    ),
    "a comma at the end": ("jsonl", _json(_object(), json.dumps(_object(id="b"))[:-1] + ", }"), ", line 2: "),
    "one key twice in an object": (
        "jsonl",
        _json(_object(), json.dumps(_object(id="b"))[:-1] + ', "ratio": 2}'),
        ", line 2, column ratio: stands there 2 times",
    ),
    "one key twice, once with an escape": (
        "jsonl",
        _json(json.dumps(_object())[:-1] + r', "\u0069d": "b"}'),
        ", line 1, column id: stands there 2 times",
    ),
    "single quotes": ("jsonl", _json("{'id': 'a'}"), ", line 1: "),
    "not a number in JSON": (
        "jsonl",
        _json('{"id":"a","part":1,"at":"2024-02-03","ratio":NaN,"flag":true,"note":""}'),
        ", line 1",
    ),
    "JSON cut off": ("jsonl", _json(_object(), json.dumps(_object(id="b"))[:30]), ", line 2: "),
    "a key twice in JSON": (
        "jsonl",
        _json(_object(), _object(note="again")),
        ", line 2, columns id, part: 'a', 1 is already the key of line 1",
    ),
    "a line of 50 MB in JSON": (
        "jsonl",
        _json(_object(), _object(id="b", note="x" * 50_000_000), _object(id="c")),
        ", line 2",
    ),
    # Parquet.
    "another schema": ("parquet", _parquet("select 1 as sku, 'x' as name"), ", column id: missing"),
    "a fraction for a whole number": (
        "parquet",
        _parquet(f"select * replace (1.5 as part) from (select {_COLUMNS})"),
        ", row 1, column part: '1.5' is not a bigint",
    ),
    "a struct for a number": (
        "parquet",
        _parquet(f"select * replace ({{'n': 1}} as part) from (select {_COLUMNS})"),
        ", row 1, column part: ",
    ),
    "a null for a key": (
        "parquet",
        _parquet(f"select * replace (null as id) from (select {_COLUMNS})"),
        ", row 1, column id: null is not a key",
    ),
    "another day": (
        "parquet",
        _parquet(f"select * replace (timestamp '2024-02-04' as \"at\") from (select {_COLUMNS})"),
        ", row 1, column at: ",
    ),
}

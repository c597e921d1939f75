"""Says on which physical line of an export file something stands, once it is known to be wrong."""

import codecs
import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

from ingest.exports import Export

# The longest row that is read; DuckDB buffers 16 times as much. The csv module's own limit is 128 kB a field.
MAX_ROW_BYTES = 2 * 2**20
csv.field_size_limit(MAX_ROW_BYTES)
_SHOWN = 200
_END_OF_ROW = re.compile(rb'(?:[^"\n]++|"[^"]*+")*+\n')


@dataclass(frozen=True)
class Record:
    """A CSV record, the physical line on which it begins, and how its last line ends."""

    line: int
    fields: Sequence[str]

    def line_of(self, position: int) -> int:
        """Return the physical line on which a field begins: quoted fields before it may hold newlines."""
        return self.line + sum(field.count("\n") for field in self.fields[:position])


def open_text(path: Path) -> TextIO:
    """Open a text export without its byte order mark; bytes that are not UTF-8 become lone surrogates."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="\n")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def records(file: TextIO) -> Iterator[Record]:
    """Yield the records of a CSV file, the header first.

    Raises `csv.Error` at a record with misplaced quotes.
    """
    reader = csv.reader(file, strict=True)
    line = 1
    for fields in reader:
        # Blank lines are no rows: DuckDB leaves them out too.
        if fields:
            yield Record(line, fields)
        line = reader.line_num + 1


def place(export: Export, row: int, column: str) -> str:
    """Return where a value stands, such as `line 17`, for a row counted from 0 without header and blanks."""
    if export.format == "csv":
        with open_text(export.path) as file:
            rows = records(file)
            position = list(next(rows).fields).index(column)
            return f"line {next(islice(rows, row, None)).line_of(position)}"
    if export.format == "jsonl":
        with open_text(export.path) as file:
            filled = (number for number, text in enumerate(file, 1) if text.strip())
            return f"line {next(islice(filled, row, None))}"
    return f"row {row + 1}"


def first_lines(export: Export, rows: Collection[int]) -> dict[int, int]:
    """Return the physical line on which each of `rows` begins, counted as in `place`, in one pass.

    Of a Parquet file, which has no lines, it is the row's number, from 1.
    """
    if export.format not in {"csv", "jsonl"}:
        return {row: row + 1 for row in rows}
    wanted = set(rows)
    with open_text(export.path) as file:
        if export.format == "csv":
            lines = (record.line for record in islice(records(file), 1, None))
        else:
            lines = (number for number, text in enumerate(file, 1) if text.strip())
        return {row: line for row, line in enumerate(islice(lines, max(wanted, default=-1) + 1)) if row in wanted}


def may_have_row_without_end(file: BinaryIO | gzip.GzipFile) -> bool:
    """Return whether a CSV file seems to have no end of a row in some `MAX_ROW_BYTES` of it; reads it to its end.

    It takes each quote for one that opens or closes, so a text with an odd one in it misleads it: where it says yes,
    `csv_fault` has the last word.
    """
    inside_quotes = False
    found = False
    while len(chunk := file.read(MAX_ROW_BYTES)) == MAX_ROW_BYTES:
        begin = chunk.find(b'"') + 1 if inside_quotes else 0
        # No closing quote at all leaves the row open too.
        found |= (inside_quotes and begin == 0) or _END_OF_ROW.match(chunk, begin) is None or b"\n" not in chunk
        inside_quotes ^= chunk.count(b'"') % 2 == 1
    return found


def csv_fault(export: Export) -> str | None:
    """Return where and why a CSV file cannot be parsed, or None where this module finds nothing wrong."""
    line = 1
    try:
        with open_text(export.path) as file:
            rows = records(file)
            header = next(rows).fields
            for record in rows:
                line = record.line
                for name, value in zip(header, record.fields, strict=False):
                    if not _is_utf8(value):
                        return f"line {line}, column {name}: {short(value)!r} is not UTF-8"
                if sum(map(len, record.fields)) > MAX_ROW_BYTES:
                    return f"line {line}: longer than {MAX_ROW_BYTES >> 20} MiB"
                if len(record.fields) != len(header):
                    return f"line {line}: {len(record.fields)} fields where the header has {len(header)}"
                line += sum(field.count("\n") for field in record.fields) + 1
    except csv.Error as error:
        return f"line {line}: {csv_reason(error)}"
    return _mixed_endings(export)


def csv_reason(error: csv.Error) -> str:
    """Return what the standard library says of a record, without its advice for who opens the file."""
    return str(error).partition(" - ")[0]


def jsonl_fault(export: Export) -> str | None:
    """Return where and why a line of a JSONL file is no JSON object of distinct keys, or None where all of them are."""
    with export.path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            return "line 1: begins with a byte order mark, which JSON has none of: write UTF-8 without it"
    with open_text(export.path) as lines:
        for number, text in enumerate(lines, 1):
            if text.strip() and (fault := _object_fault(text)):
                return f"line {number}{fault}"
    return None


def _object_fault(text: str) -> str | None:
    if not _is_utf8(text):
        return ": not UTF-8"
    if len(text) > MAX_ROW_BYTES:
        return f": longer than {MAX_ROW_BYTES >> 20} MiB"
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        return f": {text.strip()[:80]!r} is not JSON ({error})"
    if not text.lstrip().startswith("{"):
        return f": {text.strip()[:80]!r} is not a JSON object"
    counted = Counter(key for key, _ in pairs).items()
    return next((f", column {short(key)}: stands there {times} times" for key, times in counted if times > 1), None)


def short(text: str) -> str:
    """Return a text, or its beginning where it is longer than a message should be."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _mixed_endings(export: Export) -> str | None:
    with open_text(export.path) as file:
        first = None
        inside_quotes = False
        for number, text in enumerate(file, 1):
            inside_quotes ^= text.count('"') % 2 == 1
            if inside_quotes:
                continue
            ending = "CRLF" if text.endswith("\r\n") else "LF"
            first = first or ending
            if ending != first:
                return f"line {number}: ends in {ending} where line 1 ends in {first}; use one of them"
    return None

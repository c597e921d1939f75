"""The contracts that are read from files, and those that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.user_errors import UserError
from headrace.contracts.contract import Column, NamedPartitions, TimePartitions, parse_contract, read_contracts

DAYS = {"kind": "time", "grain": "day", "start": "2024-01-01T00:00:00+00:00", "end": None, "timezone": "UTC"}
GOOD: dict[str, Any] = {
    "version": 1,
    "location": "ingest",
    "produces": [
        {
            "key": "raw/orders",
            "partitions": {**DAYS, "end_offset": 0},
            "columns": [{"name": "id", "type": None, "nullable": False}],
            "blocking_checks": ["not_empty"],
            "file": "tables.py:1",
        }
    ],
    "consumes": [
        {
            "key": "stores",
            "partitions": {"kind": "static", "names": ["a"]},
            "columns": None,
            "freshness": {"warn_after": {"count": 1, "period": "day"}},
            "loader": None,
            "stub": False,
            "asked": [],
            "file": "raw.yml:1",
        }
    ],
}


def test_a_contract_is_read() -> None:
    contract = parse_contract(json.dumps(GOOD), "ingest.json")
    (produced,), (consumed,) = contract.produces, contract.consumes
    assert isinstance(produced.partitions, TimePartitions)
    assert produced.columns == (Column("id", None, nullable=False),)
    assert consumed.partitions == NamedPartitions("static", ("a",))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", "Input should be an object"),
        (json.dumps({**GOOD, "version": 2}), "version: Input should be 1"),
        (json.dumps({**GOOD, "extra": 1}), "extra: Unexpected keyword argument"),
        (json.dumps({**GOOD, "location": 7}), "location: Input should be a valid string"),
        (json.dumps({"version": 1}), "location: Field required"),
        (json.dumps(GOOD).replace('"nullable": false', '"nullable": "no"'), "produces.0.columns.0.nullable: Input"),
        (json.dumps(GOOD).replace("+00:00", ""), "produces.0.partitions.TimePartitions.start: Input should have tim"),
    ],
)
def test_what_is_no_contract_is_one_line(text: str, what: str) -> None:
    with pytest.raises(UserError) as error:
        parse_contract(text, "deployed/ingest.json")
    assert error.value.message.startswith(f"deployed/ingest.json: {what}")
    assert error.value.message.endswith(": export it again with `headrace contract export`")
    assert "\n" not in error.value.message


def test_a_folder_of_contracts(tmp_path: Path) -> None:
    (tmp_path / "ingest.json").write_text(json.dumps(GOOD))
    assert read_contracts(tmp_path).keys() == {"ingest"}
    (tmp_path / "other.json").write_text(json.dumps(GOOD))
    with pytest.raises(UserError, match=r"other\.json: it is the contract of ingest: name it ingest\.json"):
        read_contracts(tmp_path)
    with pytest.raises(UserError, match=r"there is no <location>\.json"):
        read_contracts(tmp_path / "nowhere")

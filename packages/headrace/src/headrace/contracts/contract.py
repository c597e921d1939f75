"""What a code location promises and what it expects; the fields are told in `script.py`, which writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from headrace.cli.user_errors import UserError

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Column:
    """A column.

    Args:
        name: its name; case does not count.
        type: its type in the spelling of Arrow, DuckDB or dbt; None where it is not told.
        nullable: whether it may be null; a consumer's True expects nothing.
    """

    name: str
    type: str | None = None
    nullable: bool = True


@dataclass(frozen=True, config=_STRICT)
class TimePartitions:
    """Windows of time.

    Args:
        grain: hour, day, week (from Monday), month, year, or the cron that says where partitions begin.
        start: the first instant.
        end: the instant after which no partition starts; None where they go on.
        timezone: an IANA name.
        end_offset: how many partitions after the last complete one exist.
    """

    grain: str
    start: AwareDatetime
    timezone: str
    end: AwareDatetime | None = None
    end_offset: int = 0
    kind: Literal["time"] = "time"


@dataclass(frozen=True, config=_STRICT)
class NamedPartitions:
    """Partitions that are no windows: the keys of static ones, the name of dynamic ones, the dimensions of multi."""

    kind: Literal["static", "dynamic", "multi"]
    names: tuple[str, ...]


Partitions = TimePartitions | NamedPartitions


@dataclass(frozen=True, config=_STRICT)
class PartitionMapping:
    """How a reader's partitions read those of what it reads, as Dagster's partition mappings."""

    kind: Literal["default", "virtual", "time_window", "all", "last", "identity", "other"] = "default"
    start_offset: int = 0
    end_offset: int = 0
    allow_nonexistent: bool = False


@dataclass(frozen=True, config=_STRICT)
class Asked:
    """An asset with data that reads a key, and which of the key's partitions it asks for."""

    by: str
    partitions: Partitions | None
    mapping: PartitionMapping


@dataclass(frozen=True, config=_STRICT)
class Produced:
    """An asset that a location makes; `file` is where it is written, with its line."""

    key: str
    partitions: Partitions | None
    columns: tuple[Column, ...] | None
    blocking_checks: tuple[str, ...]
    file: str


@dataclass(frozen=True, config=_STRICT)
class Consumed:
    """An asset that a location reads and does not make; `file` is where it says so."""

    key: str
    partitions: Partitions | None
    columns: tuple[Column, ...] | None
    freshness: Mapping[str, Any] | None
    loader: str | None
    stub: bool
    asked: tuple[Asked, ...]
    file: str


@dataclass(frozen=True, config=_STRICT)
class Contract:
    """All that one location promises and expects."""

    version: Literal[1]
    location: str
    produces: tuple[Produced, ...]
    consumes: tuple[Consumed, ...]


_CONTRACT = TypeAdapter(Contract)


def parse_contract(text: str, where: str) -> Contract:
    """Return the contract of an exported file.

    Args:
        text: the JSON.
        where: what the text is of, for the error.

    Raises:
        UserError: it is no contract of this version.
    """
    try:
        return _CONTRACT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise UserError(f"{where}: {what}: export it again with `headrace contract export`") from None


def read_contracts(folder: Path) -> Mapping[str, Contract]:
    """Return the contracts of a folder of `<location>.json`, by location.

    Raises:
        UserError: there is no such folder, it has no contract, or a file is broken or of another location.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"--against {folder}: there is no <location>.json: write them with `headrace contract export`")
    contracts = {}
    for file in files:
        contract = parse_contract(file.read_text(encoding="utf-8", errors="replace"), str(file))
        if contract.location != file.stem:
            raise UserError(f"{file}: it is the contract of {contract.location}: name it {contract.location}.json")
        contracts[contract.location] = contract
    return contracts

"""Where the environment says that exports and the lake are, and on which day all partitions start."""

import math
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path

DEFAULT_START = date(2024, 1, 1)

_SETTLED_SECONDS = 10.0
_LONGEST_SETTLED_SECONDS = 3600
_FEWEST_PARTITIONS = 2  # one location has one less than the other


class SettingError(ValueError):
    """A setting is missing or unusable; the message is one line for the user."""


def start(environment: Mapping[str, str] = os.environ) -> date:
    """Return the first day (UTC) of all partitions, from `HEADRACE_START`.

    Raises `SettingError` where it is not an ISO date.
    """
    text = environment.get("HEADRACE_START")
    if not text:
        return DEFAULT_START
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingError(f"HEADRACE_START: {text!r} is not an ISO date; write it like 2024-01-01") from None


def exports(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the source's export files, from `HEADRACE_EXPORTS`.

    Raises `SettingError` where it is unset outside a workspace.
    """
    text = environment.get("HEADRACE_EXPORTS")
    return Path(text).absolute() if text else _state_folder("HEADRACE_EXPORTS") / "exports"


def lake(environment: Mapping[str, str] = os.environ) -> str:
    """Return the lake's folder (absolute) or URL, from `HEADRACE_LAKE`.

    Raises `SettingError` where it is unset outside a workspace.
    """
    text = environment.get("HEADRACE_LAKE")
    if not text:
        return str(_state_folder("HEADRACE_LAKE") / "lake")
    return text if "://" in text else str(Path(text).absolute())


def partitions_per_run(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the most partitions of one run of a backfill, from `HEADRACE_PARTITIONS_PER_RUN`; None for no limit.

    Raises `SettingError` where it is no whole number of 2 or more.
    """
    text = environment.get("HEADRACE_PARTITIONS_PER_RUN")
    if not text:
        return None
    if not text.isdecimal() or int(text) < _FEWEST_PARTITIONS:
        raise SettingError(
            f"HEADRACE_PARTITIONS_PER_RUN: {text!r} is not a whole number of {_FEWEST_PARTITIONS} or more"
        )
    return int(text)


def settled_seconds(environment: Mapping[str, str] = os.environ) -> float:
    """Return the seconds after which an export counts as written to its end, from `HEADRACE_SETTLED_SECONDS`.

    Raises `SettingError` where they are no number of 0 to 3600.
    """
    text = environment.get("HEADRACE_SETTLED_SECONDS")
    if not text:
        return _SETTLED_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_SETTLED_SECONDS:
        raise SettingError(
            f"HEADRACE_SETTLED_SECONDS: {text!r} is not a number of seconds, 0 to {_LONGEST_SETTLED_SECONDS}"
        )
    return seconds


def is_read_by_postgres(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether dbt's target, of `HEADRACE_TARGET` or `DBT_TARGET`, is `postgres`, which cannot read the lake."""
    return (environment.get("HEADRACE_TARGET") or environment.get("DBT_TARGET")) == "postgres"


def postgres_table(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the full name of a raw table in the Postgres that libpq's variables name.

    Raises `SettingError` where `PGDATABASE` is unset.
    """
    database = environment.get("PGDATABASE")
    if not database:
        raise SettingError("PGDATABASE is not set: name the database of the target `postgres`")
    return f"{database}.raw.{name}"


def _state_folder(variable: str) -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return folder / ".headrace"
    raise SettingError(f"{variable} is not set, and no folder at or above {here} holds workspace.yaml: set it")

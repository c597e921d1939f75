"""Where the environment says that the dbt project, the lake and the warehouse are."""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_FEWEST_PARTITIONS = 2  # one location has one less than the other


class SettingError(ValueError):
    """A setting is missing; the message is one line for the user."""


def dbt_project(environment: MutableMapping[str, str] = os.environ) -> Path:
    """Return the folder of the dbt project, from `HEADRACE_DBT_PROJECT`; the workspace's `dbt/` by default.

    Raises:
        SettingError: it is unset outside a workspace.
    """
    text = environment.get("HEADRACE_DBT_PROJECT")
    return Path(text).absolute() if text else _workspace("HEADRACE_DBT_PROJECT") / "dbt"


def export_paths(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set `HEADRACE_LAKE` and `HEADRACE_WAREHOUSE`, which dbt reads, to the workspace's where they are unset.

    A folder becomes absolute: dbt may run in another one.

    Raises:
        SettingError: one is unset outside a workspace.
    """
    for variable, name in (("HEADRACE_LAKE", "lake"), ("HEADRACE_WAREHOUSE", "warehouse.duckdb")):
        text = environment.get(variable) or str(_workspace(variable) / ".headrace" / name)
        environment[variable] = text if "://" in text else str(Path(text).absolute())


def partitions_per_run(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the most partitions of one run of a backfill, from `HEADRACE_PARTITIONS_PER_RUN`; None for no limit.

    It is one less than that: Dagster puts what equals `ingest`'s into one run over both locations, which it then
    cannot launch (1.13.27).

    Raises:
        SettingError: it is no whole number of 2 or more.
    """
    text = environment.get("HEADRACE_PARTITIONS_PER_RUN")
    if not text:
        return None
    if not text.isdecimal() or int(text) < _FEWEST_PARTITIONS:
        raise SettingError(
            f"HEADRACE_PARTITIONS_PER_RUN: {text!r} is not a whole number of {_FEWEST_PARTITIONS} or more"
        )
    return int(text) - 1


def _workspace(variable: str) -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return folder
    raise SettingError(f"{variable} is not set, and no folder at or above {here} holds workspace.yaml: set it")

"""Paths that processes in other folders read: they must be absolute."""

import os
from collections.abc import Iterator
from pathlib import Path

from headrace.doctor.finding import Finding

_VARIABLES = ("HEADRACE_STATE", "HEADRACE_EXPORTS", "HEADRACE_LAKE", "HEADRACE_WAREHOUSE", "HEADRACE_DBT_PROJECT")


def check_paths() -> Iterator[Finding]:
    """Look at the variables that name folders and files.

    `headrace` makes them absolute for its processes; `dagster` and `dbt` called by hand take each from where they are.
    """
    relative = False
    for variable in (*_VARIABLES, "DAGSTER_HOME"):
        value = os.environ.get(variable, "")
        if value and "://" not in value and not Path(value).is_absolute():
            relative = True
            says = f"{variable}={value} is relative: each process takes it from its own folder"
            yield Finding("paths", "wrong", says, f"export {variable}={Path(value).absolute()}")
    if not relative:
        yield Finding("paths", "ok", "no variable names a relative path")

"""The code location's entry point: everything in `defs/`."""

from functools import cache
from pathlib import Path

import dagster as dg


@dg.definitions
@cache  # a process that has loaded them, and what is forked from it, does not load them again for each run
def defs() -> dg.Definitions:
    """Load the `defs` folder."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)

"""How the location's runs execute."""

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Return the in-process executor: a run is one process, since starting another costs more than most models."""
    return dg.Definitions(executor=dg.in_process_executor)

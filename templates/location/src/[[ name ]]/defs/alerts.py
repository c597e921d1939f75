"""Tells the owners of this location's assets what failed, at the destinations that `HEADRACE_ALERTS` names."""

import dagster as dg

from headrace_alerts import alert_definitions


@dg.definitions
def defs() -> dg.Definitions:
    """Return the sensors for failed runs and failed checks."""
    return alert_definitions()

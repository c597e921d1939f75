"""How assets, runs and failed checks are written in a message, and who hears of them."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dagster import AssetKey, DagsterRun, SensorEvaluationContext

    from headrace_alerts.destinations import Destinations
    from headrace_alerts.run_history import FailedCheck

_LISTED = 10


def by_route(
    context: SensorEvaluationContext, destinations: Destinations, keys: Collection[AssetKey]
) -> Mapping[str, Sequence[AssetKey]]:
    """Return the assets that each route hears of: those that it owns, by the specs of the location.

    What nobody hears of is a warning in the tick's log.
    """
    graph = context.repository_def.asset_graph if context.repository_def and keys else None
    found: dict[str, list[AssetKey]] = defaultdict(list)
    for key in sorted(keys):
        owners = graph.get(key).owners if graph and graph.has(key) else []
        routes = destinations.routes(owners)
        if destinations.urls and not routes:
            context.log.warning(
                f"{key.to_user_string()}: no destination for {', '.join(owners) or 'assets without an owner'}"
            )
        for route in routes:
            found[route].append(key)
    return found


def location_of(context: SensorEvaluationContext) -> str:
    """Return the name of the sensor's code location, with a colon; nothing where it has none."""
    return f"{context.code_location_origin.location_name}: " if context.code_location_origin else ""


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """Return names one after another; of many, the first ten."""
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return separator.join([*names[:_LISTED], *more])


def check_line(check: FailedCheck) -> str:
    """Return a failed check in a line."""
    severity = "" if check.severity == "ERROR" else f" ({check.severity})"
    return ": ".join(
        part
        for part in (
            check.key.asset_key.to_user_string(),
            f"check {check.key.name} failed{severity}",
            check.partitions,
            check.description,
        )
        if part
    )


def run_line(run: DagsterRun | str) -> str:
    """Return a run's id, and its link where `HEADRACE_URL` says where the UI is."""
    run_id = run if isinstance(run, str) else run.run_id
    url = os.environ.get("HEADRACE_URL", "").rstrip("/")
    return f"run {run_id}" + (f" {url}/runs/{quote(run_id)}" if url else "")

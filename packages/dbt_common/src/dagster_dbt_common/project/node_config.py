"""What a dbt node's config says to Dagster, under `meta.dagster`."""

from collections.abc import Mapping
from typing import Any


def dagster_meta(props: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the node's `meta.dagster`, which dbt has inherited; empty where there is none.

    Args:
        props: a node or a source of a manifest.
    """
    meta: Mapping[str, Any] = props.get("config", {}).get("meta") or props.get("meta") or {}
    return meta.get("dagster") or {}

"""The errors that a user of this package can cause; each is one line: what, where, what to do."""

from collections.abc import Mapping
from typing import Any

from dagster import DagsterInvalidDefinitionError


class DbtConfigError(DagsterInvalidDefinitionError):
    """A dbt model's own config does not say something that can be run: names the model's file and the key."""


class StaleManifestError(DagsterInvalidDefinitionError):
    """A manifest does not fit the dbt project beside it, and this process may not build another."""


class WindowError(Exception):
    """A run's partitions do not make one window."""


def config_error(props: Mapping[str, Any], key: str, what: str) -> DbtConfigError:
    """Return the error of a key in a dbt node's config.

    Args:
        props: the node, of a manifest.
        key: the key, as a user writes it.
        what: what is wrong, and what to do.
    """
    return DbtConfigError(f"{props.get('original_file_path')}: {props.get('name')}: config {key}: {what}")

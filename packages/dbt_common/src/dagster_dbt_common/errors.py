"""The errors that a user of this package can cause; each is one line: what, where, what to do."""

from dagster import DagsterInvalidDefinitionError


class DbtConfigError(DagsterInvalidDefinitionError):
    """A dbt model's own config does not say something that can be run: names the model's file and the key."""


class StaleManifestError(DagsterInvalidDefinitionError):
    """A manifest does not fit the dbt project beside it, and this process may not build another."""


class WindowError(Exception):
    """A run's partitions do not make one window."""

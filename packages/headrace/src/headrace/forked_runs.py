"""The address by which `dagster.yaml` files name the run launcher that forks; it is `deployed.forked_launcher`'s."""

from headrace.deployed.forked_launcher import ForkedRunLauncher

__all__ = ["ForkedRunLauncher"]

"""Whether a run lives: what its process says, where it is one of this machine, and elsewhere what its launcher says."""

from typing import Literal, NamedTuple

from dagster import DagsterInstance, DagsterRun, DefaultRunLauncher

from headrace.deployed.run_process import RunProcess


class RunHealth(NamedTuple):
    """Whether a run lives, and why it is said that it does not.

    Args:
        state: `lives`, `gone`, or `unknown` to whoever asks here.
        why: nothing where it lives.
    """

    state: Literal["lives", "gone", "unknown"]
    why: str = ""


def run_health(instance: DagsterInstance, run: DagsterRun, process: RunProcess | None) -> RunHealth:
    """Look whether a run lives; nothing is changed.

    A run of Dagster's own launcher, and of ours upon it, is a process of the machine that launched it: our launchers,
    asked for its health, also end what a dead run has left. Any other launcher is asked.

    Args:
        instance: the instance.
        run: one that has been launched, and has not ended.
        process: what the run has said that its process is.
    """
    launcher = instance.run_launcher
    if isinstance(launcher, DefaultRunLauncher):
        if process and process.host:
            return RunHealth("unknown", f"its process is on {process.host}: ask there")
        return RunHealth("gone", process.end) if process and not process.lives() else RunHealth("lives")
    if not launcher.supports_check_run_worker_health:
        return RunHealth("unknown", f"{type(launcher).__name__} cannot say whether its process lives")
    said = launcher.check_run_worker_health(run)
    if said.status.value == "FAILED":
        return RunHealth("gone", said.msg or "its launcher says so")
    if said.status.value in ("RUNNING", "SUCCESS"):
        return RunHealth("lives")
    return RunHealth("unknown", said.msg or f"its launcher says {said.status.value}")
